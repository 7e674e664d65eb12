"""Grouped data as AIF360's BinaryLabelDataset, and back."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from retrofair.data import GroupedData
from retrofair.data.encoders import text_of
from retrofair.errors import InputError, RetrofairWarning, unknown
from retrofair.interop.sensitive import Groups
from retrofair.metrics import Array

MAPS = "protected_attribute_maps"  # where AIF360's own data sets keep the names of their values
NEEDED = ("features", "labels", "favorable_label", "feature_names", "protected_attributes")
Described = Sequence[Mapping[str, float]]


def to_aif360(data: GroupedData, y_hat: Any = None, *, scores: Any = None) -> Any:
    """Grouped data as an `aif360.datasets.BinaryLabelDataset`.

    The one protected attribute is the group's code, of which the last is privileged. It is the
    feature of the sensitive column's name where that holds the same codes, and otherwise a further
    column, the last: `dataset.features` then has one more than `data.x`. All numbers are doubles.

    Args:
        y_hat: (n,) decisions 0/1 that stand for the labels, as a `ClassificationMetric` wants.
        scores: (n,) probabilities, for AIF360's post-processors.

    Raises:
        InputError: aif360 is not installed, features that are no table, or labels that are not
            0/1.

    Example:
        >>> data = GroupedData(x=torch.zeros(4, 1), y=[0, 1, 0, 1], group=[0, 0, 1, 1],
        ...                    group_names=("Female", "Male"))
        >>> dataset = to_aif360(data)
        >>> dataset.feature_names, dataset.protected_attributes.ravel().tolist()
        (['x0', 'group'], [0.0, 0.0, 1.0, 1.0])
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its own imports
            from aif360.datasets import BinaryLabelDataset
    except ImportError:
        raise InputError(
            "expected the package aif360 for to_aif360, it is not installed: pip install aif360"
        ) from None
    if not isinstance(data, GroupedData) or data.x.ndim != 2:
        got = f"x of shape {tuple(data.x.shape)}" if isinstance(data, GroupedData) else type(data)
        raise InputError(f"expected GroupedData with a table of features, (n, d), got {got}")
    names = list(data.feature_names) or [f"x{k}" for k in range(data.x.shape[1])]
    frame = pd.DataFrame(data.x.double().numpy(), columns=names)
    group = data.group.numpy()
    protected = _protected_name(data, frame)
    frame[protected] = group.astype(np.float64)
    label = _free(data.preparation.label if data.preparation else "label", frame)
    frame[label] = _binary(data.y.numpy() if y_hat is None else y_hat, len(data))
    about: dict[str, Any] = {}
    if scores is not None:
        about["scores_names"] = [_free("scores", frame)]
        frame[about["scores_names"][0]] = _column(scores, len(data), "scores")
    last = len(data.group_names) - 1
    codes = {float(code): name for code, name in enumerate(data.group_names)}
    return BinaryLabelDataset(
        favorable_label=1.0,
        unfavorable_label=0.0,
        df=frame,
        label_names=[label],
        protected_attribute_names=[protected],
        unprivileged_protected_attributes=[np.arange(last, dtype=float)],
        privileged_protected_attributes=[np.array([float(last)])],
        metadata={MAPS: [codes]},
        **about,
    )


def from_aif360(
    dataset: Any,
    sensitive: str | Sequence[str] | None = None,
    *,
    unprivileged_groups: Described | None = None,
    privileged_groups: Described | None = None,
    include_sensitive: bool = True,
) -> GroupedData:
    """Grouped data from an `aif360.datasets.BinaryLabelDataset`, or one like it.

    Features are taken as they are, unscaled. What grouped data cannot hold is dropped: instance
    weights (in a warning, if they differ; `preprocessing.reweighing` makes them, and `train_mlp`
    takes them), scores, and rows in neither of two described groups (in a warning).

    Args:
        sensitive: one protected attribute or several, whose intersections are the groups. Without
            it: all of the data set's.
        unprivileged_groups: with `privileged_groups`, two groups as AIF360's metrics describe
            them, such as [{"sex": 0}]; instead of `sensitive`.
        include_sensitive: keep the protected attributes among the features.

    Raises:
        InputError: no such data set or attribute, an attribute with several privileged values, or
            a description that fits no row.

    Example:
        >>> data = GroupedData(x=torch.zeros(4, 1), y=[0, 1, 0, 1], group=[0, 0, 1, 1],
        ...                    group_names=("Female", "Male"))
        >>> from_aif360(to_aif360(data), include_sensitive=False)
        GroupedData(x=(4, 1), groups=(Female: 2, Male: 2))
    """
    absent = [name for name in NEEDED if not hasattr(dataset, name)]
    if absent:
        raise InputError(
            f"expected an AIF360 BinaryLabelDataset, got {type(dataset).__name__} without "
            f"{', '.join(absent)}"
        )
    if np.ndim(dataset.favorable_label) or np.shape(dataset.labels)[1:] != (1,):
        raise InputError("expected one label of two classes in the AIF360 data set, got others")
    y = (np.ravel(dataset.labels) == dataset.favorable_label).astype(np.int64)
    rows = np.ones(len(y), dtype=bool)
    if unprivileged_groups is not None or privileged_groups is not None:
        if sensitive is not None:
            raise InputError("expected sensitive= or described groups, got both")
        names: tuple[str, ...] = ("unprivileged", "privileged")
        code = _described(dataset, unprivileged_groups, privileged_groups)
        rows = code >= 0
    else:
        names, code = _by_attributes(dataset, sensitive, y)
    notes = tuple(_dropped(dataset, rows))
    for note in notes:
        warnings.warn(note, RetrofairWarning, stacklevel=2)
    protected = set(dataset.protected_attribute_names)
    kept = [
        k for k, n in enumerate(dataset.feature_names) if include_sensitive or n not in protected
    ]
    return GroupedData(
        x=torch.from_numpy(np.asarray(dataset.features, dtype=np.float32)[rows][:, kept]),
        y=torch.from_numpy(y[rows]),
        group=torch.from_numpy(code[rows]),
        group_names=names,
        feature_names=tuple(str(dataset.feature_names[k]) for k in kept),
        notes=notes,
    )


