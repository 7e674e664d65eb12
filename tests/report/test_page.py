"""The page as a file: whole, small, harmless whatever the names are, readable by all."""

from __future__ import annotations

import re
import warnings

import numpy as np
import pytest
from report_cases import ENDING, NASTY, audited, elements

import retrofair as rf

NOT_FETCHED = {"a", "svg", "use"}


def test_an_audit_becomes_one_file_that_asks_for_nothing(tmp_path):
    path = audited().to_html(tmp_path / "report.html", title="Hiring")
    assert path == tmp_path / "report.html"
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]
    page = elements(path)
    for tag, attributes in page.found:
        for name in ("src", "href", "action", "data", "srcset", "poster"):
            value = attributes.get(name) or ""
            assert value.startswith(("#", "data:")) or not value, (tag, name, value)
    text = path.read_text(encoding="utf-8")
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    assert not re.search(r"(?:https?:)?//[a-z]", text.replace("// ", ""))
    policy = next(m["content"] for m in page.of("meta") if "http-equiv" in m)
    assert policy == (
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    )


def test_names_are_text_never_markup(tmp_path):
    names = [NASTY, ENDING]
    path = audited(group_names=names).to_html(tmp_path / "a.html", title=NASTY)
    page = elements(path)
    assert len(page.of("script")) == len(
        elements(audited().to_html(tmp_path / "b.html")).of("script")
    )
    assert not page.of("img")
    assert NASTY in "".join(page.text)
    assert not any("onerror" in attributes for _, attributes in page.found)


def test_columns_and_values_are_text_too(tmp_path):
    path = audited(attributes={NASTY: ["a", ENDING]}).to_html(tmp_path / "a.html")
    page = elements(path)
    assert not page.of("img")
    assert f"By {NASTY}" in "".join(page.text)


def test_every_table_can_be_read_aloud(tmp_path):
    page = elements(audited(groups=3).to_html(tmp_path / "a.html"))
    tables = [tag for tag, _ in page.found].count("table")
    assert tables >= 4
    assert [tag for tag, _ in page.found].count("caption") == tables
    assert all(each.get("scope") in ("col", "row") for each in page.of("th"))
    landmarks = {tag for tag, _ in page.found}
    assert {"main", "nav", "header", "footer", "h1", "h2", "title"} <= landmarks
    for each in page.of("svg"):
        named = each.get("role") in ("img", "group") and each.get("aria-label")
        assert named or each.get("aria-hidden") == "true"
    (slider,) = [each for each in page.of("input") if each["type"] == "range"]
    assert slider["id"] in [each["for"] for each in page.of("label")]
    assert any(each.get("aria-live") == "polite" for _, each in page.found)
    ids = [each["id"] for _, each in page.found if "id" in each]
    assert len(ids) == len(set(ids))
    anchors = {(each["href"] or "")[1:] for each in page.of("a")}
    assert anchors <= set(ids)
    for _, each in page.found:
        assert each.get("aria-labelledby", ids[0]) in ids


def test_the_figures_of_the_audit_stand_in_the_page(tmp_path):
    found = audited(groups=3, threshold=0.37)
    text = " ".join(elements(found.to_html(tmp_path / "a.html")).text)
    for name in found:
        value = f"{found[name].value:.3f}".replace("-", "\N{MINUS SIGN}")
        assert value in text, name
        assert found[name].meaning in text


def test_without_scores_there_is_no_slider_and_the_page_says_why(tmp_path):
    found = rf.audit_predictions([0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1])
    page = elements(found.to_html(tmp_path / "a.html"))
    assert not page.of("input")
    assert "There is no threshold to move" in "".join(page.text)


def test_a_million_rows_of_many_groups_are_less_than_a_megabyte(tmp_path):
    random = np.random.default_rng(0)
    n = 1_000_000
    group, y = random.integers(0, 12, n), random.integers(0, 2, n)
    scores = random.random(n) ** 3
    names = [f"{a} & {b}" for a in "fmx" for b in "pqrs"]
    sides = {"one": [a for a in "fmx" for _ in "pqrs"], "two": list("pqrs" * 3)}
    found = rf.audit_predictions(
        y, scores > 0.5, group, scores=scores, threshold=0.5, group_names=names, attributes=sides
    )
    path = found.to_html(tmp_path / "a.html")
    assert path.stat().st_size < 1_000_000
    assert "1,000,000 rows" in path.read_text(encoding="utf-8")


def test_a_degenerate_audit_says_so_first(tmp_path):
    y, group = np.tile([0, 1], 200), np.repeat([0, 1], 200)
    found = rf.audit_predictions(y, np.ones(400), group, scores=np.ones(400), threshold=0.5)
    page = elements(found.to_html(tmp_path / "a.html"))
    text = "".join(page.text)
    assert text.index("Degenerate: ") < text.index("The data", text.index("At a glance"))
    assert any(each.get("role") == "alert" for each in page.of("p"))


