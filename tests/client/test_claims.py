"""A rank of a named run has one reader: a second reader gets an error, and the first one may always continue."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import pickle
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.client.conftest import MIX, positions
from tests.served import Served
from torch.utils.data import DataLoader

from choline_data.client import FirehoseDataset
from choline_data.errors import CholineDataError, InvalidOptionError, RankTakenError

ROOT = Path(__file__).parents[2]
Make = Callable[..., FirehoseDataset]


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Served]:
    """A server of the small home that refuses sooner."""
    running = Served(home, "--limit", "claim_wait=0.3")
    yield running
    running.stop()


@pytest.fixture(params=["firehose", "remote"])
def make(request: pytest.FixtureRequest) -> Make:
    """Makes endless datasets of a run of this test's own, embedded and remote."""
    run = hashlib.sha256(request.node.nodeid.encode()).hexdigest()
    options = {"repeat": True, "run": run, **({"prefetch_bytes": 1} if request.param == "remote" else {})}
    made = request.getfixturevalue(request.param)
    return lambda **more: made(**{**options, **more})


def begun(dataset: FirehoseDataset, count: int = 1) -> Iterator[Any]:
    """An iteration that has given its first samples."""
    samples = iter(dataset)
    for _ in range(count):
        next(samples)
    return samples


def test_a_second_reader_of_a_rank_is_told_so_while_the_first_reads_on(make: Make):
    dataset = make(rank=1, world_size=2)
    first = begun(dataset)
    with pytest.raises(RankTakenError) as caught:
        begun(make(rank=1, world_size=2))
    assert str(caught.value) == (
        f"Rank 1 of run '{dataset.run}' already has a reader, which is still reading. "
        "End that reader, or give this one another rank or another run name."
    )
    assert caught.value.metadata == {"run": dataset.run, "rank": "1"}
    assert [next(first)["position"] for _ in range(2000)] == list(range(3, 4003, 2))


def test_another_mix_seed_or_world_size_makes_it_no_other_rank(make: Make):
    """A job that lingers while its successor runs with fewer ranks, or the ranks of which each has a seed of its own."""
    first = begun(make(rank=1, world_size=8))
    for other in ({"seed": 8}, {"mix": "web"}, {"world_size": 6}, {"batch_size": 4}):
        with pytest.raises(RankTakenError):
            begun(make(**{"rank": 1, "world_size": 8, **other}))
    assert next(first)["position"] == 9


def test_other_ranks_other_runs_and_readers_without_one_are_let_be(make: Make):
    dataset = make(rank=0, world_size=2)
    first = begun(dataset)
    others = [make(rank=1, world_size=2), make(run=f"not {dataset.run[:50]}"), make(run=None), make(run=None)]
    kept = [begun(dataset) for dataset in others]
    assert [next(samples)["position"] for samples in (first, *kept)] == [2, 3, 1, 1, 1]


def test_a_dataset_is_never_in_its_own_way(make: Make):
    dataset = make()
    kept = begun(dataset)
    state = dataset.state_dict()
    assert len(json.dumps(state)) < 4096
    dataset.load_state_dict(state)
    again = begun(dataset)
    loader = iter(dataset.loader(batch_size=4))
    assert next(loader)["position"].tolist() == [2, 3, 4, 5]  # an endless stream continues
    assert (next(again)["position"], next(kept)["position"]) == (2, 1)
    assert (dataset.as_map()[3]["position"], dataset.peek(1)["position"].tolist()) == (3, [1])


def test_the_claim_goes_with_the_iteration(make: Make):
    kept = begun(make())
    del kept
    kept = begun(make())
    state = None
    for _ in range(3):
        other = make()
        if state is not None:
            other.load_state_dict(state)
        kept = None
        kept = begun(other)
        state = other.state_dict()
    assert next(kept)["position"] == 3


@pytest.mark.parametrize("context", ["fork", pytest.param("forkserver", marks=pytest.mark.exhaustive)])
def test_workers_claim_for_their_rank_and_a_second_loader_is_told_so(make: Make, context: str):
    settings = {"batch_size": None, "num_workers": 2, "multiprocessing_context": context}
    dataset = make(batch_size=4)
    first = iter(DataLoader(dataset, **settings))
    got = positions(next(first) for _ in range(5))
    refused: Any = iter(DataLoader(make(batch_size=4), **settings))
    with pytest.raises(RankTakenError, match="of run"):
        next(refused)
    refused._shutdown_workers()  # the error's traceback holds it, and torch waits for workers whose queues went first
    with pytest.raises(RankTakenError, match="of run"):
        begun(make())
    dataset.seek(0)
    second = iter(DataLoader(dataset, **settings))  # as the next epoch begins before the last one's workers are gone
    assert positions([next(second)]) == [0, 1, 2, 3]
    got += positions(next(first) for _ in range(5))
    del first, second  # or that holds these
    assert got == list(range(40))


