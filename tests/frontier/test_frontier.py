"""The frontier: who is on it, who judged it, what was spent, how it goes on, what is refused."""

from __future__ import annotations

import dataclasses
import doctest
import importlib
import itertools
import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from fairlearn.metrics import demographic_parity_difference
from frontier_cases import Constant, Drawn, Fixed, Score, Watched, front, people, point
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score
from torch import nn

import retrofair as rf
from retrofair import metrics, plots
from retrofair.data.split import alike_in_parts as split
from retrofair.frontier.points import figures, non_dominated

module = importlib.import_module("retrofair.frontier.run")  # the name is the function's by now
TENTHS = st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.4, math.nan])
POINTS = st.lists(st.builds(point, TENTHS, TENTHS, st.booleans()), max_size=12)


@pytest.fixture(scope="module")
def data() -> rf.GroupedData:
    return people()


def shown(found: rf.Frontier) -> pd.DataFrame:
    """All but the times."""
    return found.to_frame().drop(columns="seconds")


def rows(data: rf.GroupedData) -> set[int]:
    return set(data.x[:, 1].long().tolist())


# --- which points ---------------------------------------------------------------------------------


def figures_of(p):
    return p.bias.value, p.performance.value


def usable(p) -> bool:
    return not p.degenerate and not any(map(math.isnan, figures_of(p)))


def beaten(p, q) -> bool:
    (bias, good), (other, better) = figures_of(p), figures_of(q)
    return other <= bias and better >= good and (other < bias or better > good)


@given(POINTS)
def test_the_points_are_those_that_no_other_beats(points):
    able = [p for p in points if usable(p)]
    expected = {figures_of(p) for p in able if not any(beaten(p, q) for q in able)}
    found = non_dominated(points)
    assert [figures_of(p) for p in found] == sorted(expected)  # each pair of figures once
    for p in found:  # of equal ones the first
        assert p is next(q for q in able if figures_of(q) == figures_of(p))


@given(POINTS, st.sampled_from([0.05, 0.1, 0.25, 1.0]), st.sampled_from([0.0, 0.1, 0.25, 1.0]))
def test_choices_by_bias_and_by_performance(points, bias, performance):
    able = [p for p in points if usable(p)]
    good = [figures_of(p)[1] for p in able if p.bias.value < bias]
    chosen = front(*points).choose(bias=bias)
    assert (chosen is None) == (not good)
    assert chosen is None or figures_of(chosen)[1] == max(good)
    low = [p.bias.value for p in able if figures_of(p)[1] >= performance]
    chosen = front(*points).choose(performance=performance)
    assert (chosen is None) == (not low)
    assert chosen is None or chosen.bias.value == min(low)


def test_the_knee_is_farthest_from_the_line_between_the_ends():
    ends = point(0.0, 0.5), point(0.4, 0.9)
    inner = [point(0.1, 0.7), point(0.2, 0.85), point(0.3, 0.86)]
    found = front(*ends, *inner)

    def distance(p):  # from the diagonal of the scaled square, by the cross product
        x, y = p.bias.value / 0.4, (p.performance.value - 0.5) / 0.4
        return abs(np.cross([1, 1, 0], [x, y, 0])[2]) / math.sqrt(2)

    assert found.choose("knee") is max(inner, key=distance) is inner[1]


def test_without_a_point_above_the_line_the_knee_is_the_least_bias():
    first, last, below = point(0.0, 0.5), point(0.4, 0.9), point(0.3, 0.55)
    assert front(first, last, below).choose("knee") is first
    assert front(last, first).choose("knee") is first
    assert front(last).choose("knee") is last
    assert front().choose("knee") is None