# --- groups ---------------------------------------------------------------------------------------


def _by_attributes(
    dataset: Any, sensitive: str | Sequence[str] | None, y: Array
) -> tuple[tuple[str, ...], Array]:
    """The groups of one or more protected attributes, by the names of their values."""
    known = list(dataset.protected_attribute_names)
    asked = known if sensitive is None else sensitive
    chosen = [asked] if isinstance(asked, str) else list(asked)
    maps = (getattr(dataset, "metadata", None) or {}).get(MAPS) or []
    columns, privileged = {}, []
    for position, name in enumerate(chosen):
        if name not in known:
            raise unknown("protected attribute", name, known)
        place = known.index(name)
        values = {float(v): str(n) for v, n in (maps[place] if place < len(maps) else {}).items()}
        best = np.ravel(dataset.privileged_protected_attributes[place])
        if len(best) != 1:
            raise InputError(
                f"expected one privileged value of {name!r}, got {best.tolist()}: describe the "
                "groups with unprivileged_groups= and privileged_groups="
            )
        column = np.asarray(dataset.protected_attributes)[:, place]
        columns[position] = [values.get(v, text_of(v)) for v in column.tolist()]
        privileged.append(values.get(float(best[0]), text_of(float(best[0]))))
    texts = pd.DataFrame(columns, dtype=object)
    groups = Groups.of(texts, y, privileged)
    return groups.names, groups.codes(texts, len(y))


def _described(dataset: Any, unprivileged: Described | None, privileged: Described | None) -> Array:
    """(n,) 0 for the unprivileged, 1 for the privileged, -1 for rows that are neither."""
    if unprivileged is None or privileged is None:
        raise InputError("expected unprivileged_groups and privileged_groups, got one of them")
    code = np.full(len(dataset.labels), -1, dtype=np.int64)
    for value, groups in ((0, unprivileged), (1, privileged)):
        mask = np.zeros(len(code), dtype=bool)
        for described in groups:
            mask |= _fits(dataset, described)
        if not mask.any():
            raise InputError(f"expected rows in the groups {list(groups)}, got none")
        if (mask & (code >= 0)).any():
            raise InputError("expected groups without common rows, got some rows in both")
        code[mask] = value
    return code


def _fits(dataset: Any, described: Mapping[str, float]) -> Array:
    known = list(dataset.protected_attribute_names)
    values = np.asarray(dataset.protected_attributes)
    mask = np.ones(len(values), dtype=bool)
    for name, value in described.items():
        if name not in known:
            raise unknown("protected attribute", name, known)
        mask &= values[:, known.index(name)] == value
    return mask


def _dropped(dataset: Any, rows: Array) -> list[str]:
    found = []
    weights = np.ravel(getattr(dataset, "instance_weights", np.ones(1)))
    if not np.allclose(weights, weights[0]):
        found.append(
            f"dropped the instance weights, {weights.min():.3g} to {weights.max():.3g}: grouped "
            "data have none (preprocessing.reweighing makes them, train_mlp takes them)"
        )
    if not rows.all():
        found.append(f"dropped {int((~rows).sum()):,} of {len(rows):,} rows in neither group")
    return found


# --- columns --------------------------------------------------------------------------------------


def _protected_name(data: GroupedData, frame: pd.DataFrame) -> str:
    """The sensitive column's name where a feature of it holds the codes or none is called so."""
    columns = data.preparation.sensitive if data.preparation else ()
    name = columns[0] if len(columns) == 1 else "group"
    if name not in frame.columns:
        return name
    if len(columns) == 1 and (frame[name].to_numpy() == data.group.numpy()).all():
        return name
    return _free("group", frame)


def _free(name: str, frame: pd.DataFrame) -> str:
    while name in frame.columns:
        name += "_"
    return name


def _binary(values: Any, n: int) -> Array:
    found = _column(values, n, "y_hat")
    if not np.isin(found, (0, 1)).all():
        raise InputError("expected labels 0/1 for a BinaryLabelDataset, got other numbers")
    return found


def _column(values: Any, n: int, name: str) -> Array:
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu().numpy()
    found = np.asarray(values).reshape(-1)
    if len(found) != n or found.dtype.kind not in "iufb":
        raise InputError(f"expected {n:,} numbers as {name}, got {len(found):,} of {found.dtype}")
    return found.astype(np.float64)
