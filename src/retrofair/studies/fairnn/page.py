"""The page of `fairnn`: what stands above and below the tables."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from retrofair.studies.fairnn import tables
from retrofair.studies.fairnn.descent import HEAT, JUMP, SCALE
from retrofair.studies.fairnn.findings import findings
from retrofair.studies.fairnn.methods import ALGORITHM, BEST, MANY, Framework, Restarts
from retrofair.studies.fairnn.model import FLAT, TOOTH
from retrofair.studies.fairnn.shown import OPEN, Setting, Shown
from retrofair.studies.pages import spread

TABLE = f"""
Mean +- standard deviation over folds and seeds, which share rows and so are not independent. Each
method chooses by the training rows; those that train for accuracy choose the epoch by the
validation rows; the test rows choose nothing. `delta, rows` is over pairs of rows within epsilon;
`certified` is an interval for the largest difference over all pairs of the domain: found at least,
proved at most. The gap is the largest of the runs. Equal budget: 601 evaluations of delta, as
Algorithm 1 has them with the paper's 14 weights (a gradient by backpropagation counts three).
Restarts: simulated gradients from the {Restarts().times} best of {Restarts().starts} draws,
{Restarts().epochs} epochs each. Annealing: from the best draw, normal moves of {SCALE:g} in every
weight, from a temperature of {HEAT:g} (in units of delta) down to 0.
"""
EPSILON = """
Paper's Figure 2: random draws. "The rows" can only jump where another pair comes within epsilon;
over the domain, delta grows smoothly. The error is that of the same draw with the sigmoid, on all
rows.
"""
DESCENT = f"""
Paper's Figure 5. No stop at jumps here, so that they can be seen; Algorithm 1 stops at {JUMP:g}
times the smallest delta. Dotted: what delta is for the same weights, on all rows and with the
sigmoid. So are the errors. Certified are the start and the best of searches with the sigmoid on all
rows.
"""
LANDSCAPE = """
Paper's Figure 6 conjectures a toothbrush: a trough with spikes. On the plane of the best draw's w,
longer or shorter, and b (the cross is the draw):
"""


def title(setting: Setting) -> str:
    return f"Individual fairness on {setting.table} (the FairNN paper of 2023)"


def about(setting: Setting) -> str:
    """What the paper does, and where the study departs from it."""
    where = "of" if setting.published else "on its own data; here on"
    return f"""
Liu and Hu (2023), An implementation of fairness guarantee framework for neural networks: the model
low + (high - low) sigmoid(w x + b) {where} {setting.table}, delta at epsilon =
{setting.problem.epsilon:g} under a weighted l_2 distance in which the column {setting.sensitive} is
free, and three algorithms that make delta small. The paper leaves accuracy aside, and a constant
model has delta 0: so every table below has squared errors and the constant model, too.

Known differences, first the slips of print:

- Algorithm 1 takes the draw with the largest delta; its text takes the smallest, as is done here.
- Algorithm 3 never counts its epochs and keeps the largest delta; here it counts, keeps the
  smallest, and stops where delta is more than {JUMP:g} times the smallest so far ("much larger").
- Problem 2' says that lambda = 1 ignores accuracy. By the formula of Problem 2 it is lambda = 0,
  and so it is here.
- The paper's "MILP" has no decision in it: its delta is the largest over pairs of *rows*. Here that
  is "rows", and "certified" is over all people in the box around the table, with
  {setting.sensitive} free.
- Resampled rows are not standardised anew: epsilon means the same on them.
- The released code resamples a split of 80 % of the rows and puts the other 20 % beside them as
  they are; here all training rows are resampled, as Algorithm 2 has it.
- The released code replaces the sigmoid by 16 straight pieces, each of which starts at 0 again: a
  saw with teeth of at most {TOOTH:.3f} * {setting.range:g} = {TOOTH * setting.range:.3g}, which
  jumps from nearly 0 to 1 at 5. It is kept here as "the released code's sigmoid", to see what it
  does.
"""


def deep(part: pd.DataFrame) -> str:
    """Below the table of a model with hidden layers."""
    text = (
        f"With more than {MANY} weights the gradient of the same delta comes from backpropagation, "
        "where the simulated gradient would take two evaluations for each (a test holds the two "
        "together)."
    )
    by = {str(name): runs for name, runs in part.groupby("method", sort=False)}
    if {ALGORITHM, BEST} <= set(by):
        text += (
            f" At the paper's rate of {Framework().rate:g} Algorithm 1 goes from the best draw's "
            f"delta of {spread(by[BEST]['delta_train'], 2)} over the training rows to "
            f"{spread(by[ALGORITHM]['delta_train'], 2)}."
        )
    if (part["certified_gap"] > OPEN).any():
        text += (
            " Where the certificate does not close in its time, its upper bound is a proof that "
            "says little."
        )
    return text


def parts(shown: Shown, done: pd.DataFrame, setting: Setting) -> Iterator[str]:
    """The page's parts below its head, of what is there."""
    name = setting.name
    yield "## What it shows\n\n" + "\n".join(f"- {line}" for line in findings(shown, done, setting))
    if len(done):
        yield f"![Error against certified delta]({name}.png)"
        yield (
            "Means; bars are one standard deviation, or where certificates stay open the interval "
            "from the worst pair found to the bound proved."
        )
        yield "## Methods" + TABLE
        for model, part in done.groupby("model", sort=False):
            yield f"### Model: {model}"
            yield tables.methods(part)
            if model != FLAT:
                yield deep(part)
        yield '## Does "about 60 % improvement" hold?'
        yield tables.improvements(done)
        yield (
            "1 - delta / delta of a random draw. Rows: against the mean of the same "
            f"{setting.draws} draws, run by run. Certified: means of upper bounds, against the row "
            "of one random draw; open: with gaps that leave nothing to compare."
        )
    if shown.all("descent"):
        yield "As the search sees its own delta, on all rows, and what it is:"
        yield tables.seen(shown)
    if shown.all("sweep"):
        yield "## Delta by epsilon" + EPSILON + f"\n![Delta by epsilon]({name}-epsilon.png)"
        yield tables.epsilons(shown)
    if shown.all("starts"):
        yield "## Random draws (Figures 3 and 4)"
        yield f"![Random draws in descending order, and the selected weights]({name}-starts.png)"
        yield tables.draws(shown, setting)
    if shown.all("descent"):
        yield "## Simulated gradient" + DESCENT
        yield f"![Delta by epoch]({name}-descent.png)"
        yield tables.traces(shown, setting)
        yield tables.resampled(shown)
    if shown.all("landscape"):
        yield "## The landscape" + LANDSCAPE + f"\n![Delta over w and b]({name}-landscape.png)"
        yield tables.surface(shown)
