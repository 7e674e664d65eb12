"""`retrofair export` and `audit --result`: results that travel."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import retrofair as rf
from retrofair.cli import run
from retrofair.datasets.synthetic import read
from retrofair.deploy.parity import Parity

onnxruntime = pytest.importorskip("onnxruntime")
COLUMNS = ["--label", "hired", "--positive", "yes", "--sensitive", "sex", "--privileged", "Male"]


def table(seed: int, n: int = 1200) -> pd.DataFrame:
    frame = read({}, n=n, seed=seed)
    return frame.assign(hired=np.where(frame["hired"] == 1, "yes", "no"))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a table, an own network, and results of both kinds of network."""
    folder = tmp_path_factory.mktemp("made")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        table(1).to_csv("people.csv", index=False)
        table(2).to_csv("new.csv", index=False)
        Path("own_export_network.py").write_text(
            textwrap.dedent(
                """
                import torch
                from torch import nn
                def make():
                    return nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 1))
                def wrong():
                    return nn.Linear(3, 1)
                class Bessel(nn.Module):
                    def __init__(self):
                        super().__init__()
                        self.linear = nn.Linear(9, 1)
                    def forward(self, x):
                        z = torch.special.bessel_j0(self.linear(x)[:, 0])
                        return z if self.training or not self.branch or z[0] > 0 else -z
                def bessel():
                    net = Bessel()
                    net.branch = False
                    return net
                def branch():
                    net = Bessel()
                    net.branch = True
                    return net
                """
            )
        )
        torch.manual_seed(0)
        own = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 1))
        save_file(own.state_dict(), "own.safetensors")
        command = ["debias", "people.csv", *COLUMNS, "--method", "group_thresholds"]
        network = ["--network", "own_export_network:make", "--weights", "own.safetensors"]
        assert run([*command, *network, "--outputs", "logits", "--out", "own"]) in (0, 3)
        base = ["--data", "synthetic", "--sensitive", "sex", "--method", "fair_head"]
        assert run(["debias", *base, "--out", "fair"]) in (0, 3)
    return folder


