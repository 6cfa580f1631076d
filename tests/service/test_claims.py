"""A part of a named run has one reader at a time, on whichever server of a home, and is free after this reader has gone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.served import Serve, Served

from choline_data.v1 import firehose_pb2 as pb

from ..conftest import Shelf  # noqa: TID252 - tests are no package
from .conftest import filled, refusal, resolve
from .proxy import Fault, Proxy
from .test_access import READER, TRAINER, bearer, token_file

ONE, TWO = b"1" * 16, b"2" * 16
HASTY = ("--limit", "claim_wait=0.3")  # refuses sooner
TAKEN = (grpc.StatusCode.ALREADY_EXISTS, "RANK_TAKEN")


def claim(who: bytes, run: str = "exp", **part: int) -> pb.ReaderClaim:
    return pb.ReaderClaim(run=run, claimant=who, **part)


Open = Callable[..., Iterator[Any]]


@pytest.fixture
def opened(serve: Serve) -> Iterator[Open]:
    """Opens an endless stream on a connection of its own and reads its header and first batch."""
    streams: list[Any] = []

    def start(served: Served, told: pb.ReaderClaim | None, *, metadata: Any = None, **options: Any) -> Iterator[Any]:
        stub = served.stub(("grpc.http2.lookahead_bytes", 65536))
        mix = pb.ResolveMixRequest(mix="web", repeat=True)
        recipe = stub.ResolveMix(mix, timeout=20, metadata=metadata).recipe_json
        request = pb.ReadStreamRequest(recipe_json=recipe, claim=told, **options)
        streams.append(stub.ReadStream(request, timeout=120, metadata=metadata))
        frames = (frame for frame in streams[-1] if not frame.HasField("heartbeat"))
        assert [next(frames).WhichOneof("frame") for _ in range(2)] == ["header", "batch"]
        return streams[-1]

    yield start
    for stream in streams:
        stream.cancel()


@pytest.fixture(scope="module")
def hasty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server that refuses sooner."""
    with Served(filled(Shelf(tmp_path_factory.mktemp("hasty") / "home")), *HASTY) as served:
        yield served


def test_a_second_reader_of_a_rank_is_refused_while_the_first_reads_on(hasty: Served, opened: Open) -> None:
    first = opened(hasty, claim(ONE, rank=3))
    code, reason, told = refusal(lambda: opened(hasty, claim(TWO, rank=3)))
    assert (code, reason) == TAKEN
    assert (told["run"], told["rank"]) == ("exp", "3")
    assert told["message"] == "Rank 3 of run 'exp' already has a reader, which is still reading."
    assert told["remedy"] == "End that reader, or give this one another rank or another run name."
    assert next(first).WhichOneof("frame") == "batch"


def test_a_claim_is_on_one_part_of_one_run(hasty: Served, opened: Open) -> None:
    first = opened(hasty, claim(ONE, "parts", rank=3))
    others = [
        claim(TWO, "parts", rank=4),
        claim(TWO, "parts", rank=3, worker=1),
        claim(TWO, "parts", rank=3, peer=1),
        claim(TWO, "other", rank=3),
    ]
    streams = [opened(hasty, other) for other in others]
    anyone = opened(hasty, None)  # as clients from before there were claims
    assert all(next(stream).HasField("batch") for stream in [first, anyone, *streams])
    assert refusal(lambda: opened(hasty, claim(ONE, "parts", rank=3, worker=1)))[:2] == TAKEN


def test_the_same_reader_may_come_back_before_its_last_stream_is_seen_to_be_gone(hasty: Served, opened: Open) -> None:
    first = opened(hasty, claim(ONE, "back"))
    second = opened(hasty, claim(ONE, "back"))
    first.cancel()  # which does not free what is the second's now
    assert refusal(lambda: opened(hasty, claim(TWO, "back")))[:2] == TAKEN
    assert next(second).HasField("batch")


@pytest.mark.parametrize("end", ["cancelled", "complete", "its connection closed"])
def test_a_claim_whose_stream_has_ended_is_free_at_once(serve: Serve, home: str, end: str, opened: Open) -> None:
    served = serve(home, "--limit", "claim_wait=0.001")
    if end == "complete":
        list(opened(served, claim(ONE), max_row_count=10))
        opened(served, claim(TWO))
        return
    with served.channel() as channel:
        recipe = resolve(served.stub(), "web", repeat=True).recipe_json
        call = channel.unary_stream("/choline_data.v1.FirehoseService/ReadStream")
        stream = call(pb.ReadStreamRequest(recipe_json=recipe, claim=claim(ONE)).SerializeToString(), timeout=60)
        next(stream)
        if end == "cancelled":
            stream.cancel()
    until = time.monotonic() + 30
    while True:  # the server hears of it a moment later than this process says it
        try:
            opened(served, claim(TWO))
            break
        except grpc.RpcError:
            assert time.monotonic() < until


def test_a_reader_waits_for_the_one_before_it_to_leave(serve: Serve, home: str, opened: Open) -> None:
    served = serve(home, "--limit", "claim_wait=60", "--limit", "heartbeat=0.05")
    first = opened(served, claim(ONE))
    stub = served.stub()
    recipe = resolve(stub, "web", repeat=True).recipe_json
    second = stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe, claim=claim(TWO)), timeout=60)
    assert [next(second).WhichOneof("frame") for _ in range(3)] == ["heartbeat"] * 3
    first.cancel()
    assert next(frame for frame in second if not frame.HasField("heartbeat")).HasField("header")


