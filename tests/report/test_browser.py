"""The page in a real browser: the slider's figures are the library's, and nothing is fetched."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from report_cases import ENDING, NASTY, audited, opened

import retrofair as rf
from retrofair import metrics
from retrofair.audit import ScoreCounts
from retrofair.audit.audited import audit_counts
from retrofair.report.impact import category_groups, lines
from retrofair.report.text import number, span

By = pytest.importorskip("selenium.webdriver.common.by", reason="no browser: no selenium").By
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

MOVE = """
const slider = document.getElementById("threshold");
slider.value = arguments[0];
slider.dispatchEvent(new Event("input", {bubbles: true}));
"""
# infinity and nan are no JSON
FIGURES = """
const edge = live.edges.indexOf(arguments[0]);
const plain = (x) => Number.isFinite(x) ? x : String(x);
return Object.entries(live.figures(edge)).map(([name, f]) => [
  name, (Array.isArray(f) ? f : [f.selected, f.rate, f.ratio, ...f.limits]).map(plain),
]);
"""


def move(browser, threshold: float) -> None:
    browser.execute_script(MOVE, threshold)


def shown(browser, key: str, part: str) -> str:
    return browser.find_element(
        By.CSS_SELECTOR, f'[data-live="{key}"][data-part="{part}"]'
    ).get_attribute("textContent")


def figures(browser, edge: float) -> dict[str, list[float]]:
    """What the script computes at an edge."""
    return {k: [float(x) for x in v] for k, v in browser.execute_script(FIGURES, edge)}


def expected(found: rf.Audit, edge: float) -> dict[str, list[float]]:
    """What the library computes from the same counts."""
    counts = found.scores.at(edge)
    again = audit_counts(counts, found.group_names)
    values = {f"m.{name}": again[name] for name in again}
    for position, name in enumerate(found.group_names):
        for rate, estimate in again.groups[name].items():
            if rate != "base_rate":
                values[f"g.{position}.{rate}"] = estimate
    figures = {key: [e.value, e.low, e.high] for key, e in values.items()}
    for t, table in enumerate(category_groups(found)):
        by = lines(table, counts[..., 1].sum(axis=1), counts.sum(axis=(1, 2)))
        for c, line in enumerate(by):
            figures[f"i.{t}.{c}"] = [line.selected, line.rate, line.ratio, line.low, line.high]
    return figures


def same(one: dict[str, list[float]], other: dict[str, list[float]]) -> None:
    assert one.keys() == other.keys()
    for key, values in one.items():
        for x, y in zip(values, other[key], strict=True):
            assert x == pytest.approx(y, abs=1e-9, rel=1e-12, nan_ok=True), key


def trouble(browser) -> list[str]:
    """What the console complains of, and every address asked for that is not the file itself."""
    said = [each["message"] for each in browser.get_log("browser")]
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = message["params"]["request"]["url"]
            if message["params"]["documentURL"].startswith(("chrome:", "chrome-untrusted:")):
                continue  # the browser's own first page
            if not url.startswith(("file:", "data:")):
                said.append(url)
    return said


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Four groups, by two columns, with an audited threshold of many digits."""
    found = audited(
        n=6000,
        groups=4,
        threshold=0.4321987,
        group_names=["f & x", "f & y", "m & x", "m & y"],
        attributes={"sex": "ffmm", "race": "xyxy"},
    )
    return found, found.to_html(tmp_path_factory.mktemp("page") / "report.html")


def test_the_page_opens_without_complaint_or_request(browser, case):
    opened(browser, case[1])
    assert browser.title == "Fairness report"
    assert trouble(browser) == []


def test_the_check_above_would_notice(browser, tmp_path):
    path = tmp_path / "a.html"
    path.write_text('<img src="http://127.0.0.1:9/x.png"><script>console.error("no")</script>')
    opened(browser, path)
    found = trouble(browser)
    assert "http://127.0.0.1:9/x.png" in found
    assert any("no" in each for each in found)


