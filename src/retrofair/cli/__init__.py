"""The command line: `retrofair`."""

from __future__ import annotations

import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from typing import Any, TextIO

import typer

from retrofair.cli import called, notes
from retrofair.errors import RetrofairError, RetrofairWarning

# Newer typers carry their own copy of click, older ones depend on it: this is either's base.
USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")
DONE, BAD_INPUT, NOT_REACHED, INTERRUPTED = 0, 2, 3, 130


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command and exit: 0 done, 2 bad input (one line), 3 goal not reached.

    What ends a service or a batch job, SIGTERM, is taken as Ctrl-C: temporary files are deleted,
    and what keeps its results at an interrupt keeps them.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _ended)
    sys.exit(run(arguments))


def _ended(_number: int, _frame: object) -> None:
    if callable(signal.getsignal(signal.SIGINT)):
        signal.raise_signal(signal.SIGINT)
    else:  # ignored, as it is in the background of a shell's script
        raise KeyboardInterrupt


def run(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status."""
    notes.drop()
    from retrofair.cli.app import app  # here, so that importing this package stays light

    called.remember(sys.argv[1:] if arguments is None else arguments)
    command = typer.main.get_command(app)
    with warnings.catch_warnings():
        warnings.simplefilter("always", RetrofairWarning)
        warnings.showwarning = _say
        try:
            status: Any = command.main(
                list(sys.argv[1:] if arguments is None else arguments),
                prog_name="retrofair",
                standalone_mode=False,
            )
        except (typer.Abort, KeyboardInterrupt):
            status = INTERRUPTED
        except USAGE_ERROR as error:
            if type(error).__name__ == "NoArgsIsHelpError":  # which has shown the help
                return BAD_INPUT
            where = getattr(getattr(error, "ctx", None), "command_path", "retrofair")
            return _stop(f"{error.format_message()} (see {where} --help)", BAD_INPUT)
        except RetrofairError as error:
            return _stop(str(error), BAD_INPUT)
        except OSError as error:
            return _stop(f"cannot read or write: {error}", BAD_INPUT)
    if status == INTERRUPTED:  # newer typers return this instead of raising
        return _stop("interrupted; nothing was left half-written", INTERRUPTED)
    notes.flush()
    return status if isinstance(status, int) else DONE


def _stop(message: str, status: int) -> int:
    notes.drop()
    print("retrofair: " + " ".join(message.split()), file=sys.stderr)
    return status


def _say(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Our own warnings as one line; others (of libraries) stay out of a user's way."""
    if issubclass(category, RetrofairWarning):
        notes.say(f"note: {message}")
