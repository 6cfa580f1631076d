"""A real server gives the same samples as an embedded reader, and every early end, cut or silence is noticed."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from tests.client.conftest import MIX, positions
from tests.compatibility.exchanges import Recorder
from tests.conftest import Shelf
from tests.served import Served
from torch.utils.data import DataLoader

from choline_data.client import FirehoseDataset, collate
from choline_data.client.readers.connection import Endpoint
from choline_data.client.readers.remote import RemoteReader
from choline_data.errors import InvalidOptionError, UnavailableError, UnknownDatasetError
from choline_data.order.lanes import Lane
from choline_data.v1 import firehose_pb2 as pb

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")


def test_a_server_and_a_home_give_the_same_samples(firehose: Any, remote: Any):
    assert remote().recipe == firehose().recipe
    assert list(remote()) == list(firehose())
    assert list(remote(view="text")) == list(firehose(view="text"))


def test_batches_are_the_same(firehose: Any, remote: Any):
    for ours, theirs in zip(remote(batch_size=7), firehose(batch_size=7), strict=True):
        assert ours["position"].tolist() == theirs["position"].tolist()
        assert {k: v for k, v in ours.items() if k != "position"} == {
            k: v for k, v in theirs.items() if k != "position"
        }


@pytest.mark.parametrize("world", [1, 2, 3, 8])
@pytest.mark.parametrize("batch", [None, 4])
def test_ranks_share_out_every_position_once(firehose: Any, remote: Any, world: int, batch: int | None):
    for rank in range(world):
        share = {"rank": rank, "world_size": world, "batch_size": batch}
        assert positions(remote(**share)) == positions(firehose(**share))


@pytest.mark.parametrize("start", [0, 1, 13, 32, 100, 449, 450])
@pytest.mark.parametrize(("world", "batch"), [(1, 4), (3, 5), (2, None)])
def test_a_resumed_stream_counts_steps_from_where_it_begins(
    firehose: Any, remote: Any, start: int, world: int, batch: int | None
):
    for rank in range(world):
        got = []
        for make in (remote, firehose):
            dataset = make(rank=rank, world_size=world, batch_size=batch)
            dataset.seek(start)
            got.append(positions(dataset))
        assert got[0] == got[1]


@pytest.mark.parametrize("context", ["fork", "forkserver", "spawn"])
def test_workers_read_from_the_server_under_every_start_method(remote: Any, context: str):
    loader = DataLoader(remote(batch_size=8), batch_size=None, num_workers=2, multiprocessing_context=context)
    assert positions(loader) == list(range(450))


def test_workers_behind_a_loader_that_batches_keep_the_order_of_their_rank(remote: Any):
    loader = DataLoader(remote(rank=1, world_size=2), batch_size=8, num_workers=2, collate_fn=collate)
    assert positions(loader) == list(range(1, 450, 2))


@pytest.mark.parametrize(("world", "workers"), [(2, 4), (2, 3), (4, 2), (3, 3), (2, 1)])
@pytest.mark.parametrize("start", [0, 7])
def test_a_worker_asks_for_little_more_than_it_uses(server: Served, remote: Any, world: int, workers: int, start: int):
    """Where ranks are dealt single positions and a DataLoader makes batches, a worker's positions are in no one range."""
    share = {"rank": 1, "world": world, "worker": workers - 1, "workers": workers, "group": 5}
    lane = Lane.dealt(start, **share)
    recorder = Recorder(server.address)
    described = remote().describe()
    reader = RemoteReader(Endpoint.of(recorder.address), described, None)
    got = [p for chunk in reader.chunks(lane, 0, None) for p in chunk.positions.tolist()]
    assert got == lane.positions(0, lane.below(450)).tolist()
    assert rows_sent(recorder) <= min(world, workers) * (lane.below(450) + 5)
    later = [p for chunk in reader.chunks(lane, 3, 20) for p in chunk.positions.tolist()]
    assert later == got[3:23]
    reader.close()
    recorder.close()


def rows_sent(recorder: Recorder) -> int:
    """The rows of all streams that a recorder has passed on."""
    frames = (pb.ReadStreamResponse.FromString(raw) for each in recorder.exchanges for raw in each.answers)
    return sum(frame.batch.row_count for frame in frames)


def test_a_pass_that_is_dropped_asks_for_no_more_samples(server: Served):
    recorder = Recorder(server.address)
    options = {"seed": 7, "max_samples": 100_000, "batch_size": 7, "last_batch": "wrap", "prefetch_bytes": 1}
    samples = iter(FirehoseDataset(MIX, server=recorder.address, **options))
    next(samples)
    del samples
    until_no_thread_reads()
    assert [exchange.method for exchange in recorder.exchanges] == ["ResolveMix", "ReadStream"]
    recorder.close()


def test_workers_start_while_the_parent_is_in_the_middle_of_a_stream(remote: Any):
    """The parent's stream rests during the fork and then goes on with the next sample."""
    samples = iter(remote(repeat=True))
    before = [next(samples)["position"] for _ in range(5)]
    for _ in range(5):
        loader = DataLoader(remote(batch_size=8), batch_size=None, num_workers=2, multiprocessing_context="fork")
        assert positions(loader) == list(range(450))
        before += [next(samples)["position"] for _ in range(100)]
    assert before == list(range(505))


