"""A slice of the campaign of `bench/campaign.py`, and of its rounds on an object store."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "bench" / "campaign.py"
ROUNDS = int(os.environ.get("CHOLINE_CAMPAIGN_ROUNDS", "6"))


def campaign(*flags: str) -> dict[str, object]:
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--quiet", *flags], capture_output=True, text=True, timeout=3600, check=False
    )
    assert done.stdout, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    assert told["faults"] == [] and done.returncode == 0
    return told


@pytest.mark.slow
def test_what_is_published_verifies_after_random_adds_removals_collections_and_kills():
    told = campaign("--rounds", str(ROUNDS), "--seed", str(int.from_bytes(os.urandom(3))))
    assert told["rounds"] == ROUNDS


@pytest.mark.slow
def test_the_same_holds_on_an_object_store():
    for module in ("s3fs", "boto3", "flask_cors"):
        pytest.importorskip(module, reason="needs s3fs, and moto[s3] with flask and flask-cors for a server")
    campaign("--rounds", "1", "--processes", "4", "--store", "s3")
