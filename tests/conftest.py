"""What several folders of tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets: $CHOLINE_TEST_DATA, or ../shared/data beside the checkout."""
    beside = Path(__file__).resolve().parents[1].parent / "shared" / "data"
    folder = Path(os.environ.get("CHOLINE_TEST_DATA") or beside)
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set CHOLINE_TEST_DATA")
    return folder
