"""A million rows, a thousand million, and memory over ten million."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Shelf
from tests.served import Served

from choline_data.client import FirehoseDataset

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a (700,000 rows), b (300,000) and huge: 1.2 thousand million rows in 2,000 references to one file."""
    shelf = Shelf(tmp_path_factory.mktemp("large") / "home")
    for name, rows, times in (("a", 700_000, 1), ("b", 300_000, 1), ("huge", 600_000, 2000)):
        shelf.add(name, {"text": [str(number) for number in range(rows)]}, block_rows=4096, times=times)
    return Path(shelf.home.location)


@pytest.mark.slow
def test_a_million_rows_resume_at_a_hundred_random_positions(large: Path):
    """With a mix, shuffle, a filter and a transform on: the rest is the uninterrupted stream's, bit for bit."""
    options: dict[str, Any] = {
        "home": large,
        "repeat": False,
        "batch_size": 256,
        "columns": ["text"],
        "where": "text != '7'",
        "transform": shortened,
    }
    mix = {"a": 7, "b": 3}
    whole = FirehoseDataset(mix, **options)
    ids = [i for batch in whole for i in batch["id"]]
    assert len(ids) == whole.length == 999_998
    assert len(set(ids)) == 700_000 - 1  # b's texts are some of a's
    turn = random.Random(11)
    again = FirehoseDataset(mix, **options)
    for position in sorted(turn.sample(range(len(ids) - 256), 100)):
        again.load_state_dict({**again.state_dict(), "position": position})
        batch = next(iter(again))
        assert batch["id"] == ids[position : position + 256]
        assert batch["position"].tolist() == list(range(position, position + 256))


def shortened(sample: dict[str, Any]) -> dict[str, Any]:
    return {"id": sample["id"], "position": sample["position"]}


@pytest.mark.slow
def test_a_stream_resumes_at_row_ten_to_the_nine(large: Path):
    """`bench/resume.py` measures that it takes no longer than at row 0."""
    dataset = FirehoseDataset({"huge": 3, "a": 1}, home=large, batch_size=64, columns=["text"])
    dataset.load_state_dict({**dataset.state_dict(), "position": 10**9})
    assert next(iter(dataset))["position"].tolist() == list(range(10**9, 10**9 + 64))


MEMORY = """
import json, sys
from choline_data import FirehoseDataset

def resident():
    with open("/proc/self/status") as file:  # without mapped files: page cache, which the kernel takes back
        return next(int(line.split()[1]) / 1e3 for line in file if line.startswith("RssAnon"))

dataset = FirehoseDataset("b", batch_size=4096, columns=["text"], **json.loads(sys.argv[1]))
seen, held = 0, []
for batch in dataset:
    seen += len(batch["text"])
    if seen >= 1_000_000 * (len(held) + 1):
        held.append(resident())
        if len(held) == 10:
            break
print(json.dumps(held))
"""


@pytest.mark.slow
@pytest.mark.parametrize("place", ["embedded", "server"])
def test_memory_does_not_grow_over_ten_million_rows(large: Path, place: str):
    running = Served(large) if place == "server" else None
    try:
        at = {"server": running.address, "prefetch_bytes": 8 << 20} if running else {"home": str(large)}
        command = [sys.executable, "-c", MEMORY, json.dumps(at)]
        held = json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=280).stdout)
    finally:
        if running:
            running.stop()
    # MB, at every million rows. Windows and the orders within them fill their caches in the first millions; nothing
    # climbs by the row after that.
    assert max(held[5:]) - held[4] <= 16
    assert max(held) - held[1] <= 48
