"""Exports of networks for published data: all rows of the table, in onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import retrofair as rf
from retrofair.data import raw_table

onnxruntime = pytest.importorskip("onnxruntime")
GOAL = rf.Constrained("spd", epsilon=0.05)


@pytest.mark.parametrize(
    ("name", "sensitive", "rows"), [("adult", "sex", 45_222), ("compas", "race", 6_167)]
)
def test_all_rows_of_the_table(
    name: str, sensitive: str, rows: int, data_root: Path, tmp_path: Path
) -> None:
    splits = rf.datasets.load(name, sensitive=sensitive, root=data_root, seed=0)
    frame = rf.datasets.get(name).frame(sensitive, data_root)
    net = rf.networks.train_mlp(splits.train, splits.valid, max_epochs=5)
    for method in ("threshold", "fair_head", "group_thresholds", rf.debiasers.Random(trials=5)):
        result = rf.debias(net, splits.valid, GOAL, method)
        done = rf.export(result, tmp_path / "m.onnx", data=frame)
        assert done.written
        assert done.parity.rows == rows
        assert done.parity.differing == done.parity.at_ties
        # the same again, by hand
        data = rf.GroupedData.prepared(result.preparation, frame)
        given = {"columns": raw_table(result.preparation, frame), "group": data.group.numpy()}
        session = onnxruntime.InferenceSession(str(done.path))
        names = [each.name for each in session.get_inputs()]
        assert names == (["columns", "group"] if result.needs_group else ["columns"])
        chance, decision = session.run(None, {each: given[each] for each in names})
        ours, decided = result.score_data(data)
        assert np.abs(chance - ours).max() == done.parity.largest < 1e-4
        assert (decision != decided).sum() == done.parity.differing


def test_a_coin_on_all_rows_of_compas(data_root: Path, tmp_path: Path) -> None:
    splits = rf.datasets.load("compas", sensitive="race", root=data_root, seed=0)
    frame = rf.datasets.get("compas").frame("race", data_root)
    net = rf.networks.train_mlp(splits.train, splits.valid, max_epochs=3, depth=2)
    for method in ("equalized_odds", "calibrated_equalized_odds"):
        result = rf.debias(net, splits.valid, rf.Constrained("eod", epsilon=0.05), method)
        done = rf.export(result, tmp_path / "m.pt2", "torch_export", data=frame)
        assert (done.written, done.parity.rows, done.parity.differing) == (True, 6_167, 0)
