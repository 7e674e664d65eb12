"""`retrofair export`: one file that other programs run, tried on all rows before it is kept."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pandas as pd
import typer
from rich.markup import escape
from rich.table import Table
from torch import nn

from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli.folders import refuse_results
from retrofair.cli.media import Media
from retrofair.cli.results import (
    as_groups,
    loaded,
    media_of,
    preparation_of,
    refuse_options,
    source_of,
    table_of,
    without_guess,
)
from retrofair.cli.tables import console
from retrofair.data import GroupedData, Preparation, StreamedData
from retrofair.debiasers import Debiased
from retrofair.deploy import FORMATS, Exported
from retrofair.deploy import export as export_network
from retrofair.deploy.formats import format_of
from retrofair.errors import InputError
from retrofair.files import json_text

NOT_THE_SAME = 3
ROWS = 512  # images or texts that an export is tried on

Source = Annotated[
    str | None,
    typer.Argument(
        help="A folder written by debias --out; or data, as --data.", show_default=False
    ),
]
FormatName = Annotated[
    str, typer.Option("--format", help="One of: " + ", ".join(f.name for f in FORMATS) + ".")
]
Prepared = Annotated[
    bool,
    typer.Option("--prepared", help="Take prepared features instead of the table's own columns."),
]
Threshold = Annotated[
    float | None, typer.Option(help="Of a network without a result: 0.5 by default.")
]
Own = tuple[str | None, Path | None, bool]  # --network, --weights, --trust-network-file
Target = Annotated[Path, typer.Option(help="Folder to write to.")]


def export(
    source: Source = None,
    data: o.Data = None,
    label: o.Label = None,
    positive: o.Positive = None,
    sensitive: o.Sensitive = None,
    privileged: o.Privileged = None,
    network: o.Network = None,
    weights: o.Weights = None,
    trust_network_file: o.Trust = False,
    outputs: o.OutputsChoice = None,
    threshold: Threshold = None,
    blind: o.Blind = False,
    missing: o.MissingChoice = "drop",
    drop: o.Drop = None,
    no_scale: o.NoScale = False,
    root: o.Root = None,
    format: FormatName = "onnx",
    prepared: Prepared = False,
    config: o.Config = None,
    seed: o.Seed = 0,
    out: Target = Path("retrofair-out"),
    as_json: o.Json = False,
) -> int:
    """Write a debiased network with its rule and preparation as one file, and try it on all rows.

    The file takes a table's own columns and gives the probability and the decision. It is tried on
    the table the result was fitted to, or on --data; if its answers differ, nothing is written.
    Without a result a network is exported as it is, with a threshold. A result of images becomes a
    file that takes prepared pixels, one of texts a file that takes a tokenizer's tokens.
    """
    path = _path(out, format)
    result = None if source is None or o.TableChoice(source).is_data else Path(source)
    refuse_results(out, result)
    if result is None:
        data = o.one_source(source, data)
    choice = o.TableChoice(
        data or "",
        label,
        positive,
        sensitive,
        privileged,
        blind,
        missing,
        drop,
        no_scale,
        root,
        seed,
    )
    own = (network, weights, trust_network_file)
    if result is not None:
        refuse_options(choice, {"--threshold": threshold, "--outputs": outputs})
        asked = of_result(result, choice, own)
    else:
        asked = of_network(choice, own)
    done = export_network(
        asked.subject,
        path,
        format,
        data=asked.features() if prepared or asked.frame is None else asked.frame,
        preparation=None if prepared else asked.preparation,
        threshold=threshold,
        outputs=o.outputs_of(outputs),
    )
    if as_json:
        print(json_text(done.to_dict()))
    else:
        show_export(done, asked.title)
    if not done.written:
        notes.say(
            f"the answers of the {done.format} file differ from the network's: nothing was written "
            f"to {path}; try another --format"
        )
        return NOT_THE_SAME
    also = "" if prepared or asked.preparation is None else ", preparation.json"
    notes.say(f"wrote {path}{also} and export.json")
    return 0


@dataclass(frozen=True, eq=False)
class Asked:
    """What to export, and the rows to try it on."""

    subject: Debiased | nn.Module
    frame: pd.DataFrame | None
    preparation: Preparation | None
    title: str
    rows: StreamedData | None = None  # of images or texts, which have no columns

    def features(self) -> GroupedData | StreamedData:
        """The rows as the network takes them."""
        if self.rows is not None:
            return self.rows
        assert self.preparation is not None  # a table's
        assert self.frame is not None
        return GroupedData.prepared(self.preparation, self.frame)


def of_result(folder: Path, choice: o.TableChoice, own: Own) -> Asked:
    """A saved result, on the table named or the one it was fitted to."""
    result = loaded(folder, *own)
    if media_of(result) is not None:
        return of_media(result, folder, choice)
    preparation = preparation_of(result)
    frame = table_of(source_of(result, choice.data or None, choice.root, choice.drop))
    return Asked(result, frame, preparation, f"the result in {folder}")


def of_media(result: Debiased, folder: Path, choice: o.TableChoice) -> Asked:
    """A saved result of images or texts, on some of those it was fitted to."""
    media = media_of(result)
    assert media is not None  # or nobody had asked
    source = source_of(result, choice.data or None, choice.root)
    with without_guess():
        test = source.splits(o.WHOLE if source.is_file else o.USUAL).test
    rows = as_groups(test, result.group_names)
    some = rows[:: max(1, len(rows) // ROWS)][:ROWS]
    if media.text is None:
        say_pixels(media)
    else:
        say_tokens(media)
    kind = "images" if media.text is None else "texts"
    title = f"the result in {folder}, on {len(some):,} of its {kind}"
    return Asked(result, None, None, title, some)


def say_pixels(media: Media) -> None:
    """What whoever uses the file must do to an image first."""
    colours = {1: "grey", 3: "RGB", "bgr": "BGR"}[media.channels]
    mean, std = (", ".join(f"{v:.4g}" for v in each or ()) for each in (media.mean, media.std))
    notes.say(
        f"the file takes images that are prepared: {media.size} x {media.size} pixels, {colours}, "
        f"(value / 255 - mean) / std with mean {mean} and std {std}"
    )


def say_tokens(media: Media) -> None:
    """What whoever uses the file must do to a text first."""
    cut = "" if media.max_length is None else f", cut after {media.max_length} tokens"
    notes.say(
        f"the file takes the tokens that the tokenizer in {media.network} makes of a text{cut}; "
        "the tokenizer itself is not in it"
    )


def of_network(choice: o.TableChoice, own: Own) -> Asked:
    """A network as it is: the user's, or a base network."""
    what = o.subject(choice, *own, parts=o.WHOLE)
    if getattr(what.test, "preparation", None) is None:
        raise InputError(
            f"expected data that are a table, got {choice.data!r} (--data); for images and texts "
            "export the result of retrofair debias --images (or --text) ... --out"
        )
    title = "the base network" if what.trained_here else str(own[0])
    return Asked(what.network, table_of(choice), what.test.preparation, title)


