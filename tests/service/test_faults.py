"""Servers that are killed, frozen or cut off in the middle of a frame: no sample is lost or repeated."""

from __future__ import annotations

import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from tests.served import Serve, Served

from choline_data.errors import CholineDataError, UnavailableError
from choline_data.v1 import firehose_pb2 as pb

from ..conftest import Shelf  # noqa: TID252 - tests are no package
from .proxy import Fault, Proxy, Relay

pytest.importorskip("torch")

from choline_data.client import FirehoseDataset

MIX = {"web": 0.7, "code": 0.3}
BATCH = 4
SMALL = ("--limit", "message_bytes=65536")
FAULT_SECONDS = 120.0  # how long a test waits for what must come; bench/resume.py measures how soon it does


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A home whose samples are so big that a stream's buffers hold few of them."""
    shelf = Shelf(tmp_path_factory.mktemp("faults") / "home")
    shelf.add("web", {"text": [f"web {n} " + "w" * (n * 997 % 32768) for n in range(400)]}, block_rows=32)
    shelf.add("code", {"text": [f"code {n} " + "c" * (n * 331 % 16384) for n in range(150)]}, block_rows=32)
    return str(shelf.home.location)


class Reader(threading.Thread):
    """A client of one rank. It reads until the test says how many samples are enough."""

    def __init__(
        self, change: threading.Condition, *servers: str, rank: int = 0, world: int = 1, **options: Any
    ) -> None:
        super().__init__(daemon=True)
        self.change = change
        self.dataset = FirehoseDataset(
            MIX, server=servers, seed=5, rank=rank, world_size=world, batch_size=BATCH, prefetch_bytes=1, **options
        )
        self.positions: list[int] = []
        self.ids: list[bytes] = []
        self.enough: int | None = None
        self.error: CholineDataError | None = None
        self.longest = 0.0  # between two batches
        self.flows = threading.Event()
        self.flows.set()
        self.start()

    @property
    def count(self) -> int:
        return len(self.positions)

    def run(self) -> None:
        last = time.monotonic()
        try:
            for batch in self.dataset:
                with self.change:
                    self.longest = max(self.longest, time.monotonic() - last)
                    self.positions += batch["position"].tolist()
                    self.ids += batch["id"]
                    self.change.notify_all()
                    if self.enough is not None and self.count >= self.enough:
                        return
                self.flows.wait(60)
                last = time.monotonic()
        except CholineDataError as error:
            with self.change:
                self.error = error
                self.change.notify_all()


class Clients:
    """Several readers that are the ranks of one training run."""

    def __init__(self) -> None:
        self.change = threading.Condition()
        self.readers: list[Reader] = []

    def add(self, world: int, *servers: str, **options: Any) -> None:
        self.readers += [Reader(self.change, *servers, rank=r, world=world, **options) for r in range(world)]

    def until(self, holds: Callable[[], bool], seconds: float, what: str) -> float:
        """Waits for something that the readers bring about; the seconds it took."""
        began = time.monotonic()
        with self.change:
            if not self.change.wait_for(lambda: holds() or self._failed(), seconds) or self._failed():
                counts = [(r.count, r.error) for r in self.readers]
                raise AssertionError(f"not within {seconds:.0f} s: {what}; readers {counts}")
        return time.monotonic() - began

    def _failed(self) -> bool:
        return any(r.error for r in self.readers)

    def all_went_on(self, samples: int, seconds: float) -> float:
        """The seconds until every reader has so many samples more."""
        goals = [(r, r.count + samples) for r in self.readers]
        return self.until(lambda: all(r.count >= goal for r, goal in goals), seconds, f"{samples} samples each")

    def hold(self, held: bool) -> None:
        """Pauses the readers, or lets them continue."""
        for reader in self.readers:
            reader.flows.clear() if held else reader.flows.set()

    def finish(self) -> dict[int, bytes]:
        """The ids by position of what all read together, up to where the first of them was."""
        with self.change:
            enough = max(r.count for r in self.readers) + 5 * BATCH
            for reader in self.readers:
                reader.enough = enough
        self.hold(False)
        for reader in self.readers:
            reader.join(60)
            assert not reader.is_alive()
            assert reader.error is None
            assert reader.count == enough
            assert reader.positions == sorted(reader.positions)
        joined = [p for r in self.readers for p in r.positions]
        assert sorted(joined) == list(range(enough * len(self.readers)))
        return {p: i for r in self.readers for p, i in zip(r.positions, r.ids, strict=True)}