def test_the_figures_shown_first_are_those_of_the_audit(browser, case):
    found, path = case
    opened(browser, path)
    slider = browser.find_element(By.CSS_SELECTOR, "input[type=range]")
    assert float(slider.get_attribute("value")) == pytest.approx(0.4321987, abs=1e-12)
    assert browser.find_element(By.ID, "shown").text == "0.4321987"
    for name in found:
        if name != "roc_auc":
            assert shown(browser, f"m.{name}", "value") == number(found[name].value)
    same(figures(browser, 0.4321987), expected(found, 0.4321987))


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 0.615, 0.985, 1.0])
def test_moving_the_slider_shows_what_the_library_says(browser, case, threshold):
    found, path = case
    opened(browser, path)
    move(browser, threshold)
    assert browser.find_element(By.ID, "shown").text == f"{threshold:g}"
    values = expected(found, threshold)
    for key, (value, low, high, *limits) in values.items():
        if key[0] == "i":
            assert shown(browser, key, "limits") == span(*limits, 2)
            assert shown(browser, key, "selected") == f"{value:,.0f}"
            assert shown(browser, key, "rate") == number(low)
            assert shown(browser, key, "ratio") == number(high, 2)
        else:
            assert shown(browser, key, "value") == number(value), key
            assert shown(browser, key, "interval") == span(low, high), key
    assert trouble(browser) == []


def test_the_script_and_the_library_agree_at_every_edge(browser, case):
    found, path = case
    opened(browser, path)
    for edge in found.scores.edges.tolist():
        same(figures(browser, edge), expected(found, edge))


@pytest.mark.parametrize("seed", range(6))
def test_they_agree_on_few_and_lopsided_rows(browser, tmp_path, seed):
    """Where denominators are 0 and limits are infinite."""
    random = np.random.default_rng(seed)
    groups = 2 + seed % 3
    n = 6 + 5 * seed
    group, y = random.integers(0, groups, n), random.integers(0, 2, n)
    group[:2] = [0, 1]
    if seed == 3:
        y[:] = 1
    scores = np.round(random.random(n), 1)
    names = [f"g{i}" for i in range(groups + seed % 2)]  # one without rows
    found = rf.audit_predictions(
        y, scores > 0.5, group, scores=scores, threshold=0.5, group_names=names
    )
    opened(browser, found.to_html(tmp_path / "a.html"))
    for edge in found.scores.edges.tolist()[::7]:
        same(figures(browser, edge), expected(found, edge))
    assert trouble(browser) == []


def test_they_agree_on_hundreds_of_groups(browser, tmp_path):
    """Pairs of groups by the ten thousand."""
    found = audited(n=40_000, groups=400, seed=1)
    opened(browser, found.to_html(tmp_path / "a.html"))
    same(figures(browser, 0.5), expected(found, 0.5))
    assert trouble(browser) == []


def test_keys_move_the_slider_edge_by_edge(browser, case):
    found, path = case
    opened(browser, path)
    edges = found.scores.edges
    at = int(np.abs(edges - 0.4321987).argmin())
    slider = browser.find_element(By.ID, "threshold")
    for key, step in (
        (Keys.ARROW_RIGHT, 1),
        (Keys.ARROW_LEFT, -1),
        (Keys.PAGE_UP, 10),
        (Keys.ARROW_DOWN, -1),
    ):
        slider.send_keys(key)
        at += step
        assert float(browser.find_element(By.ID, "shown").text) == pytest.approx(edges[at])
        assert shown(browser, "m.spd", "value") == number(expected(found, edges[at])["m.spd"][0])
    slider.send_keys(Keys.HOME)
    assert shown(browser, "g.0.selection_rate", "value") == "1.000"
    slider.send_keys(Keys.END)
    assert shown(browser, "g.0.selection_rate", "value") == "0.000"
    assert slider.get_attribute("aria-valuetext") == "1"
    browser.find_element(By.ID, "reset").click()
    assert browser.find_element(By.ID, "shown").text == "0.4321987"
    assert shown(browser, "m.spd", "value") == number(found["spd"].value)


def test_what_moved_is_said_to_those_who_cannot_see_it(browser, case):
    from selenium.webdriver.support.ui import WebDriverWait

    found, path = case
    opened(browser, path)
    move(browser, 0.7)
    wanted = number(expected(found, 0.7)["m.spd"][0])
    said = browser.find_element(By.ID, "said")
    assert said.get_attribute("aria-live") == "polite"
    WebDriverWait(browser, 5).until(lambda _: f"difference {wanted}," in said.text)


def test_an_audit_of_a_network_and_of_another_threshold_agree(browser, tmp_path, trained, splits):
    """From the network to the screen: an edge's figures are those of an audit at it."""
    opened(browser, rf.audit(trained, splits.test).to_html(tmp_path / "a.html"))
    for threshold in (0.25, 0.5, 0.73):
        again = rf.audit(trained, splits.test, threshold=threshold)
        move(browser, threshold)
        for name in again:
            if name != "roc_auc":
                assert shown(browser, f"m.{name}", "value") == number(again[name].value)
                limits = span(again[name].low, again[name].high)
                assert shown(browser, f"m.{name}", "interval") == limits


