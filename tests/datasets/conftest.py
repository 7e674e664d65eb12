"""Where the real data lies, and an isolated cache."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from retrofair.datasets import fetch


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder with the published files."""
    root = os.environ.get("RETROFAIR_DATA")
    if not root:
        pytest.skip("RETROFAIR_DATA is not set: no folder with the published data files")
    return Path(root)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no RETROFAIR_DATA."""
    folder = tmp_path / "cache"
    monkeypatch.setattr(fetch, "cache_folder", lambda: folder)
    monkeypatch.delenv("RETROFAIR_DATA", raising=False)
    return folder
