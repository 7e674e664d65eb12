"""`export`: a network with its rule and preparation as one file, tried before it is kept."""

from __future__ import annotations

import copy
import hashlib
import shutil
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from retrofair.data import GroupedData, Preparation, StreamedData
from retrofair.data import stored as preparations
from retrofair.debiasers import Debiased, rules
from retrofair.debiasers.head import HeadedNetwork
from retrofair.debiasers.result import decide
from retrofair.deploy.decisions import Coin, decision_of
from retrofair.deploy.exported import ABOUT, Exported
from retrofair.deploy.form import GROUP, ROWS, Input
from retrofair.deploy.formats import Format, Run, format_of, quiet
from retrofair.deploy.heads import steady
from retrofair.deploy.parity import Parity, answers, margins, other_batches
from retrofair.deploy.prepared import PreparedTable
from retrofair.deploy.rows import Rows
from retrofair.deploy.served import Served, example, frozen
from retrofair.deploy.silent import silent
from retrofair.deploy.timing import timed
from retrofair.deploy.widths import narrowed, widths_taken
from retrofair.errors import InputError
from retrofair.files import json_text, replacing
from retrofair.metrics import Array
from retrofair.networks.logits import as_logits
from retrofair.networks.outputs import Outputs, columns


def export(
    subject: Debiased | nn.Module,
    path: str | Path,
    format: str = "onnx",
    *,
    data: GroupedData | StreamedData | pd.DataFrame,
    preparation: Preparation | None = None,
    threshold: float | None = None,
    outputs: Outputs | None = None,
) -> Exported:
    """Write a network with its decision rule, and for tables its preparation, as one file.

    The file takes what `data` holds. With a table it takes the table's own columns as numbers, (n,
    columns) float64 as of `data.raw_table`: numbers as they are, texts by the codes that
    preparation.json, written beside it, lists. With `GroupedData` or `StreamedData` it takes what
    the network takes: features or pixels x, or the tensors of a tuple or dict one by one, as a
    tokenizer makes them. It gives the probability and the decision, and takes the group codes as a
    last input where the rule needs them. A row that the library would refuse gets the probability
    nan and the decision -1.

    Before anything is put in place the file is read again and tried on all rows of `data`. What was
    found is written beside it, export.json.

    Args:
        subject: a result of `debias`, which brings its rule, or a network.
        path: ends in .onnx, .pt2 (torch_export) or .pt (torchscript).
        data: rows to try it on: all there are, read into memory. A table need not have the label.
        preparation: of a table; by default the result's own.
        threshold: for a network: a probability, 0.5 by default; positive means strictly above.
        outputs: for a network: "logits" or "probabilities" (see `debias`).

    Returns:
        What was written and measured. Where its answers differ (`written` is False) nothing was.

    Raises:
        InputError: an unknown format, one without its suffix or packages, a rule or network that it
            cannot hold, or data that do not fit.

    Example:
        >>> import tempfile, retrofair as rf
        >>> splits = rf.datasets.load("synthetic", n=600, seed=0)
        >>> net = rf.networks.train_mlp(splits.train, splits.valid, depth=1, max_epochs=3)
        >>> result = rf.debias(net, splits.valid, rf.Constrained("spd", 0.05), "threshold")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     done = export(result, f"{folder}/fair.pt2", "torch_export", data=splits.test)
        >>> done.written, done.parity.rows, done.parity.differing
        (True, 120, 0)
    """
    path = Path(path)
    kind = format_of(format, path)
    table = isinstance(data, pd.DataFrame)
    if isinstance(subject, Debiased):
        if threshold is not None or outputs is not None:
            raise InputError("expected no threshold= or outputs= with a result: it brings its own")
        known = subject.preparation if table and preparation is None else preparation
        rows = Rows.of(data, known, subject.needs_group)
        _check_groups(subject.group_names, rows)
        model, rule = subject.model, subject.rule
    else:
        rows = Rows.of(data, preparation, False)
        model, rule = _network(subject, rows, threshold, outputs)
    model = copy.deepcopy(model).cpu().eval()
    widths = widths_taken(_original(model, rule, rows), rows.form, _features(rows))
    rows = rows.of_tokens() if widths else rows
    module = _served(model, rule, rows, kind)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / path.name
        _write(kind, module, rows, draft)
        done = _tried(kind, model, module, rule, rows, draft, path, widths)
        if done.written:
            _place(done, draft, rows.preparation)
    return done


def _check_groups(names: tuple[str, ...], rows: Rows) -> None:
    if tuple(names) != tuple(rows.group_names):
        raise InputError(
            f"expected data with the groups {list(names)} of the result, "
            f"got {list(rows.group_names)}"
        )


def _network(
    subject: nn.Module, rows: Rows, threshold: float | None, outputs: Outputs | None
) -> tuple[nn.Module, rules.Rule]:
    """A network that answers with logits, and its threshold; with K classes the most probable."""
    used = 0.5 if threshold is None else threshold
    if not isinstance(used, int | float) or not 0 <= used <= 1:
        raise InputError(f"expected a threshold in [0, 1], got {used} (--threshold)")
    if not isinstance(subject, nn.Module):
        raise InputError(
            f"expected a result or a torch.nn.Module to export, got {type(subject).__name__}"
        )
    classes = max(2, columns(subject, rows.data))
    model = as_logits(subject, rows.data, outputs, classes)
    if classes == 2:
        return model, rules.Cut(float(used))
    if threshold is not None:
        raise InputError(f"expected no threshold= with {classes} classes, got {threshold}")
    return model, rules.Argmax((0.0,) * classes)