def test_a_dataset_that_was_sent_to_another_process_is_another_reader_there(make: Make):
    """Ranks that are started with one pickled dataset, and all believe to be rank 0."""
    dataset = make()
    first = begun(dataset)
    with pytest.raises(RankTakenError):
        begun(pickle.loads(pickle.dumps(dataset)))
    context = multiprocessing.get_context("fork")
    found, go = context.Queue(), context.Event()
    child = context.Process(target=_said_by, args=(dataset, go, found))
    child.start()
    assert [next(first)["position"] for _ in range(140_000)] == list(range(1, 140_001))  # it rested during the fork
    go.set()
    said = found.get(timeout=60)
    child.join(60)
    assert said == "RankTakenError"


def _said_by(dataset: FirehoseDataset, go: Any, found: Any) -> None:
    go.wait(60)
    try:
        begun(dataset)
        found.put("nothing")
    except CholineDataError as error:
        found.put(type(error).__name__)


READER = """
import sys, time
from choline_data.client import FirehoseDataset

place = {"server": sys.argv[2]} if sys.argv[1] == "remote" else {"home": sys.argv[2]}
samples = iter(FirehoseDataset("web", run="killed " + sys.argv[1], **place))
next(samples)
print("reads", flush=True)
time.sleep(120)
"""


