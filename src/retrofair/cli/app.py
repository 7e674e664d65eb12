"""The commands. Each reads its options, calls the library, and shows what it returns."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from retrofair.cli import (
    audit_command,
    certify_command,
    debias_command,
    demo_command,
    export_command,
    frontier_command,
    init_command,
    repair_command,
    report_command,
    study_command,
    train_command,
)
from retrofair.errors import unknown

# the parts of `retrofair --help`, in the order in which they come up below
START, LOOK, MEND, PROVE, SHIP, RESEARCH = "Start", "Look", "Mend", "Prove", "Ship", "Research"

app = typer.Typer(
    name="retrofair",
    help=(
        "Retrofit fairness to a trained neural network: audit it, debias it, certify it.\n\n"
        "\b\n"
        "retrofair demo                            see it work\n"
        "retrofair audit adult --sensitive sex     how unfair is a network?\n"
        "retrofair debias adult --sensitive sex    a fairer one, before and after\n"
        "retrofair init people.csv                 your own table: its columns guessed\n"
        "retrofair debias --config retrofair.toml  ... and used"
    ),
    epilog=(
        "Exit status: 0 done; 2 bad input, said in one line; 3 goal not reached, or not certified "
        "fair.\n\n"
        "More on a command, with an example: retrofair COMMAND --help"
    ),
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        from retrofair import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _help(
    ctx: typer.Context,
    name: Annotated[str | None, typer.Argument(metavar="COMMAND")] = None,
) -> None:
    """Show the help of a command."""
    root: Any = ctx.find_root()
    if name is None:
        print(root.get_help())
        return
    if name not in root.command.commands:
        raise unknown("command", name, root.command.commands)
    command = root.command.commands[name]
    with command.make_context(name, [], parent=root, resilient_parsing=True) as inner:
        print(command.get_help(inner), end="")


app.command("help", hidden=True)(_help)
app.command(
    "demo",
    rich_help_panel=START,
    short_help="See it work: train, audit and debias on embedded data.",
    epilog="Example: retrofair demo --data adult",
)(demo_command.demo)
app.command(
    "init",
    rich_help_panel=START,
    short_help="Write a file of options for your table, its columns guessed.",
    epilog="Example: retrofair init people.csv",
)(init_command.init)
app.command(
    "train",
    rich_help_panel=START,
    short_help="Train a base network, and audit it.",
    epilog="Example: retrofair train --data adult --sensitive sex --out trained/",
)(train_command.train)
app.command(
    "audit",
    rich_help_panel=LOOK,
    short_help="Measure how unfair a network or its decisions are.",
    epilog="Example: retrofair audit people.csv --label hired --positive yes --sensitive sex "
    "--privileged Male --prediction decision",
)(audit_command.audit)
app.command(
    "report",
    rich_help_panel=LOOK,
    short_help="Write a page from what another command left in a folder.",
    epilog="Example: retrofair report fair/",
)(report_command.report)
app.command(
    "debias",
    rich_help_panel=MEND,
    short_help="Return a fairer network, and show what it costs.",
    epilog="Example: retrofair debias --data adult --sensitive sex --measure spd --epsilon 0.05 "
    "--method adversarial --out fair/. Of a label of numbers: retrofair debias prices.csv --label "
    "price --sensitive sex --regression --bound 4 --network mymodels:make_net. Of images: "
    "retrofair debias --images faces/ --labels faces.csv --label smiling --sensitive race "
    "--network resnet/ --method fair_head",
)(debias_command.debias)
app.command(
    "frontier",
    rich_help_panel=MEND,
    short_help="Compare methods on one network, and choose among the best.",
    epilog="Example: retrofair frontier --data adult --sensitive sex --methods "
    "threshold,random,fair_head --seconds 60 --choose bias=0.05 --out front/",
)(frontier_command.frontier)
app.command(
    "repair",
    rich_help_panel=MEND,
    short_help="Fine-tune until similar people are proved to be near.",
    epilog="Example: retrofair repair --data german --sensitive sex --depth 1 --width 8 --epsilon "
    "0.2 --delta 0.1 --floor 0.6 --out repaired/",
)(repair_command.mend)
app.command(
    "certify",
    rich_help_panel=PROVE,
    short_help="Prove how far apart similar people can be treated.",
    epilog="Example: retrofair certify --data german --sensitive sex --depth 1 --epsilon 0.2 "
    "--out certified/",
)(certify_command.certify)
app.command(
    "export",
    rich_help_panel=SHIP,
    short_help="Write a result as one file that other programs run.",
    epilog="Example: retrofair export fair/ --format onnx --out served/",
)(export_command.export)
app.command(
    "study",
    rich_help_panel=RESEARCH,
    short_help="Run a study of the papers, or your own.",
    epilog="Example: retrofair study intra --seeds 1 --dry-run",
)(study_command.study)


def _flowing(text: str) -> str:
    """Its paragraphs without the line breaks of the source, which help would keep."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


for _command in app.registered_commands:
    if _command.callback is not None:
        _command.help = _flowing(_command.callback.__doc__ or "")
