"""Exported networks whose x is no table: tokens, images, and several tensors at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("transformers")
pytest.importorskip("onnxruntime")
import onnxruntime

import retrofair as rf
from hugging_cases import pictures, saved, table
from retrofair.debiasers.result import decide
from retrofair.deploy import timing
from retrofair.deploy.formats import quiet
from retrofair.errors import InputError
from retrofair.networks import load_network

SUFFIXES = {"onnx": "onnx", "torch_export": "pt2", "torchscript": "pt"}
COLUMNS = {"label": "smiling", "sensitive": "race", "privileged": "White"}
GOAL = rf.Constrained("spd", epsilon=0.1)


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "BATCHES", ((1, 2), (16, 2)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("kinds")
    for name in ("bert", "resnet"):
        saved(name, root)
    pictures(table(), root)
    return root


@pytest.fixture(scope="module")
def texts(folder: Path) -> rf.StreamedData:
    return rf.texts_of(table(), str(folder / "bert"), text="review", **COLUMNS)


def asked(kind: str, path: Path, given: list[Tensor]) -> tuple[Any, Any]:
    """A file's answers in its own runtime, given tensors one by one."""
    if kind == "onnx":
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [each.name for each in session.get_inputs()]
        return session.run(None, {n: x.numpy() for n, x in zip(names, given, strict=True)})
    with quiet():  # TorchScript is deprecated
        read = torch.jit.load if kind == "torchscript" else torch.export.load
        served = read(path)
    served = served if kind == "torchscript" else served.module()
    return tuple(each.numpy() for each in served(*given))


@pytest.mark.parametrize("method", ["threshold", "fair_head", "group_thresholds"])
@pytest.mark.parametrize("kind", SUFFIXES)
def test_tokens(
    method: str, kind: str, texts: rf.StreamedData, folder: Path, tmp_path: Path
) -> None:
    net = load_network(str(folder / "bert"))
    result = rf.debias(net, texts, GOAL, method, outputs="logits")
    path = tmp_path / f"m.{SUFFIXES[kind]}"
    done = rf.export(result, path, kind, data=texts)
    assert done.written
    assert done.parity.rows == len(texts)
    names = [each.name for each in done.inputs]
    by_group = method == "group_thresholds"
    assert names == ["attention_mask", "input_ids", "token_type_ids", "group"][: 3 + by_group]
    assert all(each.shape == ("rows", "tokens") for each in done.inputs[:3])
    # batches of other widths than any it was tried on, as the tokenizer would make them
    short = texts[(texts.x["attention_mask"].sum(1) <= 6).nonzero()[:5, 0]]
    for some in (short, texts[:1], texts[7:40]):
        x, group = some.x, some.group
        codes = [group] if by_group else []
        chance, decision = asked(kind, path, [*(x[name] for name in names[:3]), *codes])
        wanted = decide(result.model, result.rule, x, group.numpy() if by_group else None)
        assert decision.tolist() == wanted[1].tolist()
        assert chance == pytest.approx(wanted[0], abs=1e-5)
    assert short.x["input_ids"].shape[1] == 6


@pytest.mark.parametrize("kind", SUFFIXES)
def test_images_from_a_stream(kind: str, folder: Path, tmp_path: Path) -> None:
    data = rf.images_of(str(folder / "faces"), table(), file="file", size=16, **COLUMNS)
    result = rf.debias(load_network(str(folder / "resnet")), data, GOAL, "fair_head")
    done = rf.export(result, tmp_path / f"m.{SUFFIXES[kind]}", kind, data=data)
    assert done.written
    assert done.inputs[0].shape == ("rows", 3, 16, 16)


class Two(nn.Module):
    """Reads a table and a picture of each row."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.picture = nn.Linear(3, 1), nn.Linear(8, 1)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.table(a) + self.picture(b.flatten(1))


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_tuple_of_two_kinds(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    rows = [
        ((torch.randn(3) + g, torch.randn(2, 4)), y, g)
        for g, y in (torch.rand(90, 2) > 0.5).long().tolist()
    ]
    data = rf.StreamedData.of(rows, ("a", "b"))
    net = Two().eval()
    path = tmp_path / f"m.{SUFFIXES[kind]}"
    done = rf.export(net, path, kind, data=data, threshold=0.4, outputs="logits")
    assert done.written
    assert [(each.name, each.shape) for each in done.inputs] == [
        ("x0", ("rows", 3)),
        ("x1", ("rows", 2, 4)),
    ]
    x = data.x
    _, decision = asked(kind, path, [part[:7] for part in x])
    with torch.no_grad():
        assert decision.tolist() == (net(*x)[:7, 0].sigmoid() > 0.4).long().tolist()
    result = rf.debias(net, data, GOAL, "equalized_odds", outputs="logits")
    with pytest.raises(InputError, match="a rule with a coin, got a tuple of tensors"):
        rf.export(result, tmp_path / "m.pt2", "torch_export", data=data)


def tokens(width: int, rows: int = 60, left: bool = False) -> rf.StreamedData:
    """Whole numbers with a mask, of texts of all lengths from 1 up."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for k in range(rows):
        length = 1 + k % width
        mask = (torch.arange(width) < length).long()
        mask = mask.flip(0) if left else mask
        ids = torch.randint(1, 12, (width,), generator=generator) * mask
        made.append(({"input_ids": ids, "attention_mask": mask}, k % 3 == 0, k % 2))
    return rf.StreamedData.of(made, ("a", "b"))