def _served(model: nn.Module, rule: rules.Rule, rows: Rows, kind: Format) -> Served:
    """The module to export."""
    groups = len(rows.group_names)
    decision = decision_of(rule, groups, randomised=kind.randomised, kind=kind.name)
    if rule.seed is not None:
        _check_coin(rows.x)
    steadied = steady(model, rows.x) if isinstance(model, HeadedNetwork) else model
    return frozen(
        Served(
            steadied,
            decision,
            prepare=None if rows.preparation is None else PreparedTable(rows.preparation),
            coin=None if rule.seed is None else Coin(rule.seed, rows.x),
            groups=groups if rule.needs_group else 0,
            classes=rules.classes_of(rule),
            form=rows.form,
        )
    )


def _check_coin(x: Any) -> None:
    kind = x.dtype if isinstance(x, Tensor) else f"a {type(x).__name__} of tensors"
    if kind not in (torch.float32, torch.float64):
        raise InputError(
            f"expected one tensor of float32 features for a rule with a coin, got {kind}: choose a "
            "method whose rule has none"
        )


def _write(kind: Format, module: Served, rows: Rows, path: Path) -> None:
    first = int(rows.kept[0])
    given = example(module, [each[first : first + 1] for each in rows.given])
    try:
        with quiet(), silent(), torch.no_grad():
            kind.write(module, given, _inputs(rows, module), path)
    except InputError:
        raise
    except Exception as error:  # exporters raise many kinds
        raise InputError(
            f"this network cannot be written as {kind.name}: {_reason(error)}; choose another "
            "format (format=, --format)"
        ) from error


def _inputs(rows: Rows, module: Served) -> tuple[Input, ...]:
    return (*rows.inputs, Input(GROUP, "int64", (ROWS,))) if module.groups else rows.inputs


def _tried(
    kind: Format,
    model: nn.Module,
    module: Served,
    rule: rules.Rule,
    rows: Rows,
    draft: Path,
    path: Path,
    widths: Sequence[int],
) -> Exported:
    """The file, read again, beside the network on all rows."""

    original, features = _original(model, rule, rows), _features(rows)
    given = [*rows.given, rows.codes] if module.groups else [*rows.given]
    with quiet():
        run = _read(kind, draft)
        ours = answers(original, features)
        theirs = answers(run, given)
        again = [theirs, *other_batches(run, given, theirs)]
        timings = timed(original, run, features, given)
        group = rows.group.numpy()
        away = margins(rule, ours[0], group)
        found = [Parity.of(ours, each, away, rows.kept) for each in again]
        for width in widths:
            index, some = narrowed(rows.form, features, width)
            ours = answers(original, some)
            theirs = answers(run, [*some[:-1], rows.codes[index]][: len(given)])
            away = margins(rule, ours[0], group[index.numpy()])
            found.append(Parity.of(ours, theirs, away, np.arange(len(index))))
    return Exported(
        path=path,
        format=kind.name,
        inputs=_inputs(rows, module),
        rule=rules.to_dict(rule),
        group_names=tuple(rows.group_names),
        parity=max(found, key=lambda each: (not each.holds, each.largest)),  # the worst
        timings=timings,
        bytes=draft.stat().st_size,
        sha256=hashlib.sha256(draft.read_bytes()).hexdigest(),
    )


def _original(model: nn.Module, rule: rules.Rule, rows: Rows) -> Run:
    """The network and its rule, of x's tensors and the group."""

    def run(each: Sequence[Tensor]) -> tuple[Array, Array]:
        *parts, group = each
        x = rows.form.joined(parts)
        return decide(model, rule, x, group.numpy() if rule.needs_group else None)

    return run


def _features(rows: Rows) -> list[Tensor]:
    return [*rows.form.parts(rows.x), rows.group]


def _read(kind: Format, draft: Path) -> Run:
    try:
        with silent():
            run = kind.read(draft)
    except Exception as error:  # runtimes raise many kinds
        raise InputError(
            f"this network was written as {kind.name}, but its runtime cannot read that: "
            f"{_reason(error)}; choose another format (format=, --format)"
        ) from error

    def tried(inputs: Sequence[Tensor]) -> tuple[Array, Array]:
        try:
            return run(inputs)
        except Exception as error:  # one that holds the number of rows it was recorded with
            shape = " x ".join(f"{size:,}" for size in inputs[0].shape)
            raise InputError(
                f"this network was written as {kind.name}, but the file fails on a batch of "
                f"{shape}: {_reason(error)}; choose another format, or a network that asks for no "
                "fixed number of rows or tokens (format=, --format)"
            ) from error

    return tried


def _reason(error: Exception) -> str:
    """One line of an error; TorchScript has its own after a stack of calls."""
    lines = str(error).strip().splitlines()
    if lines and lines[-1].startswith("RuntimeError: "):
        return lines[-1]
    return lines[0] if lines else type(error).__name__


def _place(done: Exported, draft: Path, preparation: Preparation | None) -> None:
    """Everything is written before anything takes its place."""
    folder = done.path.parent
    with ExitStack() as stack:
        about = stack.enter_context(replacing(folder / ABOUT))
        if preparation is not None:
            beside = stack.enter_context(replacing(folder / preparations.FILE))
            text = json_text(preparations.as_values(preparation))
            beside.write_text(text + "\n", encoding="utf-8")
        file = stack.enter_context(replacing(done.path))
        shutil.copyfile(draft, file)
        about.write_text(json_text(done.to_dict()) + "\n", encoding="utf-8")