@pytest.mark.parametrize(("bias", "said"), [(0.2, False), (0.3, True), (0.4, True)])
def test_a_point_no_fairer_than_the_original_is_remarked_on(bias, said):
    chosen = point(bias, 0.8)
    found = dataclasses.replace(front(chosen), reference=(point(0.3, 0.7),))
    remarks = found.remarks(chosen)
    assert len(remarks) == said
    for line in remarks:
        assert f"its bias in spd is {bias:.3f}, the original's 0.300. Ask for less bias" in line
        assert "--choose bias=B" in line


@pytest.mark.parametrize(
    ("rule", "named", "message"),
    [
        ((), {}, "expected one of 'knee', bias= and performance=, got none"),
        (("knee",), {"bias": 0.1}, "got 'knee' and 0.1"),
        (("kne",), {}, "did you mean 'knee'"),
        ((), {"bias": 0.0}, r"expected bias in \(0, 1\]"),
        ((), {"bias": math.nan}, r"expected bias in \(0, 1\]"),
        ((), {"bias": "low"}, r"expected bias in \(0, 1\]"),
        ((), {"bias": True}, r"expected bias in \(0, 1\], got True"),
        ((), {"performance": True}, r"expected performance in \[0, 1\], got True"),
        ((), {"performance": 1.5}, r"expected performance in \[0, 1\]"),
    ],
)
def test_a_choice_that_cannot_be_meant(rule, named, message):
    with pytest.raises(rf.InputError, match=message):
        front(point(0.1, 0.5)).choose(*rule, **named)


# --- the two parts of the data --------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.25, 0.5, 0.8])
def test_the_data_are_split_within_every_group_and_label(share):
    data = people(997, groups=3)
    fitted, held = split(data, share, seed=0)
    assert rows(fitted) | rows(held) == rows(data)
    assert not rows(fitted) & rows(held)
    for group, label in itertools.product(range(3), range(2)):
        inside = [int(((part.group == group) & (part.y == label)).sum()) for part in (held, data)]
        assert abs(inside[0] - share * inside[1]) <= 0.5
    assert rows(split(data, share, seed=0)[1]) == rows(held)
    assert rows(split(data, share, seed=1)[1]) != rows(held)


def test_methods_never_see_the_rows_that_judge(data):
    watched = Watched()
    found = rf.frontier(Score(), data, methods=[watched], bounds=[0.2, 0.1], held_out=0.3)
    seen = set().union(*(set(ids) for _, ids in watched.calls))
    held = data[[i for i in range(len(data)) if i not in seen]]  # the complement, by hand
    assert len(held) == found.rows_held_out == pytest.approx(0.3 * len(data), abs=2)
    assert len(seen) == found.rows_fitted
    assert len(found.tried) == 2
    for each in found.tried:
        audit = rf.audit(each.result, held)
        assert (each.counts == audit.counts).all()
        assert vars(each.measured) == audit.to_dict()["spd"]
        assert vars(each.performance) == audit.to_dict()["balanced_accuracy"]
    original = rf.audit(Score(), held, outputs="logits")
    assert vars(found.reference[0].measured) == original.to_dict()["spd"]
    assert [r.performance.value for r in found.reference[1:]] == [0.5, 0.5]


@pytest.mark.parametrize("measure", ["spd", "disparate_impact", "demographic_parity_ratio"])
@pytest.mark.parametrize("groups", [2, 3])
def test_the_interval_of_the_bias_is_that_of_the_measure_folded(measure, groups):
    random = np.random.default_rng(0)
    for _ in range(50):
        counts = random.integers(1, 60, (groups, 2, 2))
        known = metrics.get(measure)
        found = figures(known, metrics.get_performance("accuracy"), counts)
        bias, (low, high) = found["bias"], known.interval(counts)
        assert bias.low <= bias.value <= bias.high
        assert bias.value == known.bias(counts)
        inside = np.linspace(low, min(high, 1e6), 2001)
        folded = np.abs(inside) if measure == "spd" else 1 - np.minimum(inside, 1 / inside)
        assert bias.low <= folded.min() + 1e-9
        assert bias.high >= folded.max() - 1e-9
        if groups == 2:
            assert bias.low == pytest.approx(folded.min(), abs=2e-3)
            assert bias.high == pytest.approx(folded.max(), abs=2e-3)


