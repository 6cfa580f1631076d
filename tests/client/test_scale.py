"""A million rows, a thousand million, and memory over ten million."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from tests.served import Served

from choline_data import schema as one
from choline_data.client import FirehoseDataset
from choline_data.places.home import Home
from choline_data.store import BlockWriter, Catalog, Entry, Manifest, StoredFile
from choline_data.store.revision import manifest_name
from choline_data.store.sample_ids import sample_ids

ROOT = Path(__file__).parents[2]


def stored(folder: Path, name: str, rows: int, files: int = 1) -> None:
    """A dataset of short texts, its one store file of `rows` referred to as often as asked."""
    home, schema = Home(folder), one.stored_schema(["text"])
    writer = BlockWriter(home, schema, 4096)
    numbers = pa.array(range(rows), pa.int64())
    text = pc.cast(numbers, pa.string()).cast(pa.large_string())
    origin = pa.StructArray.from_arrays([pa.repeat(name, rows), numbers], fields=list(one.ORIGIN))
    columns = {"id": sample_ids(pa.record_batch([text], names=["text"])), "text": text, "origin": origin}
    writer.write(pa.record_batch([columns[field.name] for field in schema], schema=schema))
    written = writer.close()
    assert written is not None
    manifest = Manifest(
        (StoredFile(written.sha256, rows, written.bytes, name),) * files, ("text",), 4096, {"kind": "text"}
    )
    home.create(manifest_name(manifest.revision), manifest.encode())
    Catalog(home).publish(Entry(name, manifest.revision, "text", manifest.rows, manifest.bytes))


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a (700,000 rows), b (300,000) and huge: 1.2 thousand million rows in 2,000 references to one file."""
    folder = tmp_path_factory.mktemp("large") / "home"
    stored(folder, "a", 700_000)
    stored(folder, "b", 300_000)
    stored(folder, "huge", 600_000, files=2000)
    return folder


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
def test_row_ten_to_the_nine_comes_as_soon_as_row_0(large: Path):
    """In turns, each from a dataset of its own: at most twice the seconds of a cold start."""
    import time

    def seconds(position: int) -> float:
        began = time.perf_counter()
        dataset = FirehoseDataset({"huge": 3, "a": 1}, home=large, batch_size=64, columns=["text"])
        dataset.load_state_dict({**dataset.state_dict(), "position": position})
        assert next(iter(dataset))["position"][0] == position
        return time.perf_counter() - began

    cold, late = zip(*[(seconds(0), seconds(10**9)) for _ in range(5)], strict=True)
    assert min(late) <= 2 * min(cold) + 0.05  # what a shared machine adds to milliseconds


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
