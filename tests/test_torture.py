"""Damaged files of every format end an `add` as data or as one typed error. `bench/torture.py` is the long campaign."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench/torture.py"


@pytest.mark.slow
def test_no_damaged_file_ends_in_a_traceback_a_signal_or_a_hang():
    count = os.environ.get("CHOLINE_TORTURE", "60")
    command = [sys.executable, str(BENCH), "--no-data", "--mutants", count, "--seconds", "300", "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, [end for end in told[:-1] if end["end"] not in ("added", "refused")]
    summary = told[-1]
    assert (summary["files"], summary["added"] + summary["refused"]) == (int(count), int(count))
    assert summary["refused"]
