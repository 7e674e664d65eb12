"""Texts of a table as rows of data: tokens by the network's own tokenizer, padded per batch."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from retrofair.data.grouped import Batch
from retrofair.data.image_tables import labels_of
from retrofair.data.preparation import check_columns
from retrofair.data.streamed import ROWS, StreamedData
from retrofair.data.tokenizers import load_tokenizer, longest, shown
from retrofair.errors import InputError, RetrofairWarning
from retrofair.progress import track

TOGETHER = 1_000  # texts that a tokenizer is given at a time
MASK = "attention_mask"


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class TextRows:
    """A dataset of tokenised texts for `StreamedData`: rows[i] = (x, y, group).

    x of a batch is a dict of (b, length) int64: input_ids, attention_mask, and what else the
    tokenizer gives, padded to the longest text of the batch. Tokens are kept, 4 bytes each.

    Args:
        tokens: by name, the numbers of all texts one after the other, (total,) int32.
        starts: (n + 1,) where each text begins, and the last one ends.
        padding: by name, what a shorter text is filled up with.
        y, group: (n,) label and group code of every row.
        left: texts are filled up in front.
        cut: how many were longer than the limit.
    """

    tokens: Mapping[str, Tensor]
    starts: Tensor
    padding: Mapping[str, int]
    y: Tensor
    group: Tensor
    left: bool = False
    cut: int = 0

    def identity(self) -> list[Any]:
        """What tells these texts from others: all their tokens."""
        return [*(self.tokens[name] for name in sorted(self.tokens)), self.starts, self.left]

    @classmethod
    def of(
        cls,
        texts: Sequence[str],
        tokenizer: Any,
        y: Tensor,
        group: Tensor,
        *,
        max_length: int,
    ) -> TextRows:
        """The rows of texts, tokenised now.

        Args:
            tokenizer: of transformers.
            max_length: tokens up to which a text is read.

        Raises:
            InputError: the tokenizer fails, or has no token to fill up with.
        """
        pad = getattr(tokenizer, "pad_token_id", None)
        if pad is None:
            raise InputError(
                "expected a tokenizer with a padding token, got one without: set "
                "tokenizer.pad_token (and the network's config.pad_token_id) and save both again"
            )
        found: dict[str, list[Any]] = {}
        lengths, cut = [], 0
        for start in track(range(0, len(texts), TOGETHER), "tokenising texts"):
            some, longer = _tokenised(tokenizer, list(texts[start : start + TOGETHER]), max_length)
            cut += longer
            lengths += [len(each) for each in some["input_ids"]]
            for name, rows in some.items():
                found.setdefault(name, []).append(np.concatenate([np.int32(row) for row in rows]))
        other = {"token_type_ids": getattr(tokenizer, "pad_token_type_id", 0) or 0}
        return cls(
            tokens={name: torch.from_numpy(np.concatenate(each)) for name, each in found.items()},
            starts=torch.tensor([0, *lengths]).cumsum(0),
            padding={
                name: int(pad) if name == "input_ids" else other.get(name, 0) for name in found
            }
            | {MASK: 0},
            y=y,
            group=group,
            left=getattr(tokenizer, "padding_side", "right") == "left",
            cut=cut,
        )

    def __repr__(self) -> str:
        return f"TextRows({len(self):,} texts of {len(self.tokens['input_ids']):,} tokens)"

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, row: int) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        x, y, group = self.batch(torch.tensor([range(len(self))[row]]))
        return {name: each[0] for name, each in x.items()}, y[0], group[0]

    def batch(self, index: Tensor) -> Batch:
        """The rows of an index tensor: x (a dict of (b, length)), y (b,), group (b,)."""
        first, lengths = self.starts[index], self.starts[index + 1] - self.starts[index]
        # one, and be it padding, where no text has a token
        place = torch.arange(max(1, int(lengths.max())))[None, :]
        if self.left:
            place = place - (len(place[0]) - lengths)[:, None]
        there = (place >= 0) & (place < lengths[:, None])
        where = (first[:, None] + place)[there]
        x = {MASK: there.long()}
        for name, numbers in self.tokens.items():
            filled = torch.full(there.shape, self.padding[name])
            filled[there] = numbers[where].long()
            x[name] = filled
        return x, self.y[index], self.group[index]


def texts_of(
    frame: pd.DataFrame,
    tokenizer: Any,
    *,
    text: str,
    label: str,
    sensitive: str | Sequence[str],
    positive: object = None,
    privileged: object = None,
    regression: bool = False,
    max_length: int | None = None,
    batch_rows: int = ROWS,
    workers: int = 0,
) -> StreamedData:
    """Data of a column of texts, for a network that reads tokens.

    Labels and groups follow the rules of `GroupedData.from_frame`; rows without text, label or
    group are dropped, with a note. All texts are tokenised once, now.

    Args:
        tokenizer: the folder of a network in Hugging Face's form, which holds its tokenizer, or a
            tokenizer of transformers.
        text: the column of texts.
        label, positive, sensitive, privileged, regression: as of `images_of`.
        max_length: tokens up to which a text is read; None: what the tokenizer and the network
            allow, at most 512. How many texts were cut is noted.
        batch_rows, workers: see `StreamedData`.

    Raises:
        MissingFileError: there is no such folder.
        InputError: the folder has no tokenizer, a column is unknown or holds no texts, a label of
            one class.
    """
    columns = [sensitive] if isinstance(sensitive, str) else list(sensitive)
    check_columns(frame, [text, label, *columns])
    limit = None
    if isinstance(tokenizer, str | Path):
        limit = longest(tokenizer)
        tokenizer = load_tokenizer(tokenizer)
    length = _length(max_length, tokenizer, limit)
    notes = []
    here = frame[text].notna().to_numpy()
    if not here.all():
        notes.append(f"left out {int((~here).sum()):,} of {len(frame):,} rows without a text")
    frame = frame.loc[here]
    if not len(frame):
        raise InputError(f"expected texts in column {text!r}, got none (--text)")
    if pd.api.types.is_numeric_dtype(frame[text]):
        raise InputError(
            f"expected texts in column {text!r}, got numbers ({frame[text].dtype}) (--text)"
        )
    y, group, chosen, group_names, label_names, said = labels_of(
        frame, label, columns, positive, privileged, regression
    )
    texts = [str(each) for each in frame[text].iloc[chosen]]
    rows = TextRows.of(texts, tokenizer, y, group, max_length=length)
    if rows.cut:
        notes.append(
            f"cut {rows.cut:,} of {len(rows):,} texts after {length:,} tokens (--max-length)"
        )
    for note in notes:
        warnings.warn(note, RetrofairWarning, stacklevel=2)
    return StreamedData(
        rows=rows,
        y=y,
        group=group,
        group_names=group_names,
        index=torch.arange(len(rows)),
        batch_rows=batch_rows,
        workers=workers,
        notes=(*said, *notes),
        label_names=label_names,
    )


def _length(asked: int | None, tokenizer: Any, limit: int | None) -> int:
    able = [int(getattr(tokenizer, "model_max_length", 512))]
    most = min([*able, *([] if limit is None else [limit])])
    if asked is None:
        return min(most, 512)
    if isinstance(asked, bool) or not isinstance(asked, int) or not 1 <= asked <= most:
        least = "a whole number of tokens from 1" if most > 10**9 else f"from 1 to {most:,} tokens"
        raise InputError(
            f"expected max_length to be {least}, what the network reads, got {asked!r} "
            "(--max-length)"
        )
    return asked


def _tokenised(tokenizer: Any, texts: list[str], length: int) -> tuple[dict[str, Any], int]:
    """Of each input of the network a list per text, and how many texts were cut."""
    try:
        found = dict(tokenizer(texts, verbose=False))
        long = [row for row, ids in enumerate(found["input_ids"]) if len(ids) > length]
        if long:
            again = tokenizer(
                [texts[row] for row in long], truncation=True, max_length=length, verbose=False
            )
            for name, rows in found.items():
                for row, shorter in zip(long, again[name], strict=True):
                    rows[row] = shorter
    except Exception as error:  # a tokenizer of any kind
        raise InputError(f"expected a tokenizer of texts, but it fails: {shown(error)}") from error
    found.pop(MASK, None)  # it follows from the lengths
    return {name: rows for name, rows in found.items() if len(rows) == len(texts)}, len(long)
