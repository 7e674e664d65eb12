"""Debiased results: decisions, and saving and loading that never leaves half of one."""

from __future__ import annotations

import copy
import hashlib
import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from retrofair.data import GroupedData, grouped
from retrofair.debiasers import Debiased, Random, Status, debias, load_result, result, stored
from retrofair.errors import InputError, RetrofairWarning
from retrofair.files import json_text, replacing, save_tensors, write_json
from retrofair.networks import MLP, LogitOf
from retrofair.objective import Constrained, Weighted

METHODS: tuple[Any, ...] = (
    "threshold",
    Random(trials=3),
    "reject_option",
    "equalized_odds",
    "calibrated_equalized_odds",
)


def data(n: int = 200, seed: int = 0) -> GroupedData:
    random = np.random.default_rng(seed)
    group = random.integers(2, size=n)
    y = (random.random(n) < 0.3 + 0.4 * group).astype(np.int64)
    x = np.column_stack([y * 1.5 - 1 + 0.5 * group + random.normal(size=n), random.normal(size=n)])
    return GroupedData(x=x, y=y, group=group, group_names=("f", "m"))


def network(seed: int = 0, **options: Any) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = MLP(2, **{"width": 4, "depth": 2, **options}).eval()
        with torch.no_grad():  # batch norm that is not the identity
            for name, buffer in made.named_buffers():
                if "running" in name:
                    buffer.uniform_(0.5, 1.5)
            made.out.weight.mul_(20)  # logits well outside [0, 1], or they pass for probabilities
    return made


def found(method: Any = "threshold", net: nn.Module | None = None) -> Debiased:
    objective = Constrained("aod", epsilon=0.1)
    return debias(net if net is not None else network(), data(), objective, method, seed=3)


def edit(folder: Path, **values: Any) -> None:
    """Replace fields of the saved JSON; `...` removes one."""
    path = folder / "result.json"
    saved = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in saved.items() if v is not ...}))


# --- decisions ------------------------------------------------------------------------------------


def test_predict_is_the_threshold_on_the_probability() -> None:
    made, rows = found(), data(seed=1)
    with torch.no_grad():
        chance = torch.sigmoid(made.model(rows.x).double())
    assert made.predict(rows.x).tolist() == (chance > made.threshold).long().tolist()
    assert made.predict(rows.x).dtype == torch.int64
    assert not made.needs_group
    assert made.predict(rows.x[:0]).tolist() == []


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_predict_data_is_predict_in_batches(method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, rows = found(method), data(seed=1)
    whole = made.predict(rows.x, group=rows.group).numpy()
    monkeypatch.setattr(grouped, "BATCH_ROWS", 33)
    assert (made.predict_data(rows) == whole).all()
    assert set(whole) <= {0, 1}


@pytest.mark.parametrize("method", ["reject_option", "equalized_odds", "calibrated_equalized_odds"])
def test_a_group_rule_needs_the_group(method: str) -> None:
    made, rows = found(method), data(seed=1)
    assert made.needs_group
    with pytest.raises(InputError, match=r"expected group codes, got none; use predict\(x, group="):
        made.predict(rows.x)
    given = made.predict(rows.x, group=rows.group)
    for same in (rows.group.numpy(), rows.group.double(), rows.group[:, None]):
        assert torch.equal(made.predict(rows.x, group=same), given)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda g: g[:3], "expected 200 group codes, got 3"),
        (lambda g: g + 1, "group codes from 0 to 1, got 1 to 2"),
        (lambda g: g - 1, "group codes from 0 to 1, got -1 to 0"),
        (lambda g: g * 0.5, "integer group codes, got fractions"),
        (lambda g: g * math.nan, "group codes from 0 to 1, got nan"),
        (lambda g: np.array(["f", "m"])[g], "integer group codes, got <U1"),
    ],
)
def test_group_codes_that_are_none(change: Any, words: str) -> None:
    made, rows = found("reject_option"), data(seed=1)
    with pytest.raises(InputError, match=words):
        made.predict(rows.x, group=change(rows.group))


def test_a_group_is_ignored_where_it_is_not_needed() -> None:
    made, rows = found(), data(seed=1)
    assert torch.equal(made.predict(rows.x, group=rows.group[:3]), made.predict(rows.x))


