"""`retrofair report`: the page of a folder that another command wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli.reporting import PAGE
from retrofair.errors import InputError
from retrofair.files import json_text
from retrofair.report import read_record
from retrofair.report.written import write_page

SUFFIXES = (".html", ".htm")


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The --out folder of a command.")],
    out: Annotated[
        Path | None, typer.Option(help=f"File to write, .html; without it {PAGE} in the folder.")
    ] = None,
    as_json: o.Json = False,
) -> int:
    """Write one self-contained HTML file of what a command found."""
    values = read_record(folder)
    path = out or folder / PAGE
    if path.is_dir():
        raise InputError(f"expected a file to write, but {path} is a folder (--out)")
    if path.suffix.lower() not in SUFFIXES:
        # so that no file of weights, say, is replaced
        raise InputError(f"expected a file that ends in .html, got {path} (--out)")
    write_page(path, values)
    if as_json:
        print(json_text({"report": str(path)}))
    else:
        notes.say(f"wrote {path}")
    return 0