def test_a_constant_classifier_is_flagged_and_never_an_answer(data):
    found = rf.frontier(Score(), data, methods=[Constant(), Fixed()], bounds=[0.3, 0.2])
    constants = [p for p in found.tried if p.method == "constant"]
    assert [p.degenerate for p in constants] == [True, True]
    assert {found.kind(p) for p in constants} == {"degenerate"}
    assert constants[0].bias.value == 0.0  # it would be first
    assert {p.method for p in found.points} == {"fixed"}
    alone = rf.frontier(Score(), data, methods=[Constant()])
    assert alone.points == ()
    assert alone.choose("knee") is alone.choose(bias=1) is alone.choose(performance=0) is None


def test_a_point_that_a_constant_equals_is_degenerate(data):
    """Decisions turned round: both kinds are common, and performance is below a constant's."""

    class Turned(Fixed):
        def __call__(self, model, data, objective, *, generator):
            fit = super().__call__(model, data, objective, generator=generator)
            with torch.no_grad():
                fit.model.weight.fill_(-1.0)
            return fit

    found = rf.frontier(Score(), data, methods=[Turned(0.15)], bounds=[0.3])
    assert found.tried[0].performance.value < 0.5
    assert found.tried[0].degenerate


# --- seeds and budgets ----------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_frontier_and_another_seed_another(splits, trained):
    def made(seed):
        methods = ["threshold", rf.debiasers.Random(trials=5), Drawn()]
        return shown(rf.frontier(trained, splits.valid, methods=methods, seed=seed))

    pd.testing.assert_frame_equal(made(3), made(3))
    assert not made(3).equals(made(4))