@pytest.fixture(autouse=True)
def there(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    monkeypatch.setenv("XDG_CACHE_HOME", str(made / "cache"))
    monkeypatch.setattr("retrofair.deploy.timing.BATCHES", ((1, 2), (16, 2)))


def fails(capsys: Any, message: str, *arguments: object) -> None:
    assert run([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1, err
    assert message in err
    assert not out


def test_a_base_networks_result_is_enough_by_itself(made: Path, tmp_path: Path, capsys) -> None:
    assert run(["export", "fair", "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    for text in (
        "rows compared",
        "decisions that differ",
        "Milliseconds",
        "yes",
        "columns float64",
    ):
        assert text in out
    assert "wrote" in err
    about = json.loads((tmp_path / "export.json").read_text())
    assert about["parity"]["rows"] == len(read({}, seed=0))
    assert about["parity"]["differing"] == 0
    assert [each["rows"] for each in about["latency"]] == [1, 16]
    assert (tmp_path / "preparation.json").is_file()
    assert rf.load_result("fair").preparation == rf.Preparation.load(tmp_path / "preparation.json")


def test_json_and_prepared_features(tmp_path: Path, capsys) -> None:
    command = ["export", "fair", "--format", "torch_export", "--prepared", "--json"]
    assert run([*command, "--out", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["kind"] == "torch_export"
    assert found["inputs"][0]["name"] == "x"
    assert {p.name for p in tmp_path.iterdir()} == {"model.pt2", "export.json"}


def test_a_result_of_an_own_network_on_another_table(tmp_path: Path, capsys) -> None:
    own = ["--network", "own_export_network:make"]
    command = ["export", "own", *own, "--data", "new.csv", "--out", str(tmp_path)]
    assert run(command) == 0
    result = rf.load_result("own", nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 1)))
    data = rf.GroupedData.prepared(result.preparation, pd.read_csv("new.csv"))
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"))
    given = {
        "columns": rf.data.raw_table(result.preparation, pd.read_csv("new.csv")),
        "group": data.group.numpy(),
    }
    assert (session.run(None, given)[1] == result.predict_data(data)).all()


def test_a_network_without_a_result(tmp_path: Path, capsys) -> None:
    own = ["--network", "own_export_network:make", "--weights", "own.safetensors"]
    command = ["export", "people.csv", *COLUMNS, *own, "--threshold", "0.4", "--outputs", "logits"]
    assert run([*command, "--format", "torchscript", "--out", str(tmp_path)]) == 0
    about = json.loads((tmp_path / "export.json").read_text())
    assert about["rule"] == {"kind": "cut", "threshold": 0.4}
    assert about["parity"]["rows"] == 1200


def test_answers_that_differ_exit_with_three(tmp_path: Path, capsys, monkeypatch) -> None:
    assert run(["export", "fair", "--out", str(tmp_path)]) == 0
    old = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    capsys.readouterr()
    monkeypatch.setattr(Parity, "holds", property(lambda self: False))
    assert run(["export", "fair", "--out", str(tmp_path)]) == 3
    assert "differ from the network's: nothing was written" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == old


@pytest.mark.parametrize(("net", "kind"), [("bessel", "onnx"), ("branch", "torch_export")])
def test_what_an_exporter_says_itself_is_not_shown(net, kind, tmp_path: Path, capfd) -> None:
    """Neither from Python nor from C++."""
    network = ["--network", f"own_export_network:{net}", "--outputs", "logits"]
    command = ["export", "people.csv", *COLUMNS, *network, "--format", kind, "--json"]
    fails(capfd, f"cannot be written as {kind}", *command, "--out", tmp_path)


def test_options_from_a_file_that_a_result_brings_itself(tmp_path: Path, capsys) -> None:
    text = (
        'label = "hired"\npositive = "yes"\nsensitive = ["sex"]\nprivileged = ["Male"]\n'
        'drop = ["skill"]\nblind = true\nmissing = "impute"\n'
    )
    path = tmp_path / "o.toml"
    path.write_text(text)
    command = ["export", "--config", str(path), "--format", "torchscript"]
    assert run([*command, "fair", "--out", str(tmp_path / "x")]) == 0, capsys.readouterr().err
    path.write_text('data = "nothing.csv"\n' + text.replace('["skill"]', "[]"))
    network = ["--network", "own_export_network:make", "--outputs", "logits"]
    path.write_text(path.read_text().replace("blind = true", "blind = false"))
    command = [*command, "people.csv", *network, "--out", str(tmp_path / "y")]
    assert run(command) == 0, capsys.readouterr().err


def test_a_saved_result_is_applied_to_every_row_of_a_new_table(capsys) -> None:
    own = ["--network", "own_export_network:make"]
    assert run(["audit", "new.csv", "--result", "own", *own, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    result = rf.load_result("own", nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 1)))
    data = rf.GroupedData.prepared(result.preparation, pd.read_csv("new.csv"))
    assert len(data) == 1200
    assert found["spd"]["value"] == rf.audit(result, data)["spd"].value
    # the original's weights may be named too
    assert run(["audit", "new.csv", "--result", "own", *own, "--weights", "own.safetensors"]) == 0
    assert "1,200 rows" in capsys.readouterr().out


def test_a_result_on_the_test_part_of_its_own_data_set(capsys) -> None:
    assert run(["audit", "synthetic", "--result", "fair", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    after = json.loads(Path("fair/audit.json").read_text())["after"]
    assert found["spd"]["value"] == after["spd"]["value"]


def test_tables_a_result_does_not_know(tmp_path: Path, capsys) -> None:
    frame = pd.read_csv("new.csv")
    base = ["--result", "own", "--network", "own_export_network:make"]

    def fails_on(words: str, table: pd.DataFrame) -> None:
        table.to_csv(tmp_path / "t.csv", index=False)
        fails(capsys, words, "audit", tmp_path / "t.csv", *base)

    fails_on("categories that the preparation does not know: 'Moon'", frame.assign(region="Moon"))
    fails_on("unknown column 'region'", frame.drop(columns="region"))
    fails_on("'region', 'skill', which are not there", frame.drop(columns=["skill", "region"]))
    fails_on("got also ['Other']", frame.assign(sex="Other"))


def test_what_cannot_be_exported_or_audited(made: Path, tmp_path: Path, capsys) -> None:
    out = ["--out", tmp_path / "new"]
    fails(capsys, "no folder nowhere", "export", "nowhere", *out)
    fails(capsys, "unknown format 'onxx'", "export", "fair", "--format", "onxx", *out)
    fails(capsys, "network of your own", "export", "own", *out)
    fails(capsys, "do not fit", "export", "own", "--network", "own_export_network:wrong", *out)
    wrong = ["--network", "own_export_network:wrong", "--weights", "own.safetensors"]
    fails(capsys, "do not fit the network", "export", "own", *wrong, *out)
    fails(capsys, "is an ONNX file", "export", "own", "--network", "net.onnx", *out)
    fails(capsys, "expected no --label", "export", "fair", "--label", "y", *out)
    fails(capsys, "expected no --threshold", "export", "fair", "--threshold", "0.2", *out)
    fails(
        capsys,
        "expected no --prediction",
        "audit",
        "new.csv",
        "--result",
        "fair",
        "--prediction",
        "hired",
    )
    fails(capsys, "the data set this result was fitted to", "audit", "adult", "--result", "fair")
    fails(capsys, "expected data", "export", *out)
    fails(capsys, "result.json is not there", "export", "cache", *out)
    assert not (tmp_path / "new").exists()


def test_folders_that_are_damaged(made: Path, tmp_path: Path, capsys) -> None:
    for name in ("model.safetensors", "preparation.json", "result.json"):
        (tmp_path / name).write_bytes((made / "fair" / name).read_bytes())
    path = tmp_path / "preparation.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 7'))
    fails(capsys, "files of one save", "export", tmp_path, "--out", tmp_path / "new")
    path.unlink()
    fails(capsys, "files of one save", "audit", "new.csv", "--result", tmp_path)
    # a table that is gone
    about = json.loads((made / "fair" / "result.json").read_text())
    about["about"]["table"]["data"] = "gone.csv"
    (tmp_path / "result.json").write_text(json.dumps(about))
    path.write_bytes((made / "fair" / "preparation.json").read_bytes())
    fails(capsys, "gone.csv", "export", tmp_path, "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()
