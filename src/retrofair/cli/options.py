"""The options that commands share, and the data and networks they stand for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, cast

import torch
import typer
from torch import nn

from retrofair.cli.config import apply
from retrofair.cli.devices import placed
from retrofair.cli.notes import flush, say
from retrofair.cli.table_choice import USUAL as USUAL
from retrofair.cli.table_choice import TableChoice as TableChoice
from retrofair.cli.table_choice import commas as commas
from retrofair.cli.table_choice import one_source as one_source
from retrofair.data import GroupedData, Splits
from retrofair.data.split import check_seed
from retrofair.errors import InputError, unknown
from retrofair.networks import (
    MLP,
    HuggingFaceNetwork,
    Outputs,
    load_network,
    load_weights,
    train_mlp,
)
from retrofair.networks.class_order import order_of
from retrofair.networks.train import cache_folder

# headings of --help for the options that commands share
OF_DATA, OF_NETWORK, OF_ALL = "Data", "Network", "In general"
of_data = partial(typer.Option, rich_help_panel=OF_DATA)
of_network = partial(typer.Option, rich_help_panel=OF_NETWORK)
of_all = partial(typer.Option, rich_help_panel=OF_ALL)

File = Annotated[
    str | None, typer.Argument(help="A data set's name or a table; the same as --data.")
]
Config = Annotated[
    Path | None,
    of_all(
        "--config",
        callback=apply,
        is_eager=True,
        expose_value=False,
        show_default=False,
        help="A TOML file of options, such as `retrofair init` writes; those given here win.",
    ),
]
Data = Annotated[
    str | None, of_data(help="A data set's name, or a .csv or .parquet file.", show_default=False)
]
Label = Annotated[str | None, of_data(help="Column to predict (for a file).")]
Positive = Annotated[str | None, of_data(help="The label's positive value.")]
Favourable = Annotated[
    int | None,
    of_data(
        help="The label that is good for a person: 1, the positive one, or 0; a data set knows.",
        show_default=False,
    ),
]
Sensitive = Annotated[
    str | None,
    of_data(
        help="Protected column; several, separated by commas: their intersections. In a name: \\,"
    ),
]
Privileged = Annotated[
    str | None, of_data(help="Privileged value (one per protected column, by commas).")
]
Blind = Annotated[bool, of_data("--blind", help="Leave the protected columns out of the features.")]
MissingChoice = Annotated[
    str, of_data("--missing", help="Rows with missing values: drop, impute or raise.")
]
Drop = Annotated[str | None, of_data(help="Columns to leave out, separated by commas.")]
NoScale = Annotated[bool, of_data("--no-scale", help="Keep the numbers' own units.")]
Root = Annotated[
    Path | None, of_data(help="Folder with the data sets' files (or set RETROFAIR_DATA).")
]
Network = Annotated[
    str | None,
    of_network(
        help="Your own network, as package.module:factory; or a Hugging Face folder or owner/model."
    ),
]
Result = Annotated[
    Path | None,
    of_network(help="A folder written by debias --out: its network, rule and preparation."),
]
Weights = Annotated[Path | None, of_network(help="Its weights, a .safetensors file.")]
Trust = Annotated[
    bool, of_network("--trust-network-file", help="Load a .pt2 network: it can run code it holds.")
]
OutputsChoice = Annotated[
    str | None, of_network("--outputs", help="What the network answers: logits, probabilities.")
]
Seed = Annotated[
    int, of_all(callback=check_seed, help="Seed of the split, the training and the method.")
]
Out = Annotated[Path | None, of_all(help="Folder to write to.")]
Regression = Annotated[
    bool, of_data("--regression", help="The label is a number: look at each group's loss.")
]
LossChoice = Annotated[str, typer.Option("--loss", help="With --regression: squared or absolute.")]
Json = Annotated[bool, of_all("--json", help="Print one JSON object instead of tables.")]
# training, validation and test share of a file that comes with a network
WHOLE, HALVES = (0.0, 0.0, 1.0), (0.0, 0.5, 0.5)


def outputs_of(text: str | None) -> Outputs | None:
    """The --outputs option, checked."""
    if text not in (None, "logits", "probabilities"):
        raise unknown("choice for --outputs", text, ("logits", "probabilities"))
    return cast(Outputs | None, text)


@dataclass(frozen=True)
class Subject:
    """A network and the data to look at it with."""

    network: nn.Module
    fit: GroupedData
    test: GroupedData
    trained_here: bool
    parts: tuple[GroupedData, ...] = ()  # all of the data, the training part first

    @property
    def rows(self) -> GroupedData:
        """All parts as one, where nothing depends on rows that were held out."""
        return replace(
            self.parts[0],
            x=torch.cat([part.x for part in self.parts]),
            y=torch.cat([part.y for part in self.parts]),
            group=torch.cat([part.group for part in self.parts]),
        )


def subject(
    choice: TableChoice,
    network: str | None,
    weights: Path | None,
    trust: bool,
    *,
    parts: tuple[float, float, float] = HALVES,
    check: Callable[[GroupedData], object] = len,
    width: int = 32,
    depth: int = 10,
    base_weights: bool = False,
    device: str = "cpu",
) -> Subject:
    """The user's network, or a base network trained here, which is said on standard error.

    A file that comes with a network was not used to train it, as far as anybody can say: half of
    it serves for debiasing and half for testing, or as `parts` says. Otherwise the splits are
    60/20/20. `check` sees the validation data before anything is trained. With `base_weights`
    weights may come without a network: they are a base network's, such as a repaired one's. The
    network goes to the `device`, "auto" to a GPU if it is large (`devices.placed`).
    """
    choice.check_columns(network)
    if network is None and choice.target != "two":
        what = "numbers" if choice.target == "number" else f"{len(choice.class_names)} classes"
        raise InputError(
            f"expected --network MODULE:FACTORY for a label of {what}, got none: base networks "
            "are for two classes"
        )
    if network is None:
        if weights is not None and not base_weights:
            raise InputError("expected --network MODULE:FACTORY with --weights, got none")
        splits = choice.splits()
        check(splits.valid)
        if weights is not None:
            model = _base_network(splits.train.x.shape[1], width, depth, weights)
            return Subject(model, splits.valid, splits.test, False, _parts(splits))
        say(
            f"no --network given: training a base network on {len(splits.train):,} rows of "
            f"{choice.data} (seed {choice.seed}); it is kept in the cache"
        )
        flush()
        trained = train_mlp(
            splits.train,
            splits.valid,
            seed=choice.seed,
            width=width,
            depth=depth,
            cache=cache_folder(),
        )
        return Subject(trained, splits.valid, splits.test, True, _parts(splits))
    output = None if choice.media is None else choice.media.label_output
    model = load_network(network, weights, trust_network_file=trust, output=output)
    model = placed(model, device)
    if choice.class_names:
        _say_classes(model, choice.class_names)
    if weights is None and ":" in network:
        say("no --weights given: the network is used as its factory made it")
    if not choice.is_file:
        splits = choice.splits()
        return Subject(model, splits.valid, splits.test, False, _parts(splits))
    if not choice.no_scale and choice.media is None:
        say("the file's numbers are standardised for the network; --no-scale keeps their units")
    splits = choice.splits(parts)
    return Subject(model, splits.valid, splits.test, False, _parts(splits))


def _say_classes(model: nn.Module, names: tuple[str, ...]) -> None:
    """Which class each output stands for, where the network does not say it as the label does."""
    outputs = model.names if isinstance(model, HuggingFaceNetwork) else ()
    if order_of(outputs, names)[0] is None:
        say(f"the network's outputs stand for the classes {', '.join(names)}")


def _base_network(columns: int, width: int, depth: int, weights: Path) -> nn.Module:
    model = MLP(columns, width=width, depth=depth)
    try:
        load_weights(model, weights)
    except InputError as error:
        raise type(error)(
            f"{error}; without --network weights are those of a base network, here of --depth "
            f"{depth} --width {width}"
        ) from None
    say(f"no --network given: the weights in {weights} are taken for those of a base network")
    return model.eval()


def _parts(splits: Splits) -> tuple[GroupedData, ...]:
    return tuple(part for part in (splits.train, splits.valid, splits.test) if len(part))


def checked_out(out: Path | None) -> Path | None:
    """The folder to write to, before any work is done for it."""
    if out is not None and out.exists() and not out.is_dir():
        raise InputError(f"expected a folder to write to, but {out} is a file (--out)")
    return out
