"""Lightning: its checkpoints hold the loader's state, and no batch that it took ahead is lost."""

from __future__ import annotations

import gc
import importlib.util
import subprocess
import sys
import weakref
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from tests.client.conftest import positions
from tests.conftest import Shelf

from choline_data.errors import InvalidOptionError

ROOT = Path(__file__).parents[2]


class _PrefetchDataFetcher:
    """What Lightning's class of this name does: one batch of a loader that has no length is always held."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.batches = loader, []
        self.length = None if getattr(loader, "dataset", loader).length is None else len(loader)

    def __iter__(self) -> Any:
        self.iterator = iter(self.loader)
        if self.length is None:
            self.batches.append(next(self.iterator))
        return self

    def __next__(self) -> Any:
        if self.length is not None:
            return next(self.iterator)
        batch = self.batches.pop(0)
        self.batches.append(next(self.iterator))
        return batch


@pytest.mark.parametrize(("workers", "count"), [(0, 0), (0, 1), (0, 5), (2, 5)])
def test_a_batch_that_is_held_is_not_in_the_state(firehose: Any, workers: int, count: int):
    """The hooks that Lightning calls, in its order: load_state_dict, iter, next …, state_dict."""
    loader = firehose(repeat=True, batch_size=8).loader(num_workers=workers)
    got = positions(islice(_PrefetchDataFetcher(loader), count))
    state = loader.state_dict()
    again = firehose(repeat=True, batch_size=8).loader(num_workers=workers)
    again.load_state_dict(state)
    got += positions(islice(_PrefetchDataFetcher(again), 3))
    assert got == list(range((count + 3) * 8))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_state_of_a_finite_stream_has_the_last_batch(firehose: Any, workers: int):
    loader = firehose(batch_size=8).loader(num_workers=workers)
    got = positions(islice(_PrefetchDataFetcher(loader), 5))
    again = firehose(batch_size=8).loader(num_workers=workers)
    again.load_state_dict(loader.state_dict())
    assert got + positions(_PrefetchDataFetcher(again)) == list(range(450))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_limited_epoch_of_an_endless_stream_continues_with_the_batch_that_was_held(firehose: Any, workers: int):
    loader = firehose(repeat=True, batch_size=8).loader(num_workers=workers)
    assert [positions(islice(_PrefetchDataFetcher(loader), 3)) for _ in range(2)] == [
        list(range(24)),
        list(range(24, 48)),
    ]


def test_workers_of_a_dropped_fetcher_end_at_once(firehose: Any):
    """Without a cycle through the fetcher, which would leave them to the garbage collector."""
    fetcher = _PrefetchDataFetcher(firehose(repeat=True, batch_size=8).loader(num_workers=1))
    next(iter(fetcher))
    gone = weakref.ref(fetcher.iterator)
    gc.disable()
    try:
        del fetcher
        assert gone() is None
    finally:
        gc.enable()


def test_the_dataset_alone_is_refused(firehose: Any):
    with pytest.raises(InvalidOptionError, match="loader"):
        next(iter(_PrefetchDataFetcher(firehose(repeat=True, batch_size=8))))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("lightning") is None, reason="lightning is not installed")
def test_a_run_that_is_cut_has_the_losses_of_one_that_is_not(tmp_path: Path):
    Shelf(tmp_path / "home").add("web", {"text": [f"the number {n} follows {n - 1}" for n in range(200)]})

    def run(name: str, steps: int) -> list[str]:
        command = [sys.executable, "examples/lightning_loop.py", "--home", str(tmp_path / "home"), "--mix", "web"]
        command += ["--checkpoint", str(tmp_path / name), "--steps", str(steps)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT)
        assert done.returncode == 0, done.stderr[-2000:]
        return [line for line in done.stdout.splitlines() if ": loss" in line]

    whole = run("whole.ckpt", 8)
    assert run("cut.ckpt", 5) + run("cut.ckpt", 8) == whole
