"""`retrofair audit`: a network, a saved result, or decisions that stand in a table."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
import pandas as pd
import typer

from retrofair.audit import Audit, audit_predictions
from retrofair.audit import audit as audit_network
from retrofair.audit.attributes import attributes_of, outcome_of
from retrofair.cli import large as g
from retrofair.cli import notes
from retrofair.cli import options as o
from retrofair.cli import reporting as r
from retrofair.cli.regressions import audit_numbers
from retrofair.cli.results import loaded, new_rows, preparing, refuse_given, refuse_options
from retrofair.cli.tables import show_audit
from retrofair.data import GroupedData, read_table
from retrofair.data.encoders import as_text
from retrofair.errors import InputError, unknown
from retrofair.files import json_text, write_json
from retrofair.metrics import Array
from retrofair.metrics.one_vs_rest import MOST_CLASSES
from retrofair.networks.recording import recording
from retrofair.report import sections

Prediction = Annotated[
    str | None,
    typer.Option(
        help="Column with decisions, 0/1 or values of the label: audits them without a network."
    ),
]
Threshold = Annotated[
    float | None, typer.Option(help="Probability above which a row is positive; 0.5 by default.")
]


def audit(
    file: o.File = None,
    data: o.Data = None,
    label: o.Label = None,
    positive: o.Positive = None,
    sensitive: o.Sensitive = None,
    privileged: o.Privileged = None,
    prediction: Prediction = None,
    network: o.Network = None,
    weights: o.Weights = None,
    trust_network_file: o.Trust = False,
    result: o.Result = None,
    outputs: o.OutputsChoice = None,
    threshold: Threshold = None,
    regression: o.Regression = False,
    loss: o.LossChoice = "squared",
    blind: o.Blind = False,
    missing: o.MissingChoice = "drop",
    drop: o.Drop = None,
    no_scale: o.NoScale = False,
    root: o.Root = None,
    images: g.Images = None,
    labels: g.Labels = None,
    image_column: g.ImageColumn = None,
    size: g.Size = None,
    channels: g.Channels = None,
    on_error: g.OnError = None,
    text: g.Text = None,
    max_length: g.MaxLength = None,
    label_output: g.LabelOutput = None,
    batch_rows: g.BatchRows = None,
    workers: g.Workers = None,
    device: g.Device = "auto",
    cache: g.Cache = None,
    config: o.Config = None,
    seed: o.Seed = 0,
    out: o.Out = None,
    report: r.Report = False,
    as_json: o.Json = False,
) -> int:
    """Measure how unfair decisions are, with 95 % intervals.

    A file needs --label and --sensitive, and a network (--network) or a column of decisions
    (--prediction). Images in a folder or zip come with --labels, texts with --text.

    With --result the saved preparation is applied to every row of the table, and nothing is learned
    from it.
    """
    given = dict(locals())
    reporting = r.Reporting.of(given)
    large = g.Large.of(given)
    choice = large.choice(
        label,
        positive,
        sensitive,
        privileged,
        blind,
        missing,
        drop,
        no_scale,
        root,
        seed,
        regression=regression,
    )
    answers = o.outputs_of(outputs)
    if threshold is not None and not 0 <= threshold <= 1:
        raise InputError(f"expected a threshold in [0, 1], got {threshold} (--threshold)")
    if prediction is not None and (network is not None or weights is not None):
        raise InputError("expected --prediction or --network, got both")
    if prediction is not None and result is None:
        refuse_given(
            {"--threshold": threshold, "--outputs": outputs, **preparing(choice)},
            "with --prediction: the decisions are made, no network and no feature is looked at",
        )
    if regression:
        if result is not None or outputs is not None:
            raise InputError("expected no --result or --outputs with --regression")
        return audit_numbers(
            choice, loss, prediction, network, weights, trust_network_file, reporting, as_json
        )
    if loss != "squared":
        raise InputError("expected --regression with --loss, got none")
    if threshold is not None and choice.class_names:
        raise InputError(
            f"expected no --threshold for a label of {len(choice.class_names)} classes: say which "
            "one is positive with --positive"
        )
    if result is not None:
        refuse_options(
            choice, {"--prediction": prediction, "--threshold": threshold, "--outputs": outputs}
        )
        saved = loaded(result, network, weights, trust_network_file, device)
        rows = new_rows(saved, choice)
        with recording(cache):
            found = audit_network(saved, rows)
        what = f"the result in {result}"
        reporting = reporting.about(network=saved.model, rows=rows, source=choice.data)
    elif prediction is not None:
        found = audit_column(choice, prediction)
        what = f"the decisions in {prediction!r}"
        reporting = reporting.about(source=choice.data)
    else:
        looked_at = o.subject(
            choice, network, weights, trust_network_file, parts=o.WHOLE, device=device
        )
        with recording(cache):
            found = audit_network(
                looked_at.network,
                looked_at.test,
                threshold=None if choice.class_names else threshold,
                outputs=answers,
                class_names=choice.class_names,
            )
        what = "the base network on test data" if looked_at.trained_here else str(network)
        reporting = reporting.about(
            network=looked_at.network, rows=looked_at.test, source=choice.data, weights=weights
        )
    title = f"{choice.data}: {what}, {found.n:,} rows"
    if out is not None:
        reporting.begin()
        write_json(out / "audit.json", found.to_dict())
        notes.say(f"wrote {out / 'audit.json'}")
        reporting.write(sections(found), f"{choice.name}: {what}", ["audit.json"])
    if as_json:
        print(json_text(found.to_dict()))
    else:
        show_audit(found, title)
    return 0


def audit_column(choice: o.TableChoice, prediction: str) -> Audit:
    """Audit the decisions that a table holds; with three values of the label or more, and no
    positive one, those of all classes."""
    if not choice.is_file:
        raise InputError(
            f"--prediction names a column of your own file, but {choice.data!r} is a data set"
        )
    label, columns = choice.needed()
    frame = read_table(choice.data)
    for name in (label, prediction, *columns):
        if name not in frame.columns:
            raise unknown("column", name, frame.columns)
    used = frame[list(dict.fromkeys([label, prediction, *columns]))]
    classes = [] if choice.positive is not None else _classes(used.dropna(), label, prediction)
    if classes:
        used = used.dropna()
        codes = {name: used[name].map(classes.index) for name in (label, prediction)}
        used = used.assign(**codes)
    data = GroupedData.from_frame(
        used,
        label=label,
        positive=choice.positive,
        sensitive=columns,
        privileged=o.commas(choice.privileged),
        missing="drop",
        scale=False,
        regression=bool(classes),
    )
    if classes:
        decisions = used[prediction].to_numpy()
    else:
        used = used.dropna()
        assert data.preparation is not None  # it comes from a table
        assert data.preparation.positive is not None
        decisions = _decisions(used[prediction], used[label], data.preparation.positive)
    found = audit_predictions(
        data.y.numpy(),
        decisions,
        data.group.numpy(),
        group_names=data.group_names,
        class_names=list(map(str, classes)) or None,
        attributes=attributes_of(data),
    )
    return replace(found, outcome=outcome_of(data))


def _classes(frame: pd.DataFrame, label: str, prediction: str) -> list[object]:
    """The label's values where they are three or more and the decisions are among them."""
    values = sorted(frame[label].unique().tolist(), key=lambda v: (isinstance(v, str), v))
    known = 2 < len(values) <= MOST_CLASSES and set(frame[prediction].unique()) <= set(values)
    return values if known else []


def _decisions(column: pd.Series, label: pd.Series, positive: str) -> Array:
    """0/1 decisions: values of the label, or else 0/1 beside a label of texts.

    Raises:
        InputError: a decision is neither, or what 0/1 stand for cannot be known.
    """
    decided, known = as_text(column), sorted(set(as_text(label)))
    found = set(decided)
    if found <= set(known):
        return (decided == positive).to_numpy(dtype=np.int64)
    marks = {"0", "1"}
    if found <= marks and not any(map(_is_number, known)):
        return decided.to_numpy(dtype=object).astype(np.int64)
    wanted = f"0/1 decisions or values of the label in column {column.name!r}"
    if found <= marks:
        raise InputError(
            f"expected {wanted}, got 0/1 beside a label of {', '.join(map(repr, known[:6]))}, so "
            "that 1 may be either: write the decisions as values of the label (--prediction)"
        )
    texts = not any(map(_is_number, known))
    other = sorted(found - set(known) - (marks if texts and not found & set(known) else set()))
    raise InputError(
        f"expected {wanted} ({', '.join(map(repr, known[:6]))}), got also "
        f"{', '.join(map(repr, other[:4]))}; cut scores at a threshold first, and write decisions "
        "as the label is written (--prediction)"
    )


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