@pytest.mark.parametrize("place", ["firehose", "remote"])
def test_the_claim_of_a_killed_process_is_free(request: pytest.FixtureRequest, home: Path, server: Served, place: str):
    command = [sys.executable, "-W", "ignore", "-c", READER, place, server.address if place == "remote" else str(home)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as reader:
        assert reader.stdout is not None and reader.stdout.readline() == "reads\n"
        make = request.getfixturevalue(place)
        with pytest.raises(RankTakenError):
            begun(make(run=f"killed {place}"))
        reader.kill()
        reader.wait()
        assert next(begun(make(run=f"killed {place}")))["position"] == 1


def test_a_reader_keeps_its_rank_when_its_server_is_killed_and_comes_back(home: Path, free_port: int):
    server = Served(home, port=free_port)
    options = {"server": server.address, "seed": 7, "prefetch_bytes": 1, "run": "kept"}
    dataset = FirehoseDataset(MIX, **options)
    samples = iter(dataset)
    got = [next(samples)["position"] for _ in range(100)]
    server.stop()
    restarted: list[Served] = []
    starter = threading.Thread(target=lambda: restarted.append(Served(home, port=free_port)))
    starter.start()
    got += [next(samples)["position"] for _ in range(30000)]
    starter.join()
    try:
        with pytest.raises(RankTakenError):
            begun(FirehoseDataset(MIX, **options))
        assert got == list(range(30100))
    finally:
        del samples
        restarted[0].stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_reader_takes_its_rank_along_to_the_next_server(home: Path, number: signal.Signals):
    one, two = (Served(home, "--metrics-port", "0") for _ in range(2))
    options = {"seed": 7, "prefetch_bytes": 1, "run": f"along {number}", "stall_seconds": 2.0}
    try:
        dataset = FirehoseDataset(MIX, server=[one.address, two.address], **options)
        samples = begun(dataset, 100)
        used, other = (one, two) if streams(one) else (two, one)
        used.signal(number)
        assert [next(samples)["position"] for _ in range(30000)] == list(range(100, 30100))
        with pytest.raises(RankTakenError):
            begun(FirehoseDataset(MIX, server=other.address, **options))
        assert next(samples)["position"] == 30100
        del samples
    finally:
        for server in (one, two):
            server.signal(signal.SIGCONT)
            server.stop()


def streams(server: Served) -> int:
    """How many streams the server sends now."""
    return sum(
        int(float(n)) for n in re.findall(r"^choline_streams(?:\{.*\})? ([\d.]+)$", server.scraped(), re.MULTILINE)
    )


def test_a_server_and_a_reader_of_its_home_know_each_others_claims(firehose: Any, remote: Any):
    first = begun(firehose(run="both"))
    with pytest.raises(RankTakenError):
        begun(remote(run="both"))
    assert next(first)["position"] == 1


def test_a_home_that_can_hold_no_claims_refuses_no_reader(shelf: Any):
    shelf.add("web", {"text": ["one", "two"]})
    (Path(shelf.home.location) / "claims").write_bytes(b"in the way")
    kept = [begun(FirehoseDataset("web", home=shelf.home.location, run="exp")) for _ in range(2)]
    assert [next(samples)["position"] for samples in kept] == [1, 1]


# --- The rank of a mesh


def _in_mesh(rank: int, home: str, address: str, store: str, out: str) -> None:
    """One of four processes: two that share out samples, times two that read alike."""
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh

    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=4)

    def first(mesh: Any, **options: Any) -> list[int]:
        place = {"server": address} if options.pop("remote", False) else {"home": home}
        samples = iter(FirehoseDataset("web", mesh=mesh, **place, **options))
        got = [next(samples)["position"] for _ in range(3)]
        dist.barrier()  # all of them read at once
        return got

    def refused(mesh: Any, **options: Any) -> str:
        try:
            FirehoseDataset("web", home=home, mesh=mesh, **options)
        except InvalidOptionError as error:
            return str(error)
        return "not refused"

    flat = init_device_mesh("cpu", (4,))
    mesh = init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp", "tp"))
    other = init_device_mesh("cpu", (2, 2), mesh_dim_names=("pp", "dp"))
    sharded = init_device_mesh("cpu", (2, 2, 1), mesh_dim_names=("dp_replicate", "dp_shard", "ep"))
    told = {
        "none": first(None),
        "flat": first(flat),
        "dp, tp": first(mesh),
        "its dp": first(mesh["dp"]),
        "pp, dp": first(other),
        "dp_replicate, dp_shard": first(sharded),
        "all alike": first(init_device_mesh("cpu", (2, 2), mesh_dim_names=("pp", "tp"))),
        "a run": first(mesh, run="mesh"),
        "a run, remote": first(mesh["dp"], run="mesh too", remote=True),
        "the same told": first(mesh, rank=rank // 2, world_size=2),
        "other told": refused(mesh, rank=rank, world_size=4),
        "its tp": refused(mesh["tp"]),
        "mixed": refused(init_device_mesh("cpu", (2, 2), mesh_dim_names=("dp_cp", "tp"))),
        "unnamed": refused(init_device_mesh("cpu", (2, 2))),
        "no mesh": refused("dp"),
        "elsewhere": refused(dist.device_mesh.DeviceMesh("cpu", [0])) if rank else "",
    }
    if not rank:
        dist.device_mesh.DeviceMesh("cpu", [0])  # every process has to make it
    # A dataset of the mesh goes to workers as any other: the mesh itself does not travel.
    dataset = FirehoseDataset("web", home=home, mesh=mesh, batch_size=4, run="workers", max_samples=64)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context="fork")
    told["workers"] = positions(loader)
    (Path(out) / str(rank)).write_text(json.dumps(told))
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore")
def test_four_processes_find_their_ranks_in_a_mesh(home: Path, server: Served, tmp_path: Path):
    facts = (str(home), server.address, str(tmp_path / "store"), str(tmp_path))
    torch.multiprocessing.spawn(_in_mesh, facts, nprocs=4)
    told = [json.loads((tmp_path / str(rank)).read_text()) for rank in range(4)]
    four = [[rank, rank + 4, rank + 8] for rank in range(4)]
    even, odd = [0, 2, 4], [1, 3, 5]
    assert {name: [each[name] for each in told] for name in told[0] if isinstance(told[0][name], list)} == {
        "none": four,
        "flat": four,
        "dp, tp": [even, even, odd, odd],
        "its dp": [even, even, odd, odd],
        "pp, dp": [even, odd, even, odd],
        "dp_replicate, dp_shard": four,
        "all alike": [[0, 1, 2]] * 4,
        "a run": [even, even, odd, odd],
        "a run, remote": [even, even, odd, odd],
        "the same told": [even, even, odd, odd],
        "workers": [[p for p in range(64) if p // 4 % 2 == rank // 2] for rank in range(4)],
    }
    assert told[3]["other told"] == (
        "rank 3 of world_size 4 is set, but the mesh has rank 1 of 2. Give the mesh, or rank and world_size."
    )
    assert told[3]["its tp"].startswith("The mesh of tp does not split the samples, and has only 2 of 4 processes.")
    assert told[3]["mixed"].startswith("Whether dimension 'dp_cp' of the mesh splits the samples")
    assert told[3]["unnamed"].startswith("The mesh has 2 dimensions without names.")
    assert told[3]["no mesh"] == 'mesh is of type str. Give a DeviceMesh, such as mesh["dp"].'
    assert told[3]["elsewhere"].startswith("This process is not in the mesh.")
