"""Each limit of docs/serving.md: a request at the limit is served, and one above it gets an error that names the setting."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.served import Serve, Served

from choline_data.errors import InvalidOptionError
from choline_data.service.limits import Limits
from choline_data.service.server import channel_options
from choline_data.v1 import firehose_pb2 as pb

from ..conftest import Shelf  # noqa: TID252 - tests are no package
from .conftest import digest, kinds, read, refusal, resolve, rows_of
from .test_access import READER, TRAINER, ask, bearer, token_file

MIX = "web:0.7,code:0.3"


PERMANENT = (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_TOO_LARGE")
FOR_NOW = (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_REACHED")


def limited(call: Callable[[], object], kind: tuple[grpc.StatusCode, str] = PERMANENT) -> tuple[str, str]:
    """The setting and the limit that a call is refused by. The refusal is of this kind."""
    code, reason, info = refusal(call)
    assert (code, reason) == kind
    assert f"{info['setting']}=" in info["remedy"]
    return info["setting"], info["limit"]


def test_a_sample_at_the_limit_is_served_and_one_above_is_refused(serve: Serve, shelf: Shelf) -> None:
    for name, size in (("fits", 100_000), ("above", 200_000)):
        shelf.add(name, {"text": ["x" * size]})
    stub = serve(str(shelf.home.location), "--limit", "row_bytes=100000").stub()
    assert len(rows_of(read(stub, resolve(stub, "fits").recipe_json))) == 1
    above = resolve(stub, "above").recipe_json
    assert limited(lambda: read(stub, above)) == ("row_bytes", "100000")


def test_sources_and_bytes_of_a_recipe_are_limited(serve: Serve, home: str, standing: Served) -> None:
    recipe = resolve(standing.stub(), "web").recipe_json
    stub = serve(home, "--limit", "sources=1", "--limit", f"recipe_bytes={len(recipe)}").stub()
    assert kinds(read(stub, recipe))[-1] == "end"
    assert limited(lambda: read(stub, recipe + b" ")) == ("recipe_bytes", str(len(recipe)))
    assert limited(lambda: resolve(stub, MIX)) == ("sources", "1")


def test_the_streams_of_a_token_are_limited_and_those_of_another_are_not(
    serve: Serve, home: str, tmp_path: Path
) -> None:
    limits = ("--limit", "max_streams_per_token=2", "--limit", "http_streams=1", "--http-port", "0")
    served = serve(home, "--token-file", token_file(tmp_path), *limits)
    stub = served.stub()
    trainer, reader = ({"metadata": bearer(token), "timeout": 60} for token in (TRAINER, READER))
    recipe = stub.ResolveMix(pb.ResolveMixRequest(mix="web", repeat=True), **trainer).recipe_json
    request = pb.ReadStreamRequest(recipe_json=recipe)
    streams = [stub.ReadStream(request, **trainer) for _ in range(2)]
    for stream in streams:
        next(stream)
    assert limited(lambda: next(stub.ReadStream(request, **trainer)), FOR_NOW) == ("max_streams_per_token", "2")
    other = stub.ReadStream(request, **reader)
    assert next(other).WhichOneof("frame") == "header"
    for stream in (*streams, other):
        stream.cancel()
    header = {"Authorization": f"Bearer {READER}"}
    until = time.monotonic() + 20  # what was cancelled is counted out soon
    while ask(served.addresses["http"], "/v1/stream?mix=web&n=1", header)[0] != 200:
        assert time.monotonic() < until
        threading.Event().wait(0.05)


def test_sixty_streams_on_one_connection_are_served_or_refused_and_none_waits(serve: Serve, home: str) -> None:
    stub = serve(home, "--max-streams", "3").stub()
    recipe = resolve(stub, MIX, repeat=True).recipe_json
    streams = [stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe), timeout=20) for _ in range(60)]
    served, refused = [], []
    for stream in streams:
        try:
            next(stream)
            served.append(stream)
        except grpc.RpcError as error:
            refused.append(error.code())
    assert len(served) == 3
    assert refused == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 57
    for stream in served:
        stream.cancel()


@pytest.mark.parametrize(
    ("request_", "at_most"),
    [
        (lambda n: pb.GetSamplesRequest(dataset="web", ids=[bytes(16)] * n), 1000),
        (lambda n: pb.GetSamplesRequest(recipe_json=b"", positions=[0] * n), 10_000),
    ],
)
def test_samples_of_one_request_are_limited(standing: Served, request_: Any, at_most: int) -> None:
    stub = standing.stub()
    recipe = resolve(stub, "code").recipe_json

    def asked(count: int) -> Any:
        made = request_(count)
        if made.positions:
            made.recipe_json = recipe
        return stub.GetSamples(made, timeout=20)

    asked(at_most)
    code, _, info = refusal(lambda: asked(at_most + 1))
    assert code == grpc.StatusCode.INVALID_ARGUMENT
    assert f"{at_most} " in info["remedy"]


@pytest.mark.parametrize(("field", "low", "high"), [("target_message_bytes", 64 << 10, 4 << 20)])
def test_a_message_size_within_its_range_is_taken(standing: Served, field: str, low: int, high: int) -> None:
    stub = standing.stub()
    recipe = resolve(stub, MIX).recipe_json
    for size in (low, high):
        assert kinds(read(stub, recipe, max_row_count=1, **{field: size}))[-1] == "end"
    for size in (low - 1, high + 1, -1, (1 << 31) - 1):
        assert refusal(lambda s=size: read(stub, recipe, **{field: s}))[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_messages_of_any_size_are_the_same_rows_and_none_is_empty(standing: Served) -> None:
    stub = standing.stub()
    recipe = resolve(stub, MIX).recipe_json
    digests = set()
    for target in (64 << 10, 100_000, 1 << 20, 4 << 20):
        frames = read(stub, recipe, target_message_bytes=target)
        batches = [frame.batch for frame in frames if frame.WhichOneof("frame") == "batch"]
        assert all(batch.row_count for batch in batches)
        assert max(len(batch.serialized_batch) for batch in batches) <= 4 << 20
        assert [batch.sequence for batch in batches] == list(range(len(batches)))
        digests.add(digest(rows_of(frames)))
    assert len(digests) == 1


def test_the_first_n_are_the_first_of_all(standing: Served) -> None:
    stub = standing.stub()
    recipe = resolve(stub, MIX).recipe_json
    whole = rows_of(read(stub, recipe))
    for count in (1, 63, 64, 65, 1000, 3700, 5000):
        assert rows_of(read(stub, recipe, max_row_count=count)) == whole[:count]


def test_a_request_and_its_metadata_are_bounded(standing: Served) -> None:
    stub = standing.stub()
    with pytest.raises(grpc.RpcError) as caught:
        stub.ResolveMix(pb.ResolveMixRequest(mix="x" * (5 << 20)), timeout=20)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    with pytest.raises(grpc.RpcError) as caught:
        stub.ListDatasets(pb.ListDatasetsRequest(), metadata=[("note", "x" * (64 << 10))], timeout=20)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    many = [(f"k{n}", "v") for n in range(129)]
    assert refusal(lambda: stub.ListDatasets(pb.ListDatasetsRequest(), metadata=many, timeout=20))[0] == (
        grpc.StatusCode.INVALID_ARGUMENT
    )
    assert len(stub.ListDatasets(pb.ListDatasetsRequest(), metadata=many[:40], timeout=20).datasets) == 2


def test_a_limit_is_a_number_above_0_with_a_known_name() -> None:
    assert Limits.of({"stall": "2.5", "sources": 7}) == Limits(stall=2.5, sources=7)
    for name, value, says in (
        ("stal", 1, "Did you mean 'stall'"),
        ("stall", "soon", "can't be"),
        ("stall", 0, "above 0"),
        ("stall", -1, "above 0"),
        ("stall", "nan", "above 0"),
        ("sources", "1e400", "can't be"),
    ):
        with pytest.raises(InvalidOptionError, match=says):
            Limits.of({name: value})


def test_a_peer_that_is_gone_is_noticed_within_30_seconds_and_a_slow_one_has_three_heartbeats() -> None:
    options = dict(channel_options(Limits(), shared_port=False))
    times = [options[f"grpc.{name}"] / 1000 for name in ("keepalive_timeout_ms", "http2.ping_timeout_ms")]
    assert options["grpc.keepalive_time_ms"] / 1000 + max(times) <= 25
    assert min(times) >= 3 * Limits().heartbeat


def idle_of(served: Served) -> tuple[int, int]:
    """Open files and threads of a server."""
    proc = Path(f"/proc/{served.process.pid}")
    return len(os.listdir(proc / "fd")), len(os.listdir(proc / "task"))


def test_streams_that_are_opened_and_left_leave_nothing_behind(serve: Serve, home: str) -> None:
    served = serve(home, "--metrics-port", "0")
    stub = served.stub()
    recipe = resolve(stub, MIX, repeat=True).recipe_json
    request = pb.ReadStreamRequest(recipe_json=recipe, target_message_bytes=64 << 10)

    def opened_and_left(times: int) -> None:
        for _ in range(times):
            stream = stub.ReadStream(request, timeout=60)
            next(stream)
            stream.cancel()

    def settled(files: int, threads: int) -> None:
        until = time.monotonic() + 20
        while True:
            _, body = ask(served.addresses["metrics"], "/metrics")
            now = idle_of(served)
            if b'choline_streams{face="firehose"} 0.0' in body and now[0] <= files and now[1] <= threads:
                return
            assert time.monotonic() < until, (now, files, threads)
            threading.Event().wait(0.05)

    opened_and_left(20)
    settled(1 << 20, 1 << 20)
    files, threads = idle_of(served)
    opened_and_left(300)
    settled(files + 2, threads + 2)


def test_without_a_file_left_the_other_ports_wait_and_the_log_says_it_once(serve: Serve, home: str) -> None:
    served = serve(home, "--http-port", "0", "--metrics-port", "0")
    assert ask(served.addresses["metrics"], "/metrics")[0] == 200
    soft, hard = resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (3, hard))
    host, _, port = served.addresses["metrics"].rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as peer:
        peer.sendall(f"GET /metrics HTTP/1.1\r\nhost: {host}\r\n\r\n".encode())
        peer.settimeout(3)  # in which the server tries several times
        with pytest.raises(TimeoutError):
            peer.recv(1)
        resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        peer.settimeout(30)
        assert peer.recv(12) == b"HTTP/1.1 200"
    assert served.terminate() == 0
    assert served.errors().count("more files") == 1


def test_without_a_file_left_running_streams_go_on_and_the_server_recovers(serve: Serve, home: str) -> None:
    served = serve(home)
    stub = served.stub()
    recipe = resolve(stub, MIX, repeat=True).recipe_json
    stream = stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe, max_row_count=20_000), timeout=120)
    for _ in range(4):  # a header, and samples of both datasets: their files are open
        next(stream)
    soft, hard = resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (idle_of(served)[0], hard))
    with pytest.raises(grpc.RpcError) as caught:
        served.stub().ListDatasets(pb.ListDatasetsRequest(), timeout=2)
    assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
    code, reason, _ = refusal(lambda: resolve(stub, "code"))  # on a connection that there is
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_REACHED")
    assert [*stream][-1].end.row_count == 20_000
    resource.prlimit(served.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    until = time.monotonic() + 30
    while True:
        try:
            assert len(served.stub().ListDatasets(pb.ListDatasetsRequest(), timeout=5).datasets) == 2
            return
        except grpc.RpcError:
            assert time.monotonic() < until


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def frame(kind: int, payload: bytes = b"") -> bytes:
    """An HTTP/2 frame of stream 0 without flags."""
    return len(payload).to_bytes(3, "big") + bytes([kind, 0, 0, 0, 0, 0]) + payload


def ended_within(peer: socket.socket, seconds: float) -> bytes:
    """What the server says until it closes the connection; AssertionError where it does not."""
    peer.settimeout(seconds)
    said = b""
    try:
        while got := peer.recv(1 << 16):
            said += got
    except ConnectionError:
        pass
    except TimeoutError:
        raise AssertionError(f"still open after {seconds} s: {said[-60:]!r}") from None
    return said


def test_a_flood_of_pings_is_cut_off(standing: Served) -> None:
    with socket.create_connection(("127.0.0.1", standing.port), timeout=5) as peer:
        peer.sendall(PREFACE + frame(4))
        try:
            for _ in range(20):
                peer.sendall(frame(6, b"12345678"))
                threading.Event().wait(0.01)
        except ConnectionError:
            pass
        assert b"too_many_pings" in ended_within(peer, 10)
    assert len(standing.stub().ListDatasets(pb.ListDatasetsRequest(), timeout=10).datasets) == 2
