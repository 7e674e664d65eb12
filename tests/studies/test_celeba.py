"""The study `celeba`: its cells and their keys, samples, devices, its page and the gallery."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pictures import Pictures
from PIL import Image

import retrofair as rf
from conftest import TINY
from retrofair import cli
from retrofair.cli import study_command
from retrofair.data import GroupedData
from retrofair.debiasers import Random, Threshold
from retrofair.errors import InputError
from retrofair.networks import Training, resnet
from retrofair.objective import Constrained
from retrofair.studies import Method, Plan, Source, Store, Study, celeba_page, cells, devices, run
from retrofair.studies import images as module
from retrofair.studies.celeba import CELEBA, PARTS
from retrofair.studies.cells import DebiasCell, NetworkCell, key_of
from retrofair.studies.gallery import drawn, gallery, pixels
from retrofair.studies.images import ImageNetworkCell
from retrofair.studies.results import CONSTANT, ORIGINAL
from retrofair.studies.samples import sample_of

SOURCE = Pictures("synthetic", ("sex",), others=True)
NETWORK = ImageNetworkCell(SOURCE, 0, TINY)


@pytest.fixture
def tiny(shrink: Callable[[Any], Study]) -> Any:
    """Two methods on the first part."""
    study: Any = shrink(CELEBA)
    return dataclasses.replace(
        study,
        parts=study.parts[:1],
        methods=(
            Method("threshold", Threshold()),
            Method("random", Random(trials=2), rows=40),
        ),
        gallery_method="random",
    )


# --- keys -----------------------------------------------------------------------------------------


def test_keys_of_tables_are_those_of_before_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cells, "versions", dict)  # or each release would have its own
    network = NetworkCell(Source("adult", ("sex",)), 0, Training())
    threshold = DebiasCell(network, Threshold(), Constrained("spd", epsilon=0.05), 0, "threshold")
    # of the study heads, as its stores have them since its first run
    assert key_of(network, "x") == "bb6856449a896e5c9b87"
    assert key_of(threshold, "x") == "edc038fadd107f86c75b"


def test_a_sample_and_a_target_are_part_of_a_cells_name_and_a_device_is_not() -> None:
    objective = Constrained("aod", epsilon=0.05)
    whole = DebiasCell(NETWORK, Threshold(), objective, 0)
    keys = {key_of(dataclasses.replace(whole, rows=rows), "") for rows in (None, 40, 41)}
    assert len(keys) == 3
    young, gender = (part.source for part in PARTS[1:])
    assert young.to_dict() == {**gender.to_dict(), "target": "young"}
    with pytest.raises(InputError, match="no target for adult"):
        Source("adult", ("sex",), target="young")
    with pytest.raises(InputError, match="all rows of the images"):
        Source("utkface", ("race",), rows=100)


def test_the_study_has_each_network_once_and_equal_samples_for_searches() -> None:
    plan = CELEBA.cells()
    networks = {cell.needs for cell in plan if isinstance(cell, DebiasCell)}
    assert len(networks) == 3 * len(CELEBA.seeds)
    searched = {c.rows for c in plan if c.label.startswith(("random", "layerwise", "pruning"))}  # type: ignore[attr-defined]
    assert searched == {2000}
    spd = {c.label for c in plan if c.objective.bias_measure.name == "spd"}  # type: ignore[attr-defined]
    assert "fair_head" in spd
    assert not spd & {"random", "adversarial"}  # what takes long runs for one measure


# --- samples and devices --------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True])
def test_a_sample_has_groups_and_labels_in_their_shares(streamed: bool) -> None:
    data: Any = SOURCE.load().train
    data = data if streamed else data.read()
    chosen = sample_of(data, 60, 1)
    assert len(chosen) == 60
    for group, y in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = ((data.group == group) & (data.y == y)).sum() * 60 / len(data)
        found = ((chosen.group == group) & (chosen.y == y)).sum()
        assert abs(float(found - share)) < 1 + 1e-6
    again, other = sample_of(data, 60, 1), sample_of(data, 60, 2)
    assert torch.equal(chosen.y, again.y)
    assert torch.equal(chosen.x, again.x)
    assert not torch.equal(chosen.x, other.x)
    assert len(torch.unique(chosen.x.flatten(1), dim=0)) == 60  # no row twice
    with pytest.raises(InputError, match="a sample of 1 to 180 rows, got 181"):
        sample_of(data, 181, 0)


def test_a_method_sees_its_sample_alone_and_all_rows_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    real = cells.debias

    def noting(network: Any, data: Any, *rest: Any, **options: Any) -> Any:
        seen.append(data)
        return real(network, data, *rest, **options)

    monkeypatch.setattr(cells, "debias", noting)
    splits = SOURCE.load()
    cell = DebiasCell(NETWORK, Threshold(), Constrained("aod", epsilon=0.05), 0, rows=40)
    answer = cell.run(splits, resnet(18, width=0.125))
    assert len(seen[0]) == 40
    assert torch.equal(seen[0].y, sample_of(splits.valid, 40, 0).y)
    assert np.array(answer.values["valid"]).sum() == len(splits.valid)


def test_a_device_is_checked_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.device_here("auto").type == "cpu"
    with pytest.raises(InputError, match="found none: --device cpu"):
        devices.device_here("cuda")
    with pytest.raises(InputError, match="unknown device 'tpu'"):
        devices.check_device("tpu")
    with devices.computing_on("auto"):
        assert devices.current() == torch.device("cpu")
    assert devices.name_of_current() == ""


def test_a_device_that_is_not_there_is_refused_before_anything_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args = ["study", "seeds", "--store", str(tmp_path), "--out", str(tmp_path / "out")]
    assert cli.run([*args, "--device", "cuda"]) == 2
    assert "expected a GPU that torch can use" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert cli.run([*args, "--gallery"]) == 2
    assert "--gallery with the study celeba, got seeds" in capsys.readouterr().err


# --- the network ----------------------------------------------------------------------------------


def test_a_network_is_built_from_its_tensors_and_found_by_other_groups() -> None:
    splits = SOURCE.load()
    first = NETWORK.run(splits)
    assert first.values["trained"]
    assert first.values["epochs"] == 2
    network = NETWORK.build(splits, first.tensors)
    decided = (rf.networks.logits(network, splits.test) > 0).numpy()
    counts = rf.metrics.count(splits.test.y.numpy(), decided, splits.test.group.numpy(), 2)
    assert first.values["test"] == counts.astype(int).tolist()
    groups = dataclasses.replace(NETWORK, source=dataclasses.replace(SOURCE, sensitive=("region",)))
    again = groups.run(splits)
    assert not again.values["trained"]
    assert all(torch.equal(again.tensors[name], value) for name, value in first.tensors.items())
    other = dataclasses.replace(NETWORK, seed=1).run(splits)
    assert other.values["trained"]


def test_a_network_cell_that_was_killed_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from retrofair.networks import training

    splits = SOURCE.load()
    real = training._epoch
    ran: list[int] = []

    def counting(*arguments: Any) -> None:
        ran.append(1)
        if len(ran) == 2:
            raise KeyboardInterrupt
        real(*arguments)

    monkeypatch.setattr(training, "_epoch", counting)
    with pytest.raises(KeyboardInterrupt):
        NETWORK.run(splits)
    found = NETWORK.run(splits)
    assert len(ran) == 3  # the first epoch was not run again
    folder = module.cache_folder() / "images"
    assert [path.suffix for path in folder.iterdir()] == [".safetensors"]
    monkeypatch.setattr(training, "_epoch", real)
    (only,) = folder.iterdir()
    only.unlink()
    whole = NETWORK.run(splits)
    assert all(torch.equal(found.tensors[name], value) for name, value in whole.tensors.items())


# --- the page -------------------------------------------------------------------------------------


def row(method: str, seed: int, good: float, bias: float, **changes: Any) -> dict[str, Any]:
    kept = abs(bias) < 0.05
    usual = {
        "part": "young",
        "measure": "aod",
        "method": method,
        "seed": seed,
        "state": "done",
        "status": "met",
        "needs_group": method == "reject_option",
        "seconds": 1.0,
        "test_performance": good,
        "test_bias": bias,
        "test_unfair": abs(bias),
        "test_bias_low": bias - 0.02,
        "test_bias_high": bias + 0.02,
        "test_feasible": kept,
        "test_objective": good if kept else 0.0,
        "test_beats_constant": kept,
        "error": "",
        "rows_test": 100,
        "rows_valid": 90,
        "groups": "a 40, b 60",
    }
    return usual | changes


def test_published_figures_stand_beside_ours() -> None:
    ours = [row("adversarial", s, 0.8 + s / 100, 0.04 + s / 100) for s in range(3)]
    text = celeba_page.beside(pd.DataFrame(ours), "young", "aod")
    assert "| equalized_odds | ~~0.983~~ | ~~0.983~~ | ~~0.982~~ | - | - | - |" in text
    line = next(line for line in text.splitlines() if line.startswith("| adversarial"))
    assert line == "| adversarial | 0.914 | 0.917 | 0.905 | 0.810 (0.800 to 0.820) | 0.050 | 1/3 |"


def test_a_table_counts_seeds_and_marks_who_needs_the_group() -> None:
    rows = [row(CONSTANT, 0, 0.5, 0.0), row(ORIGINAL, 0, 0.8, 0.1)]
    rows += [row("reject_option", s, 0.7, 0.03 * s, status=("met", "not_met")[s]) for s in (0, 1)]
    rows.append(row("random", 0, 0.0, 0.0, state="failed", error="it broke"))
    frame = pd.DataFrame(rows)
    (text,) = celeba_page.tables(frame, (0, 1))
    assert "| reject_option\\* | 0.700 (0.700 to 0.700) |" in text
    assert "2/2 | 2/2 | met 1/2, not met 1/2 | 1.0 (1.0 to 1.0) |" in text
    assert "| random (0 of 2 seeds) | - |" in text
    assert "about +-0.020" in text
    assert "- young, random: it broke" in celeba_page.failures(frame)


def test_it_goes_on_where_it_was_stopped(tiny: Any, tmp_path: Path) -> None:
    plan = Plan.of(tiny.cells(), Store(tmp_path))
    done = 0

    def stop(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(plan, jobs=1, each=stop)
    plan = Plan.of(tiny.cells(), Store(tmp_path))
    assert len(plan.missing) == 1
    assert plan.missing[0].label in ("threshold", "random")
    run(plan, jobs=1, device="auto")
    assert not plan.missing
    tiny.write(plan, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["celeba.csv", "celeba.md", "celeba.png"]
    frame = pd.read_csv(tmp_path / "out" / "celeba.csv")
    assert set(frame["method"]) == {CONSTANT, ORIGINAL, "threshold", "random"}
    assert set(frame["part"]) == {PARTS[0].title}


# --- the gallery ----------------------------------------------------------------------------------


def test_a_gallery_has_each_group_sorted_by_the_probability_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = SOURCE.load().test
    network = resnet(18, width=0.125)
    result = rf.debias(network, data, Constrained("aod", epsilon=0.05), "threshold")
    texts: list[str] = []
    from matplotlib.axes import Axes

    real = Axes.set_xlabel
    monkeypatch.setattr(
        Axes, "set_xlabel", lambda axes, text, **k: (texts.append(text), real(axes, text, **k))[1]
    )
    path = gallery(result, network, data, tmp_path, label="young", faces=3)
    with Image.open(path) as image:
        assert image.size[0] > 300
    before = rf.networks.probabilities(network, data)
    rows = drawn(data.group.numpy(), 2, 3, 0)
    expected = [f"{p:.2f} to {p:.2f}" for each in rows for p in sorted(before[each], reverse=True)]
    assert texts == expected  # a threshold leaves the probabilities


def test_faces_are_not_published(tmp_path: Path) -> None:
    data = SOURCE.load().test
    network = resnet(18, width=0.125)
    result = rf.debias(network, data, Constrained("aod", epsilon=0.05), "threshold")
    with pytest.raises(InputError, match="they must not be published"):
        gallery(result, network, data, tmp_path / "docs" / "results")
    assert list(tmp_path.rglob("*.png")) == []
    table = GroupedData(
        x=torch.zeros(2, 3), y=torch.tensor([0, 1]), group=torch.tensor([0, 1]), group_names="ab"
    )
    with pytest.raises(InputError, match=r"colour images \(n, 3, h, w\)"):
        pixels(table)


def test_pixels_are_those_of_the_data_where_they_have_them(data_root: Path) -> None:
    whole = rf.datasets.load("utkface", sensitive="race", root=data_root).test
    shown = pixels(whole[:3])
    assert shown.shape == (3, 64, 64, 3)
    assert shown.dtype == np.uint8
    (third,) = whole.rows.pixels(whole.index[2:3].numpy())
    assert np.array_equal(shown[2], third.transpose(1, 2, 0))


def test_the_command_draws_a_gallery(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study_command, "chosen_study", lambda *_: tiny)
    args = ["study", "celeba", "--jobs", "1", "--store", str(tmp_path / "store"), "--gallery"]
    args += ["--out", str(tmp_path / "out")]
    assert cli.run([*args, "--device", "auto"]) == 0
    assert (tmp_path / "out" / "gallery.png").exists()
    page = (tmp_path / "out" / "celeba.md").read_text()
    assert "gallery" not in page
    store = Store(tmp_path / "store")
    for file in store.folder.rglob("*.safetensors"):
        file.unlink()
    capsys.readouterr()
    assert cli.run([*args, "--page-only"]) == 2
    assert "run the study first" in capsys.readouterr().err
