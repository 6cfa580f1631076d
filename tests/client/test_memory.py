"""A trainer's process uses as much memory after many passes as after a few."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.served import Served

from choline_data.client import FirehoseDataset
from choline_data.v1 import firehose_pb2 as pb

from ..conftest import Shelf  # noqa: TID252 - tests are no package

ROOT = Path(__file__).parents[2]
PASSES = int(os.environ.get("CHOLINE_PASSES", "60"))
CHILD = """
import json, sys
from pathlib import Path
from choline_data import FirehoseDataset

where, place, passes = sys.argv[1], sys.argv[2], int(sys.argv[3])

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) << 10

dataset = FirehoseDataset("long", repeat=False, batch_size=64, **{where: place})
held = []
for number in range(passes):
    rows = sum(len(batch["text"]) for batch in dataset)
    held.append(anonymous())
    if number % 5 == 4:  # one that is left before its end, by a dataset that is left too
        left = FirehoseDataset("long", repeat=False, batch_size=64, seed=number, **{where: place})
        next(iter(left))
print(json.dumps([rows, held]))
"""


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A home with one dataset of 2,000 texts of 16 KB."""
    shelf = Shelf(tmp_path_factory.mktemp("long") / "home")
    shelf.add(
        "long", {"text": [f"{number} " + chr(97 + number % 26) * (16 << 10) for number in range(2000)]}, block_rows=16
    )
    return str(shelf.home.location)


def held_by(where: str, place: str, passes: int) -> list[int]:
    """Anonymous bytes of a trainer after each of so many passes."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MALLOC", "GLIBC"))}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, where, place, str(passes)],
        capture_output=True,
        text=True,
        timeout=280,
        env={**environment, "PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    rows, held = json.loads(done.stdout)
    assert rows == 2000
    return list(held)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["home", "server"])
def test_anonymous_memory_is_flat_over_many_passes(long: str, where: str) -> None:
    server = Served(long) if where == "server" else None
    try:
        held = held_by(where, server.address if server is not None else long, PASSES)
    finally:
        if server is not None:
            server.stop()
    assert max(held[PASSES // 2 :]) - max(held[: PASSES // 4]) < 24 << 20, [size >> 20 for size in held]


def test_a_pass_that_is_left_frees_its_messages_without_a_garbage_collection(long: str) -> None:
    server = Served(long)
    gc.collect()
    gc.disable()
    try:
        for seed in range(3):
            dataset = FirehoseDataset(
                "long", server=server.address, batch_size=16, repeat=False, seed=seed, prefetch_bytes=2 << 20
            )
            next(iter(dataset))
            del dataset
        for thread in threading.enumerate():
            if thread.name == "choline-read":
                thread.join()
        assert not [each for each in gc.get_objects() if type(each) is pb.ReadStreamResponse]
    finally:
        gc.enable()
        server.stop()