def test_predicting_leaves_mode_and_random_state() -> None:
    made = found()
    made.model.train()
    state = torch.random.get_rng_state()
    once, again = made.predict(data().x), made.predict(data().x)
    assert torch.equal(once, again)  # dropout would tell them apart
    assert all(m.training for m in made.model.modules())
    assert torch.equal(torch.random.get_rng_state(), state)


# --- saving and loading ---------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS, ids=str)
def test_a_saved_result_is_the_same_when_read(method: Any, tmp_path: Path) -> None:
    made, rows = found(method), data(seed=1)
    assert made.save(tmp_path / "a" / "b") == tmp_path / "a" / "b"
    read = load_result(str(tmp_path / "a" / "b"), network(seed=9))
    assert (read.predict_data(rows) == made.predict_data(rows)).all()
    assert read.rule == made.rule
    assert read.status is made.status
    assert read.threshold == made.threshold
    assert read.needs_group == made.needs_group
    assert (read.before, read.after, read.constant) == (made.before, made.after, made.constant)
    assert read.group_names == made.group_names
    assert len(read.history) == len(made.history)
    assert read.history_frame().equals(made.history_frame())
    assert read.about == json.loads(json.dumps(made.about))
    assert not any(m.training for m in read.model.modules())


def test_nothing_but_two_files_is_written(tmp_path: Path) -> None:
    found().save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"model.safetensors", "result.json"}


def test_the_json_is_strict_and_not_a_number_is_null(tmp_path: Path) -> None:
    made = found()
    nowhere = Debiased(**{**vars(made), "before": result.Scores(math.nan, math.nan, 0.5, ())})
    nowhere.save(tmp_path)

    def never(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    json.loads((tmp_path / "result.json").read_text(), parse_constant=never)
    read = load_result(tmp_path, network())
    assert math.isnan(read.before.bias)
    assert read.before.performance == 0.5


@pytest.mark.parametrize("status", Status)
def test_every_status_survives(status: Status, tmp_path: Path) -> None:
    Debiased(**{**vars(found()), "status": status}).save(tmp_path)
    assert load_result(tmp_path, network()).status is status


def test_the_network_given_is_copied_not_changed(tmp_path: Path) -> None:
    made = found(Random(trials=3))
    made.save(tmp_path)
    net = network(seed=9).train()
    before = copy.deepcopy(net.state_dict())
    read = load_result(tmp_path, net)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert net.training
    assert not torch.equal(read.model.out.weight, net.out.weight)


def test_a_network_of_probabilities(tmp_path: Path) -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Linear(2, 1), nn.Sigmoid())

    with pytest.warns(RetrofairWarning, match="taken as probabilities"):
        made = found(net=net())
    assert isinstance(made.model, LogitOf)
    made.save(tmp_path)
    read = load_result(tmp_path, net())
    assert torch.equal(read.predict(data().x), made.predict(data().x))


def test_tied_weights(tmp_path: Path) -> None:
    def net() -> nn.Sequential:
        tied = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 1))
        tied[1].weight = tied[0].weight
        with torch.no_grad():
            tied[2].weight.mul_(20)
        return tied

    made = found(net=net())
    made.save(tmp_path)
    read = load_result(tmp_path, net())
    assert torch.equal(read.predict(data().x), made.predict(data().x))
    assert read.model[0].weight is read.model[1].weight


@pytest.mark.parametrize("other", [{"width": 5}, {"depth": 1}, {"depth": 3}, {"batch_norm": False}])
def test_another_architecture(other: dict[str, Any], tmp_path: Path) -> None:
    found().save(tmp_path)
    with pytest.raises(InputError, match="do not fit this network"):
        load_result(tmp_path, network(**other))


def test_what_is_no_network(tmp_path: Path) -> None:
    found().save(tmp_path)
    with pytest.raises(InputError, match=r"torch\.nn\.Module as the network, got str"):
        load_result(tmp_path, "net")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["model.safetensors", "result.json"])
def test_a_missing_file(name: str, tmp_path: Path) -> None:
    found().save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(InputError, match=f"{name} is not there"):
        load_result(tmp_path, network())
    with pytest.raises(InputError, match="is not there"):
        load_result(tmp_path / "nowhere", network())


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b'{"format": 1', b"\x80\x04abc"])
@pytest.mark.parametrize("name", ["model.safetensors", "result.json"])
def test_a_damaged_file(name: str, content: bytes, tmp_path: Path) -> None:
    found().save(tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match="is damaged"):
        load_result(tmp_path, network())


