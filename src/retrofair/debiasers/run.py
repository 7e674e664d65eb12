"""`debias`: check the input, run a method, and say what came of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.special import softmax
from torch import nn

from retrofair import metrics
from retrofair.data import Batches, label_names_of
from retrofair.debiasers.base import RARE, Debiaser, Fit, Unseen, search_any
from retrofair.debiasers.compare import effects_of, favourable_of
from retrofair.debiasers.effects_of_classes import effects_of_classes
from retrofair.debiasers.held_out import HeldOut, placed, share_of
from retrofair.debiasers.notes import notes_of
from retrofair.debiasers.notes_classes import notes_of_classes
from retrofair.debiasers.offsets import OffsetSearch, objective_of_classes
from retrofair.debiasers.result import Debiased, Scores, Status
from retrofair.errors import InputError, unknown
from retrofair.metrics import Array
from retrofair.networks.last import LastLayer
from retrofair.networks.layers import weight_layers
from retrofair.networks.logits import as_logits, kind_of
from retrofair.networks.memory import part_of, ran_out
from retrofair.networks.outputs import Outputs, as_module, logits, refuse_lazy
from retrofair.networks.randomness import generator_of
from retrofair.networks.recording import Record, chances, recording, remember
from retrofair.networks.threads import fitting_threads
from retrofair.objective import Constrained, Objective, Weighted
from retrofair.thresholds import Choice


def debias(
    net: nn.Module,
    data: Batches,
    objective: Objective,
    method: str | Debiaser = "random",
    *,
    seed: int = 0,
    outputs: Outputs | None = None,
    head_only: bool = False,
    cache: str | Path | None = None,
    held_out: float | None = None,
    favourable: int | None = None,
) -> Debiased:
    """Debias a trained network on (validation) data.

    Args:
        net: (n, ...) -> (n,) or (n, 1) logits; it is left as it is. For K > 2 classes (n, K).
            Of its copy, methods that train or perturb change frozen weights too
            (`requires_grad=False`); `head_only`, or `layers` of some methods, leaves the others.
        data: rows the network was not trained on, with labels and groups. Labels are 0/1, or for
            K > 2 classes from 0 to K - 1: then the bias is that of the worst class, one against
            the rest, and a callable measure sees the codes of the classes.
        objective: `Constrained` or `Weighted`.
        method: a method's name, or a debiaser with its own options.
        seed: of all randomness of the method.
        outputs: "logits" or "probabilities"; without it, outputs that all lie in [0, 1] are taken
            as probabilities, with a warning.
        head_only: change the network's last layer alone, whatever the method: it is fitted to what
            that layer reads, for which the network runs over the data once. For large networks.
        cache: a folder for what the network says of the data and what its layers read: later calls
            with the same network and data do not run it again, where a method reads the same layers
            (all post-processing; all methods with head_only). Streamed data are known by labels,
            groups, x of 16 rows and what their dataset says of itself (`identity()`; of images the
            files' sizes and times): whoever changes other rows in place names another folder.
        held_out: the share of the rows, of each group and label alike, that a method which trains
            weights does not see in training: threshold and epoch are chosen by these alone, and
            `before` and `after` are of them. None: 0.3 where all of a network of a million weights
            or more is trained, which would know its rows by heart, otherwise 0.
        favourable: the label that is good for a person, 1 or 0: by it `effects` say who gained and
            who lost. It changes nothing else. None: as the data say (`data.favourable`), 1 where
            they say nothing.

    Returns:
        The new network and its decision rule. Not reaching the goal is a status, not an error.

    Raises:
        InputError: an unknown method, a network that does not fit the data, one class only, a
            method for two classes where there are more, fewer than two groups with the rows that
            the measure compares, head_only for a network that does not end in a linear layer, or
            another `favourable` than 0 and 1, or one for three classes and more.

    Example:
        >>> import retrofair as rf
        >>> splits = rf.datasets.load("synthetic", n=600, seed=0)
        >>> net = rf.networks.train_mlp(splits.train, splits.valid, depth=2, max_epochs=3)
        >>> result = debias(net, splits.valid, Constrained("spd", epsilon=0.05), "threshold")
        >>> result.needs_group
        False
    """
    debiaser = resolve(method)
    net = as_module(net)
    refuse_lazy(net)
    generator_of(seed)
    counts = check_data(data, objective)
    classes = counts.shape[-1]
    if classes > 2:
        check_method(debiaser, classes)
        objective = objective_of_classes(objective)
    good = favourable_of(favourable, data)
    if favourable is not None and classes > 2:
        raise InputError(f"expected no favourable label with {classes} classes, got {favourable!r}")
    metrics.require(objective.bias_measure, counts, data.group_names)
    share = share_of(held_out, debiaser, net, data, head_only)
    data = placed(data, share, net, seed)
    if share:
        metrics.require(objective.bias_measure, check_data(data, objective), data.group_names)
    with recording(cache):
        layers = layers_read(debiaser, net, data, head_only)
        model = as_logits(net, data, outputs, classes, layers)
        return _debias(net, model, data, objective, debiaser, classes, seed, head_only, good)


def _debias(
    net: nn.Module,
    model: nn.Module,
    data: Batches,
    objective: Objective,
    debiaser: Debiaser,
    classes: int,
    seed: int,
    head_only: bool,
    favourable: int,
) -> Debiased:
    thresholds = search_any(data, objective)
    chance = chances(model, data)
    if isinstance(thresholds, OffsetSearch):
        before: Choice = thresholds.at(chance, np.zeros(classes))
    else:
        before = thresholds.at(chance, 0.5)
    constant = thresholds.constant()
    started = time.perf_counter()
    with fitting_threads(model):
        try:
            if head_only and debiaser.changes_weights:
                fit = _on_head(model, data, objective, debiaser, seed)
            else:
                fit = debiaser(model, data, objective, generator=generator_of(seed))
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            less = "" if head_only else "the last layer alone (head_only=True, --head-only), "
            raise InputError(
                f"expected memory for {debiaser.name} on this network, but it runs out: fewer rows "
                f"at once (the method's batch_size or rows), {less}or a method that trains nothing"
            ) from error
    seconds = time.perf_counter() - started
    result = Debiased(
        model=fit.model.eval(),
        rule=fit.rule,
        status=Status.MET,
        before=scores(objective, before.counts),
        after=scores(objective, before.counts),
        constant=scores(objective, constant.counts),
        group_names=tuple(data.group_names),
        history=fit.history,
        preparation=getattr(data, "preparation", None),
        about={
            "method": debiaser.name,
            "options": _options(debiaser),
            **objective.to_dict(),
            "seed": seed,
            "rows": len(data),
            **({"label_names": list(named)} if (named := label_names_of(data)) else {}),
            "seconds": round(seconds, 3),
            "cross_fitted": fit.unseen is not None,
            **({"head_only": True} if head_only else {}),
            **({"rows_trained": len(data.drawn)} if isinstance(data, HeldOut) else {}),
            "outputs": kind_of(model, net),
            "torch": torch.__version__,
        },
    )
    unseen = fit.unseen
    if unseen is None:
        unseen = Unseen(*reversed(result.score_data(data)))
    after = _counts(data, unseen.decisions, classes)
    given: dict[str, Any] = {
        "group_chances": unseen.group_chances,
        "rows_seen": fit.unseen is None,
        "needs_group": result.needs_group,
    }
    if classes == 2:
        effects = effects_of(
            objective.bias_measure,
            data,
            scores=(chance, unseen.scores),
            decisions=((chance > 0.5).astype(np.int64), unseen.decisions),
            favourable=favourable,
            **given,
        )
    else:
        seen = unseen.scores if fit.unseen is None else softmax(unseen.scores, axis=1)
        effects = effects_of_classes(
            objective.bias_measure,
            data,
            scores=(np.exp(chance), seen),
            decisions=(chance.argmax(1), unseen.decisions),
            classes=tuple(map(str, range(classes))),
            **given,
        )
    status = judge(objective, before, after, constant)
    met = status is Status.MET
    if classes == 2:
        notes = notes_of(objective, data, chance, after, met)
    else:
        notes = notes_of_classes(objective, data, chance, after, met, debiaser.name)
    return dataclasses.replace(
        result,
        effects=effects,
        after=scores(objective, after),
        status=status,
        about=result.about | {"notes": [*fit.notes, *notes]},
    )


def _on_head(
    model: nn.Module, data: Batches, objective: Objective, debiaser: Debiaser, seed: int
) -> Fit:
    """A method on the last layer alone, with what it reads as data."""
    last = LastLayer.of(model, data)
    rows, head = last.representations(data), last.head().eval()
    with fitting_threads(head):
        fit = debiaser(head, rows, objective, generator=generator_of(seed))
    made = last.with_head(fit.model)
    weight = next(made.parameters())
    if weight.dtype in (torch.float32, torch.float64):  # otherwise the copy is not the head exactly
        remember(made, data, Record(logits(fit.model, rows)))  # the network need not run for it
    return dataclasses.replace(fit, model=made)


def layers_read(
    debiaser: Debiaser, net: nn.Module, data: Batches, head_only: bool
) -> Sequence[str]:
    """Names of the layers whose inputs will be wanted, as far as the network tells."""
    reads = getattr(debiaser, "layers_read", None)
    head = head_only and debiaser.changes_weights
    if not isinstance(net, nn.Module) or not len(data) or (reads is None and not head):
        return ()
    x, _, _ = next(iter(data))
    try:
        if head:
            return weight_layers(net, part_of(x, slice(2)))[-1:]
        found: Sequence[str] = reads(net, x) if reads is not None else ()
        return found
    except Exception:  # a network that does not fit: said where all rows are read
        return ()


def resolve(method: str | Debiaser) -> Debiaser:
    """The debiaser of a name, with its default options; a debiaser is returned as it is."""
    from retrofair.debiasers import ALL  # the list of methods imports this module's neighbours

    if isinstance(method, str):
        for known in ALL:
            if known.name == method:
                return known()
        raise unknown("method", method, [known.name for known in ALL])
    if isinstance(method, type) or not callable(method) or not hasattr(method, "name"):
        raise InputError(f"expected a method's name or a debiaser, got {method!r}")
    return method


def check_data(data: Batches, objective: Objective) -> Array:
    """The data's counts (G, K, K) by group and label, after checking that they can be debiased."""
    if not isinstance(objective, Constrained | Weighted) and not hasattr(objective, "rank"):
        raise InputError(
            f"expected an objective such as Constrained('spd', 0.05), got {objective!r}"
        )
    if not isinstance(data, Batches):
        raise InputError(f"expected GroupedData, got {type(data).__name__}")
    y = data.y
    classes = metrics.class_count(y.numpy())
    if classes == 2 and y.is_floating_point() and not bool(((y == 0) | (y == 1)).all()):
        raise InputError(
            "expected 0/1 labels, got other numbers; for a regression target use "
            "rf.bound_group_loss, choose target='binary' or cut it first"
        )
    counts = _counts(data, np.zeros(len(y), bool), classes)
    by_class = counts.sum(axis=(0, 2))
    if classes > 2 and by_class.min() == 0:
        raise InputError(
            f"expected labels of all classes from 0 to {classes - 1} in the data to debias, got "
            f"none of {int(by_class.argmin())} in all {len(y):,} rows; count classes from 0"
            + (", or use rf.bound_group_loss for numbers" if y.is_floating_point() else "")
        )
    if by_class.min() == 0:
        raise InputError(
            "expected labels of both classes in the data to debias, got only "
            f"{int(by_class.argmax())} in all {len(y):,} rows"
        )
    return counts


def _counts(data: Batches, decided: Array, classes: int) -> Array:
    y, group, n_groups = data.y.numpy(), data.group.numpy(), len(data.group_names)
    if classes > 2:
        return metrics.count_classes(y, decided, group, n_groups, classes)
    return metrics.count(y, decided, group, n_groups)


def check_method(debiaser: Debiaser, classes: int) -> None:
    """Refuse a method for labels 0/1 where there are three classes or more."""
    from retrofair.debiasers import ALL

    if getattr(debiaser, "classes", "two") == "two":
        able = [known.name for known in ALL if getattr(known, "classes", "two") == "any"]
        raise InputError(
            f"expected labels 0/1 for {debiaser.name}, got {classes} classes: choose from "
            f"{', '.join(sorted(able))}"
        )


def scores(objective: Objective, counts: Array) -> Scores:
    """What decisions with these counts are worth."""
    counts = np.asarray(counts).astype(np.int64)
    return Scores(
        objective=float(objective.score(counts)),
        bias=float(objective.bias_measure(counts)),
        performance=float(objective.performance_measure(counts)),
        counts=tuple(tuple(tuple(map(int, row)) for row in group) for group in counts),
    )


def judge(objective: Objective, before: Choice, after: Array, constant: Choice) -> Status:
    """Met, not met, or degenerate: the rules of `Status`.

    Constrained is met when the bound holds; weighted, when the score is better than the original
    network's. Both are degenerate when fewer than one row in 200 is decided unlike the rest, or
    when the better constant classifier scores at least as well.
    """
    total = int(after.sum())
    rare = (total - int(after.sum(axis=(-3, -2)).max())) / max(total, 1)
    rank = float(objective.rank(after))
    if isinstance(objective, Constrained) and not bool(objective.feasible(after)):
        return Status.NOT_MET if rare >= RARE else Status.DEGENERATE
    if rare < RARE or rank <= constant.rank:
        return Status.DEGENERATE
    if isinstance(objective, Weighted) and rank <= before.rank:
        return Status.NOT_MET
    return Status.MET


def _options(debiaser: Debiaser) -> dict[str, Any]:
    if dataclasses.is_dataclass(debiaser) and not isinstance(debiaser, type):
        return dataclasses.asdict(debiaser)
    return {}
