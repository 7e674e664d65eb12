"""Saved results at the command line: read, and applied to tables they have not seen."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from retrofair import datasets
from retrofair.cli.devices import placed
from retrofair.cli.media import Media
from retrofair.cli.options import TableChoice, commas
from retrofair.cli.table_choice import check_there
from retrofair.data import GroupedData, Preparation, Rows, StreamedData, read_table
from retrofair.data.learned import GUESSED
from retrofair.debiasers import Debiased, load_result
from retrofair.debiasers.stored import output_of
from retrofair.errors import InputError, unknown
from retrofair.networks import load_network

SOURCE = "table"  # in a result's `about`: the options that named its data


def with_source(result: Debiased, choice: TableChoice) -> Debiased:
    """The result with the options that named its data, for later commands."""
    source = {name: value for name, value in asdict(choice).items() if name != "root"}
    return replace(result, about=result.about | {SOURCE: source})


def loaded(
    folder: Path, network: str | None, weights: Path | None, trust: bool, device: str = "cpu"
) -> Debiased:
    """A saved result; a network of the user's own is named, a base network is rebuilt.

    Raises:
        InputError: there is no such result, or its network is needed and was not named.
    """
    if not folder.is_dir():
        raise InputError(f"expected a folder with a saved result, but there is no folder {folder}")
    if network is None:
        if weights is not None:
            raise InputError("expected --network MODULE:FACTORY with --weights, got none")
        return load_result(folder)
    output = output_of(folder)
    net = load_network(network, weights, trust_network_file=trust, output=output)
    result = load_result(folder, net)
    return replace(result, model=placed(result.model, device))


def preparation_of(result: Debiased) -> Preparation:
    """How the result's data were prepared.

    Raises:
        InputError: the result does not know.
    """
    if result.preparation is None:
        raise InputError(
            "expected a result with a preparation, but this one was fitted to data that did not "
            "come from a table, or by an earlier version: debias again with --out"
        )
    return result.preparation


def source_of(
    result: Debiased, data: str | None, root: Path | None, drop: str | None = None
) -> TableChoice:
    """The table named now, less some of its columns, or else the one the result was fitted to.

    Raises:
        InputError: neither is known, or a data set is named that the result was not fitted to.
    """
    known = result.about.get(SOURCE)
    names = {each.name for each in fields(TableChoice)}
    past = (
        TableChoice(
            **{k: v for k, v in known.items() if k in names and k != "media"},
            root=root,
            media=Media.of(known.get("media")),
        )
        if isinstance(known, dict) and isinstance(known.get("data"), str)
        else None
    )
    if data is None:
        if past is None:
            raise InputError("expected --data, as this result does not say what it was fitted to")
        if past.is_file and not Path(past.data).is_file():
            raise InputError(
                f"the table {past.data} that this result was fitted to is not there: name one "
                "with --data"
            )
        return past
    check_there(data)
    now = TableChoice(data, root=root, drop=drop)
    if now.is_file:
        return now if past is None or past.media is None else replace(past, data=data)
    datasets.get(data)
    if past is None or past.data != data:
        raise InputError(
            f"expected a table of the same columns, or the data set this result was fitted to, "
            f"got the data set {data!r}"
        )
    return past


def table_of(choice: TableChoice) -> pd.DataFrame:
    """All rows of a table or data set, before any preparation."""
    if choice.is_file:
        frame = read_table(choice.data)
        dropped = commas(choice.drop) or []
        absent = [name for name in dropped if name not in frame.columns]
        if absent:
            raise unknown("column", absent[0], frame.columns)
        return frame.drop(columns=dropped)
    known = datasets.get(choice.data)
    seeded: dict[str, Any] = {"seed": choice.seed} if "seed" in known.options else {}
    return known.frame(choice.columns, choice.root, **seeded)


def new_rows(result: Debiased, choice: TableChoice) -> Rows:
    """A new table, prepared as the result's data were; of its own data set, the test part."""
    if choice.media is not None or media_of(result) is not None:
        return _new_media(result, choice)
    preparation = preparation_of(result)
    source = source_of(result, choice.data, choice.root, choice.drop)
    if source.is_file:
        return GroupedData.prepared(preparation, table_of(source))
    test: GroupedData = source.splits().test
    if test.preparation != preparation:
        raise InputError(
            f"the data set {source.data!r} is not what this result was fitted to: its rows or "
            "their preparation differ"
        )
    return test


def media_of(result: Debiased) -> Media | None:
    """The images or texts that a result was fitted to."""
    known = result.about.get(SOURCE)
    return Media.of(known.get("media")) if isinstance(known, dict) else None


def _new_media(result: Debiased, choice: TableChoice) -> StreamedData:
    """New images or texts, prepared as the result's were; of its own data set, the test part.

    Raises:
        InputError: the result was fitted to data of another kind, or groups are new.
    """
    media, now = media_of(result), choice.media
    if media is None or now is None or (media.text is None) != (now.text is None):
        kinds = ["a table" if each is None else each.kind for each in (media, now)]
        raise InputError(f"expected data as this result was fitted to, {kinds[0]}, got {kinds[1]}")
    source = source_of(result, choice.data, choice.root)
    if not source.is_file:
        images = media.images if now.images is None else now.images
        source = source.with_media(replace(media, images=images))
        return as_groups(source.splits().test, result.group_names)
    known = result.about[SOURCE]
    places = {name: getattr(now, name) for name in ("images", "text", "network", "column")}
    running = {name: getattr(now, name) for name in ("on_error", "batch_rows", "workers")}
    new = TableChoice(
        data=source.data,
        label=known["label"],
        positive=known["positive"],
        sensitive=known["sensitive"],
        privileged=known["privileged"],
        target=known["target"],
        class_names=tuple(known["class_names"]),
        media=replace(media, **places, **running),
    )
    with without_guess():
        return as_groups(new.streamed(), result.group_names)


@contextmanager
def without_guess() -> Iterator[None]:
    """No word of which group data take for the privileged one: it is the result's own."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", f".*{re.escape(GUESSED)}")
        yield


def as_groups(data: StreamedData, names: Sequence[str]) -> StreamedData:
    """The data with a result's groups, of which some may have no row."""
    if not set(data.group_names) <= set(names):
        return data  # which is refused where the result is applied
    code = torch.tensor([list(names).index(name) for name in data.group_names])
    notes = tuple(note for note in data.notes if GUESSED not in note)
    return replace(data, group=code[data.group], group_names=tuple(names), notes=notes)


def refuse_options(choice: TableChoice, others: Mapping[str, object]) -> None:
    """Refuse what a saved result decides itself.

    Raises:
        InputError: naming the first such option.
    """
    named = {
        "--label": choice.label,
        "--positive": choice.positive,
        "--sensitive": choice.sensitive,
        "--privileged": choice.privileged,
    }
    # --drop takes columns off a new table that the result does not know
    given = {**named, **preparing(choice), "--drop": None, **others}
    refuse_given(given, "with a saved result: it brings its own")


def preparing(choice: TableChoice) -> dict[str, object]:
    """The options on how features are made, None where they are not given."""
    return {
        "--blind": choice.blind or None,
        "--missing": None if choice.missing == "drop" else choice.missing,
        "--drop": choice.drop,
        "--no-scale": choice.no_scale or None,
    }


def refuse_given(options: Mapping[str, object], why: str) -> None:
    """Refuse options that would have no effect.

    Raises:
        InputError: naming the first that is given.
    """
    for option, value in options.items():
        if value is not None:
            raise InputError(f"expected no {option} {why}")