def test_decisions_of_no_threshold_stay_until_the_slider_is_moved(browser, tmp_path):
    random = np.random.default_rng(0)
    y, group, scores = random.integers(0, 2, 800), random.integers(0, 2, 800), random.random(800)
    found = rf.audit_predictions(y, random.integers(0, 2, 800), group, scores=scores)
    opened(browser, found.to_html(tmp_path / "a.html"))
    assert shown(browser, "m.spd", "value") == number(found["spd"].value)
    move(browser, 0.3)
    assert shown(browser, "m.spd", "value") == number(expected(found, 0.3)["m.spd"][0])
    browser.find_element(By.ID, "reset").click()
    assert shown(browser, "m.spd", "value") == number(found["spd"].value)
    assert trouble(browser) == []


def test_nasty_names_do_nothing(browser, tmp_path):
    found = audited(group_names=[NASTY, ENDING], attributes={NASTY: [ENDING, "b"]})
    opened(browser, found.to_html(tmp_path / "a.html", title=ENDING))
    move(browser, 0.3)
    assert browser.title == ENDING
    assert not browser.find_elements(By.TAG_NAME, "img")
    assert NASTY in browser.find_element(By.TAG_NAME, "main").text
    assert trouble(browser) == []


def test_dark_print_and_a_narrow_window_work(browser, case):
    opened(browser, case[1])
    colour = "return getComputedStyle(document.body).backgroundColor"
    for scheme, dark in (("light", False), ("dark", True)):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        red = int(browser.execute_script(colour).split("(")[1].split(",")[0])
        assert (red < 60) == dark
    browser.find_element(By.ID, "theme").click()  # back to light, against the system
    assert browser.execute_script(colour) == "rgb(255, 255, 255)"
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    pdf = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})["data"]
    assert base64.b64decode(pdf).startswith(b"%PDF")
    size = {"width": 400, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    wide = browser.execute_script("return document.documentElement.scrollWidth")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide <= 400
    assert trouble(browser) == []


def test_text_can_be_told_from_its_ground(browser, case):
    """Contrast of at least 4.5 (WCAG AA) for every text, light and dark."""
    opened(browser, case[1])
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        pairs = browser.execute_script(
            """
            const ground = (node) => {
              for (; node; node = node.parentElement) {
                const colour = getComputedStyle(node).backgroundColor;
                if (!/, 0\\)$/.test(colour)) return colour;
              }
            };
            return [...document.querySelectorAll("body *")]
              .filter((n) => [...n.childNodes].some((c) => c.nodeType === 3 && c.data.trim()))
              .filter((n) => !["SCRIPT", "STYLE", "TITLE", "title"].includes(n.tagName))
              .filter((n) => !n.closest("svg"))
              .map((n) => [getComputedStyle(n).color, ground(n), n.outerHTML.slice(0, 80)]);
            """
        )
        assert len(pairs) > 100
        for ink, paper, where in pairs:
            one, other = sorted((luminance(ink), luminance(paper)))
            assert (other + 0.05) / (one + 0.05) >= 4.5, (scheme, where, ink, paper)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def luminance(colour: str) -> float:
    parts = [float(x) / 255 for x in colour.split("(")[1].rstrip(")").split(",")[:3]]
    linear = [x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return sum(w * x for w, x in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_a_point_of_the_frontier_is_chosen_by_key_and_by_button(browser, tmp_path, trained, splits):
    front = rf.frontier(trained, splits.valid, "spd", methods=["threshold", "fair_head"])
    opened(browser, front.to_html(tmp_path / "a.html"))
    box = browser.find_element(By.ID, "chosen-point")
    point = browser.find_element(By.CSS_SELECTOR, '[data-point="1"]')
    point.send_keys(Keys.ENTER)
    assert point.get_attribute("aria-pressed") == "true"
    assert front.points[1].method in box.text
    assert "points[1].result" in box.text
    browser.find_element(By.CSS_SELECTOR, '[data-choose="0"]').click()
    assert "points[0].result" in box.text
    assert point.get_attribute("aria-pressed") == "false"
    assert trouble(browser) == []


def test_counts_of_the_page_are_those_of_the_scores():
    """The oracle above: counts at an edge are a plain count of the rows."""
    random = np.random.default_rng(0)
    scores, y, group = random.random(500), random.integers(0, 2, 500), random.integers(0, 2, 500)
    found = ScoreCounts.of(scores, y, group, 2)
    for edge in found.edges[::20]:
        plain = metrics.count(y, (scores > edge).astype(int), group, 2)
        assert (found.at(edge) == plain).all()