def show_export(done: Exported, title: str) -> None:
    """Parity and latency."""
    out = console()
    parity = done.parity
    table = Table(title=escape(f"{title} as {done.format}"), title_justify="left")
    table.add_column("agreement with the network")
    table.add_column("", justify="right")
    style = "green" if parity.holds else "red"
    table.add_row("rows compared", f"{parity.rows:,}")
    table.add_row("largest |difference| of the probability", f"{parity.largest:.1e}")
    table.add_row("decisions that differ", f"{parity.differing:,}")
    table.add_row("of these on rows at the threshold", f"{parity.at_ties:,}")
    table.add_row("rows without a decision in both (missing values)", f"{parity.refused:,}")
    table.add_row("the same", f"[{style}]{'yes' if parity.holds else 'no'}[/{style}]")
    out.print(table)
    times = Table(title="Milliseconds, medians", title_justify="left")
    for name in ("rows at a time", "network", done.format, "ratio"):
        times.add_column(name, justify="right")
    for each in done.timings:
        cells = (f"{each.original:.3f}", f"{each.exported:.3f}", f"{each.ratio:.2f}")
        times.add_row(f"{each.rows:,}", *cells)
    out.print(times)
    out.print("the network: in Python, on features that are prepared already")
    takes = ", ".join(f"{i.name} {i.dtype} ({', '.join(map(str, i.shape))})" for i in done.inputs)
    out.print(escape(f"takes {takes}; gives probability float64 and decision int64, -1 for none"))


def _path(out: Path, name: str) -> Path:
    """Where the file goes, after checking that it can be made at all."""
    o.checked_out(out)
    suffix = next((each.suffix for each in FORMATS if each.name == name), "")
    path = out / f"model{suffix}"
    format_of(name, path)
    return path
