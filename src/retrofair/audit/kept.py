"""An audit as plain values, and back: what a report is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from retrofair import metrics
from retrofair.audit.audited import audit_counts
from retrofair.audit.classes import audit_classes
from retrofair.audit.found import Audit, Estimate
from retrofair.audit.scores import ScoreCounts


def audit_to_dict(found: Audit) -> dict[str, Any]:
    """Everything in an audit, ready for JSON.

    What follows from the counts is left out, except estimates that the library cannot compute
    again: a caller's own measure, costs, and the area under the ROC curve.
    """
    known = {each.name for each in metrics.ALL} | {each.name for each in metrics.performance.ALL}
    return {
        "group_names": list(found.group_names),
        "counts": found.counts.tolist(),
        "threshold": found.threshold,
        "class_names": list(found.class_names),
        "flags": list(found.flags),
        "further": [asdict(e) for name, e in found.estimates.items() if name not in known],
        "scores": None if found.scores is None else found.scores.to_dict(),
        "attributes": {name: list(values) for name, values in found.attributes.items()},
        "outcome": found.outcome,
    }


def audit_from_dict(values: Mapping[str, Any]) -> Audit:
    """Read what `audit_to_dict` wrote, also after JSON, where nan is null.

    Raises:
        KeyError, TypeError, ValueError: other values.
    """
    counts = np.array(values["counts"], dtype=np.int64)
    names = tuple(map(str, values["group_names"]))
    if counts.ndim != 3 or len(counts) != len(names) or counts.shape[1] != counts.shape[2]:
        raise ValueError(f"counts of shape {counts.shape} for {len(names)} groups")
    if counts.shape[-1] > 2:
        found = audit_classes(counts, names, values["class_names"], ())
    else:
        found = audit_counts(counts, names, threshold=values["threshold"])
    further = {each["name"]: _estimate(each) for each in values["further"]}
    scores = values["scores"]
    return replace(
        found,
        estimates=found.estimates | further,
        flags=tuple(values["flags"]),
        scores=None if scores is None else ScoreCounts.from_dict(scores),
        attributes={name: tuple(each) for name, each in values["attributes"].items()},
        outcome=str(values.get("outcome", "")),  # older files have none
    )


def _estimate(values: Mapping[str, Any]) -> Estimate:
    numbers = {
        name: math.nan if values[name] is None else float(values[name])
        for name in ("value", "low", "high", "ideal")
    }
    return Estimate(**{**values, **numbers})