def test_nobody_slips_in_while_a_reader_that_was_sent_away_comes_back(serve: Serve, home: str, opened: Open) -> None:
    served = serve(home, "--limit", "max_age=1", *HASTY)
    first = opened(served, claim(ONE))
    ends = [frame.end.reason for frame in first if frame.HasField("end")]
    assert ends == [pb.END_REASON_MAX_AGE]
    assert refusal(lambda: opened(served, claim(TWO)))[:2] == TAKEN
    assert next(opened(served, claim(ONE))).HasField("batch")


def test_servers_and_workers_of_one_home_know_each_others_claims(serve: Serve, home: str, opened: Open) -> None:
    one, two = serve(home, "--workers", "2", *HASTY), serve(home, *HASTY)
    first = opened(one, claim(ONE))
    for _ in range(4):  # the kernel gives each connection to any of the workers
        assert refusal(lambda: opened(one, claim(TWO)))[:2] == TAKEN
    assert refusal(lambda: opened(two, claim(TWO)))[:2] == TAKEN
    assert next(first).HasField("batch")


def test_claims_die_with_their_server(serve: Serve, home: str, opened: Open) -> None:
    one, two = serve(home), serve(home)
    opened(one, claim(ONE))
    one.kill()
    assert next(opened(two, claim(TWO))).HasField("batch")


def test_a_reader_takes_its_claim_along_from_a_frozen_server(serve: Serve, home: str, opened: Open) -> None:
    one, two = serve(home), serve(home)
    opened(one, claim(ONE))
    one.signal(signal.SIGSTOP)
    try:
        back = opened(two, claim(ONE))
        assert refusal(lambda: opened(two, claim(TWO)))[:2] == TAKEN
        back.cancel()
        assert next(opened(two, claim(TWO))).HasField("batch")  # though the frozen one has not let go of it
    finally:
        one.signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_reader_that_vanished_without_a_word_keeps_nobody_out_for_longer_than_keepalive(
    serve: Serve, home: str, opened: Open
):
    served = serve(home)
    proxy = Proxy(served.port)
    try:
        channel = grpc.insecure_channel(proxy.address, [("grpc.use_local_subchannel_pool", 1)])
        recipe = resolve(served.stub(), "web", repeat=True).recipe_json
        call = channel.unary_stream("/choline_data.v1.FirehoseService/ReadStream")
        proxy.arm(Fault("down", frame=2))  # both connections stay open, and nothing comes through
        gone = call(pb.ReadStreamRequest(recipe_json=recipe, claim=claim(ONE)).SerializeToString(), timeout=120)
        next(gone)
        assert proxy.happened.wait(10)
        assert refusal(lambda: opened(served, claim(TWO)))[:2] == TAKEN
        began = time.monotonic()
        while True:
            try:
                opened(served, claim(TWO))
                break
            except grpc.RpcError:
                assert time.monotonic() - began < 30
        channel.close()
    finally:
        proxy.close()


def test_each_token_has_runs_of_its_own(serve: Serve, home: str, tmp_path: Path, opened: Open) -> None:
    """Otherwise one user could prevent the runs of another from starting."""
    served = serve(home, "--token-file", token_file(tmp_path), *HASTY)
    first = opened(served, claim(ONE), metadata=bearer(TRAINER))
    second = opened(served, claim(TWO), metadata=bearer(READER))
    assert next(first).HasField("batch") and next(second).HasField("batch")
    assert refusal(lambda: opened(served, claim(TWO), metadata=bearer(TRAINER)))[:2] == TAKEN


def test_a_home_that_can_hold_no_claims_leaves_them_to_each_server(serve: Serve, home: str, opened: Open) -> None:
    (Path(home) / "claims").write_bytes(b"in the way")
    served = serve(home, *HASTY)
    first = opened(served, claim(ONE))
    assert refusal(lambda: opened(served, claim(TWO)))[:2] == TAKEN
    assert next(first).HasField("batch")


BAD = {
    "no run": pb.ReaderClaim(claimant=ONE),
    "a long run": claim(ONE, "x" * 65),
    "a run with control characters": claim(ONE, "a\nb\0"),
    "no claimant": pb.ReaderClaim(run="exp"),
    "a short claimant": claim(b"short"),
    "a long claimant": claim(b"x" * 1_000_000),
    "a rank below 0": claim(ONE, rank=-1),
    "a worker beyond all": claim(ONE, worker=1 << 20),
    "a peer below 0": claim(ONE, peer=-(1 << 31)),
}


@pytest.mark.parametrize("what", BAD)
def test_a_claim_that_no_reader_makes_is_refused(hasty: Served, what: str, opened: Open) -> None:
    code, reason, told = refusal(lambda: opened(hasty, BAD[what]))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "OPTION_INVALID")
    assert told["option"] in ("claim", "run")


def test_any_printable_run_is_a_name_and_never_a_path(serve: Serve, home: str, opened: Open) -> None:
    served = serve(home, *HASTY)
    folder = Path(home) / "claims"
    runs = ["../../../../etc/passwd", "lock", "a/b", "run 𝄞 ñ", "x" * 64]
    streams = [opened(served, claim(ONE, run)) for run in runs]
    for run in runs:
        assert refusal(lambda run=run: opened(served, claim(TWO, run)))[:2] == TAKEN
    names = sorted(os.listdir(folder))
    assert [len(name) for name in names] == [64] * 5 + [4]
    for stream in streams:
        stream.cancel()
    until = time.monotonic() + 10
    while os.listdir(folder) != ["lock"]:
        assert time.monotonic() < until
        time.sleep(0.01)
