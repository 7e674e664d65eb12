"""A trained network and its debiasing as a scikit-learn classifier."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor, nn

from retrofair.data import GroupedData
from retrofair.data.encoders import text_of
from retrofair.debiasers import Debiased, Debiaser, Status, debias
from retrofair.debiasers.result import Scores
from retrofair.debiasers.rules import Argmax, Cut
from retrofair.debiasers.run import resolve
from retrofair.errors import InputError, RetrofairWarning
from retrofair.interop.deciding import Deciding, of_two, softmax
from retrofair.interop.given import dtype_of, network_of, settings_of, told_of_turned_labels
from retrofair.interop.rows import held_out, seed_of
from retrofair.interop.sensitive import Groups
from retrofair.metrics import Array, PerformanceMeasure
from retrofair.networks import Outputs, Training, as_logits, fitted
from retrofair.objective import Bounded, Constrained, MeasureLike, Objective, Weighted

NOT_DEBIASED = "not_debiased"


class RetrofairClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """Debias a trained network within scikit-learn.

    `fit` debiases the given network on the given rows, and leaves the network as it is: these are
    rows that it was not trained on. Without a network, the papers' is trained on a part of the
    rows and debiased on the rest. Numbers are handed to the network as they are: what prepared them
    for its training belongs before it in a pipeline, as scikit-learn's `FrozenEstimator`.

    Without `sensitive_features` nothing can be debiased: then the network decides at a probability
    of 0.5, a warning says so, and `status_` is "not_debiased".

    Args:
        network: a module, (n, ...) -> (n,) logits, (n, K) for K > 2 classes; or a fitted skorch
            net; or `networks.Training`, the settings of a network to train, for two classes; None
            stands for `Training()`, the papers' settings.
        method: a method's name or a debiaser, as in `debias`.
        measure: a measure, or pairs of measures and their bounds, as in `Constrained`.
        epsilon: the bound on the bias.
        performance: what to maximise.
        lam: minimise lam * bias + (1 - lam) * (1 - performance) instead.
        privileged: the privileged value of `sensitive_features` (one per column). Without it, as
            in `GroupedData.from_frame`. It only matters to measures that have a sign.
        outputs: what the network answers, "logits" or "probabilities", as in `debias`.
        valid_size: the share of the rows to debias on, in (0, 1), where a network is trained here.
        random_state: a seed, a numpy `RandomState`, or None for another one each time.

    Attributes:
        classes_: the label's values; the second one is the positive one.
        group_names_: the groups, the privileged one last; () where nothing was debiased.
        network_: the network before.
        result_: what `debias` returned, or None.
        status_: "met", "not_met" or "degenerate", as in `Status`; or "not_debiased".
        needs_group_: whether `predict` needs `sensitive_features`.

    Example:
        >>> import retrofair as rf
        >>> splits = rf.datasets.load("synthetic", n=1500, seed=0)
        >>> net = rf.networks.train_mlp(splits.train, splits.valid, depth=2, max_epochs=5)
        >>> X, y, sex = (splits.valid.x.numpy(), splits.valid.y.numpy(),
        ...              splits.valid.group.numpy())
        >>> fair = RetrofairClassifier(net, epsilon=0.1, random_state=0)
        >>> fair.fit(X, y, sensitive_features=sex).status_
        'met'
        >>> fair.predict(X[:3]).shape
        (3,)
    """

    # to debias is what it is for: no set_fit_request is needed to have the groups routed here
    __metadata_request__fit = {"sensitive_features": True}  # noqa: RUF012 - scikit-learn's form
    __metadata_request__predict = {"sensitive_features": True}  # noqa: RUF012
    __metadata_request__predict_proba = {"sensitive_features": True}  # noqa: RUF012
    __metadata_request__decision_function = {"sensitive_features": True}  # noqa: RUF012
    __metadata_request__score = {"sensitive_features": True}  # noqa: RUF012

    def __init__(
        self,
        network: Any = None,
        method: str | Debiaser = "fair_head",
        measure: MeasureLike | Bounded = "spd",
        epsilon: float = 0.05,
        performance: str | PerformanceMeasure = "balanced_accuracy",
        *,
        lam: float | None = None,
        privileged: object = None,
        outputs: Outputs | None = None,
        valid_size: float = 0.25,
        random_state: Any = None,
    ) -> None:
        self.network = network
        self.method = method
        self.measure = measure
        self.epsilon = epsilon
        self.performance = performance
        self.lam = lam
        self.privileged = privileged
        self.outputs = outputs
        self.valid_size = valid_size
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, sensitive_features: Any = None) -> Self:
        """Debias the network on these rows.

        Args:
            X: (n, ...) numbers, an array or a table of numbers.
            y: (n,) labels of any two values, of any K where the network has K outputs.
            sensitive_features: (n,) or (n, columns) values that make the groups.

        Raises:
            InputError: as `debias`; missing values or a single group in `sensitive_features`.
        """
        debiaser = resolve(self.method)
        objective = self._objective()
        settings = settings_of(self.network)
        X, codes = self._checked(X, y, settings)
        groups = None
        if sensitive_features is not None:
            groups = Groups.of(sensitive_features, codes, self.privileged)
        seed = seed_of(self.random_state)
        names = tuple(text_of(each) for each in self.classes_) if len(self.classes_) > 1 else ()
        rows = _Rows(X, codes, groups, sensitive_features, names)
        if settings is not None:
            network, data = self._trained(rows, settings, seed)
            outputs: Outputs | None = "logits"
        else:
            first = torch.from_numpy(np.array(X[:2]))
            network, outputs = network_of(self.network, self.outputs, first, len(self.classes_))
            data = rows.data(dtype_of(network))
            if len(self.classes_) == 2:
                told_of_turned_labels(network, data, outputs)
        self.network_ = network
        self.group_names_ = () if groups is None else groups.names
        self._groups = groups
        if groups is None:
            self._leave(network, data, outputs)
        else:
            result = debias(network, data, objective, debiaser, seed=seed, outputs=outputs)
            self._keep(result)
        self.needs_group_ = self._deciding.needs_group
        return self

    def predict(self, X: Any, *, sensitive_features: Any = None) -> Array:
        """The decision for each row, (n,) of `classes_`.

        Args:
            sensitive_features: needed where `needs_group_` is true, otherwise not looked at.
        """
        codes = self._deciding_on(X, sensitive_features, "decisions")
        return np.asarray(self.classes_[codes])

    def decision_function(self, X: Any, *, sensitive_features: Any = None) -> Array:
        """(n,) log odds less those at which the decision changes: positive above 0. With K > 2
        classes (n, K), of which the largest decides.

        Raises:
            InputError: the method decides with a coin, so that no score does.
        """
        return self._deciding_on(X, sensitive_features, "margins")

    def predict_proba(self, X: Any, *, sensitive_features: Any = None) -> Array:
        """(n, K) scores that add up to 1, of which the largest decides: `decision_function` as
        probabilities. They are the network's own only where nothing was debiased."""
        margins = self._deciding_on(X, sensitive_features, "margins")
        if margins.ndim == 2:
            return softmax(margins)
        return of_two(margins)

    def score(
        self, X: Any, y: Any, *, sensitive_features: Any = None, sample_weight: Any = None
    ) -> float:
        """The accuracy of the decisions."""
        decided = self.predict(X, sensitive_features=sensitive_features)
        return float(accuracy_score(y, decided, sample_weight=sample_weight))

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = settings_of(self.network) is None
        return tags

    # --- parts of fit -----------------------------------------------------------------------------

    def _objective(self) -> Objective:
        if self.lam is not None:
            return Weighted(self.measure, self.lam, self.performance)  # type: ignore[arg-type]
        return Constrained(self.measure, self.epsilon, self.performance)

    def _checked(self, X: Any, y: Any, settings: Training | None) -> tuple[Array, Array]:
        """The features as numbers, and the label's codes."""
        X, y = validate_data(
            self, X, y, dtype="numeric", allow_nd=settings is None, ensure_min_samples=2
        )
        check_classification_targets(y)
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise InputError(
                f"expected labels of at least 2 classes, got 1 class: {self.classes_[0]!r} in "
                f"all {len(y):,} rows"
            )
        if settings is not None and len(self.classes_) > 2:
            raise InputError(
                "Only binary classification is supported. The type of the target is "
                f"{type_of_target(y)}, and a network is trained here for two classes only: pass "
                "your own with an output for each class (network)"
            )
        return X, codes.astype(np.int64)

    def _trained(self, rows: _Rows, settings: Training, seed: int) -> tuple[nn.Module, GroupedData]:
        """A network trained on a part of the rows, and the rest."""
        data = rows.data(torch.float32)
        first, second = held_out(data, self.valid_size, seed)
        return fitted(first, second, settings, seed=seed).network, second

    def _leave(self, network: nn.Module, data: GroupedData, outputs: Outputs | None) -> None:
        """Nothing to debias by: the network as it is."""
        classes = len(self.classes_)
        model = as_logits(network, data, outputs, classes).eval()
        rule: Any = Cut(0.5) if classes == 2 else Argmax((0.0,) * classes)
        self._deciding = Deciding(model, rule)
        self.result_: Debiased | None = None
        self.status_ = NOT_DEBIASED
        warnings.warn(
            "no sensitive_features given: nothing was debiased, the network decides as it is",
            RetrofairWarning,
            stacklevel=3,
        )

    def _keep(self, result: Debiased) -> None:
        self._deciding = Deciding(result.model, result.rule)
        self.result_, self.status_ = result, result.status.value
        if result.status is not Status.MET:
            warnings.warn(
                f"the goal was not reached ({self.status_}): {_said(result.after)} on the rows "
                "debiased on; try another method or a larger epsilon",
                RetrofairWarning,
                stacklevel=3,
            )

    # --- predicting -------------------------------------------------------------------------------

    def _deciding_on(self, X: Any, sensitive_features: Any, what: str) -> Array:
        check_is_fitted(self)
        nd = settings_of(self.network) is None
        X = validate_data(self, X, dtype="numeric", allow_nd=nd, reset=False)
        group = None
        if self.needs_group_:
            if sensitive_features is None:
                name = getattr(self.method, "name", self.method)
                raise InputError(
                    f"expected sensitive_features: method {name!r} decides by the group of each "
                    "row; pass them, or choose a method without groups such as 'fair_head'"
                )
            assert self._groups is not None  # only debiased networks ask
            group = self._groups.codes(sensitive_features, len(X))
        x = torch.from_numpy(np.array(X)).to(dtype_of(self._deciding.model))
        found: Array = getattr(self._deciding, what)(x, group)
        # more digits than the network computed with would differ from batch to batch
        single = what == "margins" and found.ndim == 1 and x.dtype is not torch.float64
        return found.astype(np.float32) if single else found


@dataclass(frozen=True, eq=False)
class _Rows:
    """Checked rows; without groups all of one."""

    x: Array
    codes: Array
    groups: Groups | None
    sensitive_features: Any
    label_names: tuple[str, ...] = ()

    def data(self, dtype: torch.dtype) -> GroupedData:
        n = len(self.codes)
        group: Array | Tensor = torch.zeros(n, dtype=torch.long)
        if self.groups is not None:
            group = self.groups.codes(self.sensitive_features, n)
        return GroupedData(
            x=torch.from_numpy(np.array(self.x)).to(dtype),
            y=torch.from_numpy(self.codes),
            group=torch.as_tensor(group),
            group_names=("all",) if self.groups is None else self.groups.names,
            label_names=self.label_names,
        )


def _said(found: Scores) -> str:
    return f"bias {found.bias:.3f}, performance {found.performance:.3f}"