def test_weights_that_are_cut_off(tmp_path: Path) -> None:
    found().save(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match="is damaged"):
        load_result(tmp_path, network())


@pytest.mark.parametrize("number", [0, 2, "1", None, ...])
def test_another_format(number: Any, tmp_path: Path) -> None:
    found().save(tmp_path)
    edit(tmp_path, format=number)
    with pytest.raises(InputError, match=r"a result of format 1 in .*written by another version"):
        load_result(tmp_path, network())


def test_json_of_something_else(tmp_path: Path) -> None:
    found().save(tmp_path)
    (tmp_path / "result.json").write_text("[1]")
    with pytest.raises(InputError, match="a result of format 1"):
        load_result(tmp_path, network())


@pytest.mark.parametrize(
    "values",
    [
        *({field: ...} for field in ("rule", "status", "before", "after", "constant", "about")),
        {"history": ...},
        {"group_names": ...},
        {"status": "perfect"},
        {"before": {}},
        {"after": 3},
        {"about": [1]},
        {"history": 3},
        {"rule": [1]},
        {"rule": {"kind": "oracle"}},
        {"rule": {"kind": "cut"}},
        {"rule": {"kind": "cut", "threshold": 0.5, "more": 1}},
    ],
    ids=str,
)
def test_fields_that_are_missing_or_wrong(values: dict[str, Any], tmp_path: Path) -> None:
    found().save(tmp_path)
    edit(tmp_path, **values)
    with pytest.raises(InputError, match=r"damaged|rule"):
        load_result(tmp_path, network())