def uninterrupted(home: str, count: int) -> list[bytes]:
    """The ids of the first samples, from this process."""
    dataset = FirehoseDataset(MIX, home=home, seed=5, batch_size=256, max_samples=count)
    return [i for batch in dataset for i in batch["id"]]


def assert_nothing_lost(clients: Clients, home: str) -> None:
    joined = clients.finish()
    assert [joined[p] for p in range(len(joined))] == uninterrupted(home, len(joined))


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
def test_a_server_killed_ten_times_and_restarted_loses_nothing(serve: Serve, home: str) -> None:
    points = random.Random(20)
    server = serve(home, *SMALL)
    clients = Clients()
    clients.add(8, server.address)
    clients.all_went_on(BATCH, FAULT_SECONDS)
    took = []
    for _ in range(10):
        reader = points.choice(clients.readers)
        point = reader.count + points.randrange(1, 200)
        clients.until(lambda at=point, who=reader: who.count >= at, FAULT_SECONDS, f"sample {point}")  # type: ignore[misc]
        server.kill()
        server = serve(home, *SMALL, port=server.port)
        took.append(round(clients.all_went_on(1, FAULT_SECONDS), 2))
    print("seconds from return to samples:", took)
    assert_nothing_lost(clients, home)


@pytest.mark.slow
def test_replicas_killed_ten_times_in_turn_lose_nothing(serve: Serve, home: str) -> None:
    points = random.Random(40)
    servers = [serve(home, *SMALL), serve(home, *SMALL)]
    clients = Clients()
    clients.add(8, *(s.address for s in servers))
    clients.all_went_on(BATCH, FAULT_SECONDS)
    took = []
    for number in range(10):
        reader = points.choice(clients.readers)
        point = reader.count + points.randrange(1, 200)
        clients.until(lambda at=point, who=reader: who.count >= at, FAULT_SECONDS, f"sample {point}")  # type: ignore[misc]
        victim = servers[number % 2]
        victim.kill()
        took.append(round(clients.all_went_on(120, FAULT_SECONDS), 2))  # 1.5 MB, not what was on its way
        clients.hold(True)
        servers[number % 2] = serve(home, *SMALL, port=victim.port)
        clients.hold(False)
    print("seconds from kill to 120 samples:", took)
    assert_nothing_lost(clients, home)


@pytest.mark.slow
def test_a_frozen_server_is_left_or_reported(serve: Serve, home: str) -> None:
    frozen, port = serve(home, *SMALL), free_port()
    moving, patient, hasty = Clients(), Clients(), Clients()
    moving.add(2, frozen.address, f"127.0.0.1:{port}")  # nobody is there yet, so that all read from `frozen`
    patient.add(1, frozen.address)
    hasty.add(1, frozen.address, retry_seconds=10)
    every = (moving, patient, hasty)
    for clients in every:
        clients.all_went_on(BATCH, FAULT_SECONDS)
        clients.hold(True)
    serve(home, *SMALL, port=port)
    for clients in every:
        clients.hold(False)
        clients.all_went_on(BATCH, FAULT_SECONDS)
        for reader in clients.readers:
            reader.longest = 0.0
    frozen.signal(signal.SIGSTOP)
    began = time.monotonic()
    try:
        moving.until(lambda: all(r.longest > 1 for r in moving.readers), FAULT_SECONDS, "samples from the other")
        left = max(r.longest for r in moving.readers)
        with hasty.change:
            assert hasty.change.wait_for(lambda: hasty.readers[0].error is not None, FAULT_SECONDS)
        reported = time.monotonic() - began
    finally:
        frozen.signal(signal.SIGCONT)
    went_on = patient.all_went_on(1, FAULT_SECONDS)
    print("seconds left reported went on:", [round(s, 2) for s in (left, reported, went_on)])
    assert isinstance(hasty.readers[0].error, UnavailableError)
    for clients in (moving, patient):
        assert_nothing_lost(clients, home)


@pytest.fixture(scope="module")
def whole(home: str) -> Iterator[Served]:
    """A server that nothing happens to."""
    with Served(home, *SMALL) as served:
        yield served


@pytest.fixture
def proxy(whole: Served) -> Iterator[Proxy]:
    """A proxy in front of it."""
    between = Proxy(whole.port)
    yield between
    between.close()


