"""An isolated cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from retrofair.datasets import fetch


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no RETROFAIR_DATA."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(fetch, "cache_folder", lambda: folder)
    monkeypatch.delenv("RETROFAIR_DATA", raising=False)
    return folder