class Words(nn.Module):
    """The mean of its words' numbers; without a mask of all of them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words = nn.Embedding(12, 4)
        self.last = nn.Linear(4, 1)

    def forward(self, input_ids: Tensor, **_: Tensor) -> Tensor:
        out: Tensor = self.last(self.read(self.words(input_ids)))
        return out

    def read(self, words: Tensor) -> Tensor:
        return words.mean(1)


class Blocks(Words):
    """Works in blocks of four words."""

    def read(self, words: Tensor) -> Tensor:
        pad = -words.shape[1] % 4
        if pad > 0:
            words = torch.cat([words, words[:, :1].expand(-1, pad, -1)], 1)
        return words.mean(1)


class Masked(Words):
    """Divides by the number of words, which a text without any has none of."""

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        mask = attention_mask[..., None].float()
        mean = (self.words(input_ids) * mask).sum(1) / mask.sum(1)
        out: Tensor = self.last(mean)
        return out


class Columns(Words):
    """Three columns of codes, which cannot be fewer."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(12, 1)

    def read(self, words: Tensor) -> Tensor:
        return words.flatten(1)


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
@pytest.mark.parametrize("width", [12, 16])
def test_a_file_that_is_wrong_for_other_lengths_is_not_written(
    kind: str, width: int, tmp_path: Path
) -> None:
    """A recorded run of a network that pads holds whether it was padded."""
    path = tmp_path / f"m.{SUFFIXES[kind]}"
    done = rf.export(Blocks(), path, kind, data=tokens(width), outputs="logits")
    assert not done.written
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("left", [False, True])
@pytest.mark.parametrize("kind", SUFFIXES)
def test_masks_on_either_side(kind: str, left: bool, tmp_path: Path) -> None:
    path = tmp_path / f"m.{SUFFIXES[kind]}"
    done = rf.export(Masked(), path, kind, data=tokens(8, left=left), outputs="logits")
    assert done.written
    assert {each.shape for each in done.inputs} == {("rows", "tokens")}
    ids = torch.tensor([[1, 2, 3], [4, 5, 6]])
    _, decision = asked(kind, path, [ids, torch.ones_like(ids)])
    with torch.no_grad():
        assert decision.tolist() == (Masked()(ids, torch.ones_like(ids))[:, 0] > 0).long().tolist()


@pytest.mark.parametrize("kind", SUFFIXES)
def test_columns_of_codes_are_no_tokens(kind: str, tmp_path: Path) -> None:
    """And a tensor that the network ignores is taken all the same."""
    path = tmp_path / f"m.{SUFFIXES[kind]}"
    done = rf.export(Columns(), path, kind, data=tokens(3), outputs="logits")
    assert done.written
    assert [each.name for each in done.inputs] == ["input_ids", "attention_mask"]
    assert {each.shape for each in done.inputs} == {("rows", 3)}
    ids = torch.tensor([[1, 2, 3]])
    assert len(asked(kind, path, [ids, ids])[0]) == 1


@pytest.mark.parametrize("kind", SUFFIXES)
def test_a_head_on_codes_alone_has_no_knots(kind: str, tmp_path: Path) -> None:
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3).repeat(20, 1)
    y = (x[:, 0].logical_xor(torch.arange(160) % 7 == 0)).long()
    data = rf.GroupedData(x=x, y=y, group=x[:, 1].long(), group_names=("f", "m"))
    net = nn.Sequential(nn.Linear(3, 1), nn.Flatten(0))
    result = rf.debias(net, data, GOAL, "fair_head", outputs="logits")
    assert not len(result.model.features.knot)
    path = tmp_path / f"m.{SUFFIXES[kind]}"
    assert rf.export(result, path, kind, data=data).written
    assert asked(kind, path, [x])[1].tolist() == result.predict(x).tolist()


def test_names_that_a_file_has_itself(tmp_path: Path) -> None:
    x = {"input_ids": torch.ones(3).long(), "group": torch.ones(3).long()}
    data = rf.StreamedData.of([(x, 0, 0), (x, 1, 1)], ("a", "b"))
    with pytest.raises(InputError, match="a dict without 'group'"):
        rf.export(Words(), tmp_path / "m.onnx", data=data, outputs="logits")


def test_a_slow_network_is_timed_on_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]

    def busy(given: Any) -> None:
        clock[0] += 0.1 * len(given[0])

    monkeypatch.setattr(timing, "BATCHES", ((1, 200), (1024, 30)))
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock[0])
    one, many = timing.timed(busy, busy, [torch.zeros(9, 2)], [torch.zeros(9, 2)])
    assert (one.rows, many.rows) == (1, timing.SLOW)
    assert (one.original, many.exported) == (pytest.approx(100), pytest.approx(6400))
    assert one.repeats < 30
    assert many.repeats == timing.FEWEST
