"""Images or texts that a table says something about, as the command line names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import pandas as pd

from retrofair import datasets
from retrofair.cli.notes import say
from retrofair.data import Fit, StreamedData, images_of, texts_of
from retrofair.data.image_files import Channels
from retrofair.data.image_tables import OnError
from retrofair.data.label_names import plain
from retrofair.data.streamed import ROWS
from retrofair.hub import is_hub_name, local_folder
from retrofair.networks import image_options
from retrofair.networks.hugging_face import names_of_several
from retrofair.networks.image_options import FILE

SMALL = 64  # pixels of the images that a data set brings


@dataclass(frozen=True)
class Media:
    """What a table's rows are of. All of it can stand in JSON, beside a result.

    Args:
        images: a folder or zip; None: the data set's own, or texts.
        text: the column of texts.
        network: the folder that holds the tokenizer.
        label_output: the network's output that is read, where it tells several labels at once.
        column: the one with the images' names.
        size, mean, std, short, stretch, resample, channels: how images are prepared (`ImageRows`,
            `Fit`).
        max_length: tokens.
    """

    images: str | None = None
    text: str | None = None
    network: str | None = None
    label_output: str | None = None
    column: str | None = None
    size: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    short: int | None = None
    stretch: bool = False
    resample: str = "bilinear"
    channels: Channels = 3
    on_error: str = "raise"
    batch_rows: int = ROWS
    workers: int = 0
    max_length: int | None = None

    @classmethod
    def of(cls, values: object) -> Media | None:
        """What was kept beside a result, as far as it is of this kind."""
        if not isinstance(values, Mapping):
            return None
        names = {each.name for each in fields(cls)}
        known: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in values.items()
            if name in names
        }
        return cls(**known)

    @property
    def kind(self) -> str:
        """The option that names them."""
        return "--images" if self.text is None else "--text"

    def reading(self, network: str, label: str | None) -> Media:
        """The same, with the output to read of a network that tells several labels at once.

        Without one that was named it is the one that is called as the label's column.
        """
        folder = _folder(network)
        if self.label_output is not None or folder is None or label is None:
            return self
        called = [name for name in names_of_several(folder) if plain(name) == plain(label)]
        if not called:
            return self
        say(f"of the network's labels {called[0]!r} is read, as the column is called")
        return replace(self, label_output=called[0])

    def like(
        self, network: str | None, size: int | None, data: str, channels: int | None = None
    ) -> Media:
        """The same, prepared as a network's folder wants its images.

        Args:
            data: the table or data set, which may bring images of its own size.
        """
        if self.text is not None:
            return replace(self, network=network)
        folder = None if network is None else _folder(network)
        own = {known.name for known in datasets.ALL if known.images is not None}
        small = self.images is None and data in own
        usual = {"usual": SMALL} if small else {}
        found = image_options(folder, size, channels=channels, **usual)
        fit = found["fit"]
        if folder is not None and (folder / FILE).is_file():
            say(
                f"images of {found['size']} x {found['size']} pixels, prepared as the network's "
                f"{FILE} says"
                + (", in the size of --size" if size is not None else "")
                + {1: ", grey", 3: "", "bgr": ", blue first"}[found["channels"]]
            )
        elif found["channels"] == 1 and channels is None:
            say("grey images, as the network's config.json says (--channels)")
        return replace(
            self,
            network=network,
            size=found["size"],
            mean=found["mean"],
            std=found["std"],
            short=fit.short,
            stretch=fit.stretch,
            resample=fit.resample,
            channels=found["channels"],
        )

    def options(self) -> dict[str, Any]:
        """Those of `images_of`, and of `datasets.load` for images."""
        made: dict[str, Any] = {
            "size": self.size,
            "fit": Fit(self.short, self.stretch, cast(Any, self.resample)),
            "channels": self.channels,
            "on_error": cast(OnError, self.on_error),
            "batch_rows": self.batch_rows,
            "workers": self.workers,
        }
        for name, value in (("mean", self.mean), ("std", self.std)):
            made |= {} if value is None else {name: value}
        return made

    def load_options(self) -> dict[str, Any]:
        """Those of `datasets.load`."""
        return self.options() | ({} if self.images is None else {"images": self.images})

    def rows(self, frame: pd.DataFrame, **labels: Any) -> StreamedData:
        """All rows of a table of labels.

        Args:
            labels: label, sensitive, positive, privileged and regression.
        """
        if self.text is not None:
            return texts_of(
                frame,
                self.network,
                text=self.text,
                max_length=self.max_length,
                batch_rows=self.batch_rows,
                workers=self.workers,
                **labels,
            )
        assert self.images is not None  # a table by itself has none
        return images_of(self.images, frame, file=self.column, **self.options(), **labels)


def _folder(network: str) -> Path | None:
    """Where a network in Hugging Face's form lies; None: it is another."""
    known = Path(network).is_dir() or is_hub_name(network)
    return local_folder(network) if known else None