@pytest.fixture
def relay(whole: Served) -> Iterator[Callable[..., Relay]]:
    """Makes relays in front of it."""
    made: list[Relay] = []

    def start(batches: int, **options: Any) -> Relay:
        made.append(Relay(whole.address, batches, **options))
        return made[-1]

    yield start
    for each in made:
        each.close()


def through(address: str, count: int, **options: Any) -> FirehoseDataset:
    """A client that looks for silence every 2 seconds."""
    fixed = {"seed": 5, "batch_size": 64, "prefetch_bytes": 1, "stall_seconds": 2.0}
    return FirehoseDataset(MIX, server=address, max_samples=count, **fixed, **options)


FAULTS = [
    Fault("rst", 9),
    Fault("fin", 9),
    Fault("down", 9),
    Fault("up", 9),
    Fault("flip", 0, 0),  # whether the first message is compressed
    Fault("flip", 0, 1),  # its length, now above 1 GiB
    Fault("flip", 0, 3),
    Fault("flip", 0, 5),  # the tag of its first field
    Fault("flip", 0, 40),
    *(Fault("flip", frame, byte) for frame, byte in [(1, 0), (1, 7), (2, 9000), (5, 1), (8, 4000), (13, 16000)]),
]


def read(dataset: FirehoseDataset) -> tuple[list[tuple[int, bytes]], CholineDataError | None]:
    """The positions and ids that come, and the error that ends them."""
    got: list[tuple[int, bytes]] = []
    try:
        for batch in dataset:
            got += zip(batch["position"].tolist(), batch["id"], strict=True)
    except CholineDataError as error:
        return got, error
    return got, None


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f"{f.kind}-{f.frame}-{f.byte}")
def test_a_spoiled_connection_changes_no_sample(proxy: Proxy, home: str, fault: Fault) -> None:
    dataset = through(proxy.address, 1500)
    proxy.arm(fault)
    got, error = read(dataset)
    assert proxy.happened.is_set()
    expected = list(enumerate(uninterrupted(home, 1500)))
    assert got == (expected if error is None else expected[: len(got)])
    assert error is None or (fault.kind, fault.frame) == ("flip", 0)  # where the header names another recipe


def test_a_spoiled_recipe_is_asked_for_again_or_refused(proxy: Proxy, whole: Served) -> None:
    points = random.Random(60)
    options = {"seed": 5, "repeat": False}
    expected = FirehoseDataset(MIX, server=whole.address, **options)
    refused = 0
    for byte in (5, *(points.randrange(6, 1000) for _ in range(11)), 4000):  # behind the length of the message
        proxy.arm(Fault("flip", 0, byte))
        try:
            dataset = FirehoseDataset(MIX, server=proxy.address, retry_seconds=10, **options)
        except CholineDataError:
            refused += 1
        else:
            assert dataset.recipe == expected.recipe
            assert dataset.length == expected.length
        assert proxy.happened.is_set()
    assert refused < 13


def test_a_stream_without_an_end_frame_is_not_at_its_end(relay: Callable[..., Relay], home: str) -> None:
    between = relay(3)
    got, error = read(through(between.address, 600))
    assert error is None
    assert between.streams == 4
    assert got == list(enumerate(uninterrupted(home, 600)))


@pytest.mark.parametrize("batches", [0, 2])
@pytest.mark.parametrize("reason", [pb.END_REASON_COMPLETE, pb.END_REASON_DRAINING, pb.END_REASON_UNSPECIFIED])
def test_an_end_frame_that_is_not_true_is_not_believed(
    relay: Callable[..., Relay], home: str, batches: int, reason: pb.EndReason.ValueType
) -> None:
    between = relay(batches, times=2, end=pb.StreamEnd(reason=reason, row_count=7, batch_count=batches))
    got, error = read(through(between.address, 600))
    assert error is None
    assert got == list(enumerate(uninterrupted(home, 600)))


def test_a_server_that_ends_every_stream_at_once_is_not_asked_without_pause(relay: Callable[..., Relay]) -> None:
    between = relay(0, times=1 << 30, end=pb.StreamEnd(reason=pb.END_REASON_DRAINING))
    got, error = read(through(between.address, 600, retry_seconds=2))
    assert got == []
    assert isinstance(error, UnavailableError)
    assert between.streams < 50