@pytest.fixture
def second_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock by which every run takes a second."""
    ticks = itertools.count()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: float(next(ticks))))


def test_a_budget_is_spent_on_all_bounds_and_then_on_further_seeds(data, second_a_run):
    found = rf.frontier(
        Score(), data, methods=[Drawn(), Fixed()], bounds=[0.2, 0.1, 0.05], seconds=6.5, seed=7
    )
    drawn = [(p.bound, p.seed) for p in found.tried if p.method == "drawn"]
    assert drawn == [(b, s) for s in (7, 8, 9) for b in (0.1, 0.2, 0.05)][:7]  # the last finishes
    effort = found.effort["drawn"]
    assert (effort.runs, effort.seconds, effort.note) == (7, 7.0, "budget spent")
    fixed = found.effort["fixed"]  # one more run told that seeds change nothing
    assert (fixed.runs, fixed.seconds, fixed.note) == (4, 4.0, "the same with every seed")
    assert len([p for p in found.tried if p.method == "fixed"]) == 3


def test_a_small_budget_still_runs_every_method_once(data, second_a_run):
    found = rf.frontier(Score(), data, methods=[Drawn(), Fixed()], seconds=0.1)
    assert [(p.method, p.bound) for p in found.tried] == [("drawn", 0.05), ("fixed", 0.05)]
    assert found.effort["fixed"].note == "budget spent after 1 of 5 bounds"


def test_seeds_are_not_tried_without_end(data, second_a_run, monkeypatch):
    monkeypatch.setattr(module, "MOST_SEEDS", 3)
    found = rf.frontier(Score(), data, methods=[Drawn()], bounds=[0.2, 0.1], seconds=100)
    assert found.effort["drawn"].runs == 6
    assert found.effort["drawn"].note == "all 3 seeds"


def test_without_a_budget_every_bound_is_run_once(data):
    found = rf.frontier(Score(), data, methods=[Drawn(), Fixed()])
    for name in ("drawn", "fixed"):
        bounds = [p.bound for p in found.tried if p.method == name]
        assert bounds == [0.05, 0.1, 0.02, 0.2, 0.01]
        assert found.effort[name].note == ""
        assert found.effort[name].runs == 5


# --- going on, and failing ------------------------------------------------------------------------


def test_an_interrupted_frontier_goes_on_to_the_same_end(data, tmp_path):
    whole = rf.frontier(Score(), data, methods=[Watched()])
    first = Watched(stop_at=3, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        rf.frontier(Score(), data, methods=[first], store=tmp_path)
    second = Watched()
    found = rf.frontier(Score(), data, methods=[second], store=tmp_path)
    assert len(first.calls) == 3
    assert [bound for bound, _ in second.calls] == [p.bound for p in whole.tried[3:]]
    pd.testing.assert_frame_equal(shown(found), shown(whole))
    third = Watched()
    again = rf.frontier(Score(), data, methods=[third], store=tmp_path, bounds=[0.1, 0.02])
    assert not third.calls  # other bounds share what they share
    assert again.tried[0].seconds == next(p.seconds for p in found.tried if p.bound == 0.1)


def other_weights() -> nn.Module:
    net = Score()
    with torch.no_grad():
        net.weight.mul_(2)
    return net


@pytest.mark.parametrize(
    ("net", "changed"),
    [
        (other_weights(), {}),
        (Score(), {"data": people(seed=1)}),
        (Score(), {"data": dataclasses.replace(people(), favourable=0)}),
        (Score(), {"seed": 1}),
        (Score(), {"measure": "eod"}),
        (Score(), {"performance": "accuracy"}),
        (Score(), {"held_out": 0.4}),
    ],
)
def test_another_question_finds_nothing(data, tmp_path, net, changed):
    rf.frontier(Score(), data, methods=[Watched()], bounds=[0.1], store=tmp_path)
    watched = Watched()
    changed = {"data": data, **changed}
    rf.frontier(net, methods=[watched], bounds=[0.1], store=tmp_path, **changed)
    assert len(watched.calls) == 1


def test_a_callable_measure_is_known_by_its_code(data, tmp_path):
    def asked(measure):
        watched = Watched()
        rf.frontier(Score(), data, measure, methods=[watched], bounds=[0.1], store=tmp_path)
        return len(watched.calls)

    def gap(scale):
        if scale == 1:
            return lambda y, decided, group: float(abs(np.mean(decided) - np.mean(group)))
        return lambda y, decided, group: float(abs(np.mean(decided) - 2 * np.mean(group)) / 2)

    assert asked(gap(1)) == 1
    assert asked(gap(1)) == 0
    assert asked(gap(2)) == 1


@pytest.mark.parametrize("file", ["run.json", "result.json", "model.safetensors"])
@pytest.mark.parametrize("how", ["cut", "gone"])
def test_a_damaged_run_is_run_again(data, tmp_path, file, how):
    rf.frontier(Score(), data, methods=[Watched()], bounds=[0.1, 0.2], store=tmp_path)
    path = next(tmp_path.rglob(file))
    path.unlink() if how == "gone" else path.write_bytes(path.read_bytes()[:5])
    watched = Watched()
    found = rf.frontier(Score(), data, methods=[watched], bounds=[0.1, 0.2], store=tmp_path)
    assert len(watched.calls) == 1
    assert len(found.tried) == 2


def test_a_head_and_a_probability_network_come_back_from_the_store(splits, trained, tmp_path):
    net = nn.Sequential(trained, nn.Sigmoid())
    options = {"methods": ["fair_head", "random"], "bounds": [0.1], "outputs": "probabilities"}
    first = rf.frontier(net, splits.valid, store=tmp_path, **options)
    second = rf.frontier(net, splits.valid, store=tmp_path, **options)
    pd.testing.assert_frame_equal(first.to_frame(), second.to_frame())  # with the times


def test_what_probabilities_are_taken_for_is_said_once(splits, trained):
    net = nn.Sequential(trained, nn.Sigmoid())
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = rf.frontier(net, splits.valid, methods=["threshold"])
    assert len(said) == 1
    assert said[0].filename == __file__
    plain = rf.frontier(trained, splits.valid, methods=["threshold"])
    assert [p.counts.tolist() for p in found.tried] == [p.counts.tolist() for p in plain.tried]


def test_a_method_that_fails_does_not_lose_the_others(data):
    failing = Watched(stop_at=2)
    with pytest.warns(rf.RetrofairWarning, match="watched failed: told to") as said:
        found = rf.frontier(Score(), data, methods=[failing, Fixed()])
    assert said[0].filename == __file__
    assert found.failed == {"watched": "told to"}
    assert [p.method for p in found.tried] == ["watched"] * 2 + ["fixed"] * 5
    assert found.effort["watched"].runs == 2
    assert found.effort["watched"].note == "failed"


def test_where_all_fail_the_reasons_are_told(data):
    with pytest.raises(rf.InputError, match="got none: watched: told to"):
        rf.frontier(Score(), data, methods=[Watched(stop_at=0)])


# --- names and arguments --------------------------------------------------------------------------


def test_two_of_one_name_show_their_options(data):
    methods = ["random", rf.debiasers.Random(trials=3), rf.debiasers.Random(trials=2, scale=0.2)]
    found = rf.frontier(Score(), data, methods=[*methods[1:], "threshold"], bounds=[0.1])
    assert list(found.effort) == ["random(trials=3)", "random(trials=2, scale=0.2)", "threshold"]
    found = rf.frontier(Score(), data, methods=[methods[1], methods[0]], bounds=[0.1])
    assert list(found.effort) == ["random(trials=3)", "random"]


def test_objects_without_options_are_numbered(data):
    class Plain:
        name = "plain"
        changes_weights = False

        def __call__(self, *args, **named):
            return Fixed()(*args, **named)

    found = rf.frontier(Score(), data, methods=[Plain(), Plain()], bounds=[0.3])
    assert list(found.effort) == ["plain", "plain 2"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": []}, "expected at least one method"),
        ({"methods": "random"}, "expected a list of methods"),
        ({"methods": ["randon"]}, "did you mean 'random'"),
        ({"methods": ["random", "random"]}, "with the same options twice"),
        ({"bounds": []}, "expected at least one bound"),
        ({"bounds": 0.1}, "expected a list of bounds"),
        ({"bounds": [0.1, 0.0]}, r"expected epsilon in \(0, 1\]"),
        ({"bounds": [0.1, 0.1]}, "expected different bounds"),
        ({"seconds": 0}, "expected seconds above 0"),
        ({"seconds": True}, "expected a number for seconds, got True"),
        ({"seconds": math.inf}, "expected seconds above 0"),
        ({"held_out": 1.0}, r"expected held_out in \(0, 1\)"),
        ({"held_out": 0.0001}, "expected rows in both parts"),
        ({"seed": -1}, "expected a seed"),
        ({"measure": "sdp"}, "did you mean 'spd'"),
        ({"performance": "acuracy"}, "did you mean 'accuracy'"),
        ({"outputs": "scores"}, "expected outputs="),
        ({"data": people().x}, "expected GroupedData"),
        ({"data": people(groups=1)}, "expected at least two groups"),
        ({"data": people()[people().y == 1]}, "labels of both classes"),
        ({"data": people()[:0]}, "expected rows in both parts"),
        ({"net": nn.Linear(5, 1)}, "expected a network that takes x"),
        ({"net": "network"}, "expected a torch.nn.Module"),
    ],
)
def test_what_cannot_be_used_is_one_clear_error(options, message):
    with pytest.raises(rf.InputError, match=message):
        rf.frontier(**{"net": Score(), "data": people(), "methods": [Fixed()], **options})


def test_a_store_that_is_a_file(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(rf.InputError, match="expected a folder to keep runs in"):
        rf.frontier(Score(), data, methods=[Fixed()], store=tmp_path / "file")


def test_too_few_rows_held_out_says_which_part(data):
    one, other = (torch.nonzero(data.group == code)[:, 0] for code in (0, 1))
    few = data[torch.cat([other, one[:1]])]
    with pytest.raises(rf.InputError, match=r"held_out=0\.2"):
        rf.frontier(Score(), few, methods=[Fixed()], held_out=0.2)


# --- tables, pictures, real data ------------------------------------------------------------------


def test_three_groups_with_real_methods():
    data = people(3000, groups=3)
    net = nn.Linear(2, 1)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[1.0, 0.0]]))
        net.bias.zero_()
    found = rf.frontier(
        net,
        data,
        "demographic_parity_difference",
        methods=["threshold", "group_thresholds", "fair_head"],
        performance="accuracy",
        bounds=[0.1, 0.05],
    )
    assert not found.failed
    assert len(found.tried) == 6
    for each in found.tried:
        rates = each.counts[..., 1].sum(1) / each.counts.sum((1, 2))
        assert each.bias.value == pytest.approx(rates.max() - rates.min())
        assert each.bias.low <= each.bias.value <= each.bias.high
    assert {p.needs_group for p in found.tried if p.method == "group_thresholds"} == {True}


def test_tables_hold_every_point_and_are_plain(data):
    found = rf.frontier(Score(), data, methods=[Fixed(), Constant()], bounds=[0.3, 0.2])
    frame = found.to_frame()
    assert frame["kind"].tolist()[:3] == ["reference"] * 3
    assert len(frame) == 3 + len(found.tried)
    assert (frame["kind"] == "non-dominated").sum() == len(found.points)
    assert frame["bias"][3:].is_monotonic_increasing
    values = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert values["tried"] == 4
    assert [p["bias"] for p in values["points"]] == [p.bias.value for p in found.points]
    assert "non-dominated of 4 points tried" in repr(found)
    assert "fixed: bias" in repr(found.points[0])


@pytest.mark.parametrize("methods", [[Fixed(), Drawn()], [Constant()], ["group_thresholds"]])
def test_pictures(data, tmp_path, methods):
    found = rf.frontier(Score(), data, methods=methods)
    path = plots.frontier(
        found, tmp_path / "new" / "f.png", bias=0.05, chosen=found.choose(bias=0.5)
    )
    assert path.read_bytes().startswith(b"\x89PNG")
    assert plots.frontier(found, tmp_path / "f.svg").read_text().count("points tried")


def test_the_page_tells_the_truth(tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "frontier.md"
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(str(page), module_relative=False, optionflags=doctest.ELLIPSIS)
    assert tried >= 8
    assert not failed


def test_adult(data_root, tmp_path):
    splits = rf.datasets.load("adult", sensitive="sex", root=data_root, seed=0)
    net = rf.networks.train_mlp(splits.train, splits.valid, depth=1, width=8, max_epochs=3)
    found = rf.frontier(net, splits.valid, methods=["threshold", "fair_head", "group_thresholds"])
    _, held = split(splits.valid, 0.5, 0)
    for each in found.tried:
        decided = each.result.predict(held.x, group=held.group if each.needs_group else None)
        gap = demographic_parity_difference(
            held.y.numpy(), decided.numpy(), sensitive_features=held.group.numpy()
        )
        assert each.bias.value == pytest.approx(gap)
        good = balanced_accuracy_score(held.y.numpy(), decided.numpy())
        assert each.performance.value == pytest.approx(good)
    chosen = found.choose(bias=0.05)
    assert chosen.bias.value < 0.05
    # the head and thresholds by group reach far more than one threshold can
    alone = [p for p in found.tried if p.method == "threshold" and p.bias.value < 0.06]
    assert chosen.performance.value > max(p.performance.value for p in alone) + 0.05
    folder = chosen.result.save(tmp_path / "chosen")
    again = rf.audit(rf.load_result(folder, net), held)
    assert again["spd"].value == chosen.measured.value