def test_an_unknown_dataset_is_the_same_error_as_at_home(remote: Any, firehose: Any):
    with pytest.raises(UnknownDatasetError) as there:
        remote("wbe")
    with pytest.raises(UnknownDatasetError) as here:
        firehose("wbe")
    assert str(there.value) == str(here.value)


def test_no_server_is_an_error_after_the_budget(free_port: int):
    with pytest.raises(UnavailableError, match="Check the server"):
        FirehoseDataset("web", server=f"127.0.0.1:{free_port}", retry_seconds=0.5)


def test_a_token_is_not_sent_in_the_clear():
    with pytest.raises(InvalidOptionError, match="TLS"):
        FirehoseDataset("web", server="data.example.org:443", token="secret")


def test_a_server_that_dies_is_replaced_by_the_next_without_loss(home: Path):
    one, two = Served(home), Served(home)
    try:
        dataset = FirehoseDataset(MIX, server=[one.address, two.address], repeat=True, seed=7, prefetch_bytes=1)
        samples = iter(dataset)
        got = [next(samples)["position"] for _ in range(100)]
        one.stop()
        got += [next(samples)["position"] for _ in range(30000)]
        two.signal(signal.SIGTERM)
        assert got == list(range(30100))
    finally:
        one.stop()
        two.stop()


def test_a_server_that_comes_back_continues_the_stream(home: Path, free_port: int):
    server = Served(home, port=free_port)
    dataset = FirehoseDataset(MIX, server=server.address, repeat=True, seed=7, prefetch_bytes=1)
    samples = iter(dataset)
    got = [next(samples)["position"] for _ in range(100)]
    server.stop()
    restarted: list[Served] = []
    starter = threading.Thread(target=lambda: restarted.append(Served(home, port=free_port)))
    starter.start()
    got += [next(samples)["position"] for _ in range(30000)]
    starter.join()
    restarted[0].stop()
    assert got == list(range(30100))


def test_a_frozen_server_is_left_for_another(home: Path):
    one, two = Served(home), Served(home)
    try:
        options = {"repeat": True, "seed": 7, "prefetch_bytes": 1, "stall_seconds": 1.0}
        dataset = FirehoseDataset(MIX, server=[one.address, two.address], **options)
        samples = iter(dataset)
        got = [next(samples)["position"] for _ in range(100)]
        one.signal(signal.SIGSTOP)
        two_too = [next(samples)["position"] for _ in range(30000)]
        assert got + two_too == list(range(30100))
    finally:
        one.signal(signal.SIGCONT)
        one.stop()
        two.stop()


def test_a_loop_that_pauses_until_the_server_drops_it_goes_on_where_it_was(tmp_path: Path):
    """As when a run evaluates for minutes: the reader keeps what it has, and asks again from there."""
    shelf = Shelf(tmp_path / "home")
    shelf.add("wide", {"text": [f"{n} " + "x" * 60_000 for n in range(600)]})
    served = Served(tmp_path / "home", "--limit", "stall=0.3", "--metrics-port", "0")
    try:
        dataset = FirehoseDataset("wide", server=served.address, repeat=True, seed=7, prefetch_bytes=1)
        samples = iter(dataset)
        got = [next(samples)["position"] for _ in range(10)]
        until = time.monotonic() + 20
        while "choline_stalls_total 1.0" not in served.scraped():
            assert time.monotonic() < until, "the stream was not dropped"
            time.sleep(0.05)
        got += [next(samples)["position"] for _ in range(1500)]
        assert got == list(range(1510))
    finally:
        served.stop()


def test_a_frozen_address_takes_only_its_part_of_the_time(home: Path, monkeypatch: pytest.MonkeyPatch):
    """A frozen process still listens: its kernel takes the connection, and nobody answers."""
    one, two = Served(home), Served(home)
    one.signal(signal.SIGSTOP)
    monkeypatch.setattr("random.Random.randrange", lambda *_: 0)  # the frozen one is tried first
    try:
        dataset = FirehoseDataset("web", server=[one.address, two.address], repeat=False, stall_seconds=1.0)
        assert positions(dataset) == list(range(300))
    finally:
        one.signal(signal.SIGCONT)
        one.stop()
        two.stop()


def test_a_name_stands_for_servers(server: Served, firehose: Any):
    dataset = FirehoseDataset(MIX, server=f"dns:///localhost:{server.port}", repeat=False, seed=7, token="unused")
    assert positions(dataset) == positions(firehose())


@pytest.mark.parametrize("option", ["retry_seconds", "stall_seconds"])
def test_seconds_are_above_zero(server: Served, option: str):
    with pytest.raises(InvalidOptionError, match=option):
        FirehoseDataset("web", server=server.address, **{option: 0})


def test_a_dropped_iterator_leaves_no_thread(remote: Any):
    samples = iter(remote(repeat=True, prefetch_bytes=1))
    next(samples)
    assert any(t.name == "choline-read" for t in threading.enumerate())
    del samples
    until_no_thread_reads()


def until_no_thread_reads() -> None:
    until = time.monotonic() + 20
    while any(thread.name == "choline-read" for thread in threading.enumerate()):
        assert time.monotonic() < until
        time.sleep(0.01)