def test_three_classes_have_a_page(tmp_path):
    random = np.random.default_rng(0)
    y, guess, group = (random.integers(0, k, 900) for k in (3, 3, 2))
    found = rf.audit_predictions(y, guess, group, class_names=["low", "middle", NASTY])
    page = elements(found.to_html(tmp_path / "a.html"))
    text = "".join(page.text)
    assert "worst class: " in text
    assert NASTY in text
    assert not page.of("input")


def test_scores_that_did_not_decide_are_told(tmp_path):
    random = np.random.default_rng(0)
    y, group, scores = random.integers(0, 2, 500), random.integers(0, 2, 500), random.random(500)
    found = rf.audit_predictions(y, random.integers(0, 2, 500), group, scores=scores)
    text = "".join(elements(found.to_html(tmp_path / "a.html")).text)
    assert "were not made by one threshold on these scores" in text


def test_groups_without_rows_and_measures_without_value_are_dashes(tmp_path):
    found = rf.audit_predictions(
        [1, 1, 1, 1],
        [0, 1, 0, 1],
        [0, 0, 1, 1],
        group_names=["a", "b", "nobody"],
        scores=[0.1, 0.9, 0.2, 0.8],
        threshold=0.5,
    )
    text = "".join(elements(found.to_html(tmp_path / "a.html")).text)
    assert "nobody" in text
    assert "nan" not in text
    assert "\N{EN DASH}" in text


@pytest.fixture(scope="module")
def debiased(trained, splits):
    return rf.debias(trained, splits.valid, rf.Constrained("spd", epsilon=0.1), "fair_head")


def test_before_and_after(tmp_path, trained, splits, debiased):
    before, after = rf.audit(trained, splits.test), rf.audit(debiased, splits.test)
    effects = rf.compare(trained, debiased, splits.test)
    path = rf.report(tmp_path / "a.html", after, debiased, effects, before=before, title="Both")
    text = "".join(elements(path).text)
    assert "Debiased with" in text
    for sentence in effects.sentences():
        assert sentence in text
    assert f"before: {before['spd'].value:.3f}".replace("-", "\N{MINUS SIGN}") in text
    assert "they flatter it" not in text


@pytest.mark.parametrize("method", ["fair_head", "threshold", "group_thresholds"])
def test_a_result_alone_shows_the_rows_it_was_fitted_to(tmp_path, trained, splits, method):
    result = rf.debias(trained, splits.valid, rf.Constrained("spd", epsilon=0.1), method)
    text = "".join(elements(result.to_html(tmp_path / "a.html")).text)
    for sentence in result.effects.sentences():
        assert sentence in text
    assert ("they flatter it" in text) == result.effects.rows_seen
    assert "rows that the method was fitted to" in text
    before = f"before: {result.before.bias:.3f}".replace("-", "\N{MINUS SIGN}")
    assert before in text


def test_a_frontier_says_how_each_point_is_made(tmp_path, trained, splits):
    front = rf.frontier(trained, splits.valid, "spd", methods=["threshold", "fair_head"])
    page = elements(front.to_html(tmp_path / "a.html"))
    points = [each for _, each in page.found if "data-point" in each]
    assert len(points) == len(front.points) > 1
    assert all(each["tabindex"] == "0" and each["aria-label"] for each in points)
    assert "rf.frontier(...).points[0].result" in "".join(page.text)


def test_a_certificate_shows_bounds_pair_and_tier(tmp_path, splits):
    net = rf.networks.train_mlp(splits.train, splits.valid, depth=1, width=4, max_epochs=2)
    domain = rf.Domain.from_data(splits.train)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cert = rf.certify(net, domain, rf.WeightedLp(np.inf), epsilon=0.1, seconds=20)
    path = cert.to_html(tmp_path / "a.html")
    text = "".join(elements(path).text)
    assert "No two similar people differ by more than" in text
    assert f"tier{cert.tier}: " in text.replace("\n", "").replace(" </dt>", "")
    for feature in cert.table()["feature"]:
        assert feature in text


def test_what_cannot_be_reported_is_refused(tmp_path):
    found = audited()
    for wrong, message in (
        ((), "expected a result to report, got none"),
        ((found, found), "expected one Audit to report, got two"),
        ((found, 3), "got int"),
    ):
        with pytest.raises(rf.InputError, match=message):
            rf.report(tmp_path / "a.html", *wrong)
    with pytest.raises(rf.InputError, match="got a folder"):
        found.to_html(tmp_path)
    assert not list(tmp_path.iterdir())
