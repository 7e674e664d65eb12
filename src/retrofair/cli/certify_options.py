"""The options that `retrofair certify` and `repair` share: who is similar, and how it is proved."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from retrofair import certifiers
from retrofair.cli import options as o
from retrofair.cli.similarity import DISTANCES
from retrofair.errors import InputError

OF_SIMILAR = "Who is similar"  # a heading of --help

Epsilon = Annotated[
    float | None,
    typer.Option(
        help="The distance up to which two people are similar (default 0.2; 1 with --tolerance; "
        "0 for a .nnet file: only protected inputs differ).",
        show_default=False,
        rich_help_panel=OF_SIMILAR,
    ),
]
DistanceChoice = Annotated[
    str,
    typer.Option(
        help=f"One of: {', '.join(DISTANCES)}; on the network's inputs (numbers in standard "
        "deviations, unless --no-scale). mahalanobis: the pseudo-inverse of the covariance of the "
        "training rows' columns that are not protected; a direction in which they never vary "
        "costs nothing.",
        rich_help_panel=OF_SIMILAR,
    ),
]
WeightOption = Annotated[
    str | None,
    typer.Option(
        "--weight",
        help="Weights in the distance, as age=2,hours=0 (0: free to differ; others 1).",
        rich_help_panel=OF_SIMILAR,
    ),
]
Tolerance = Annotated[
    str | None,
    typer.Option(
        help="Similar is who differs by at most this, in own units: age=5,hours-per-week=2 (a "
        "category: 0 or 1). All other features must be equal.",
        rich_help_panel=OF_SIMILAR,
    ),
]
Method = Annotated[
    str, typer.Option(help="One of: " + ", ".join(known.name for known in certifiers.ALL) + ".")
]
OutputsChoice = Annotated[
    str | None,
    typer.Option(
        help="What the network answers: logits, probabilities, or values to compare as they are.",
        rich_help_panel=o.OF_NETWORK,
    ),
]
Relax = Annotated[
    bool, typer.Option("--relax", help="Whole numbers that are not protected: any number.")
]
Width = Annotated[
    int | None,
    typer.Option(
        min=1, help="Units per layer of the base network (32).", rich_help_panel=o.OF_NETWORK
    ),
]
Depth = Annotated[
    int | None,
    typer.Option(
        min=0, help="Hidden layers of the base network (10).", rich_help_panel=o.OF_NETWORK
    ),
]
WIDTH, DEPTH = 32, 10  # without those options


def refuse(given: dict[str, Any], why: str) -> None:
    """One error for options that make no sense here."""
    for option, value in given.items():
        if value is not None:
            raise InputError(f"expected no {option} {why}")
