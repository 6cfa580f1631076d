"""Forked DataLoader workers read from a server, whatever their parent did with gRPC before: 25 of 25 passes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.served import Served

ROOT = Path(__file__).parents[2]
PROGRAM = """
import sys, threading, warnings
import grpc
from torch.utils.data import DataLoader
from choline_data.client import FirehoseDataset

address, did, passes = sys.argv[1], sys.argv[2], int(sys.argv[3])
make = lambda **more: FirehoseDataset({"web": 5, "code": 3}, server=address, seed=7, **more)
kept = []
if did == "a channel of its own, idle":
    channel = grpc.insecure_channel(address)
    grpc.channel_ready_future(channel).result(timeout=10)
    kept.append(channel)
elif did == "a map view, idle":
    view = make(max_samples=100).as_map()
    view[3]
    kept.append(view)
elif did == "a finished stream":
    list(make(max_samples=100))
elif did == "a stream read by a thread":
    stop = threading.Event()
    samples = iter(make())
    reader = threading.Thread(target=lambda: [next(samples) for _ in iter(stop.is_set, True)], daemon=True)
    reader.start()
elif did == "a half-read stream":
    samples = iter(make())
    before = [next(samples)["position"] for _ in range(5)]
    kept.append(samples)
for number in range(passes):
    loader = DataLoader(
        make(batch_size=8, max_samples=64), batch_size=None, num_workers=2, multiprocessing_context="fork", timeout=60
    )
    assert [p for batch in loader for p in batch["position"].tolist()] == list(range(64)), number
if did == "a stream read by a thread":
    stop.set()
    reader.join(30)
if did == "a half-read stream":
    assert before + [next(samples)["position"] for _ in range(100)] == list(range(105))
if did == "a map view, idle":
    assert kept[0][4]["position"] == 4
print("all", passes)
"""
DID = ("nothing", "a finished stream", "a map view, idle", "a stream read by a thread", "a half-read stream")


def passed(server: Served, did: str, passes: int, support: str | None = None) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "GRPC_ENABLE_FORK_SUPPORT"}
    if support is not None:
        environment["GRPC_ENABLE_FORK_SUPPORT"] = support
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, server.address, did, str(passes)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, cwd=ROOT, env=environment)
    return done.stdout + done.stderr[-2000:]


def test_workers_fork_beside_a_stream_that_a_thread_reads(server: Served):
    assert passed(server, "a stream read by a thread", 3) == "all 3\n"


@pytest.mark.exhaustive
@pytest.mark.parametrize("support", [None, "1", "0"])
@pytest.mark.parametrize("did", DID)
def test_all_passes_of_the_matrix(server: Served, did: str, support: str | None):
    assert passed(server, did, 25, support) == "all 25\n"


ORPHANS = """
import sys, time, warnings
from torch.utils.data import DataLoader
from choline_data.client import FirehoseDataset

dataset = FirehoseDataset({"web": 5, "code": 3}, server=sys.argv[1], batch_size=int(sys.argv[3]))
batches = iter(DataLoader(dataset, batch_size=None, num_workers=2, multiprocessing_context=sys.argv[2]))
next(batches)
print(*[worker.pid for worker in batches._workers], flush=True)
time.sleep(60)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("context", "batch"), [("fork", 8), ("fork", 20_000), ("forkserver", 20_000), ("spawn", 8)])
def test_a_killed_trainer_leaves_no_worker(server: Served, context: str, batch: int):
    """This also holds for workers that are still starting, and for batches that do not fit into a pipe."""
    command = [sys.executable, "-W", "ignore", "-c", ORPHANS, server.address, context, str(batch)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        workers = [int(pid) for pid in trainer.stdout.readline().split()]
        trainer.kill()
        trainer.wait()
    deadline = time.monotonic() + 60  # the second one may be importing torch yet
    while any(map(running, workers)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(workers) == 2 and not any(map(running, workers))


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.exhaustive
@pytest.mark.parametrize("support", [None, "1"])
def test_a_channel_that_is_none_of_ours_may_be_open(server: Served, support: str | None):
    assert passed(server, "a channel of its own, idle", 25, support) == "all 25\n"


def test_where_grpc_would_hang_a_worker_says_what_to_set(server: Served):
    """With GRPC_ENABLE_FORK_SUPPORT=0 beside a foreign channel, whoever opens the next one."""
    said = passed(server, "a channel of its own, idle", 1, "0")
    assert 'Start DataLoader workers with multiprocessing_context="forkserver".' in said


@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
def test_a_stream_that_was_cut_keeps_no_thread_of_grpc(server: Served):
    """gRPC keeps a cancelled call, its channel and its own threads until all events of the call are read."""
    done = subprocess.run(
        [sys.executable, "-c", CUT, server.address], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.stdout == "True False\n", done.stderr


CUT = """
import sys, time
from choline_data.client import FirehoseDataset; from choline_data.client.readers import forks

samples = iter(FirehoseDataset("web", server=sys.argv[1]))
next(samples)
print(bool(forks._grpc_threads()), end=" ")
del samples
until = time.monotonic() + 10
while forks._grpc_threads() and time.monotonic() < until:
    time.sleep(0.01)
print(bool(forks._grpc_threads()))
"""
