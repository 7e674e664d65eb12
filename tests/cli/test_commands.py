"""The command line as a user meets it: output, exit status, files, errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import retrofair as rf
from retrofair.cli import run
from retrofair.cli.goals import objective_of
from retrofair.datasets.synthetic import read


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test in a folder of its own, with a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def people(tmp_path: Path) -> Path:
    """A user's table with decisions of another system."""
    frame = read({}, n=1500, seed=1)
    frame["hired"] = np.where(frame["hired"] == 1, "yes", "no")
    frame["decision"] = (frame["skill"] + frame["neighbourhood"] > 0).astype(int)
    path = tmp_path / "people.csv"
    frame.to_csv(path, index=False)
    return path


COLUMNS = ["--label", "hired", "--positive", "yes", "--sensitive", "sex", "--privileged", "Male"]


@pytest.fixture
def own(tmp_path: Path) -> list[str]:
    """A user's own network: a module with a factory, and safetensors weights."""
    (tmp_path / "own_network.py").write_text(
        textwrap.dedent(
            """
            from torch import nn
            def make():
                return nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 1))
            def wrong():
                return nn.Linear(3, 1)
            """
        )
    )
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 1))
    save_file(net.state_dict(), tmp_path / "own.safetensors")
    return ["--network", "own_network:make", "--weights", "own.safetensors"]


def fails(capsys, message: str, *arguments: object) -> None:
    """Exit status 2, one line on standard error, nothing on standard output."""
    assert run([str(a) for a in arguments]) == 2
    out, err = capsys.readouterr()
    assert len(err.splitlines()) == 1, err
    assert err.startswith("retrofair: ")
    assert message in err
    assert not out


