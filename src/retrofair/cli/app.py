"""The commands. Each reads its options, calls the library, and shows what it returns."""

from __future__ import annotations

from typing import Annotated

import typer

from retrofair.cli import (
    audit_command,
    certify_command,
    debias_command,
    demo_command,
    frontier_command,
    repair_command,
    study_command,
    train_command,
)

app = typer.Typer(
    name="retrofair",
    help=(
        "Retrofit fairness to a trained neural network: audit it, debias it, certify it.\n\n"
        "Start with `retrofair demo`; then `retrofair debias --data adult --sensitive sex`, or "
        "your own table: `retrofair audit people.csv --label hired --sensitive sex --prediction "
        "decision`."
    ),
    epilog="Exit status: 0 done, 2 bad input, 3 goal not reached, or not certified fair.",
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


app.command("demo", epilog="Example: retrofair demo --data adult")(demo_command.demo)
app.command("train", epilog="Example: retrofair train --data adult --sensitive sex --out trained/")(
    train_command.train
)
app.command(
    "audit",
    epilog="Example: retrofair audit people.csv --label hired --positive yes --sensitive sex "
    "--privileged Male --prediction decision",
)(audit_command.audit)
app.command(
    "debias",
    epilog="Example: retrofair debias --data adult --sensitive sex --measure spd --epsilon 0.05 "
    "--method adversarial --out fair/. Of a label of numbers: retrofair debias prices.csv --label "
    "price --sensitive sex --regression --bound 4 --network mymodels:make_net",
)(debias_command.debias)
app.command(
    "frontier",
    epilog="Example: retrofair frontier --data adult --sensitive sex --methods "
    "threshold,random,fair_head --seconds 60 --choose bias=0.05 --out front/",
)(frontier_command.frontier)
app.command(
    "certify",
    epilog="Example: retrofair certify --data german --sensitive sex --depth 1 --epsilon 0.2 "
    "--out certified/",
)(certify_command.certify)
app.command(
    "repair",
    epilog="Example: retrofair repair --data german --sensitive sex --depth 1 --width 8 --epsilon "
    "0.2 --delta 0.1 --floor 0.6 --out repaired/",
)(repair_command.mend)
app.command("study", epilog="Example: retrofair study intra --seeds 1 --dry-run")(
    study_command.study
)
