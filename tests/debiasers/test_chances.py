"""The chances of group and label: cross-fitted, of the structure that is said, and calibrated."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from retrofair.debiasers import chances as module
from retrofair.debiasers.chances import NEVER, TRUSTED, Chances, cross_fitted
from retrofair.errors import InputError
from retrofair.metrics import Array


def rows(
    n: int, n_groups: int = 2, n_classes: int = 2, seed: int = 0
) -> tuple[Array, Array, Array]:
    """Features (a logit or one of each class first), groups and labels that depend on both."""
    rng = np.random.default_rng(seed)
    group = rng.integers(n_groups, size=n)
    z = rng.normal(size=(n, 6))
    z[:, -1] += group
    scores = z[:, : n_classes if n_classes > 2 else 1] + 0.4 * group[:, None]
    if n_classes == 2:
        return z, group, (rng.random(n) < 1 / (1 + np.exp(-2 * scores[:, 0]))).astype(int)
    return z, group, (scores + rng.gumbel(size=scores.shape)).argmax(1)


@pytest.mark.parametrize(("n_groups", "n_classes"), [(2, 2), (3, 2), (2, 3), (4, 4)])
def test_as_two_regressions_by_hand(n_groups: int, n_classes: int) -> None:
    z, group, y = rows(600, n_groups, n_classes)
    logits = 1 if n_classes == 2 else n_classes
    found = Chances(z, group, y, (n_groups, n_classes), logits, (0.1, 0.05))
    a = (z - z.mean(0)) / z.std(0)
    of_group = LogisticRegression(C=0.1, tol=1e-3).fit(a, group).predict_proba(a)
    # single and double precision stop within one tolerance of each other
    assert found.of_group(z) == pytest.approx(of_group, abs=1e-3)

    def design(codes: Array) -> Array:
        one = np.eye(n_groups)[codes]
        slopes = np.concatenate([one[:, [g]] * a[:, :logits] for g in range(n_groups)], 1)
        return np.concatenate([a[:, logits:], TRUSTED * np.hstack([a[:, :logits], one, slopes])], 1)

    model = LogisticRegression(C=0.05, tol=1e-3).fit(design(group), y)
    for g in range(n_groups):
        there = np.full(len(z), g)
        assert found.of_label(z)[:, g] == pytest.approx(
            model.predict_proba(design(there)), abs=1e-3
        )
    cells = found(z)
    assert cells.sum(1) == pytest.approx(1)
    product = found.of_group(z)[:, :, None] * found.of_label(z)
    assert cells == pytest.approx(product.reshape(len(z), -1), abs=1e-6)


def test_every_row_is_judged_by_regressions_that_had_not_seen_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Array] = []
    plain = module._Fold.__init__

    def noted(self: module._Fold, z: Array, *rest: Array) -> None:
        plain(self, z, *rest)
        seen.append(np.asarray(rest[-1]))

    monkeypatch.setattr(module._Fold, "__init__", noted)
    z, group, y = rows(300)
    fitted = cross_fitted(z, group, y, (2, 2), (0.5,), 0)
    found, head = fitted.cells, fitted.head
    assert fitted.told(group) == pytest.approx(
        np.stack([fitted.labels[i, g] for i, g in enumerate(group)])
    )
    assert sorted(np.concatenate(seen)) == list(range(300))
    for left in seen:
        others = np.setdiff1d(np.arange(300), left)
        fresh = Chances(z[others], group[others], y[others], (2, 2), 1, (0.5, 0.5))
        assert found[left] == pytest.approx(fresh(z[left]), abs=1e-9)
    assert np.abs(found - head(z)).max() > 1e-3


def test_the_likelihood_of_rows_not_seen_chooses_each_strength() -> None:
    # of the label nothing but noise is left to learn beside the logit, the group is one column
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 120))
    group = (z[:, 60] > 0).astype(int)
    y = (rng.random(400) < 1 / (1 + np.exp(-2 * z[:, 0]))).astype(int)
    found = cross_fitted(z, group, y, (2, 2), (0.0003, 0.003, 0.03, 0.3), 0)
    of_group, of_label = found.strengths
    assert of_label <= 0.003
    assert of_group >= 0.03


def test_with_few_rows_the_networks_logit_is_what_is_left() -> None:
    # as sure as the logit itself, however many other columns there are
    z, group, y = rows(300)
    noise = np.random.default_rng(1).normal(size=(300, 300))
    z = np.concatenate([z, noise], 1)
    found = cross_fitted(z, group, y, (2, 2), (0.0003, 0.003, 0.03, 0.3), 0).cells
    chance = found[:, 1::2].sum(1)
    loss = -np.log(np.where(y == 1, chance, 1 - chance)).mean()
    best = 1 / (1 + np.exp(-2 * (z[:, 0] + 0.4 * group)))
    assert loss < -np.log(np.where(y == 1, best, 1 - best)).mean() + 0.05


def test_what_has_no_row_has_no_chance() -> None:
    z, _, y = rows(300)
    found = Chances(z, np.ones(300, int), y, (3, 2), 1, (1.0, 1.0))
    chances = found(z)
    assert chances[:, [0, 1, 4, 5]].max() == 0
    assert chances.sum(1) == pytest.approx(1)
    assert found.group_bias.tolist() == [NEVER, 0.0, NEVER]
    assert ((chances[:, 3] > 0.5) == (y == 1)).mean() > 0.6


def test_a_group_of_few_rows_borrows_from_the_others() -> None:
    z, group, y = rows(1000)
    group = np.where(np.arange(1000) < 4, 2, group)
    found = cross_fitted(z, group, y, (3, 2), (0.003, 0.03, 0.3), 0).cells
    assert found.shape == (1000, 6)
    labels = Chances(z, group, y, (3, 2), 1, (0.03, 0.03)).of_label(z)
    assert np.corrcoef(labels[:, 2, 1], labels[:, 1, 1])[0, 1] > 0.8
    with pytest.raises(InputError, match="at least 3 rows of every group, got 2 of group 2"):
        cross_fitted(z, np.where(np.arange(1000) < 2, 2, group % 2), y, (3, 2), (0.1,), 0)
