"""Results to report, and a look at the page they make."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np

import retrofair as rf

NASTY = "<script>alert(1)</script>"
ENDING = "</script><img src=x onerror=alert(2)>"


def audited(n: int = 4000, groups: int = 2, seed: int = 0, threshold: float = 0.5, **options):
    """An audit of scores that differ between the groups."""
    random = np.random.default_rng(seed)
    group = random.integers(0, groups, n)
    y = random.integers(0, 2, n)
    scores = 1 / (1 + np.exp(-random.normal(y - 0.5 + 0.4 * group, 1.5)))
    return rf.audit_predictions(
        y, scores > threshold, group, scores=scores, threshold=threshold, **options
    )


class Elements(HTMLParser):
    """All elements of a page with their attributes, and the text of each kind."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def elements(path: Path) -> Elements:
    return Elements(path.read_text(encoding="utf-8"))


def opened(browser: Any, path: Path) -> Any:
    """A page from disk, with empty logs before it."""
    browser.get_log("browser")
    browser.get_log("performance")
    browser.get(path.as_uri())
    return browser
