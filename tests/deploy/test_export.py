"""Exported networks answer as the library does, in a runtime of their own."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import retrofair as rf
from retrofair.data import Preparation, raw_table
from retrofair.datasets.synthetic import read
from retrofair.debiasers.head import HeadedNetwork
from retrofair.deploy import formats, run
from retrofair.deploy.heads import steady
from retrofair.deploy.parity import Parity
from retrofair.errors import InputError

onnxruntime = pytest.importorskip("onnxruntime")
SUFFIXES = {"onnx": "onnx", "torch_export": "pt2", "torchscript": "pt"}
GIVEN = "fair_head, attribute given"
OBJECTIVE = rf.Constrained("spd", epsilon=0.05)


@pytest.fixture(scope="module")
def results(splits, trained) -> dict[str, rf.Debiased]:
    methods = ("threshold", "fair_head", "group_thresholds", "reject_option", "equalized_odds")
    found = {name: rf.debias(trained, splits.valid, OBJECTIVE, name) for name in methods}
    given = rf.debiasers.FairHead(attribute="given")
    return {**found, GIVEN: rf.debias(trained, splits.valid, OBJECTIVE, given)}


@pytest.fixture(scope="module")
def table():
    return read({}, n=3000, seed=0)


@pytest.fixture(autouse=True)
def briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("retrofair.deploy.timing.BATCHES", ((1, 2), (16, 2)))


@pytest.mark.parametrize(
    "method", ["threshold", "fair_head", GIVEN, "group_thresholds", "reject_option"]
)
@pytest.mark.parametrize("kind", SUFFIXES)
def test_every_format_from_a_table(method, kind, results, table, tmp_path: Path) -> None:
    done = rf.export(results[method], tmp_path / f"m.{SUFFIXES[kind]}", kind, data=table)
    assert done.written
    assert done.parity.rows == 3000
    assert done.parity.differing == 0
    assert done.parity.largest < 1e-5
    assert [each.name for each in done.inputs] == ["columns", "group"][: 1 + done_by_group(method)]
    about = json.loads((tmp_path / "export.json").read_text())
    assert about == json.loads(json.dumps(done.to_dict()))
    assert about["sha256"] == hashlib.sha256(done.path.read_bytes()).hexdigest()
    assert Preparation.load(tmp_path / "preparation.json") == results[method].preparation
    assert {p.name for p in tmp_path.iterdir()} == {
        done.path.name,
        "export.json",
        "preparation.json",
    }


def done_by_group(method: str) -> bool:
    return method in (GIVEN, "group_thresholds", "reject_option")


def session(path: Path) -> Any:
    return onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def test_onnx_alone_with_the_codes_of_the_json(results, table, tmp_path: Path) -> None:
    """As another program would: no pandas, no preparation of ours, one row after another."""
    result = results["group_thresholds"]
    rf.export(result, tmp_path / "m.onnx", data=table)
    about = json.loads((tmp_path / "export.json").read_text())
    codes = json.loads((tmp_path / "preparation.json").read_text())["codes"]
    names, groups = about["inputs"][0]["columns"], about["group_names"]
    runtime = session(tmp_path / "m.onnx")
    data = rf.GroupedData.prepared(result.preparation, table)
    wanted = result.predict_data(data)
    texts = table.astype(str)
    for row in range(200):
        columns = []
        for name in names:
            value = table.iloc[row][name]
            known = codes.get(name)
            columns.append(float(value) if known is None else known.get(texts.iloc[row][name], 0))
        given = {
            "columns": np.array([columns], dtype=np.float64),
            "group": np.array([groups.index(table.iloc[row]["sex"])]),
        }
        assert runtime.run(["decision"], given)[0].tolist() == [wanted[row]]


@pytest.mark.parametrize("kind", SUFFIXES)
def test_from_prepared_features(kind, results, splits, tmp_path: Path) -> None:
    path = tmp_path / f"m.{SUFFIXES[kind]}"
    done = rf.export(results["fair_head"], path, kind, data=splits.test)
    assert done.written
    assert done.inputs[0].to_dict() == {
        "name": "x",
        "dtype": "float32",
        "shape": ["rows", 9],
        "columns": list(splits.test.feature_names),
    }
    assert not (tmp_path / "preparation.json").exists()
    with formats.quiet():  # torch says that TorchScript is old
        run_file = next(f for f in formats.FORMATS if f.name == kind).read(path)
    for rows in (1, 2, 7):  # any number of rows
        chance, decision = run_file([splits.test.x[:rows]])
        assert decision.tolist() == results["fair_head"].predict(splits.test.x[:rows]).tolist()
        assert chance.dtype == np.float64


def test_a_coin_is_exact_or_refused(results, table, splits, tmp_path: Path) -> None:
    result = results["equalized_odds"]
    for data in (table, splits.test):
        for kind in ("onnx", "torchscript"):
            with pytest.raises(InputError, match=r"draws a coin.*format='torch_export'"):
                rf.export(result, tmp_path / f"m.{SUFFIXES[kind]}", kind, data=data)
        assert not list(tmp_path.iterdir())
    done = rf.export(result, tmp_path / "m.pt2", "torch_export", data=table)
    assert done.written
    assert done.parity.differing == 0
    assert set(result.predict_data(splits.test)) == {0, 1}


def test_rows_that_cannot_be_decided(results, table, tmp_path: Path) -> None:
    result = results["group_thresholds"]
    rf.export(result, tmp_path / "m.onnx", data=table)
    rows = raw_table(result.preparation, table.head(4))
    position = [c.name for c in result.preparation.columns].index("region")
    rows[1, position], rows[2, 0] = 99, np.nan
    group = np.array([0, 0, 0, 7])
    chance, decision = session(tmp_path / "m.onnx").run(None, {"columns": rows, "group": group})
    assert decision[1:].tolist() == [-1, -1, -1]
    assert np.isnan(chance[1:]).all()
    assert decision[0] in (0, 1)


@pytest.mark.filterwarnings("ignore::retrofair.errors.RetrofairWarning")
def test_missing_values_are_imputed_or_refused_alike(trained, tmp_path: Path) -> None:
    frame = read({}, n=800, seed=2)
    frame.loc[::7, "skill"] = np.nan
    for missing in ("drop", "impute"):
        data = rf.GroupedData.from_frame(
            frame, label="hired", sensitive="sex", privileged="Male", missing=missing
        )
        net = rf.networks.train_mlp(data, data, depth=1, width=4, max_epochs=2)
        done = rf.export(
            net, tmp_path / "m.onnx", data=frame, preparation=data.preparation, outputs="logits"
        )
        assert done.written
        gone = int(frame["skill"].isna().sum()) if missing == "drop" else 0
        assert (done.parity.rows, done.parity.refused) == (800 - gone, gone)


def test_a_table_without_label_or_group(results, table, tmp_path: Path) -> None:
    few = table.head(50)
    done = rf.export(results["threshold"], tmp_path / "m.onnx", data=few.drop(columns="hired"))
    assert done.parity.rows == 50
    with pytest.raises(InputError, match="unknown column 'sex'"):
        rf.export(results["threshold"], tmp_path / "m.onnx", data=few.drop(columns="sex"))
    blind = rf.datasets.load("synthetic", sensitive="sex", n=600, include_sensitive=False)
    net = rf.networks.train_mlp(blind.train, blind.valid, depth=1, width=4, max_epochs=2)
    for method, fine in (("threshold", True), ("group_thresholds", False)):
        result = rf.debias(net, blind.valid, rf.Constrained("spd", 0.2), method)
        bare = few.drop(columns=["sex", "hired"])
        if fine:
            assert rf.export(result, tmp_path / "b.onnx", data=bare).written
        else:
            with pytest.raises(InputError, match="unknown column 'sex'"):
                rf.export(result, tmp_path / "b.onnx", data=bare)


@pytest.mark.parametrize("kind", SUFFIXES)
@pytest.mark.parametrize("columns", [["skill", "hours"], ["sex", "region"]])
def test_tables_of_numbers_only_and_of_texts_only(kind, columns, table, tmp_path: Path) -> None:
    few = table[[*dict.fromkeys([*columns, "sex", "hired"])]]
    data = rf.GroupedData.from_frame(
        few,
        label="hired",
        sensitive="sex",
        privileged="Male",
        include_sensitive="sex" in columns,
    )
    net = rf.networks.train_mlp(data, data, depth=1, width=4, max_epochs=2)
    result = rf.debias(net, data, rf.Constrained("spd", 0.2), "threshold")
    done = rf.export(result, tmp_path / f"m.{SUFFIXES[kind]}", kind, data=few)
    assert done.written
    assert done.parity.differing == done.parity.at_ties


def test_a_network_with_a_threshold(trained, splits, tmp_path: Path) -> None:
    done = rf.export(trained, tmp_path / "m.onnx", data=splits.test, threshold=0.3)
    assert done.rule == {"kind": "cut", "threshold": 0.3}
    found = session(done.path).run(None, {"x": splits.test.x.numpy()})[1]
    wanted = torch.sigmoid(trained(splits.test.x).double()) > 0.3
    assert (found == wanted.long().numpy()).all()
    squashed = nn.Sequential(nn.Linear(9, 1), nn.Sigmoid())
    done = rf.export(squashed, done.path, data=splits.test, outputs="probabilities")
    chance = session(done.path).run(None, {"x": splits.test.x.numpy()})[0]
    assert np.allclose(chance, squashed(splits.test.x).detach().numpy()[:, 0], atol=1e-6)


@pytest.mark.parametrize("kind", SUFFIXES)
def test_three_classes(kind: str, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(900, 4, generator=generator)
    y = (x[:, 0] > 0).long() + (x[:, 1] > 0.5).long()
    group = (x[:, 2] > 0).long()
    data = rf.GroupedData(x=x, y=y, group=group, group_names=("f", "m"))
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    for subject in (net, rf.debias(net, data, rf.Constrained("spd", 0.2), "fair_head")):
        done = rf.export(subject, tmp_path / f"m.{SUFFIXES[kind]}", kind, data=data)
        assert done.written
        assert done.parity.differing == 0


# --- what stays as it was -------------------------------------------------------------------------


def test_the_result_is_left_alone(results, table, tmp_path: Path) -> None:
    result = results["fair_head"]
    result.model.train()
    before = {name: value.clone() for name, value in result.model.state_dict().items()}
    state = torch.random.get_rng_state()
    rf.export(result, tmp_path / "m.onnx", data=table)
    assert all(torch.equal(v, before[n]) for n, v in result.model.state_dict().items())
    assert all(module.training for module in result.model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)
    result.model.eval()


class Fickle(nn.Module):
    """Goes another way for some batches: recording one run of it does not catch that."""

    def forward(self, x: Tensor) -> Tensor:
        return x[:, 0] if len(x) > 100 else -x[:, 0]


def test_answers_that_differ_are_not_put_in_place(results, splits, tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    rf.export(results["threshold"], path, "torchscript", data=splits.test)
    old = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    data = rf.GroupedData(
        x=splits.test.x.abs() + 1,
        y=splits.test.y,
        group=splits.test.group,
        group_names=splits.test.group_names,
    )
    done = rf.export(Fickle(), path, "torchscript", data=data)
    assert not done.written
    assert done.parity.differing > 0
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == old
    with pytest.raises(InputError, match=r"cannot be written as torch_export: .*another format"):
        rf.export(Fickle(), tmp_path / "m.pt2", "torch_export", data=data)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == old


def test_a_failure_while_writing_leaves_the_old_files(
    results, table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rf.export(results["threshold"], tmp_path / "m.onnx", data=table)
    old = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(run.shutil, "copyfile", full)
    with pytest.raises(OSError, match="disk full"):
        rf.export(results["fair_head"], tmp_path / "m.onnx", data=table)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == old


def test_a_file_that_its_runtime_cannot_read(results, table, tmp_path, monkeypatch) -> None:
    def damaged(self: Any, module: Any, given: Any, inputs: Any, path: Path) -> None:
        path.write_bytes(b"no graph")

    monkeypatch.setattr(formats.Onnx, "write", damaged)
    with pytest.raises(InputError, match="written as onnx, but its runtime cannot read that"):
        rf.export(results["threshold"], tmp_path / "m.onnx", data=table)
    assert not list(tmp_path.iterdir())


# --- parity itself --------------------------------------------------------------------------------


def test_parity_by_hand() -> None:
    ours = (np.array([0.2, 0.5, 0.9]), np.array([0, 1, 1]))
    kept = np.array([0, 1, 3])

    def of(chances: list[float], decisions: list[int]) -> Parity:
        theirs = np.array([*chances[:2], np.nan, chances[2]])
        made = np.array([*decisions[:2], -1, decisions[2]])
        return Parity.of(ours, (theirs, made), np.array([0.3, 1e-9, 0.4]), kept)

    same = of([0.2, 0.5, 0.9], [0, 1, 1])
    assert (same.rows, same.largest, same.differing, same.at_ties, same.refused) == (3, 0, 0, 0, 1)
    assert same.holds
    tie = of([0.2, 0.5 - 1e-7, 0.9], [0, 0, 1])
    assert (tie.differing, tie.at_ties, tie.holds) == (1, 1, True)
    other = of([0.2, 0.5, 0.9], [1, 1, 1])
    assert (other.differing, other.at_ties, other.holds) == (1, 0, False)
    assert of([0.20009, 0.5, 0.9], [0, 1, 1]).holds
    assert not of([0.20011, 0.5, 0.9], [0, 1, 1]).holds
    refused = of([np.nan, 0.5, 0.9], [-1, 1, 1])
    assert refused.largest == np.inf
    assert not refused.holds
    # a file that is far off everywhere cannot call every row a tie
    assert not of([0.7, 0.1, 0.9], [1, 0, 1]).holds


def test_a_head_with_steady_knots_is_the_same_function(results, splits) -> None:
    head, x = results["fair_head"].model, splits.valid.x
    assert isinstance(head, HeadedNetwork)
    moved = steady(head, x)
    with torch.no_grad():
        assert torch.allclose(moved(x), head(x), atol=1e-5)
        logit = head.features.plain(x)[0][:, 0]
    own = head.features.column == 0
    assert int(own.sum()) > 3
    gaps = (logit[:, None] - moved.features.knot[own]).abs().min(0).values
    before = (logit[:, None] - head.features.knot[own]).abs().min(0).values
    assert (gaps >= before - 1e-6).all()
    assert (gaps > 0).all()
    assert torch.equal(moved.features.knot[~own], head.features.knot[~own])


def test_a_knot_on_a_row_survives_another_last_bit(results, splits) -> None:
    """What steady knots are for: the row at a knot would jump in a runtime of other rounding."""
    head, x = results["fair_head"].model, splits.valid.x
    first = int((head.features.column == 0).nonzero()[0])
    made = steady(head, x)
    with torch.no_grad():
        logit = head.features.plain(x)[0][:, 0]
        row = int((logit - head.features.knot[first]).abs().argmin())
        made.features.knot[first] = logit[row]  # a knot on a row's own logit
        made = steady(made, x)
        own, read = made.features.plain(x[row : row + 1])
        scores = []
        for nudge in (-2e-7, 0.0, 2e-7):
            z = torch.cat([made.features.bent(own + nudge * torch.eye(10)[0]), read], 1)
            scores.append(float(made.cells(z) @ made.value))
    assert max(scores) - min(scores) < 1e-5


# --- bad input ------------------------------------------------------------------------------------


def test_names_and_suffixes(results, table, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown format 'onxx': did you mean 'onnx'"):
        rf.export(results["threshold"], tmp_path / "m.onnx", "onxx", data=table)
    with pytest.raises(InputError, match=r"ends in \.pt2 for format='torch_export', got 'm\.onnx'"):
        rf.export(results["threshold"], tmp_path / "m.onnx", "torch_export", data=table)
    with pytest.raises(InputError, match=r"ends in \.onnx for format='onnx', got 'm'"):
        rf.export(results["threshold"], tmp_path / "m", data=table)
    assert not list(tmp_path.iterdir())


def test_a_package_that_is_missing(results, table, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(formats.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"packages onnx and onnxruntime .*retrofair\[onnx\]"):
        rf.export(results["threshold"], tmp_path / "m.onnx", data=table)
    assert rf.export(
        results["threshold"], tmp_path / "m.pt2", "torch_export", data=table.head(40)
    ).written


def test_data_that_do_not_fit(results, trained, splits, table, tmp_path: Path) -> None:
    result, path = results["threshold"], tmp_path / "m.onnx"
    with pytest.raises(InputError, match="preparation= with a table, got none"):
        rf.export(trained, path, data=table)
    with pytest.raises(InputError, match=r"expected a table .* got GroupedData"):
        rf.export(result, path, data=splits.test, preparation=result.preparation)
    with pytest.raises(InputError, match="StreamedData or a pandas DataFrame as data, got list"):
        rf.export(result, path, data=[1])  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no threshold= or outputs= with a result"):
        rf.export(result, path, data=table, threshold=0.5)
    with pytest.raises(InputError, match=r"a threshold in \[0, 1\], got 2"):
        rf.export(trained, path, data=splits.test, threshold=2)
    with pytest.raises(InputError, match=r"a result or a torch\.nn\.Module to export, got str"):
        rf.export("net", path, data=splits.test)  # type: ignore[arg-type]
    other = rf.datasets.load("synthetic", sensitive="region", n=600)
    with pytest.raises(InputError, match=r"data with the groups \['Female', 'Male'\]"):
        rf.export(result, path, data=other.test)
    with pytest.raises(InputError, match="categories that the preparation does not know: 'Moon'"):
        rf.export(result, path, data=table.assign(region="Moon"))
    assert not list(tmp_path.iterdir())


def test_operators_that_onnx_does_not_have(splits, tmp_path: Path) -> None:
    class Odd(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.special.bessel_j0(x[:, 0])

    with pytest.raises(InputError, match=r"cannot be written as onnx: .*bessel_j0"):
        rf.export(Odd(), tmp_path / "m.onnx", data=splits.test, outputs="logits")
    assert not list(tmp_path.iterdir())
