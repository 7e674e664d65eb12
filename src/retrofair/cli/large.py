"""The options for images, texts and large networks, and what they stand for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from retrofair import datasets
from retrofair.cli.devices import check_device
from retrofair.cli.media import Media
from retrofair.cli.table_choice import TableChoice, one_source
from retrofair.data.streamed import ROWS
from retrofair.debiasers import Debiaser
from retrofair.errors import InputError, MissingFileError, unknown
from retrofair.hub import is_hub_name

OF_MEDIA, OF_LARGE = "Images and texts", "Large networks"
of_media = partial(typer.Option, rich_help_panel=OF_MEDIA)
of_large = partial(typer.Option, rich_help_panel=OF_LARGE)

Images = Annotated[
    Path | None,
    of_media(help="A folder or zip of images, with --labels; or of utkface or celeba."),
]
Labels = Annotated[
    Path | None, of_media(help="The table with a row for each image, .csv or .parquet.")
]
ImageColumn = Annotated[
    str | None, of_media(help="Its column of the images' names; found where none is given.")
]
Size = Annotated[
    int | None,
    of_media(min=1, help="Side in pixels; else as the network's preprocessor_config.json says."),
]
Channels = Annotated[
    int | None,
    of_media(min=1, max=3, help="3: RGB, 1: grey; else as the network's folder says, or 3."),
]
OnError = Annotated[
    str | None, of_media(help="An image that is absent or broken: raise (default) or skip.")
]
Text = Annotated[
    str | None,
    of_media(help="The table's column of texts, for the tokenizer in the --network folder."),
]
MaxLength = Annotated[
    int | None, of_media(min=1, help="Tokens of a text; else the tokenizer's, at most 512.")
]
LabelOutput = Annotated[
    str | None,
    of_media(
        help="The output to read of a network of several labels at once; else --label's name."
    ),
]
BatchRows = Annotated[
    int | None, of_large(min=1, help=f"Rows of images or texts at a time; {ROWS} by default.")
]
Workers = Annotated[int | None, of_large(min=0, help="Processes that read ahead; 0 by default.")]
Device = Annotated[
    str,
    of_large(help="cpu or cuda; auto: cuda where there is one, for a million weights and more."),
]
HeadOnly = Annotated[
    bool,
    of_large("--head-only", help="Change the last layer alone, for which the network runs once."),
]
Cache = Annotated[
    Path | None, of_large(help="Folder for what the network says of the data, for later calls.")
]
Layers = Annotated[
    int | None,
    of_large(min=1, help="lagrangian, adversarial: train the last so many layers; else all."),
]
MicroRows = Annotated[
    int | None,
    of_large(min=1, help="lagrangian, adversarial: rows of a minibatch in memory at once."),
]
Mixed = Annotated[
    bool, of_large("--mixed", help="lagrangian, adversarial: bfloat16 forward passes.")
]
Checkpoint = Annotated[
    Path | None,
    of_large(help="lagrangian, adversarial: folder of the state, to go on after an interruption."),
]
TUNING = ("layers", "micro_rows", "mixed", "checkpoint")
OF_IMAGES = ("image_column", "size", "channels", "on_error")


@dataclass(frozen=True)
class Large:
    """The data and how a large network is run on them.

    Args:
        data: a table or a data set's name.
        media: what its rows are of; None: the table's own columns.
    """

    data: str
    media: Media | None
    device: str
    cache: Path | None
    head_only: bool

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Large:
        """The options of a command, checked.

        Args:
            given: all of the command's arguments, as its `locals()` are when it begins.

        Raises:
            InputError: options that exclude or need each other, an unavailable device, a cache
                that is a file.
        """
        device, cache = given["device"], given.get("cache")
        check_device(device)
        for option, folder in (("cache", cache), ("checkpoint", given.get("checkpoint"))):
            if folder is not None and folder.exists() and not folder.is_dir():
                raise InputError(f"expected a folder, but {folder} is a file (--{option})")
        data = _data(given)
        media = _media(given, data)
        return cls(data, media, device, cache, bool(given.get("head_only")))

    def choice(self, *options: Any, regression: bool = False, classes: bool = True) -> TableChoice:
        """The data with the options on columns.

        Args:
            options: those of `TableChoice` after the data.
            classes: whether a label may have three values or more.
        """
        if self.media is not None:
            _, _, _, _, blind, missing, drop, no_scale, *_ = options
            columns = {
                "--blind": blind,
                "--missing": missing != "drop",
                "--drop": drop,
                "--no-scale": no_scale,
            }
            for option, value in columns.items():
                if value:
                    raise InputError(
                        f"expected no {option} with {self.media.kind}: the table's other columns "
                        "are no features then"
                    )
        if not classes:
            return TableChoice(self.data, *options).with_media(self.media)
        return TableChoice.of(self.data, *options, regression=regression, media=self.media)


def _data(given: Mapping[str, Any]) -> str:
    images, labels, text = given["images"], given["labels"], given["text"]
    if images is not None and text is not None:
        raise InputError("expected --images or --text, got both: a network reads one of them")
    if labels is not None and images is None:
        raise InputError(
            "expected --images FOLDER with --labels, got none: without images a table is named "
            "with --data"
        )
    if images is None:
        return one_source(given["file"], given["data"])
    if not images.exists():
        raise MissingFileError(f"expected a folder or zip, but there is no {images} (--images)")
    if labels is not None:
        other = given["file"] or given["data"]
        if other is not None:
            raise InputError(
                f"expected --labels or --data, got {labels} and {other}: one table names the images"
            )
        return one_source(str(labels), None)
    if given["file"] is None and given["data"] is None:
        raise InputError(
            "expected --labels TABLE with --images, got none: a .csv or .parquet file with a row "
            "for each image"
        )
    return one_source(given["file"], given["data"])


def _media(given: Mapping[str, Any], data: str) -> Media | None:
    images, text = given["images"], given["text"]
    known = next((each for each in datasets.ALL if each.name == data), None)
    if known is not None and text is not None:
        raise InputError(f"expected a table with --text, got the data set {data!r}")
    if known is not None and images is not None and known.file is None:
        able = ", ".join(each.name for each in datasets.ALL if each.file is not None)
        raise InputError(f"expected a table or {able} with --images, got the data set {data!r}")
    pictures = images is not None or (known is not None and known.images is not None)
    if not pictures:
        _refuse(given, OF_IMAGES, "--images")
    if text is None:
        _refuse(given, ("max_length",), "--text")
    if not pictures and text is None:
        _refuse(given, ("batch_rows", "workers", "label_output"), "--images or --text")
        return None
    kind = "--images" if text is None else "--text"
    if given.get("prediction") is not None:
        raise InputError(f"expected no {kind} with --prediction: the decisions are made")
    network = given.get("network")
    if network is None:
        what = f"the images of {data}" if images is None and text is None else kind
        raise InputError(
            f"expected --network FOLDER or MODULE:FACTORY for {what}, got none: base networks "
            "are for tables"
        )
    if text is not None and not Path(network).is_dir() and not is_hub_name(network):
        raise InputError(
            f"expected --network FOLDER or OWNER/MODEL with --text, which holds the network and "
            f"its tokenizer, got {network!r}"
        )
    on_error = given["on_error"] or "raise"
    if on_error not in ("raise", "skip"):
        raise unknown("choice for --on-error", on_error, ("raise", "skip"))
    made = Media(
        images=None if images is None else str(images),
        text=text,
        column=given["image_column"],
        on_error=on_error,
        batch_rows=given["batch_rows"] or ROWS,
        workers=given["workers"] or 0,
        max_length=given["max_length"],
        label_output=given["label_output"],
    )
    if given.get("result") is not None:  # which brings what prepares them
        _refuse(given, ("size", "channels", "max_length", "label_output"), None)
        return dataclasses.replace(made, network=network)
    if given["channels"] not in (None, 1, 3):
        raise unknown("choice for --channels", str(given["channels"]), ("1", "3"))
    made = made.reading(network, given["label"])
    return made.like(network, given["size"], data, given["channels"])


def _refuse(given: Mapping[str, Any], names: tuple[str, ...], needed: str | None) -> None:
    for name in names:
        if given.get(name) is not None:
            option = "--" + name.replace("_", "-")
            if needed is None:
                raise InputError(f"expected no {option} with a saved result: it brings its own")
            raise InputError(f"expected {needed} with {option}, got none")


def tuned(methods: Mapping[str, Debiaser], given: Mapping[str, Any]) -> dict[str, Debiaser]:
    """The methods, with the options on training where they have them.

    Raises:
        InputError: an option that none of them has.
    """
    made = dict(methods)
    for name in TUNING:
        value = given.get(name)
        if value is None or value is False:
            continue
        able = [key for key, each in made.items() if hasattr(each, name)]
        if not able:
            option = "--" + name.replace("_", "-")
            raise InputError(
                f"expected lagrangian or adversarial with {option}, got {', '.join(made)} "
                "(--method)"
            )
        option_value = str(value) if isinstance(value, Path) else value
        for key in able:
            each: Any = made[key]
            made[key] = dataclasses.replace(each, **{name: option_value})
    return made


def refuse_tuning(given: Mapping[str, Any]) -> None:
    """Refuse the options of large networks with --regression, whose method has none of them."""
    for name in (*TUNING, "head_only", "cache"):
        if given.get(name):
            raise InputError(
                f"expected no --{name.replace('_', '-')} with --regression: its method has none"
            )
