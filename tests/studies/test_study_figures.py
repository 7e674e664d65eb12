"""The studies' figures: what stands where, what it is called, and that it can be told apart."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from itertools import combinations, pairwise, product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from PIL import Image

from retrofair import debiasers, metrics, studies
from retrofair.debiasers import Layerwise, Random, Threshold
from retrofair.objective import Constrained, Weighted
from retrofair.plots import allowed
from retrofair.studies import figures
from retrofair.studies.figures import bars_and_planes, bias_and_objective, objective_bars
from retrofair.studies.grid import Grid, Method
from retrofair.studies.pages import lower_median
from retrofair.studies.panels import unfair
from retrofair.studies.results import CONSTANT, ORIGINAL
from retrofair.studies.shown import GROUP, group_names
from retrofair.studies.sources import Source
from retrofair.studies.styles import BLACK, GREY, Styles

Draw = Callable[[Callable[..., Path], pd.DataFrame, Grid], Figure]

METHODS = (
    Method("threshold", Threshold()),
    Method("random", Random()),
    Method("layerwise", Layerwise()),
    Method("layerwise, random search", Layerwise(optimizer="random")),
)
PLACES = (("adult", "sex"), ("adult", "race"), ("bank", "age"))
WEIGHTED = Weighted("spd", lam=0.75, performance="accuracy")
CONSTRAINED = Constrained("spd", epsilon=0.1)


def grid_of(objective: Any = WEIGHTED, measures: Sequence[str] = ("spd",)) -> Grid:
    return Grid(
        sources=(Source("synthetic", ("sex",)),),
        measures=tuple(measures),
        methods=METHODS,
        seeds=(0, 1, 2),
        objective=objective,
    )


def frame_of(
    grid: Grid,
    places: Sequence[tuple[str, str]] = PLACES,
    networks: Sequence[str] = ("",),
    columns: Sequence[str] = ("in",),
) -> pd.DataFrame:
    """A frame as `results.frame` makes it, with numbers of no study; no two bars are alike."""
    rng = np.random.default_rng(0)
    names = [CONSTANT, ORIGINAL, *(method.name for method in grid.methods)]
    rows = []
    for place, column, network, measure in product(places, columns, networks, grid.measures):
        ideal = metrics.get(measure).ideal
        for seed, name in product(grid.seeds, names):
            bias = ideal if name == CONSTANT else ideal + rng.uniform(-0.3, 0.4)
            good = 0.5 if name == CONSTANT else rng.uniform(0.6, 0.9)
            far = unfair(ideal, np.array(bias))
            if isinstance(grid.objective, Weighted):
                score = grid.objective.lam * far + (1 - grid.objective.lam) * (1 - good)
            else:
                score = good if far < grid.objective.epsilon else 0.0
            rows.append((*place, column, network, measure, name, seed, "done", score, bias, good))
    scores = ["test_objective", "test_bias", "test_performance"]
    return pd.DataFrame(rows, columns=[*GROUP, "measure", "method", "seed", "state", *scores])


@pytest.fixture
def draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Draw:
    """Calls a drawing function, and gives back what it drew instead of where."""
    made: list[Figure] = []

    class Kept(Figure):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            made.append(self)

    monkeypatch.setattr(figures, "Figure", Kept)

    def call(function: Callable[..., Path], frame: pd.DataFrame, grid: Grid) -> Figure:
        path = tmp_path / "figure.png"
        assert function(frame, grid, path) == path
        with Image.open(path) as image:
            assert image.size[0] >= 1000
        return made[-1]

    return call


def drawn_bars(axes: Any, grid: Grid) -> dict[tuple[str, str], tuple[float, float]]:
    """Start and end of each bar, by its group's name on one line and its method's look."""
    names = [label.get_text().replace("\n", " ") for label in axes.get_xticklabels()]
    styles, found = Styles(grid.methods), {}
    for bar in (bar for container in axes.containers for bar in getattr(container, "patches", [])):
        (method,) = (
            name
            for name in styles.names
            if same_color(bar.get_facecolor(), styles[name].colour)
            and (bar.get_hatch() or "") == styles[name].hatch
        )
        key = names[round(bar.get_x() + bar.get_width() / 2)], method
        assert key not in found
        found[key] = bar.get_y(), bar.get_y() + bar.get_height()
    return found


def expected(frame: pd.DataFrame, value: str, centre: Any = np.mean) -> dict[Any, float]:
    names = group_names(frame)
    bars = frame[frame["method"] != CONSTANT].groupby([*GROUP, "method"], sort=False)[value]
    return {(names[key[:4]], key[4]): float(centre(values)) for key, values in bars}


def caption(figure: Figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def arms(axes: Any) -> list[tuple[float, float, float, float]]:
    """Error bars as x, y of both ends."""
    return [
        (*segment[0], *segment[1])
        for container in axes.containers
        if not hasattr(container, "patches")
        for lines in container.lines[2]
        for segment in lines.get_segments()
    ]


# --- bars -----------------------------------------------------------------------------------------


def test_bars_stand_at_the_means_with_standard_deviations(draw: Draw) -> None:
    grid = grid_of()
    frame = frame_of(grid)
    top, below = draw(bias_and_objective, frame, grid).axes
    for axes, value in ((top, "test_bias"), (below, "test_objective")):
        ends = {key: end for key, (_, end) in drawn_bars(axes, grid).items()}
        assert ends == pytest.approx(expected(frame, value))
        assert len(ends) == len(PLACES) * (len(METHODS) + 1)
        spreads = expected(frame, value, lambda values: values.std(ddof=1))
        lengths = sorted((high - low) / 2 for _, low, _, high in arms(axes))
        assert lengths == pytest.approx(sorted(spreads.values()))


def test_the_constant_classifier_is_a_line_over_each_group(draw: Draw) -> None:
    grid = grid_of()
    frame = frame_of(grid)
    figure = draw(objective_bars, frame[frame["data"] == "adult"], grid)
    levels = [
        lines.get_segments()[0][0][1]
        for axes in figure.axes
        for lines in axes.collections
        if isinstance(lines, LineCollection) and lines.get_linestyle()[0][1] is not None
    ]
    assert levels == pytest.approx([0.125, 0.125])
    assert CONSTANT in [text.get_text() for text in figure.legends[0].get_texts()]


@pytest.mark.parametrize("function", [bias_and_objective, bars_and_planes])
def test_networks_and_data_sets_are_not_averaged(draw: Draw, function: Any) -> None:
    grid = grid_of()
    frame = frame_of(grid, networks=("width 64", "depth 20"), columns=("in", "blind"))
    figure = draw(function, frame, grid)
    axes = figure.axes[1 if function is bias_and_objective else 0]
    ends = {key: end for key, (_, end) in drawn_bars(axes, grid).items()}
    assert ends == pytest.approx(expected(frame, "test_objective"))
    assert len({group for group, _ in ends}) == len(PLACES) * 2 * 2
    assert ("adult (race), blind, depth 20", "random") in ends


def test_each_data_set_has_a_panel_of_networks(draw: Draw) -> None:
    grid = grid_of()
    frame = frame_of(grid, PLACES[:1], networks=("width 64", "depth 20"), columns=("in", "blind"))
    figure = draw(objective_bars, frame, grid)
    titles = [axes.get_title().split(":")[0].split("\n")[0] for axes in figure.axes]
    assert titles == ["adult (sex), SPD", "adult (sex), blind, SPD"]
    for axes, columns in zip(figure.axes, ("in", "blind"), strict=True):
        part = frame[frame["columns"] == columns]
        ends = {key: end for key, (_, end) in drawn_bars(axes, grid).items()}
        assert ends == pytest.approx(expected(part, "test_objective"))
        assert {group for group, _ in ends} == {"width 64", "depth 20"}


def test_groups_are_named_by_what_differs() -> None:
    grid = grid_of()
    assert list(group_names(frame_of(grid)).values()) == [
        "adult (sex)",
        "adult (race)",
        "bank (age)",
    ]
    one = frame_of(grid, PLACES[:1])
    assert list(group_names(one).values()) == ["adult (sex)"]
    both = frame_of(grid, PLACES[:1], networks=("a", "b"), columns=("in", "blind"))
    assert list(group_names(both).values()) == ["a", "b", "blind, a", "blind, b"]


def test_only_what_has_been_run_is_drawn_and_the_rest_is_named(draw: Draw) -> None:
    grid = grid_of()
    frame = frame_of(grid)
    frame.loc[frame["method"] == "random", "state"] = "missing"
    figure = draw(bars_and_planes, frame, grid)
    assert "random" not in {method for _, method in drawn_bars(figure.axes[0], grid)}
    assert "No result to draw: random." in caption(figure)


# --- the objective --------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [bias_and_objective, bars_and_planes, objective_bars])
@pytest.mark.parametrize(
    ("objective", "says"),
    [
        (WEIGHTED, "mean objective on test data (lower is better)"),
        (CONSTRAINED, "median objective on test data (higher is better)"),
    ],
)
def test_titles_say_which_way_is_better(
    draw: Draw, function: Any, objective: Any, says: str
) -> None:
    grid = grid_of(objective)
    figure = draw(function, frame_of(grid, PLACES[:2]), grid)
    titles = [axes.get_title() for axes in figure.axes if "objective" in axes.get_title()]
    assert titles
    assert all(title.endswith(says) for title in titles)


def test_the_median_of_an_even_number_was_reached_by_a_seed(draw: Draw) -> None:
    assert lower_median([0.8, 0.0]) == 0
    assert lower_median([0.7, 0.0, 0.8, 0.9]) == 0.7
    assert lower_median([0.7, 0.0, 0.8]) == 0.7
    grid = dataclasses.replace(grid_of(CONSTRAINED), seeds=(0, 1))
    frame = frame_of(grid, PLACES[:1])
    frame.loc[frame["method"] == "random", "test_objective"] = [0.0, 0.8]
    frame.loc[frame["method"] == "threshold", "test_objective"] = [0.7, 0.8]
    frame.loc[frame["method"] == ORIGINAL, "test_objective"] = 0.0
    figure = draw(bias_and_objective, frame, grid)
    top, below = figure.axes
    bars = drawn_bars(below, grid)
    assert bars["adult (sex)", "random"] == (0, 0)
    assert bars["adult (sex)", "threshold"][1] == pytest.approx(0.7)
    assert not arms(below)
    assert len(arms(top)) == len(METHODS) + 1
    marked = {line.get_markerfacecolor() for line in below.lines if line.get_marker() == "X"}
    assert Styles(grid.methods)["random"].colour in marked
    assert Styles(grid.methods)["threshold"].colour not in marked
    assert "of two middle seeds the lower" in caption(figure)


def test_settings_that_are_solved_already_are_left_out_and_named(draw: Draw) -> None:
    grid = grid_of(CONSTRAINED, ("spd", "aod"))
    frame = frame_of(grid)
    original = frame["method"] == ORIGINAL
    frame.loc[original, "test_objective"] = 0.0
    figure = draw(bias_and_objective, frame, grid)
    assert "original network" not in caption(figure)

    solved = (frame["sensitive"] == "race") & (frame["measure"] == "aod")
    frame.loc[original & solved, "test_objective"] = 0.7
    figure = draw(bias_and_objective, frame, grid)
    assert "original network already scores: adult (race), AOD." in caption(figure)
    groups = [{group for group, _ in drawn_bars(axes, grid)} for axes in figure.axes]
    whole, fewer = {"adult (sex)", "adult (race)", "bank (age)"}, {"adult (sex)", "bank (age)"}
    assert groups == [whole, fewer, whole, fewer]

    frame.loc[original, "test_objective"] = 0.7
    figure = draw(bias_and_objective, frame, grid)
    assert "already scores in every setting; all are shown" in caption(figure)
    assert all({g for g, _ in drawn_bars(axes, grid)} == whole for axes in figure.axes)


# --- measures whose ideal is 1 --------------------------------------------------------------------


def band(axes: Any) -> list[Any]:
    drawn = [patch for patch in axes.patches if same_color(patch.get_facecolor(), "#DDEFD5")]
    return [patch.get_extents().transformed(axes.transData.inverted()) for patch in drawn]


def test_a_ratio_is_drawn_from_1_with_the_band_around_it(draw: Draw) -> None:
    grid = grid_of(CONSTRAINED, ("spd", "disparate_impact"))
    frame = frame_of(grid)
    frame.loc[frame["method"] == ORIGINAL, "test_objective"] = 0.0
    spd, ratio = draw(bias_and_objective, frame, grid).axes[:2]
    assert [(b.y0, b.y1) for b in band(spd)] == [pytest.approx((-0.1, 0.1))]
    assert [(b.y0, b.y1) for b in band(ratio)] == [pytest.approx((0.9, 1 / 0.9))]
    assert {start for start, _ in drawn_bars(ratio, grid).values()} == {1.0}
    part = frame[frame["measure"] == "disparate_impact"]
    ends = {key: end for key, (_, end) in drawn_bars(ratio, grid).items()}
    assert ends == pytest.approx(expected(part, "test_bias"))
    assert any(list(line.get_ydata()) == [1, 1] for line in ratio.lines)
    assert "(1 is fair)" in ratio.get_title()
    planes = draw(bars_and_planes, frame, grid).axes[2:]
    assert [(b.x0, b.x1) for b in band(planes[1])] == [pytest.approx((0.9, 1 / 0.9))]
    assert planes[1].lines[-1].get_xdata() == pytest.approx([1, 1])


@pytest.mark.parametrize(("measure", "ideal"), [("spd", 0), ("disparate_impact", 1)])
def test_contours_are_those_of_the_objective(draw: Draw, measure: str, ideal: float) -> None:
    grid = grid_of(WEIGHTED, (measure,))
    axes = draw(bars_and_planes, frame_of(grid), grid).axes[1]
    (contours,) = (c for c in axes.collections if hasattr(c, "levels"))
    checked = 0
    for level, path in zip(contours.levels, contours.get_paths(), strict=True):
        for x, y in path.vertices:
            far = abs(x) if ideal == 0 else 1 - min(x, 1 / x)
            assert 0.75 * far + 0.25 * (1 - y) == pytest.approx(level, abs=2e-3)
            checked += 1
    assert checked > 100


@pytest.mark.parametrize("measure", metrics.ALL, ids=lambda measure: measure.name)
def test_the_bound_in_a_figure_is_that_of_the_measure(measure: Any) -> None:
    counts = np.random.default_rng(1).integers(1, 30, (500, 2, 2, 2))
    values, biases = measure(counts), measure.bias(counts)
    assert unfair(measure.ideal, values) == pytest.approx(biases)
    low, high = allowed(measure.ideal, 0.3)
    inside = (low < values) & (values < high)
    clear = np.abs(biases - 0.3) > 1e-9
    assert (inside == (biases < 0.3))[clear].all()
    assert 0 < inside.sum() < len(inside)


# --- the plane ------------------------------------------------------------------------------------


def test_points_have_their_spread_both_ways_and_their_version(draw: Draw) -> None:
    grid = grid_of()
    frame = frame_of(grid, PLACES[:2])
    figure = draw(bars_and_planes, frame, grid)
    axes = figure.axes[1]
    scores = ["test_bias", "test_performance"]
    by_point = frame.groupby([*GROUP, "method"], sort=False)[scores]
    points = [(x[0], y[0]) for x, y in (p.get_data() for p in axes.lines) if len(x) == 1]
    wanted = by_point.mean().to_numpy()
    for mean, sd in zip(wanted, by_point.std().to_numpy(), strict=True):
        assert any(point == pytest.approx(tuple(mean)) for point in points)
        ends = (mean[0] - sd[0], mean[1], mean[0] + sd[0], mean[1])
        assert any(arm == pytest.approx(ends) for arm in arms(axes))
        ends = (mean[0], mean[1] - sd[1], mean[0], mean[1] + sd[1])
        assert any(arm == pytest.approx(ends) for arm in arms(axes))
    hollow = {p.get_label() for p in axes.lines if p.get_markerfacecolor() == "white"}
    assert hollow == {"layerwise, random search"}
    assert [text.get_text() for text in axes.texts if text.get_text() == "a"] == ["a", "a"]
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"layerwise", "layerwise, random search (a)", CONSTANT, "adult (race)"} <= set(legend)
    shapes = {p.get_marker() for p in axes.lines if p.get_label() == "random"}
    assert len(shapes) == 2


# --- looks ----------------------------------------------------------------------------------------


def many_methods() -> list[Method]:
    """Thirteen methods, the last of which has five versions; so has one that is built in."""
    bases = [kind.name for kind in debiasers.ALL]
    bases += [f"own{i}" for i in range(13 - len(bases))]
    names = [(base, base) for base in bases]
    names += [(f"{base}, version {i}", base) for base in (bases[-1], bases[1]) for i in range(4)]
    return [Method(name, SimpleNamespace(name=base)) for name, base in names]  # type: ignore[arg-type]


def test_each_method_and_version_looks_different() -> None:
    grids: list[Sequence[Method]] = [many_methods()]
    grids += [study.grid.methods for study in studies.ALL if hasattr(study, "grid")]
    for methods in grids:
        styles = Styles(methods)
        assert len(styles.names) == len(methods) + 1
        looks = {(styles[name].colour, styles[name].hatch) for name in styles.names}
        assert len(looks) == len(styles.names)
        for one, other in combinations(styles.names, 2):
            if styles[one].colour == styles[other].colour:
                assert styles[one].letter != styles[other].letter


def test_a_method_has_one_colour_in_all_figures() -> None:
    alone = Styles([Method("zhang", debiasers.Zhang())])
    among = Styles(many_methods())
    assert alone["zhang"] == among["zhang"]
    assert {among[kind.name].hatch for kind in debiasers.ALL[:8]} == {""}
    assert len({among[kind.name].colour for kind in debiasers.ALL[:8]}) == 8
    assert among[ORIGINAL].colour == GREY
    mine = Styles([Method("b", Layerwise()), Method("layerwise", Layerwise())])
    assert mine["layerwise"].hatch == ""  # the plain one, wherever it stands
    assert mine["b"].hatch != ""


def test_edges_and_patterns_can_be_seen_on_every_colour() -> None:
    def light(colour: str) -> float:
        """Relative luminance (WCAG 2)."""
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(
            channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4
        )
        return float(linear @ [0.2126, 0.7152, 0.0722])

    styles = Styles(many_methods())
    for name in styles.names:
        ink = {"white": "#FFFFFF"}.get(styles[name].ink, styles[name].ink)
        dark, bright = sorted((light(ink), light(styles[name].colour)))
        assert (bright + 0.05) / (dark + 0.05) > 3  # WCAG's bound for graphics
        assert (styles[name].ink == "white") == (styles[name].colour == BLACK)


# --- around the panels ----------------------------------------------------------------------------


def test_the_caption_counts_seeds(draw: Draw) -> None:
    grid = grid_of()
    frame = frame_of(grid)
    figure = draw(objective_bars, frame, grid)
    assert "Each bar: 3 seeds; error bars: one standard deviation" in caption(figure)
    fewer = frame[(frame["method"] != "random") | (frame["seed"] == 0)]
    figure = draw(objective_bars, fewer, grid)
    assert "Each bar: 1 to 3 seeds;" in caption(figure)
    assert len(arms(figure.axes[0])) == len(METHODS)  # all but random, with the original


@pytest.mark.parametrize("function", [bias_and_objective, bars_and_planes, objective_bars])
@pytest.mark.parametrize("objective", [WEIGHTED, CONSTRAINED])
def test_one_seed_has_no_spread(draw: Draw, function: Any, objective: Any) -> None:
    grid = dataclasses.replace(grid_of(objective), seeds=(0,))
    figure = draw(function, frame_of(grid), grid)
    assert "1 seed, no error bars" in caption(figure)
    assert "standard deviation" not in caption(figure)
    assert not any(arms(axes) for axes in figure.axes)
    titles = " ".join(axes.get_title() for axes in figure.axes)
    assert "mean " not in titles
    assert "median" not in titles


def test_undefined_ratios_are_left_out_and_said(draw: Draw) -> None:
    grid = grid_of(WEIGHTED, ("disparate_impact",))
    frame = frame_of(grid, PLACES[:1])
    assert "undefined" not in caption(draw(bias_and_objective, frame, grid))
    some = (frame["method"] == "random") & (frame["seed"] == 1)
    frame.loc[some, ["test_bias", "test_objective"]] = math.nan
    frame.loc[frame["method"] == "threshold", ["test_bias", "test_objective"]] = math.nan
    figure = draw(bias_and_objective, frame, grid)
    bars = drawn_bars(figure.axes[0], grid)
    rest = frame.loc[(frame["method"] == "random") & ~some, "test_bias"]
    assert bars["adult (sex)", "random"][1] == pytest.approx(rest.mean())
    assert ("adult (sex)", "threshold") not in bars
    assert "undefined are left out" in caption(figure)
    draw(bars_and_planes, frame, grid)


LONG = "a table with a name of some length, like those of files that people keep.csv"


@pytest.mark.parametrize(
    ("case", "function"),
    [
        ("one data set", bars_and_planes),
        ("many methods", bars_and_planes),
        ("one method", bias_and_objective),
        ("long names", bars_and_planes),
        ("long names", objective_bars),
        ("five measures", bars_and_planes),
        ("many groups", bars_and_planes),
        ("many groups", bias_and_objective),
    ],
)
def test_nothing_covers_anything(draw: Draw, case: str, function: Any) -> None:
    grid = grid_of(CONSTRAINED if case == "one method" else WEIGHTED)
    frame = frame_of(grid)
    if case == "one data set":
        frame = frame_of(grid, PLACES[:1])
    elif case == "many methods":
        grid = dataclasses.replace(grid, methods=tuple(many_methods()))
        frame = frame_of(grid, PLACES[:2])
    elif case == "one method":
        grid = dataclasses.replace(grid, methods=METHODS[:1])
        frame = frame[frame["method"].isin([CONSTANT, ORIGINAL, "threshold"])]
    elif case == "long names":
        frame = frame_of(grid, [(LONG, "sex"), ("b $_$", "race+sex+age of the person")])
    elif case == "five measures":
        grid = grid_of(WEIGHTED, [measure.name for measure in metrics.ALL[:5]])
        frame = frame_of(grid, PLACES[:1])
    elif case == "many groups":
        frame = frame_of(grid, PLACES, networks=[f"network {i}" for i in range(9)])
    figure = draw(function, frame, grid)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    whole = figure.bbox
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    boxes += [legend.get_window_extent(renderer) for legend in figure.legends]
    boxes += [text.get_window_extent(renderer) for text in figure.texts]
    for box in boxes:
        assert whole.x0 - 1 <= box.x0 < box.x1 <= whole.x1 + 1
        assert whole.y0 - 1 <= box.y0 < box.y1 <= whole.y1 + 1
    for one, other in combinations(boxes, 2):
        shared = min(one.x1, other.x1) - max(one.x0, other.x0)
        assert shared <= 1 or min(one.y1, other.y1) - max(one.y0, other.y0) <= 1
    for axes in figure.axes:
        labels = [label for label in axes.get_xticklabels() if label.get_text()]
        extents = [label.get_window_extent(renderer) for label in labels]
        assert all(one.x1 <= other.x0 for one, other in pairwise(extents))
        assert axes.get_window_extent(renderer).height > 2.5 * figure.dpi
    narrowest = min(
        bar.get_window_extent(renderer).width
        for container in figure.axes[0].containers
        for bar in getattr(container, "patches", [])
    )
    assert narrowest / figure.dpi > 0.06  # inches
