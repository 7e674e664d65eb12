"""A score for scikit-learn's model selection that sees the groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils.metadata_routing import MetadataRequest

from retrofair import metrics
from retrofair.debiasers.offsets import objective_of_classes
from retrofair.errors import InputError
from retrofair.interop.sensitive import Groups
from retrofair.objective import Constrained, MeasureLike, Objective, Weighted


def make_fairness_scorer(
    what: MeasureLike | Objective, *, privileged: object = None
) -> FairnessScorer:
    """A scorer `(estimator, X, y, sensitive_features=)` for GridSearchCV and the like.

    Of any classifier, not only of ours. The groups reach it by scikit-learn's metadata routing,
    which is to be enabled: `sklearn.set_config(enable_metadata_routing=True)`.

    Args:
        what: an objective, which orders outcomes: with `Constrained` the performance where the
            bound holds, and minus the bias elsewhere; with `Weighted` minus its score. Or a
            measure: minus its bias. Greater is better throughout.
        privileged: the privileged value of `sensitive_features`, as in `RetrofairClassifier`.

    Raises:
        InputError: an unknown measure.

    Example:
        >>> import numpy as np
        >>> from sklearn.dummy import DummyClassifier
        >>> X, y, sex = np.zeros((4, 1)), [0, 1, 0, 1], ["f", "f", "m", "m"]
        >>> score = make_fairness_scorer("demographic_parity_difference")
        >>> bool(score(DummyClassifier().fit(X, y), X, y, sensitive_features=sex) == 0)
        True
    """
    objective = what if _is_objective(what) else Weighted(what, lam=1.0)  # type: ignore[arg-type]
    return FairnessScorer(objective, privileged)  # type: ignore[arg-type]


@dataclass(frozen=True)
class FairnessScorer:
    """What `make_fairness_scorer` returns."""

    objective: Objective
    privileged: object = None

    def __call__(self, estimator: Any, X: Any, y: Any, *, sensitive_features: Any = None) -> float:
        """The objective's rank of the estimator's decisions; greater is better.

        Raises:
            InputError: no groups, one group only, or labels that the estimator does not know.
        """
        if sensitive_features is None:
            raise InputError(
                "expected sensitive_features for a fairness score, got none: enable "
                "scikit-learn's metadata routing, sklearn.set_config(enable_metadata_routing="
                "True), and pass them to fit, as in search.fit(X, y, sensitive_features=...)"
            )
        classes = np.asarray(estimator.classes_)
        named = {"sensitive_features": sensitive_features} if _needs_group(estimator) else {}
        decided = _codes(classes, estimator.predict(X, **named), "decisions")
        label = _codes(classes, y, "labels")
        groups = Groups.of(sensitive_features, label, self.privileged)
        group = groups.codes(sensitive_features, len(label))
        n, objective = len(groups.names), self.objective
        if len(classes) > 2:
            objective = objective_of_classes(objective)
            counts = metrics.count_classes(label, decided, group, n, len(classes))
        else:
            counts = metrics.count(label, decided, group, n)
        metrics.require(objective.bias_measure, counts, groups.names)
        return float(objective.rank(counts))

    def get_metadata_routing(self) -> MetadataRequest:
        """scikit-learn asks here: the groups, please."""
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sensitive_features", alias=True)
        return request


def _is_objective(what: Any) -> bool:
    return isinstance(what, Constrained | Weighted) or hasattr(what, "rank")


def _needs_group(estimator: Any) -> bool:
    while True:
        if isinstance(estimator, Pipeline):
            estimator = estimator.steps[-1][1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return bool(getattr(estimator, "needs_group_", False))


def _codes(classes: Any, values: Any, what: str) -> Any:
    values = np.asarray(values).reshape(-1)
    code = np.searchsorted(classes, values).clip(max=len(classes) - 1)
    if not (classes[code] == values).all():
        odd = values[classes[code] != values][0]
        raise InputError(
            f"expected {what} among the classes {classes.tolist()} of the estimator, got {odd!r}"
        )
    return code.astype(np.int64)