@pytest.mark.parametrize("part", ["save_tensors", "json_text"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
def test_a_failure_while_saving_leaves_the_old_result(
    part: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = found("threshold"), found("reject_option")
    old.save(tmp_path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def fails(*_: Any) -> Any:
        raise error

    monkeypatch.setattr(stored, part, fails)
    for folder in (tmp_path, tmp_path / "new"):
        with pytest.raises(type(error)):
            new.save(folder)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file()} == before
    assert not (tmp_path / "new").exists() or not list((tmp_path / "new").iterdir())
    assert load_result(tmp_path, network()).rule == old.rule


def test_weights_cut_short_by_a_full_disk_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(path: Path, state: Any) -> None:
        save_tensors(path, state)
        path.write_bytes(path.read_bytes()[:20])
        raise OSError("disk full")

    monkeypatch.setattr(stored, "save_tensors", half)
    with pytest.raises(OSError, match="disk full"):
        found().save(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_saving_twice_takes_the_second(tmp_path: Path) -> None:
    found("threshold").save(tmp_path)
    second = found("reject_option")
    second.save(tmp_path)
    assert load_result(tmp_path, network()).rule == second.rule


def test_weighted_results_too(tmp_path: Path) -> None:
    made = debias(network(), data(), Weighted("spd"), "threshold")
    made.save(tmp_path)
    assert load_result(tmp_path, network()).about["lam"] == 0.75


# --- files ----------------------------------------------------------------------------------------


def half_write(path: Path) -> None:
    path.write_text("half")
    raise TypeError


def test_replacing_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with replacing(path) as temporary:
        temporary.write_text("old")
        assert not path.exists()
        assert temporary.suffix == ".txt"
    assert path.read_text() == "old"
    with pytest.raises(TypeError), replacing(path) as temporary:
        half_write(temporary)
    assert path.read_text() == "old"
    assert list(path.parent.iterdir()) == [path]


def test_a_reader_of_the_old_file_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    write_json(path, {"old": 1})
    with path.open() as reader:
        write_json(path, {"new": 1})
        assert json.load(reader) == {"old": 1}
    assert json.loads(path.read_text()) == {"new": 1}


def test_written_files_are_as_readable_as_others(tmp_path: Path) -> None:
    (tmp_path / "usual").touch()
    write_json(tmp_path / "ours.json", {})
    modes = [(tmp_path / name).stat().st_mode for name in ("usual", "ours.json")]
    assert modes[0] == modes[1]


def test_json_of_arrays_and_of_what_is_no_number() -> None:
    values = {
        "a": np.array([1.5, np.nan]),
        2: (math.inf, -math.inf, np.float64("nan")),
        "t": torch.tensor([1, 2]),
        "b": np.bool_(True),
        "n": np.int64(3),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read = json.loads(json_text(values))
    assert read == {"a": [1.5, None], "2": [None, None, None], "t": [1, 2], "b": True, "n": 3}


# --- effects --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["threshold", "fair_head"])
def test_effects_survive_saving(method: str, tmp_path: Path) -> None:
    net = network()
    made = found(method, net)
    assert made.effects is not None
    again = load_result(made.save(tmp_path / "out"), net).effects
    assert repr(again) == repr(made.effects)
    edit(tmp_path / "out", effects=...)  # as an earlier version wrote it
    assert load_result(tmp_path / "out", net).effects is None
    edit(tmp_path / "out", effects={"measure": "spd"})
    with pytest.raises(InputError, match=r"result.json is damaged"):
        load_result(tmp_path / "out", net)


# --- by itself ------------------------------------------------------------------------------------


def table_result(method: Any = "threshold", seed: int = 0) -> Debiased:
    n = np.arange(60)
    frame = pd.DataFrame({"a": n % 7, "sex": ["F", "M"] * 30, "y": n % 3 > 0})
    rows = GroupedData.from_frame(frame, label="y", sensitive="sex", privileged="M")
    return debias(network(seed), rows, Constrained("spd", 0.5), method, outputs="logits")


@pytest.mark.parametrize("method", ["threshold", "fair_head"])
def test_a_network_of_ours_needs_no_network(method: str, tmp_path: Path) -> None:
    made = table_result(method=method)
    made.save(tmp_path)
    read = load_result(tmp_path)
    x = torch.randn(40, 2)
    assert torch.equal(read.model(x), made.model(x))
    assert read.preparation == made.preparation is not None
    edit(tmp_path, network={"kind": "transformer"})
    with pytest.raises(InputError, match=r"structure of a network .*net="):
        load_result(tmp_path)
    edit(tmp_path, network={"kind": "mlp", "width": 3})
    with pytest.raises(InputError, match="damaged"):
        load_result(tmp_path)


def test_a_network_of_others_does(tmp_path: Path) -> None:
    made = found(net=nn.Linear(2, 1))
    made.save(tmp_path)
    assert made.preparation is None
    with pytest.raises(InputError, match=r"network of your own.*expected net="):
        load_result(tmp_path)
    assert load_result(tmp_path, nn.Linear(2, 1)).preparation is None


@pytest.mark.parametrize("name", ["model.safetensors", "preparation.json"])
def test_a_half_written_folder(name: str, tmp_path: Path) -> None:
    """Files of two saves: what a crash between two renames leaves."""
    table_result().save(tmp_path / "old")
    new = table_result(seed=1)
    assert new.preparation is not None
    frame = pd.DataFrame({"a": range(8), "sex": ["F", "M"] * 4, "y": [0, 1, 1, 0] * 2})
    other = GroupedData.from_frame(frame, label="y", sensitive="sex", privileged="M").preparation
    Debiased(**{**vars(new), "preparation": other}).save(tmp_path / "new")
    whole = (tmp_path / "old" / name).read_bytes()
    (tmp_path / "old" / name).write_bytes((tmp_path / "new" / name).read_bytes())
    with pytest.raises(InputError, match=f"files of one save .*{name}"):
        load_result(tmp_path / "old")
    (tmp_path / "old" / name).unlink()
    with pytest.raises(InputError, match=name):
        load_result(tmp_path / "old")
    (tmp_path / "old" / name).write_bytes(whole)
    load_result(tmp_path / "old")


def test_results_of_before_name_no_files(tmp_path: Path) -> None:
    made = found()
    made.save(tmp_path)
    edit(tmp_path, files=..., network=...)
    assert load_result(tmp_path, network()).rule == made.rule


def test_a_preparation_of_another_version(tmp_path: Path) -> None:
    table_result().save(tmp_path)
    path = tmp_path / "preparation.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    files = json.loads((tmp_path / "result.json").read_text())["files"]
    edit(tmp_path, files=files | {path.name: hashlib.sha256(path.read_bytes()).hexdigest()})
    with pytest.raises(InputError, match=r"preparation of format 1 .*got 2"):
        load_result(tmp_path)


@pytest.mark.parametrize("method", METHODS)
def test_of_no_rows_nothing_is_decided(method: Any) -> None:
    chance, decided = found(method).score_data(data()[:0])
    assert chance.shape == decided.shape == (0,)
    assert decided.dtype == np.int64
