"""Networks that a recorded run cannot hold, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import retrofair as rf
from retrofair.errors import InputError

pytest.importorskip("onnxruntime")
RECORDED = {"onnx": "onnx", "torchscript": "pt"}


class Net(nn.Module):
    """Linear, and then as the test wants it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(width, 1)

    def score(self, x: Tensor) -> Tensor:
        return self.linear(x)[:, 0]


class Branch(Net):
    def forward(self, x: Tensor) -> Tensor:
        z = self.score(x)
        return z if bool(x[0, 0] > 0) else -z


class Lists(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.score(x) + torch.from_numpy(x.detach().numpy()[:, 0].copy())


class Baked(Net):
    def forward(self, x: Tensor) -> Tensor:
        return self.score(x).reshape(len(x))


class Shapes(Net):
    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[1] == self.linear.in_features
        return self.score(x)


class Batch(Net):
    """Answers a row by those beside it."""

    def forward(self, x: Tensor) -> Tensor:
        return self.score(x - x.mean(0))


class Bessel(Net):
    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(self.score(x))


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrofair.deploy.timing.BATCHES", ((1, 2), (16, 2)))


def exported(net: type[Net], kind: str, data: rf.GroupedData, folder: Path) -> rf.deploy.Exported:
    path = folder / f"m.{RECORDED.get(kind, 'pt2')}"
    return rf.export(net(data.x.shape[1]), path, kind, data=data, outputs="logits")


@pytest.mark.parametrize("kind", RECORDED)
@pytest.mark.parametrize("net", [Branch, Lists])
def test_a_branch_by_values_is_refused(net, kind, splits, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"decides by the values of its input.*torch_export"):
        exported(net, kind, splits.test, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", RECORDED)
def test_a_question_about_shapes_is_none(kind, splits, tmp_path: Path) -> None:
    assert exported(Shapes, kind, splits.test, tmp_path).written


@pytest.mark.parametrize("kind", ["onnx", "torchscript"])
def test_a_number_of_rows_that_was_recorded(kind, splits, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"fails on a batch of .* rows") as caught:
        exported(Baked, kind, splits.test, tmp_path)
    assert len(str(caught.value).splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("kind", ["onnx", "torch_export", "torchscript"])
def test_answers_that_depend_on_the_batch_show(kind, splits, tmp_path: Path) -> None:
    done = exported(Batch, kind, splits.test, tmp_path)
    assert not done.written
    assert done.parity.rows == len(splits.test)
    assert not list(tmp_path.iterdir())


def test_an_unknown_operator_prints_nothing(splits, tmp_path: Path, capfd) -> None:
    for kind in ("onnx", "torch_export"):
        # torch.export knows the operator, and the branch not
        net = Bessel if kind == "onnx" else Branch
        with pytest.raises(InputError, match=f"cannot be written as {kind}") as caught:
            exported(net, kind, splits.test, tmp_path)
        assert len(str(caught.value).splitlines()) == 1
        out, err = capfd.readouterr()
        assert (out, err) == ("", "")
    print("still heard")
    assert capfd.readouterr().out == "still heard\n"
