"""`intra`: Figure 1 of the intra-processing paper."""

from __future__ import annotations

from retrofair.debiasers import (
    Adversarial,
    Layerwise,
    Random,
    Zhang,
)
from retrofair.objective import Constrained
from retrofair.studies.cells import PAPERS
from retrofair.studies.findings import evaluations, with_controls
from retrofair.studies.grid import Grid, Method
from retrofair.studies.grid_study import GridStudy
from retrofair.studies.posthoc import POSTPROCESSING
from retrofair.studies.sources import Source

SOURCES = (
    Source("adult", ("sex",)),
    Source("adult", ("race",)),
    Source("compas", ("sex",)),
    Source("compas", ("race",)),
    Source("bank", ("age",)),
)
METHODS = (
    *POSTPROCESSING,
    Method("random", Random()),
    Method("random, budget of layerwise", Random(trials=evaluations(Layerwise(), PAPERS.depth))),
    Method("layerwise", Layerwise()),
    Method("layerwise, random search", Layerwise(optimizer="random")),
    Method("layerwise, papers' space", Layerwise(space="weights", layers=5), ("spd",)),
    Method("zhang", Zhang()),
    Method("adversarial", Adversarial()),
    Method(
        "adversarial, papers' critic",
        Adversarial(critic="concatenated", reads="representation"),
        ("spd",),
    ),
)


ABOUT = """
Figure 1 of Savani, White and Govindarajulu (NeurIPS 2020): seven methods beside the original
network, balanced accuracy subject to |bias| < 0.05, five seeds; the mean bias with its standard
deviation on top, the median objective below, and only settings in which the original network's
median objective is 0. The paper prints bars and no number, so that none can stand beside ours. Its
text says that the intra-processing methods "significantly outperform the post-processing methods",
and that keeping the bound on test data "is not as easy as there were not enough rows": the tables
*Over all tables* and *Side by side* below put both to the test.

Known differences:

- Budgets. The paper gives every method roughly 30 minutes. Here `random` (101 trials), `layerwise`
  (20 evaluations per layer) and `adversarial` (32 epochs of 201 and 301 steps) have the budgets of
  its published settings, which take seconds. Rate and alpha of `zhang` are raised (1e-3 and 4
  instead of 1e-4 and 0.8): with the published ones the network hardly moves.
- *papers' space* is the papers' version of `layerwise` (single weights; here of the last five
  layers, in the reference of the last five tensors), *papers' critic* that of `adversarial` (a
  critic that reads representations alone), both for spd. The others are this library's: another
  search space, a critic that also reads label and group of the minibatch in fitting, reject option
  in favour of the side that is selected less. See docs/papers.md.
- *random search* after the name of a search is the same search space and budget without the trees;
  *random, budget of layerwise* perturbs all weights as often as `layerwise` evaluates.
- Each seed has a split of its own, so that the spread includes who is in the test data; the paper
  does not say whether it kept one split.
- Thresholds are exact, not from a grid. The paper's code chose among 501.
- `calibrated_equalized_odds` and `equalized_odds` aim at other measures than these, and know no
  epsilon. The former equalises a cost of calibrated scores by giving random people of the group
  that has it better their group's base rate as score. Where positives are rare, that rate lies
  below the threshold: they are all refused, and eod or aod get far worse.
"""

INTRA = GridStudy(
    name="intra",
    title="Intra-processing methods on tables (Figure 1 of the NeurIPS paper)",
    about=ABOUT,
    grid=Grid(
        sources=SOURCES,
        measures=("spd", "aod", "eod"),
        methods=with_controls(METHODS),
        seeds=tuple(range(5)),
        objective=Constrained("spd", epsilon=0.05),
    ),
)
