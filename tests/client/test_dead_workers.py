"""Workers that die, and scripts that start workers when they are imported."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from choline_data.client.readers import watched


class Sleepy:
    """Fails to return from position 40 on."""

    def __call__(self, sample: dict[str, Any]) -> dict[str, Any]:
        if sample["position"] >= 40:
            time.sleep(600)
        return sample


@pytest.mark.parametrize("context", ["forkserver", "spawn", "fork"])
def test_a_worker_that_died_is_noticed_within_five_seconds(firehose: Any, context: str):
    loader = firehose(batch_size=8, transform=Sleepy()).loader(num_workers=1, multiprocessing_context=context)
    batches = iter(loader)
    for _ in range(5):
        next(batches)
    (worker,) = batches._batches._workers
    os.kill(worker.pid, signal.SIGKILL)
    began = time.monotonic()
    with pytest.raises(RuntimeError, match=r"exited unexpectedly|is killed by signal"):
        next(batches)
    assert time.monotonic() - began < 5


def test_a_worker_that_only_sleeps_is_noticed_after_the_timeout(firehose: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(watched, "LOOK_SECONDS", 0.5)
    loader = firehose(batch_size=8, transform=Sleepy()).loader(num_workers=1, multiprocessing_context="fork", timeout=3)
    batches = iter(loader)
    for _ in range(5):
        next(batches)
    with pytest.raises(RuntimeError, match="timed out after 3 seconds"):
        next(batches)


@pytest.mark.parametrize("context", ["forkserver", "spawn"])
def test_a_script_without_a_guard_gets_one_clear_line(home: Path, tmp_path: Path, context: str):
    script = tmp_path / "train.py"
    script.write_text(
        "from choline_data.client import FirehoseDataset\n"
        f"dataset = FirehoseDataset('web', home={str(home)!r}, batch_size=8)\n"
        f"for batch in dataset.loader(num_workers=2, multiprocessing_context={context!r}):\n"
        "    break\n"
    )
    run = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=200)
    assert run.returncode == 1
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("choline_data.errors.InvalidOptionError") and '`if __name__ == "__main__":`' in last
    assert run.stderr.count("bootstrapping phase") == 0