def test_audit_of_a_column_prints_one_json_object_only(people, capsys):
    assert run(["audit", str(people), *COLUMNS, "--prediction", "decision", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    frame = pd.read_csv(people)
    rates = frame.groupby("sex")["decision"].mean()
    assert found["spd"]["value"] == pytest.approx(rates["Female"] - rates["Male"], abs=1e-12)
    assert found["spd"]["low"] < found["spd"]["value"] < found["spd"]["high"]
    assert found["accuracy"]["value"] == pytest.approx(
        ((frame["hired"] == "yes") == frame["decision"]).mean()
    )
    assert set(found["eod"]) == {"value", "low", "high"}


def test_audit_shows_tables_with_intervals_and_flags(people, capsys):
    assert run(["audit", "--data", str(people), *COLUMNS, "--prediction", "decision"]) == 0
    out = capsys.readouterr().out
    for text in ("spd", "Female", "Male", "95 % interval", "Four-fifths rule"):
        assert text in out


def test_audit_of_intersections_and_of_parquet(people, capsys, tmp_path):
    path = tmp_path / "people.parquet"
    pd.read_csv(people).to_parquet(path)
    options = ["--label", "hired", "--positive", "yes", "--sensitive", "sex,region"]
    options += ["--privileged", "Male,Coast", "--prediction", "decision"]
    assert run(["audit", str(path), *options]) == 0
    assert "Female & Hills" in capsys.readouterr().out


def decided(tmp_path, label: list, decision: list) -> list[str]:
    """A command on eight rows of two groups, and these labels and decisions."""
    frame = pd.DataFrame({"sex": ["f", "m"] * 4, "y": label, "said": decision})
    frame.to_csv(tmp_path / "said.csv", index=False)
    command = ["audit", "said.csv", "--label", "y", "--sensitive", "sex", "--privileged", "m"]
    return [*command, "--prediction", "said", "--json"]


@pytest.mark.parametrize(
    ("label", "positive", "decision", "accuracy", "recall"),
    [
        # 0/1 decisions about a 0/1 label follow --positive
        ([0, 0, 0, 0, 0, 1, 1, 1], "0", [0, 0, 0, 0, 1, 1, 1, 1], 7 / 8, 4 / 5),
        ([0, 0, 0, 0, 0, 1, 1, 1], None, [0, 0, 0, 0, 1, 1, 1, 1], 7 / 8, 1.0),
        # a 1 is the label's own value, not a truth
        ([1, 1, 1, 2, 2, 2, 2, 2], "2", [1] * 8, 3 / 8, 0.0),
        ([1, 1, 2, 2, 3, 3, 2, 2], "2", [1, 1, 2, 2, 3, 3, 1, 1], 6 / 8, 0.5),
        (["no", "no", "yes", "yes"] * 2, "no", ["no"] * 8, 0.5, 1.0),
        (["no", "no", "yes", "yes"] * 2, "no", [0, 0, 1, 1] * 2, 0.0, 0.0),
        (["no", "no", "yes", "yes"] * 2, "yes", [False, False, True, True] * 2, 1.0, 1.0),
    ],
)
def test_decisions_follow_the_positive_value(
    label, positive, decision, accuracy, recall, capsys, tmp_path
):
    command = decided(tmp_path, label, decision)
    assert run([*command, *(["--positive", positive] if positive else [])]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["accuracy"]["value"] == pytest.approx(accuracy)
    assert found["recall"]["value"] == pytest.approx(recall)


def test_truth_values_with_gaps_are_decisions(capsys, tmp_path):
    command = decided(tmp_path, ["no", "no", "yes", "yes"] * 2, [True, None, True, True] * 2)
    assert run([*command, "--positive", "yes"]) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"]["value"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("label", "decision", "words"),
    [
        (["no", "yes"] * 4, ["no", "maybe"] * 4, "got also 'maybe'"),
        (["no", "yes"] * 4, ["No", "yes"] * 4, "got also 'No'"),
        (["no", "yes"] * 4, ["1", "2"] * 4, "got also '2'"),
        (["no", "yes"] * 4, ["yes", "1"] * 4, "got also '1'"),
        (["1", "yes"] * 4, [0, 1] * 4, "1 may be either"),
        ([1, 2] * 4, [0, 1] * 4, "1 may be either"),
        ([1, 2] * 4, [0.2, 1] * 4, "got also '0.2'"),
    ],
)
def test_decisions_that_are_no_values_of_the_label(label, decision, words, capsys, tmp_path):
    command = decided(tmp_path, label, decision)
    fails(capsys, words, *command, "--positive", "yes" if "yes" in label else "2")


@pytest.mark.parametrize(
    "option",
    [
        ["--threshold", "0.3"],
        ["--outputs", "logits"],
        ["--missing", "impute"],
        ["--blind"],
        ["--drop", "skill"],
        ["--no-scale"],
    ],
)
def test_options_without_effect_on_decisions(option, people, capsys):
    command = ["audit", people, *COLUMNS, "--prediction", "decision", *option]
    fails(capsys, f"expected no {option[0]} with --prediction", *command)


def test_audit_of_a_column_of_three_classes(capsys, tmp_path):
    """Decisions among the label's own values, no --positive: each class against the rest."""
    random = np.random.default_rng(0)
    frame = pd.DataFrame({"sex": random.choice(["f", "m"], 400), "age": random.random(400)})
    frame["risk"] = random.choice(["low", "middle", "high"], 400)
    frame["guess"] = np.where(random.random(400) < 0.5, frame["risk"], "low")
    path = tmp_path / "risk.csv"
    frame.to_csv(path, index=False)
    command = ["audit", str(path), "--label", "risk", "--sensitive", "sex", "--privileged", "m"]
    command += ["--prediction", "guess"]
    assert run([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rates = frame.groupby("sex")["guess"].value_counts(normalize=True).unstack()
    assert found["spd"]["value"] == pytest.approx((rates.loc["f"] - rates.loc["m"]).abs().max())
    assert found["accuracy"]["value"] == pytest.approx((frame["guess"] == frame["risk"]).mean())
    assert run(command) == 0
    out = capsys.readouterr().out
    for text in ("By class", "worst class: ", "middle", "selection rate[high]"):
        assert text in out
    assert run([*command, "--positive", "high", "--json"]) == 0  # the others are not selected
    found = json.loads(capsys.readouterr().out)
    right = (frame["guess"] == "high") == (frame["risk"] == "high")
    assert found["accuracy"]["value"] == pytest.approx(right.mean())


def test_audit_of_an_own_network(people, own, capsys):
    """All rows are audited, with the decisions of the network."""
    command = ["audit", people, *COLUMNS, *own, "--drop", "decision", "--json"]
    assert run([str(c) for c in command]) == 0
    found = json.loads(capsys.readouterr().out)
    data = rf.GroupedData.from_frame(
        pd.read_csv(people),
        label="hired",
        positive="yes",
        sensitive="sex",
        privileged="Male",
        drop=["decision"],
    )
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 1))
    expected = rf.audit(net, data)
    assert found["spd"]["value"] == pytest.approx(expected["spd"].value, abs=0.002)
    assert found["balanced_accuracy"]["value"] == pytest.approx(
        expected["balanced_accuracy"].value, abs=0.002
    )


def test_debias_an_own_network_and_load_it_again(people, own, capsys, tmp_path):
    command = ["debias", people, *COLUMNS, *own, "--drop", "decision", "--method", "random"]
    command += ["--epsilon", "0.1", "--out", "fair", "--json"]
    status = run([str(c) for c in command])
    found = json.loads(capsys.readouterr().out)
    assert status == {"met": 0}.get(found["status"], 3)
    net = nn.Sequential(nn.Linear(9, 8), nn.ReLU(), nn.Linear(8, 1))
    result = rf.load_result(tmp_path / "fair", net)
    assert result.effects is not None
    assert found["effects"]["measure"] == result.effects.measure == "spd"
    assert not found["effects"]["rows_seen"]  # on test data
    after = {each["name"]: each["after"] for each in found["effects"]["measures"]}
    assert after["spd"] == pytest.approx(found["test"]["after"]["spd"]["value"])
    assert result.threshold == pytest.approx(found["threshold"])
    assert result.about["rows"] == 750  # half of the file, the other half is the test
    assert sorted(p.name for p in (tmp_path / "fair").iterdir()) == [
        "audit.json",
        "before-after.png",
        "model.safetensors",
        "preparation.json",
        "report.json",
        "result.json",
    ]


@pytest.mark.parametrize(
    ("options", "label", "setting"),
    [([], 1, "columns in"), (["--favourable", "0", "--privileged", "Male"], 0, "columns in")],
)
def test_debias_names_the_setting_and_the_good_label(
    people, own, capsys, options, label, setting
) -> None:
    command = ["debias", people, *COLUMNS, *own, "--drop", "decision", "--method", "threshold"]
    run([str(c) for c in [*command, *options]])
    told = capsys.readouterr().out
    assert f": Female and Male, {setting}, fitted on 750 rows" in told
    assert f"95 % intervals; label {label} taken as the good outcome]" in told
    run([str(c) for c in [*command, *options, "--json"]])
    assert json.loads(capsys.readouterr().out)["effects"]["favourable"] == label


def test_debias_of_a_data_set_knows_the_good_label(capsys, monkeypatch) -> None:
    short = rf.networks.train_mlp
    monkeypatch.setattr(
        "retrofair.cli.options.train_mlp",
        lambda *data, **options: short(*data, **options | {"max_epochs": 2, "depth": 2}),
    )
    command = ["debias", "compas", "--blind", "--method", "threshold"]
    run(command)
    told = capsys.readouterr().out
    assert "compas: non-Caucasian and Caucasian, blind, fitted on" in told
    assert "label 0 taken as the good outcome" in told
    run([*command, "--favourable", "1"])
    assert "label 1 taken as the good outcome" in capsys.readouterr().out


def test_debias_of_a_table_trains_a_network_and_says_so(people, capsys, monkeypatch):
    short = rf.networks.train_mlp

    def quick(*data, **options):
        return short(*data, **options | {"max_epochs": 4, "depth": 2})

    monkeypatch.setattr("retrofair.cli.options.train_mlp", quick)
    command = ["debias", people, *COLUMNS, "--drop", "decision", "--method", "reject_option"]
    assert run([str(c) for c in command]) == 0
    out, err = capsys.readouterr()
    assert "training a base network" in err
    for text in (
        "constant classifier",
        "original, threshold 0.5",
        "reject_option",
        "What changed on test",
    ):
        assert text in out


def test_several_constraints_and_costs(people, own, capsys, tmp_path):
    command = ["debias", people, *COLUMNS, *own, "--drop", "decision", "--out", "fair"]
    command += ["--method", "group_thresholds", "--measure", "spd=0.2,eod=0.3"]
    command += ["--performance", "cost=0,1,5,0"]
    assert run([str(c) for c in command]) in (0, 3)  # the network is not trained
    out = capsys.readouterr().out
    for text in ("spd on test", "eod on test", "spd < 0.2", "eod < 0.3", "cost[0,1,5,0] on test"):
        assert text.split()[0] in out
    about = json.loads((tmp_path / "fair" / "result.json").read_text())["about"]
    assert about["constraints"] == [["spd", 0.2], ["eod", 0.3]]
    assert about["performance"] == "cost[0,1,5,0]"
    written = json.loads((tmp_path / "fair" / "audit.json").read_text())["after"]
    assert written["spd and eod"]["value"] == pytest.approx(
        max(abs(written["spd"]["value"]), abs(written["eod"]["value"]) * 0.2 / 0.3)
    )


def test_constraints_that_cannot_be_read(people, capsys):
    debias = ["debias", people, *COLUMNS]
    fails(capsys, "every constraint once", *debias, "--measure", "spd,spd")
    fails(capsys, "numbers after = in --measure", *debias, "--measure", "spd=x,eod")
    fails(capsys, "epsilon in (0, 1]", *debias, "--measure", "spd=7,eod")
    fails(capsys, "one --measure with --lam", *debias, "--measure", "spd,eod", "--lam", "0.5")
    several = ["--measure", "spd=0.05,eod=0.1", "--epsilon"]
    for epsilon in ("0.05", "0.1"):
        fails(capsys, "no --epsilon beside --measure", *debias, *several, epsilon)
    fails(capsys, "no --epsilon beside", *debias, "--measure", "spd=0.05", "--epsilon", "0.05")
    fails(capsys, "four costs", *debias, "--performance", "cost=1,2")
    fails(capsys, "costs that differ", *debias, "--performance", "cost=1,1,1,1")


def test_an_unreached_goal_is_exit_status_3(people, own, capsys):
    command = ["debias", people, *COLUMNS, *own, "--drop", "decision", "--method"]
    command += ["calibrated_equalized_odds", "--measure", "accuracy_difference"]
    command += ["--epsilon", "0.00001"]
    assert run([str(c) for c in command]) == 3
    assert "goal not met" in capsys.readouterr().err


def test_train_writes_weights_and_its_preparation(people, capsys, tmp_path):
    command = ["train", people, *COLUMNS, "--depth", "1", "--patience", "1", "--out", "trained"]
    assert run([str(c) for c in command]) == 0
    about = json.loads((tmp_path / "trained/network.json").read_text())
    assert about["preparation"]["positive"] == "yes"
    net = rf.networks.MLP(about["features"], depth=1)
    rf.networks.load_weights(net, tmp_path / "trained/network.safetensors")


def test_demo_tells_the_whole_story(capsys, monkeypatch, tmp_path, quick):
    short, debias = rf.networks.train_mlp, rf.debias
    monkeypatch.setattr(
        "retrofair.cli.demo_command.train_mlp",
        lambda *data, **options: short(*data, **options | {"max_epochs": 4, "depth": 2}),
    )
    monkeypatch.setattr(
        "retrofair.cli.demo_command.debias",
        lambda net, data, objective, method, seed: debias(
            net, data, objective, quick[method], seed=seed
        ),
    )
    assert run(["demo", "--out", "pictures"]) == 0
    out = capsys.readouterr().out
    for text in ("constant classifier", "original", "random", "layerwise", "adversarial", "[-"):
        assert text in out
    picture = (tmp_path / "pictures/demo-synthetic.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000


@pytest.mark.parametrize("command", ["demo", "train", "audit", "debias"])
def test_help_has_an_example(command, capsys):
    assert run([command, "--help"]) == 0
    assert f"Example: retrofair {command}" in " ".join(capsys.readouterr().out.split())


def test_version_and_no_arguments(capsys):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == rf.__version__
    run([])
    assert "audit" in capsys.readouterr().out


def test_unknown_names(people, capsys):
    fails(capsys, "did you mean 'adult'?", "audit", "--data", "adlt")
    fails(capsys, "did you mean 'random'?", "debias", "--data", "synthetic", "--method", "rndom")
    fails(capsys, "did you mean 'spd'?", "debias", "--data", "synthetic", "--measure", "sdp")
    fails(capsys, "did you mean 'sex'?", "audit", "--data", "synthetic", "--sensitive", "sexx")
    wrong = ["--label", "hird", "--sensitive", "sex"]
    fails(capsys, "did you mean 'hired'?", "debias", people, *wrong)
    fails(
        capsys, "did you mean 'decision'?", "audit", people, *COLUMNS, "--prediction", "decisions"
    )
    fails(capsys, "No such option", "audit", "--dta", "adult")
    fails(capsys, "No such command", "adit")


def test_ranges(capsys):
    fails(capsys, "expected epsilon in (0, 1]", "debias", "synthetic", "--epsilon", "0")
    fails(capsys, "expected lam in [0, 1]", "debias", "synthetic", "--lam", "2")
    fails(capsys, "--epsilon", "debias", "synthetic", "--epsilon", "small")
    for epsilon in ("0.05", "0.2"):  # the default too, once it is given
        both = ["--lam", "0.5", "--epsilon", epsilon]
        fails(capsys, "expected --lam or --epsilon, got both", "debias", "synthetic", *both)


def test_an_epsilon_is_for_the_constraints_without_a_bound():
    several = objective_of("spd=0.2,eod", 0.1, None, "accuracy")
    assert several.to_dict()["constraints"] == [["spd", 0.2], ["eod", 0.1]]
    assert objective_of("spd,eod", None, None, "accuracy").epsilon == 0.05
    assert objective_of("spd", None, None, "accuracy").epsilon == 0.05


def test_what_costs_no_training_run(people, capsys, monkeypatch):
    """Wrong options are found before the network is trained."""
    monkeypatch.setattr("retrofair.cli.options.train_mlp", None)
    fails(capsys, "--seed", "debias", people, *COLUMNS, "--seed", "-1")
    fails(capsys, "threshold in [0, 1]", "audit", "synthetic", "--threshold", "3")
    fails(capsys, "--outputs", "audit", "synthetic", "--outputs", "foo")
    Path("file").write_text("")
    fails(capsys, "expected a folder", "debias", "synthetic", "--out", "file")
    fails(capsys, "--missing", "debias", "synthetic", "--missing", "zzz")
    frame = pd.read_csv(people)
    frame.loc[frame["sex"] == "Female", "hired"] = "no"
    frame.to_csv("none.csv", index=False)
    fails(capsys, "with positives", "debias", "none.csv", *COLUMNS, "--measure", "eod")


def test_a_folder_named_like_a_data_set_is_no_table(capsys, monkeypatch, tmp_path):
    Path("synthetic").mkdir()
    choice = __import__("retrofair.cli.options", fromlist=["o"]).TableChoice("synthetic")
    assert not choice.is_file


def test_missing_choices(people, own, capsys):
    fails(capsys, "expected data", "audit")
    fails(capsys, "expected --label", "audit", people)
    fails(capsys, "expected --sensitive", "audit", people, "--label", "hired")
    fails(
        capsys,
        "say which one is positive",
        "audit",
        people,
        "--label",
        "hired",
        "--sensitive",
        "sex",
        "--prediction",
        "decision",
    )
    fails(capsys, "one data set", "audit", people, "--data", "adult")
    fails(capsys, "--network MODULE:FACTORY", "audit", "synthetic", "--weights", "own.safetensors")
    fails(
        capsys,
        "--prediction or --network",
        "audit",
        people,
        *COLUMNS,
        *own,
        "--prediction",
        "decision",
    )
    fails(capsys, "is for files", "audit", "synthetic", "--label", "hired")


def test_tables_that_cannot_be_used(people, capsys, tmp_path):
    one_class = pd.read_csv(people).assign(hired="yes")
    one_class.to_csv("one.csv", index=False)
    fails(capsys, "two classes", "audit", "one.csv", *COLUMNS, "--prediction", "decision")
    Path("empty.csv").write_text("")
    fails(capsys, "empty.csv is empty", "audit", "empty.csv", *COLUMNS)
    text = people.read_text()
    Path("cut.csv").write_text(text[: len(text) // 2].rsplit(",", 4)[0])
    fails(capsys, "cut off", "audit", "cut.csv", *COLUMNS)
    fails(capsys, "no file", "audit", "nowhere.csv", *COLUMNS)
    Path("not.parquet").write_text("hello")
    fails(capsys, "cannot be read", "audit", "not.parquet", *COLUMNS)
    scores = pd.read_csv(people).assign(decision=0.3)
    scores.to_csv("scores.csv", index=False)
    fails(capsys, "0/1 decisions", "audit", "scores.csv", *COLUMNS, "--prediction", "decision")


def test_networks_that_cannot_be_used(people, own, capsys, tmp_path):
    audit = ["audit", people, *COLUMNS, "--drop", "decision", "--network"]
    torch.save({"w": torch.zeros(1)}, "net.pt")
    fails(capsys, "is a pickle", *audit, "own_network:make", "--weights", "net.pt")
    Path("net.pt").rename("disguised.safetensors")
    fails(capsys, "is a pickle", *audit, "own_network:make", "--weights", "disguised.safetensors")
    fails(capsys, "--trust-network-file", *audit, "net.pt2")
    fails(capsys, "do not fit", *audit, "own_network:wrong", "--weights", "own.safetensors")
    fails(capsys, "takes x of shape", *audit, "own_network:wrong")
    fails(capsys, "cannot import", *audit, "no_such_module:make")
    fails(capsys, "expected a factory", *audit, "own_network:nothing")
    fails(capsys, "package.module:factory", *audit, "own_network")


def test_missing_files_of_a_data_set_are_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("RETROFAIR_DATA", str(tmp_path))
    monkeypatch.setattr(
        "urllib.request.urlopen", lambda *a, **k: (_ for _ in ()).throw(OSError("no network"))
    )
    fails(capsys, "adult/adult.data", "audit", "--data", "adult")


def test_marks_of_missing_values_are_told_once(people, capsys):
    digits = pd.read_csv(people).assign(hired=lambda table: (table["hired"] == "yes").astype(int))
    lines = digits.to_csv(index=False).splitlines()  # without --positive it is read twice
    place = lines[0].split(",").index("skill")
    fields = lines[1].split(",")
    lines[1] = ",".join([*fields[:place], "NA", *fields[place + 1 :]])
    Path("marks.csv").write_text("\n".join(lines))
    command = ["audit", "marks.csv", "--label", "hired", "--sensitive", "sex"]
    assert run([*command, "--prediction", "decision"]) == 0
    err = capsys.readouterr().err
    assert err.count("note: took 'NA' in 1 rows of column 'skill' as missing") == 1


def test_notes_are_one_line_each(people, capsys):
    frame = pd.read_csv(people)
    frame.loc[:9, "skill"] = np.nan
    frame.to_csv("gaps.csv", index=False)
    command = ["audit", "gaps.csv", "--label", "hired", "--positive", "yes", "--sensitive", "sex"]
    assert run([*command, "--prediction", "decision"]) == 0
    notes = [x for x in capsys.readouterr().err.splitlines() if x.startswith("note: ")]
    assert any("'Male' as the privileged group" in note for note in notes)


@pytest.mark.parametrize(
    ("number", "before"),
    [
        (signal.SIGINT, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_DFL),
        (signal.SIGTERM, signal.SIG_IGN),  # as in the background of a shell's script
    ],
)
def test_interrupting_leaves_no_half_written_file(number, before, people, tmp_path):
    """A real process, a real Ctrl-C or end of a batch job, in the middle of a training run."""
    command = [
        sys.executable,
        "-m",
        "retrofair",
        "train",
        str(people),
        *COLUMNS,
        "--out",
        "trained",
    ]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        # children inherit whether the signal is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, before),
    )
    assert b"training a network" in process.stderr.readline()
    time.sleep(0.5)
    assert process.poll() is None, "the training was over before it could be interrupted"
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    # a shell reports 130 for both: our own exit, or death by the signal outside of our code
    assert process.returncode in (130, -signal.SIGINT)
    assert process.returncode < 0 or b"interrupted" in err
    assert process.returncode < 0 or b"Traceback" not in err
    assert not (tmp_path / "trained").exists() or not list((tmp_path / "trained").iterdir())
    assert not list((tmp_path / "cache").rglob("*.safetensors"))


# --- three classes and more, and numbers ----------------------------------------------------------

RISK = ["people.csv", "--label", "risk", "--sensitive", "sex", "--privileged", "m"]
PRICE = ["people.csv", "--label", "price", "--sensitive", "sex", "--privileged", "m"]


@pytest.fixture
def labels(tmp_path: Path) -> pd.DataFrame:
    """A table with a label of three classes and one of numbers, and networks for both."""
    rng = np.random.default_rng(0)
    man = rng.random(1200) < 0.5
    a, b = rng.normal(0.8 * man, 1), rng.normal(size=1200)
    score = a + rng.normal(0, 0.5, 1200)
    frame = pd.DataFrame({"a": a, "b": b, "sex": np.where(man, "m", "f")})
    frame["risk"] = np.select([score > 1, score > 0], ["3 high", "2 middle"], "1 low")
    frame["price"] = np.where(man, 2, -1) * a + b
    frame.to_csv(tmp_path / "people.csv", index=False)
    (tmp_path / "of_labels.py").write_text(
        textwrap.dedent(
            """
            import torch
            from torch import nn
            def of(weight, bias):
                net = nn.Linear(3, len(bias))
                with torch.no_grad():
                    net.weight.copy_(torch.tensor(weight))
                    net.bias.copy_(torch.tensor(bias))
                return net
            def classes():
                return of([[-3.0, 0, 0], [0, 0, 0], [3, 0, 0]], [0.0, 0, -3])
            def number():
                return of([[2.0, 1, 0]], [0.0])
            """
        )
    )
    return frame


CLASSES = ["--network", "of_labels:classes", "--drop", "price", "--no-scale"]
NUMBERS = ["--network", "of_labels:number", "--drop", "risk", "--no-scale"]


def test_a_label_of_three_classes_is_debiased_and_audited(labels, capsys, tmp_path):
    command = ["debias", *RISK, *CLASSES, "--epsilon", "0.2", "--method"]
    assert run([*command, "threshold", "--out", "fair"]) == 0
    out, err = capsys.readouterr()
    shown = "original, most probable class", "By class, one against the rest", "2 middle"
    for text in (*shown, "What changed on test data", "each class against the rest", "Worse: "):
        assert text in out
    assert "the network's outputs stand for the classes 1 low, 2 middle, 3 high" in err
    net = nn.Linear(3, 3)
    result = rf.load_result(tmp_path / "fair", net)
    assert result.rule.kind == "argmax"
    assert run([*command, "fair_head", "--json"]) in (0, 3)
    found = json.loads(capsys.readouterr().out)
    assert len(found["offsets"]) == 3
    assert found["effects"]["classes"] == ["1 low", "2 middle", "3 high"]
    assert found["test"]["constant"]["balanced_accuracy"]["value"] == pytest.approx(1 / 3)
    assert abs(found["test"]["after"]["spd"]["value"]) < found["test"]["before"]["spd"]["value"]
    assert run(["audit", *RISK, *CLASSES, "--json"]) == 0
    audited = json.loads(capsys.readouterr().out)
    with torch.no_grad():
        scores = labels["a"].to_numpy()[:, None] * [-3, 0, 3] + [0, 0, -3]
    right = scores.argmax(1) == labels["risk"].str[0].astype(int) - 1
    assert audited["accuracy"]["value"] == pytest.approx(right.mean())


def test_what_three_classes_cannot_have(labels, capsys):
    debias = ["debias", *RISK, *CLASSES]
    fails(capsys, "expected labels 0/1 for adversarial, got 3", *debias, "--method", "adversarial")
    without = ["debias", *RISK, "--drop", "price", "--method", "threshold"]
    fails(capsys, "expected --network MODULE:FACTORY for a label of 3 classes", *without)
    number = ["debias", *RISK, *NUMBERS[:2], "--drop", "price", "--method", "threshold"]
    fails(capsys, "expected one logit per class", *number)
    fails(capsys, "expected no --favourable with 3 classes", *debias, "--favourable", "0")
    two = ["debias", "--data", "synthetic", "--favourable", "2"]
    fails(capsys, "the label that is good for a person, 0 or 1, got 2", *two)
    audit = ["audit", *RISK, *CLASSES, "--threshold", "0.3"]
    fails(capsys, "no --threshold for a label of 3 classes", *audit)
    # numbers are no classes where they are many
    fails(capsys, "expected a 0/1 label", "debias", *PRICE, *NUMBERS)


def test_a_label_of_numbers_is_audited(labels, capsys, tmp_path):
    assert run(["audit", *PRICE, *NUMBERS, "--regression", "--json", "--out", "found"]) == 0
    found = json.loads(capsys.readouterr().out)
    error = 2 * labels["a"] + labels["b"] - labels["price"]
    women = error[labels["sex"] == "f"]
    assert found["worst"] == "f"
    assert found["worst_loss"]["value"] == pytest.approx((women**2).mean(), rel=1e-4)
    assert json.loads((tmp_path / "found" / "audit.json").read_text()) == found
    # the same numbers in a column, and the other loss
    labels.assign(said=2 * labels["a"] + labels["b"]).to_csv("people.csv", index=False)
    column = ["audit", *PRICE, "--regression", "--prediction", "said", "--loss", "absolute"]
    assert run([*column, "--json"]) == 0
    by_column = json.loads(capsys.readouterr().out)
    assert by_column["worst_loss"]["value"] == pytest.approx(abs(women).mean(), rel=1e-4)
    assert run(column) == 0
    assert "worst group: f" in capsys.readouterr().out
    assert run(["report", "found"]) == 0
    page = (tmp_path / "found" / "report.html").read_text()
    assert "Loss by group" in page
    assert f"{(women**2).mean():.4g}" in page


def test_a_label_of_numbers_is_debiased(labels, capsys, tmp_path):
    command = ["debias", *PRICE, *NUMBERS, "--regression", "--bound"]
    assert run([*command, "7", "--method", "bounded_group_loss", "--out", "fair"]) == 0
    out, err = capsys.readouterr()
    for text in ("loss <= 7", "goal on the rows that judged: met", "(all)"):
        assert text in out
    assert "goal met" in err
    result = rf.load_bounded_loss(tmp_path / "fair", nn.Linear(3, 1))
    assert result.objective.bound == 7
    written = json.loads((tmp_path / "fair" / "audit.json").read_text())
    assert written["after"]["worst_loss"]["value"] < written["before"]["worst_loss"]["value"]
    assert run([*command, "0.0001", "--json", "--out", "tight", "--report"]) == 3
    page = (tmp_path / "tight" / "report.html").read_text()
    for text in ("Loss before", "was to be above 0.0001", "bound of 0.0001 was not reached"):
        assert text in page
    assert json.loads(capsys.readouterr().out)["status"] == "not_met"


def test_what_numbers_cannot_have(labels, capsys):
    debias = ["debias", *PRICE, *NUMBERS, "--regression"]
    fails(capsys, "expected --bound with --regression", *debias)
    bounded = [*debias, "--bound", "4"]
    for option in ("--measure", "--performance", "--epsilon", "--lam", "--outputs"):
        value = {"--epsilon": "0.05", "--lam": "0.5", "--outputs": "logits"}.get(option, "spd")
        fails(capsys, f"expected no {option} with --regression", *bounded, option, value)
    fails(capsys, "its method is bounded_group_loss", *bounded, "--method", "random")
    fails(capsys, "expected a bound above 0", *debias, "--bound", "-1")
    fails(capsys, "unknown loss 'cubic'", *bounded, "--loss", "cubic")
    fails(capsys, "no --positive with --regression", *bounded, "--positive", "1")
    fails(capsys, "no --favourable with --regression", *bounded, "--favourable", "0")
    fails(capsys, "--regression with bounded_group_loss, --bound", "debias", *PRICE, "--bound", "4")
    fails(capsys, "with a number as label", "audit", "--data", "adult", "--regression")
    without = ["audit", *PRICE, "--drop", "risk", "--regression"]
    fails(capsys, "expected --network MODULE:FACTORY for a label of numbers", *without)
    text = ["audit", *PRICE, "--regression", "--prediction", "risk"]
    fails(capsys, "expected numbers in column 'risk'", *text)


@pytest.mark.parametrize("command", ["train", "debias", "audit"])
def test_images_need_a_network_of_the_users(capsys, command):
    message = "expected --network FOLDER or MODULE:FACTORY for the images of utkface, got none"
    fails(capsys, message, command, "--data", "utkface")
