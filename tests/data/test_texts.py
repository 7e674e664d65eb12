"""Texts as data: padded as the tokenizer itself pads, cut, read by workers, drawn."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import pandas as pd
import pytest
import torch

pytest.importorskip("transformers")
from tokenizers import processors

import retrofair as rf
from hugging_cases import bert, saved, table, tokenizer
from retrofair.data import StreamedData, TextRows
from retrofair.errors import InputError, MissingFileError, RetrofairWarning
from retrofair.networks.resident import Resident

COLUMNS = {"text": "review", "label": "smiling", "sensitive": "race", "privileged": "White"}


def data_of(frame: pd.DataFrame | None = None, **more: object) -> StreamedData:
    given = {"batch_rows": 7, **COLUMNS, **more}
    return rf.texts_of(table(40) if frame is None else frame, tokenizer(), **given)


@pytest.mark.parametrize("side", ["right", "left"])
def test_batches_are_what_the_tokenizer_pads(side: str) -> None:
    frame, own = table(40), tokenizer(side=side)
    data = rf.texts_of(frame, own, batch_rows=7, **COLUMNS)
    texts = frame["review"].tolist()
    for k, (x, y, _) in enumerate(data):
        wanted = own(texts[7 * k : 7 * k + 7], padding=True, return_tensors="pt")
        assert set(x) == set(wanted)
        for name, values in wanted.items():
            assert torch.equal(x[name], values), name
        assert y.tolist() == frame["smiling"][7 * k : 7 * k + 7].tolist()
    assert data.group_names == ("other", "White")
    whole = own(texts, padding=True, return_tensors="pt")
    assert all(torch.equal(values, whole[name]) for name, values in data.x.items())


def test_long_texts_are_cut_and_counted() -> None:
    frame = table(40)
    lengths = [len(each.split()) + 2 for each in frame["review"]]
    long = sum(n > 6 for n in lengths)
    assert 0 < long < 40
    with pytest.warns(RetrofairWarning, match=rf"cut {long} of 40 texts after 6 tokens"):
        data = data_of(frame, max_length=6)
    wanted = tokenizer()(frame["review"].tolist(), truncation=True, max_length=6, padding=True)
    assert data.x["input_ids"].tolist() == wanted["input_ids"]
    assert data.rows.cut == long


def test_the_limit_is_the_least_of_tokenizer_and_network(tmp_path: Path) -> None:
    folder = saved("bert", tmp_path)
    frame = table(8).assign(review="good " * 30)
    with pytest.warns(RetrofairWarning, match="after 12 tokens"):
        assert rf.texts_of(frame, folder, **COLUMNS).x["input_ids"].shape == (8, 12)
    tokenizer(length=10**30).save_pretrained(folder)
    with pytest.warns(RetrofairWarning, match="after 16 tokens"):
        rf.texts_of(frame, str(folder), **COLUMNS)
    with pytest.raises(InputError, match=r"from 1 to 16 tokens.*got 17 \(--max-length\)"):
        rf.texts_of(frame, folder, max_length=17, **COLUMNS)
    with pytest.raises(InputError, match="got 0"):
        rf.texts_of(frame, folder, max_length=0, **COLUMNS)


def test_rows_workers_and_pickles_read_alike() -> None:
    data = data_of()
    one, y, group = data.rows[3]
    assert one["input_ids"].ndim == 1
    assert (y, group) == (data.y[3], data.group[3])
    again = pickle.loads(pickle.dumps(data.rows))  # as a worker process gets it
    assert torch.equal(again[3][0]["input_ids"], one["input_ids"])
    by_workers = dataclasses.replace(data, workers=1)
    for (x, y, _), (other, its, _) in zip(data, by_workers, strict=True):
        assert torch.equal(x["input_ids"], other["input_ids"])
        assert torch.equal(y, its)


def test_rows_drawn_on_a_device_are_those_of_the_data() -> None:
    """Batches there have different lengths, and are not one tensor."""
    data = data_of()
    there = Resident(data, torch.device("cpu"))
    for wanted, found in zip(data, there, strict=True):
        assert torch.equal(wanted[0]["input_ids"], found[0]["input_ids"])
    drawn, found = (each.sample(9, torch.Generator().manual_seed(2)) for each in (data, there))
    assert torch.equal(drawn[0]["input_ids"], found[0]["input_ids"])
    assert torch.equal(drawn[1], found[1])


def test_rows_without_a_text_are_left_out() -> None:
    frame = table(40)
    frame.loc[[1, 5], "review"] = None
    with pytest.warns(RetrofairWarning, match="left out 2 of 40 rows without a text"):
        data = data_of(frame)
    assert data.y.tolist() == frame["smiling"].drop([1, 5]).tolist()


def test_texts_without_a_token() -> None:
    inner = tokenizer()
    inner._tokenizer.post_processor = processors.TemplateProcessing(single="$A")  # nothing around
    frame = table(40).assign(review=["", "  "] * 5 + ["she is good"] * 30)
    data = rf.texts_of(frame, inner, batch_rows=10, **COLUMNS)
    x, _, _ = next(iter(data))
    assert x["input_ids"].tolist() == [[0]] * 10  # padding
    assert not x["attention_mask"].any()
    assert rf.audit(bert(), data, outputs="logits")["accuracy"].value >= 0


def test_three_classes() -> None:
    frame = table(30).assign(smiling=["a", "b", "c"] * 10)
    data = data_of(frame)
    assert data.y.tolist() == [0, 1, 2] * 10
    assert "0 = a, 1 = b, 2 = c" in data.notes[0]


def test_what_is_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected texts in column 'smiling', got numbers"):
        data_of(text="smiling")
    with pytest.raises(InputError, match=r"expected texts in column 'review', got none"):
        data_of(table(20).assign(review=None))
    with pytest.raises(InputError, match="'nothing'"):
        data_of(text="nothing")
    with pytest.raises(MissingFileError, match="there is no"):
        rf.texts_of(table(20), tmp_path / "none", **COLUMNS)
    with pytest.raises(InputError, match=r"a tokenizer in .*save_pretrained\(folder\)"):
        rf.texts_of(table(20), tmp_path, **COLUMNS)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        rf.texts_of(table(20), tmp_path, **COLUMNS)
    without = tokenizer()
    without.pad_token = None
    with pytest.raises(InputError, match="padding token"):
        rf.texts_of(table(20), without, **COLUMNS)
    with pytest.raises(InputError, match="but it fails"):
        rf.texts_of(table(20), _Broken(), **COLUMNS)


class _Broken:
    pad_token_id = 0

    def __call__(self, *_: object, **__: object) -> dict[str, object]:
        raise ValueError("no vocabulary")


def test_how_it_looks() -> None:
    assert repr(data_of().rows).startswith("TextRows(40 texts of ")
    assert isinstance(data_of().rows, TextRows)
