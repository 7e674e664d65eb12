"""`retrofair certify` as a user meets it: what it says, writes, refuses, and its exit status."""

from __future__ import annotations

import json
import math
import os
import textwrap
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

import retrofair as rf
from retrofair import certifiers
from retrofair.certifiers.pairs import Pairs
from retrofair.certifiers.words import down, up
from retrofair.cli import run
from retrofair.cli.similarity import Similarity, named_numbers
from retrofair.datasets.synthetic import read
from retrofair.progress import Interval

COLUMNS = ["--label", "hired", "--positive", "yes", "--sensitive", "sex", "--privileged", "Male"]
FAST = ["--method", "bounds", "--seconds", "2"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder of its own, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    frame = read({}, n=400, seed=1)
    frame["hired"] = np.where(frame["hired"] == 1, "yes", "no")
    path = tmp_path / "people.csv"
    frame.to_csv(path, index=False)
    return path


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 1))


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """A user's own network: a module with factories, and safetensors weights."""
    (tmp_path / "certified_network.py").write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn
            def make():
                return nn.Sequential(nn.Linear(9, 4), nn.ReLU(), nn.Linear(4, 1))
            def chance():
                torch.manual_seed(0)
                return nn.Sequential(make(), nn.Sigmoid())
            def constant():
                last = nn.Linear(9, 1)
                nn.init.zeros_(last.weight)
                return last
            """
        )
    )
    save_file(net().state_dict(), tmp_path / "own.safetensors")
    return ["--network", "certified_network:make", "--weights", "own.safetensors"]


@pytest.fixture
def nnet(tmp_path: Path) -> Path:
    """y = relu(x0 + 2 x1) - x2, with x0, x1 in 0..3 and x2 in 0..1."""
    path = tmp_path / "small.nnet"
    path.write_text(
        "// a comment\n2,3,1,3,\n3,2,1,\n0,\n0,0,0,\n3,3,1,\n0,0,0,0,\n1,1,1,1,\n"
        "1,2,0,\n0,0,1,\n0,\n0,\n1,-1,\n0,\n"
    )
    return path


def certify(*arguments: object) -> int:
    return run(["certify", *(str(a) for a in arguments)])


def found(capsys, *arguments: object, status: int = 0) -> dict:
    """The one JSON object of a run."""
    assert certify(*arguments, "--json") == status, capsys.readouterr().err
    return json.loads(capsys.readouterr().out)


def fails(capsys, message: str, *arguments: object) -> None:
    """Exit status 2, one line on standard error, nothing on standard output."""
    assert certify(*arguments) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1, err
    assert err.startswith("retrofair: ")
    assert message in err
    assert not out


# --- tables ---------------------------------------------------------------------------------------


def test_an_own_network_gives_what_the_library_gives(people, own, capsys):
    shown = found(capsys, people, *COLUMNS, *own, *FAST, "--epsilon", "0.3")
    data = rf.GroupedData.from_frame(
        pd.read_csv(people), label="hired", positive="yes", sensitive="sex", privileged="Male"
    )
    expected = rf.certify(
        net(),
        rf.Domain.from_data(data),
        rf.WeightedLp(math.inf),
        0.3,
        method="bounds",
        seconds=2,
        data=data,
    )
    assert shown["upper"] == pytest.approx(expected.upper, rel=1e-6)
    assert shown["upper_logit"] == pytest.approx(expected.upper_logit, rel=1e-6)
    assert 0 < shown["lower"] <= shown["upper"]
    chance = nn.Sequential(net(), nn.Sigmoid())
    seen = rf.empirical_delta(
        chance, data, rf.WeightedLp(math.inf), 0.3, domain=rf.Domain.from_data(data)
    )
    assert shown["empirical"]["delta"] == pytest.approx(seen, abs=1e-6)
    assert shown["empirical"]["delta"] <= shown["upper"]
    assert "curve" not in shown


def test_the_pair_of_the_json_is_legal_and_scores_as_it_says(people, own, capsys):
    shown = found(capsys, people, *COLUMNS, *own, *FAST, "--no-scale", "--epsilon", "0.3")
    pair = shown["witness"]
    names = pair["columns"]
    first, second = (torch.tensor([pair[f"person_{who}"]]) for who in "ab")
    apart = (first - second).abs()[0]
    assert all(d <= 0.3 + 1e-6 for d, name in zip(apart, names, strict=True) if name != "sex")
    for x, who in ((first, "a"), (second, "b")):
        assert net()(x).item() == pytest.approx(pair[f"score_{who}"][0], abs=1e-5)
    scores = [torch.tensor(pair[f"score_{who}"]).sigmoid() for who in "ab"]
    assert float(abs(scores[0] - scores[1])) == pytest.approx(shown["lower"], abs=1e-5)


def test_people_read_the_result_in_words(people, own, capsys):
    assert certify(people, *COLUMNS, *own, *FAST) == 0
    out, err = capsys.readouterr()
    out = " ".join(out.split())
    for text in (
        "No two similar people differ by more than",
        "in probability (certified, double precision); the worst pair found differs by",
        "in the data",
        "over all pairs of the 400 rows",
        "found (lower bound)",
        "certified (upper bound)",
        "float64: computed in double precision",
        "free to differ sex",
        "must be equal",
        "all 400 rows",
        "combinations that no real person has",
        "person A",
        "logit",
        "probability",
    ):
        assert text in out, text
    assert "the file's numbers are standardised" in err
    assert "Traceback" not in err


def test_what_differs_comes_first_and_is_marked(people, own, capsys):
    certify(people, *COLUMNS, *own, *FAST, "--epsilon", "0")
    lines = capsys.readouterr().out.splitlines()
    head = next(i for i, line in enumerate(lines) if "person A" in line)
    assert "sex" in lines[head + 2]
    assert "yes, free to" in lines[head + 2]
    assert not any("yes" in line for line in lines[head + 3 :])
    assert any("region" in line for line in lines[head + 3 :])


def test_the_domain_is_the_box_around_all_rows(people, own, capsys):
    frame = pd.read_csv(people)
    shown = found(capsys, people, *COLUMNS, *own, *FAST)
    data = rf.GroupedData.from_frame(
        frame, label="hired", positive="yes", sensitive="sex", privileged="Male"
    )
    domain = rf.Domain.from_data(data)
    for name, place in zip(shown["witness"]["columns"], range(domain.d), strict=True):
        for who in ("person_a", "person_b"):
            assert domain.low[place] - 1e-6 <= shown["witness"][who][place], name
            assert shown["witness"][who][place] <= domain.high[place] + 1e-6, name


def test_a_data_set_trains_a_base_network_and_says_so(capsys, monkeypatch):
    short = rf.networks.train_mlp

    def quick(*data, **options):
        assert options["width"] == 8
        assert options["depth"] == 1
        return short(*data, **options | {"max_epochs": 2})

    monkeypatch.setattr("retrofair.cli.options.train_mlp", quick)
    assert certify("synthetic", "--sensitive", "sex", "--width", 8, "--depth", 1, *FAST) == 0
    out, err = capsys.readouterr()
    assert "training a base network" in err
    assert "the base network trained here" in out
    assert "(training, validation and test)" in " ".join(out.split())


def test_outputs_of_the_own_network(people, own, capsys):
    logits = found(capsys, people, *COLUMNS, *own, *FAST)
    chance = ["--network", "certified_network:chance"]
    shown = found(capsys, people, *COLUMNS, *chance, *FAST)
    assert shown["outputs"] == logits["outputs"] == "probabilities"
    assert shown["upper"] == pytest.approx(logits["upper"], rel=1e-5)
    assert shown["empirical"]["delta"] == pytest.approx(logits["empirical"]["delta"], abs=1e-6)
    values = found(capsys, people, *COLUMNS, *own, *FAST, "--outputs", "values")
    assert values["outputs"] == "values"
    assert values["upper"] == pytest.approx(logits["upper_logit"], rel=1e-6)
    assert certify(people, *COLUMNS, *own, *FAST, "--outputs", "values") == 0
    assert "in the network's output" in capsys.readouterr().out
    fails(capsys, "ends in a sigmoid", people, *COLUMNS, *own, *FAST, "--outputs", "probabilities")


def test_a_constant_network_is_called_one(people, own, capsys):
    assert certify(people, *COLUMNS, "--network", "certified_network:constant", *FAST) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "the network is (nearly) constant" in out
    assert "All similar people get the same answer" in out or "more than" in out


def test_blind_networks_are_told_apart_from_fair_ones(people, capsys, tmp_path):
    (tmp_path / "blind_network.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Linear(8, 1)\n"
    )
    command = [people, *COLUMNS, "--blind", "--network", "blind_network:make", *FAST]
    assert certify(*command, "--epsilon", "0") == 0
    assert "does not read sex" in capsys.readouterr().out


def test_an_empty_bound_is_called_empty(people, own, capsys, monkeypatch):
    """A sum of many numbers: near 1 whatever happens; and nothing but the bound is there."""
    monkeypatch.setattr("retrofair.certifiers.bounds.hunt", lambda *_: None)
    weights = net().state_dict()
    save_file({k: v * 50 for k, v in weights.items()}, "own.safetensors")
    command = [people, *COLUMNS, *own, "--method", "bounds", "--seconds", "0", "--epsilon", "3"]
    assert certify(*command) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "No useful upper bound: two similar people may differ by up to" in out
    assert "no pair was found" in out
    assert "it says (almost) nothing" in out


# --- who is similar -------------------------------------------------------------------------------


def test_weights_by_name(people, own, capsys):
    plain = found(capsys, people, *COLUMNS, *own, *FAST, "--epsilon", "0.1")
    strict = found(capsys, people, *COLUMNS, *own, *FAST, "--epsilon", "0.1", "--weight", "skill=5")
    loose = found(capsys, people, *COLUMNS, *own, *FAST, "--epsilon", "0.1", "--weight", "skill=0")
    assert strict["upper"] < plain["upper"] < loose["upper"]


@pytest.mark.parametrize("distance", ["l_inf", "l_1", "l_2", "mahalanobis"])
def test_every_distance(distance, people, own, capsys):
    shown = found(capsys, people, *COLUMNS, *own, *FAST, "--distance", distance)
    assert 0 < shown["lower"] <= shown["upper"]
    assert shown["witness"]["distance"] <= 0.2 + 1e-6


def test_mahalanobis_is_the_inverse_covariance_of_what_is_not_protected(people, capsys):
    data = rf.GroupedData.from_frame(
        pd.read_csv(people), label="hired", positive="yes", sensitive="sex", privileged="Male"
    )
    domain = rf.Domain.from_data(data)
    x = data.x.double().numpy()[:, ~domain.sensitive]
    inverse = np.linalg.pinv(np.cov(x, rowvar=False), rcond=1e-9, hermitian=True)
    metric = Similarity.of("mahalanobis", None, None, None, None, 0.2).distance(domain, data)
    norm = Pairs.of(domain, metric, 1.0).norm
    for i, j in [(0, 1), (5, 9), (20, 30)]:
        d = x[i] - x[j]
        rows = data.x.double().numpy()
        expected = math.sqrt(d @ inverse @ d)
        assert norm.between(rows[i : i + 1], rows[j : j + 1])[0] == pytest.approx(expected)


def test_tolerances_are_in_own_units_and_all_else_is_equal(people, own, capsys):
    shown = found(
        capsys, people, *COLUMNS, *own, *FAST, "--tolerance", "skill=0.25,neighbourhood=0.5"
    )
    assert shown["epsilon"] == 1
    pair = shown["witness"]
    apart = {
        name: abs(a - b)
        for name, a, b in zip(pair["columns"], pair["person_a"], pair["person_b"], strict=True)
    }
    assert apart.pop("skill") <= 0.25 + 1e-6
    assert apart.pop("neighbourhood") <= 0.5 + 1e-6
    assert apart.pop("sex") in (0, 1)
    widths = (
        pd.read_csv(people).select_dtypes("number").max()
        - pd.read_csv(people).select_dtypes("number").min()
    )
    for name, gap in apart.items():
        assert gap <= 1e-6 * widths.get(name, 0) + 1e-9, name
    assert (
        certify(people, *COLUMNS, *own, *FAST, "--tolerance", "skill=0.25,neighbourhood=0.5,sex=1")
        == 0
    )
    out = " ".join(capsys.readouterr().out.split())
    assert "skill by up to 0.25" in out
    assert "neighbourhood by up to 0.5" in out
    assert "no weight counts for sex: protected" in out


def test_a_category_with_tolerance_1_may_change(people, capsys):
    data = rf.GroupedData.from_frame(
        pd.read_csv(people), label="hired", positive="yes", sensitive="sex", privileged="Male"
    )
    domain = rf.Domain.from_data(data)
    where = {f.name: w for f, w in domain.placed}["region"]
    for tolerance, moves in (("region=1", True), ("region=0", False), ("skill=1", False)):
        similarity = Similarity.of("l_inf", None, tolerance, None, "0,1,2", 0.2)
        for epsilon in (1.0, 2.0):
            pairs = Pairs.of(domain, similarity.distance(domain, data), epsilon)
            assert bool(pairs.cap[where].any()) == moves, (tolerance, epsilon)


# --- questions and exit status --------------------------------------------------------------------


def test_delta_asks_for_a_verdict(people, own, capsys):
    command = [people, *COLUMNS, *own, *FAST]
    assert found(capsys, *command, "--delta", "1")["verdict"] == "fair"
    assert found(capsys, *command, "--delta", "0", status=3)["verdict"] == "unfair"
    plain = found(capsys, *command)
    assert plain["verdict"] == "unknown"  # nothing was asked: exit status 0
    between = (plain["lower"] + plain["upper"]) / 2
    shown = found(capsys, *command, "--delta", between, status=3)
    assert shown["verdict"] == "unknown"
    assert certify(*command, "--delta", "1") == 0
    assert "verdict fair: no two similar people" in " ".join(capsys.readouterr().out.split())
    assert certify(*command, "--delta", "0") == 3
    assert "verdict unfair: the pair below" in " ".join(capsys.readouterr().out.split())


def test_threshold_asks_whether_decisions_flip(people, own, capsys):
    command = [people, *COLUMNS, *own, "--method", "milp", "--seconds", "5"]
    shown = found(capsys, *command, "--threshold", "0.999999")
    assert shown["verdict"] == "fair"
    assert shown["margin"][1] < 0
    assert certify(*command, "--threshold", "0.999999") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "No two similar people get different decisions at the threshold 0.999999" in out
    assert "get the same decision at the threshold" in out
    middle = net()(torch.zeros(1, 9)).sigmoid().item()
    assert certify(*command, "--threshold", middle, "--epsilon", "0.5") == 3
    out = " ".join(capsys.readouterr().out.split())
    assert "Two similar people get different decisions" in out
    assert "positive" in out
    assert "negative" in out


def test_milp_closes_the_interval(people, own, capsys):
    shown = found(capsys, people, *COLUMNS, *own, "--seconds", "20", "--outputs", "values")
    assert shown["method"] == "milp"
    assert shown["gap"] <= 0.001
    assert shown["stopped"] == "gap"
    assert shown["tier"] == "solver"


# --- the curve and the files ----------------------------------------------------------------------


def test_files_are_written_with_a_small_curve(people, own, capsys, tmp_path):
    assert certify(people, *COLUMNS, *own, *FAST, "--out", "out") == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "certificate.json",
        "delta.csv",
        "delta.png",
        "report.json",
        "witness.csv",
    ]
    _, err = capsys.readouterr()
    assert "wrote certificate.json, witness.csv, delta.csv and delta.png into out" in err
    assert "the curve's other points took" in err
    kept = json.loads((tmp_path / "out/certificate.json").read_text())
    assert kept["epsilon"] == 0.2
    assert len(kept["witness"]["person_a"]) == 9
    curve = pd.read_csv(tmp_path / "out/delta.csv")
    assert curve["epsilon"].tolist() == [0, 0.1, 0.2, 0.4]
    assert (curve["lower"] <= curve["upper"]).all()
    assert curve["lower"].is_monotonic_increasing
    assert curve["upper"].is_monotonic_increasing
    seen = curve["empirical"].dropna()
    assert (seen <= curve["upper"][seen.index]).all()
    witness = pd.read_csv(tmp_path / "out/witness.csv")
    assert set(witness.columns) >= {"feature", "person A", "person B"}
    assert "sex" in set(witness["feature"])
    assert (tmp_path / "out/delta.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "out/delta.png").stat().st_size > 20_000


def test_the_picture_of_outputs_with_what_was_asked(people, own, capsys, tmp_path):
    command = [people, *COLUMNS, *own, "--method", "bounds", "--outputs", "values", "--out", "out"]
    assert certify(*command, "--delta", "0.01", "--curve", "0.1,3") == 3
    assert (tmp_path / "out/delta.png").stat().st_size > 20_000


def test_the_curve_by_name(people, own, capsys):
    shown = found(capsys, people, *COLUMNS, *own, *FAST, "--curve", "0, 0.5")
    assert [point["epsilon"] for point in shown["curve"]] == [0, 0.2, 0.5]
    at = {point["epsilon"]: point for point in shown["curve"]}
    assert at[0.2]["upper"] <= shown["upper"]
    assert set(at[0.5]) == {"epsilon", "empirical", "lower", "upper", "tier", "seconds"}
    assert certify(people, *COLUMNS, *own, *FAST, "--curve", "0,0.5") == 0
    assert "empirical" in capsys.readouterr().out


def test_decisions_do_not_enter_the_curve(people, own, capsys):
    """With a threshold the certificate speaks of flips; the curve of differences."""
    plain = found(capsys, people, *COLUMNS, *own, *FAST, "--curve", "0")
    command = [people, *COLUMNS, *own, *FAST, "--curve", "0", "--threshold", "0.999999"]
    shown = found(capsys, *command)
    assert shown["upper"] == 0
    assert shown["curve"][1]["upper"] == pytest.approx(plain["curve"][1]["upper"], rel=1e-6)


def test_an_interrupted_search_is_kept(people, own, capsys, monkeypatch, tmp_path):
    def interrupted(*arguments, **options):
        answer = certifiers.certify(*arguments, **options)
        return rf.certifiers.Certificate(**{**vars(answer), "stopped": "interrupted"})

    monkeypatch.setattr("retrofair.cli.asked.certify_network", interrupted)
    assert certify(people, *COLUMNS, *own, *FAST, "--out", "out") == 0
    assert "interrupted; this is what was proved until then" in capsys.readouterr().out
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "certificate.json",
        "report.json",
        "witness.csv",
    ]
    assert certify(people, *COLUMNS, *own, *FAST, "--delta", "0.0001") == 3


def test_an_interrupted_curve_keeps_its_points(people, own, capsys, monkeypatch):
    calls = []

    def interrupted(*arguments, **options):
        calls.append(arguments[3])
        if len(calls) == 3:
            raise KeyboardInterrupt
        return certifiers.certify(*arguments, **options)

    monkeypatch.setattr("retrofair.cli.asked.certify_network", interrupted)
    shown = found(capsys, people, *COLUMNS, *own, *FAST, "--curve", "0,0.4,0.5")
    assert calls == [0.2, 0, 0.4]
    assert [point["epsilon"] for point in shown["curve"]] == [0, 0.2]


# --- .nnet files ----------------------------------------------------------------------------------


def test_a_nnet_file_needs_no_data(nnet, capsys):
    shown = found(capsys, "--network", nnet, "--sensitive", "1", "--outputs", "values")
    assert shown["epsilon"] == 0
    assert shown["upper"] == pytest.approx(6)  # 2 (3 - 0)
    assert shown["lower"] == pytest.approx(6)
    shown = found(capsys, "--network", nnet, "--sensitive", "x0,x2")
    assert shown["upper_logit"] == pytest.approx(4)
    assert shown["outputs"] == "probabilities"
    assert "empirical" not in shown
    assert certify("--network", nnet, "--sensitive", "1") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "in the data" not in out
    assert "within the ranges of the file" in out
    assert "free to differ x1" in out


def test_whole_numbers_of_a_nnet_file_can_be_relaxed(nnet, capsys):
    values = ["--network", nnet, "--sensitive", "2", "--outputs", "values", "--epsilon", "0.5"]
    assert found(capsys, *values)["upper"] == pytest.approx(1)  # whole numbers cannot differ by 0.5
    shown = found(capsys, *values, "--relax")
    assert shown["upper"] == pytest.approx(0.5 + 2 * 0.5 + 1, rel=1e-3)
    tight = found(capsys, *values, "--relax", "--distance", "l_1")
    assert tight["upper"] == pytest.approx(2 * 0.5 + 1, rel=1e-3)


def test_normalised_nnet_files(nnet, capsys):
    text = nnet.read_text().replace("1,1,1,1,\n1,2", "1,2,1,10,\n1,2")
    nnet.write_text(text)
    command = ["--network", nnet, "--sensitive", "1", "--outputs", "values"]
    assert found(capsys, *command)["upper"] == pytest.approx(6)
    # the input by its range of 2, the output times 10
    assert found(capsys, *command, "--nnet-normalised")["upper"] == pytest.approx(30)


def test_nnet_files_and_a_question(nnet, capsys):
    command = ["--network", nnet, "--sensitive", "2"]
    shown = found(capsys, *command, "--threshold", "0.6", status=3)
    assert shown["verdict"] == "unfair"  # 1 against 0, around the threshold's logit 0.4
    assert found(capsys, *command, "--delta", "0.3")["verdict"] == "fair"


def test_wrong_nnet_files_and_options(nnet, people, capsys):
    fails(capsys, "nowhere.nnet is not there", "--network", "nowhere.nnet", "--sensitive", "1")
    Path("broken.nnet").write_text(nnet.read_text()[:-20])
    fails(capsys, "broken.nnet cannot be read", "--network", "broken.nnet", "--sensitive", "1")
    fails(capsys, "expected --network", nnet, "--sensitive", "1")
    file = ["--network", nnet]
    fails(capsys, "expected --sensitive NUMBER", *file)
    fails(capsys, "from 0 to 2 (8 or x8", *file, "--sensitive", "3")
    fails(capsys, "got '-1'", *file, "--sensitive=-1")
    fails(capsys, "got 'sex'", *file, "--sensitive", "1,sex")
    asked = [*file, "--sensitive", "1"]
    fails(capsys, "expected no --data with the .nnet file", *asked, "--data", "adult")
    fails(capsys, "expected no FILE with the .nnet file", people, *asked)
    fails(capsys, "expected no --weights", *asked, "--weights", "own.safetensors")
    fails(capsys, "expected no --blind", *asked, "--blind")
    fails(capsys, "expected no --no-scale", *asked, "--no-scale")
    fails(capsys, "expected no --depth", *asked, "--depth", "1")
    fails(capsys, "expected data for --distance mahalanobis", *asked, "--distance", "mahalanobis")
    fails(capsys, "unknown column for a weight 'age'", *asked, "--weight", "age=2")
    fails(capsys, "unknown feature 'age'", *asked, "--tolerance", "age=2")
    fails(capsys, "expected no --nnet-normalised", people, *COLUMNS, "--nnet-normalised")


def test_a_network_of_the_literature(capsys):
    root = os.environ.get("RETROFAIR_DATA")
    path = Path(root or "") / ".." / "nnet" / "AC-8.nnet"
    if not root or not path.is_file():
        pytest.skip("RETROFAIR_DATA is not set, or has no folder nnet beside it")
    command = ["--network", path, "--sensitive", "8", "--relax", "--seconds", "30"]
    shown = found(capsys, *command, "--outputs", "values")
    assert shown["stopped"] == "gap"
    assert shown["lower"] <= 0.5856 + 5e-5
    assert shown["upper"] >= 0.5856 - 5e-5
    assert shown["upper"] == pytest.approx(0.5856, rel=2e-3)


# --- bad input ------------------------------------------------------------------------------------


def test_numbers_out_of_range(people, own, capsys):
    command = [people, *COLUMNS, *own]
    fails(capsys, "epsilon >= 0", *command, "--epsilon", "-1")
    fails(capsys, "epsilon >= 0", *command, "--epsilon", "nan")
    fails(capsys, "epsilon >= 0", *command, "--curve", "0,-1")
    fails(capsys, "delta >= 0", *command, "--delta", "-0.1")
    fails(capsys, "(--threshold)", *command, "--threshold", "1")
    fails(capsys, "--seconds", *command, "--seconds", "-1")
    fails(capsys, "finite seconds", *command, "--seconds", "inf")
    fails(capsys, "--gap", *command, "--gap", "-1")
    fails(capsys, "--gap", *command, "--gap", "nan")
    fails(capsys, "got 'x'", *command, "--curve", "0,x")
    fails(capsys, "expected epsilons", *command, "--curve", ",")


def test_choices_that_do_not_exist(people, own, capsys):
    command = [people, *COLUMNS, *own]
    fails(capsys, "did you mean 'l_inf'?", *command, "--distance", "linf")
    fails(capsys, "did you mean 'bounds'?", *command, "--method", "bound")
    fails(capsys, "did you mean 'logits'?", *command, "--outputs", "logit")
    fails(capsys, "did you mean 'skill'?", *command, "--weight", "skil=2")
    fails(capsys, "did you mean 'skill'?", *command, "--tolerance", "skil=2")
    fails(capsys, "did you mean 'sex'?", people, *own, "--label", "hired", "--sensitive", "sx")


def test_options_that_exclude_each_other(people, own, capsys):
    command = [people, *COLUMNS, *own]
    fails(capsys, "--delta or --threshold", *command, "--delta", "0.1", "--threshold", "0.5")
    fails(capsys, "--weight or --tolerance", *command, "--weight", "a=1", "--tolerance", "a=1")
    mahalanobis = [*command, "--distance", "mahalanobis"]
    fails(capsys, "no --weight with", *mahalanobis, "--weight", "skill=1")
    fails(capsys, "l_inf with --tolerance", *command, "--distance", "l_2", "--tolerance", "a=1")
    fails(capsys, "expected no --depth with --network", *command, "--depth", "1")
    fails(capsys, "one data set", *command, "--data", "adult")
    fails(
        capsys,
        "without --network weights are those of a base network",
        "synthetic",
        "--weights",
        "own.safetensors",
    )
    fails(capsys, "expected data", "--network", "certified_network:make")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("skill", "NAME=NUMBER"),
        ("=2", "NAME=NUMBER"),
        ("skill=two", "got 'two'"),
        ("skill=-1", ">= 0"),
        ("skill=inf", "finite"),
        ("skill=1,skill=2", "twice"),
        (",", "NAME=NUMBER"),
    ],
)
def test_weights_that_cannot_be_read(text, message, people, capsys):
    fails(capsys, message, people, *COLUMNS, f"--weight={text}")
    fails(capsys, message, people, *COLUMNS, f"--tolerance={text}")


def test_wrong_options_cost_no_training_run(people, capsys, monkeypatch):
    monkeypatch.setattr("retrofair.cli.options.train_mlp", None)
    fails(capsys, "did you mean 'skill'?", people, *COLUMNS, "--weight", "skil=2")
    fails(capsys, "did you mean 'skill'?", people, *COLUMNS, "--tolerance", "skil=2")
    fails(capsys, "ends in a sigmoid", people, *COLUMNS, "--outputs", "probabilities")
    Path("file").write_text("")
    fails(capsys, "expected a folder", people, *COLUMNS, "--out", "file")


def test_networks_that_cannot_be_certified(people, own, capsys, tmp_path):
    (tmp_path / "odd_network.py").write_text(
        "import torch\nfrom torch import nn\n"
        "class Odd(nn.Module):\n    def forward(self, x):\n        return torch.sin(x[:, 0])\n"
        "def make():\n    return Odd()\n"
        "def narrow():\n    return nn.Linear(3, 1)\n"
    )
    fails(capsys, "sin", people, *COLUMNS, "--network", "odd_network:make", *FAST)
    fails(capsys, "(n, 9)", people, *COLUMNS, "--network", "odd_network:narrow", *FAST)


# --- small parts ----------------------------------------------------------------------------------


@given(st.floats(min_value=0, max_value=1e6, allow_nan=False))
def test_bounds_are_rounded_to_the_safe_side(value):
    assert Decimal(up(value)) >= Decimal(value) >= Decimal(down(value))
    assert Decimal(up(value)) - Decimal(down(value)) <= Decimal("0.0011") * Decimal(value)


def test_without_a_terminal_the_interval_is_said_once_a_minute(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("retrofair.progress.time.monotonic", lambda: now[0])
    with Interval("certifying") as line:
        for now[0] in (1, 30, 61, 62, 100, 122):
            line.show(0.1, 0.4)
        now[0] = 200
        line.show(0.0, math.inf)
    err = capsys.readouterr().err.splitlines()
    assert err[:2] == ["certifying: found 0.1, proved at most 0.4, gap 75%"] * 2
    assert len(err) == 3
    assert "gap -" in err[2]


def test_names_may_hold_an_equals_sign():
    assert named_numbers("race=Black=2, age=0", "--weight") == {"race=Black": 2, "age": 0}


def test_help_has_an_example_and_every_method(capsys):
    assert run(["certify", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Example: retrofair certify" in out
    for known in certifiers.ALL:
        assert known.name in out
    assert run(["--help"]) == 0
    assert "certify it" in " ".join(capsys.readouterr().out.split())
