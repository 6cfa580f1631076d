"""A server under signals, at its limits, and with misbehaving clients."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tests.served import Serve, Served

from choline_data.v1 import firehose_pb2 as pb

from .conftest import digest, kinds, read, refusal, resolve, rows_of

MIX = "web:0.7,code:0.3"


def health(served: Served) -> int:
    with served.channel() as channel:
        return health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5).status


def endless(served: Served, **options: Any) -> Any:
    """A stream without an end, and its first frames read."""
    stub = served.stub(("grpc.http2.lookahead_bytes", 65536))
    recipe = resolve(stub, MIX, repeat=True).recipe_json
    stream = stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe, **options), timeout=120)
    assert next(stream).WhichOneof("frame") == "header"
    next(stream)
    return stream


def test_a_killed_server_is_replaced_by_another_and_nothing_is_lost(serve: Serve, home: str) -> None:
    first, second = serve(home), serve(home)
    stub = first.stub()
    recipe = resolve(stub, MIX, repeat=True).recipe_json
    whole = rows_of(read(second.stub(), recipe, max_row_count=4000))
    got = []
    cursor = ""
    with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012 - the loop is what raises
        for frame in stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe, target_message_bytes=65536), timeout=60):
            if frame.WhichOneof("frame") == "header":
                head = frame
            if frame.WhichOneof("frame") == "batch":
                got += rows_of([head, frame])
                cursor = frame.batch.cursor
                if len(got) > 1000:
                    first.kill()
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    assert 1000 < len(got) < 4000 or len(got) >= 4000
    if len(got) < 4000:
        got += rows_of(read(second.stub(), recipe, cursor=cursor, max_row_count=4000 - len(got)))
    assert digest(got[:4000]) == digest(whole)


def test_sigterm_gives_every_stream_its_cursor(serve: Serve, home: str) -> None:
    served = serve(home)
    streams = [endless(served, target_message_bytes=65536) for _ in range(4)]
    ends: list[Any] = []

    def drained(stream: Any) -> None:
        last = None
        for frame in stream:
            last = frame
        ends.append(last)

    readers = [threading.Thread(target=drained, args=(stream,)) for stream in streams]
    for reader in readers:
        reader.start()
    assert served.terminate() == 0
    for reader in readers:
        reader.join(10)
    assert [e.end.reason for e in ends] == [pb.END_REASON_DRAINING] * 4
    assert all(e.end.cursor.startswith("chl1.") for e in ends)


def test_sigterm_does_not_wait_for_a_reader_that_does_not_read(serve: Serve, home: str) -> None:
    served = serve(home, "--limit", "drain=1")
    stream = endless(served, target_message_bytes=4 << 20)
    assert served.terminate() == 0
    stream.cancel()


def test_a_stream_above_the_limit_is_refused_at_once_and_health_still_answers(serve: Serve, home: str) -> None:
    served = serve(home, "--max-streams", "2")
    streams = [endless(served) for _ in range(2)]
    stub = served.stub()
    recipe = resolve(stub, MIX).recipe_json
    code, reason, metadata = refusal(lambda: read(stub, recipe))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "LIMIT_REACHED")
    assert (metadata["setting"], metadata["limit"]) == ("max_streams", "2")
    assert "--max-streams" in metadata["remedy"]
    assert health(served) == health_pb2.HealthCheckResponse.SERVING
    for stream in streams:
        stream.cancel()


def test_a_reader_that_does_not_read_is_dropped_with_its_cursor(serve: Serve, home: str) -> None:
    served = serve(home, "--limit", "stall=0.5", "--metrics-port", "0")
    stream = endless(served, target_message_bytes=1 << 20)

    def scraped() -> str:
        with urllib.request.urlopen(f"http://{served.addresses['metrics']}/metrics", timeout=5) as answer:
            return answer.read().decode()

    until = time.monotonic() + 20
    while "choline_stalls_total 1.0" not in scraped():
        assert time.monotonic() < until, "the stream was not dropped"
        threading.Event().wait(0.05)
    with pytest.raises(grpc.RpcError) as caught:  # noqa: PT012 - the loop is what raises
        for frame in stream:
            assert frame.WhichOneof("frame") != "end"
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "too slow" in str(caught.value.details())
    trailers = dict(caught.value.trailing_metadata())
    assert trailers["choline-cursor"].startswith("chl1.")
    assert 'choline_streams{face="firehose"} 0.0' in scraped()


def test_a_stream_that_is_old_ends_and_says_so(serve: Serve, home: str) -> None:
    served = serve(home, "--limit", "max_age=0.3")
    stub = served.stub()
    recipe = resolve(stub, MIX, repeat=True).recipe_json
    assert read(stub, recipe)[-1].end.reason == pb.END_REASON_MAX_AGE


def test_two_servers_do_not_share_a_port_by_accident(serve: Serve, home: str) -> None:
    served = serve(home)
    done = subprocess.run(
        [sys.executable, "-m", "choline_data.service", "--home", home, "--port", str(served.port)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )
    assert done.returncode == 2
    assert "in use" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_workers_serve_the_same_rows_on_one_port(serve: Serve, home: str) -> None:
    served = serve(home, "--workers", "2")
    digests = set()
    for _ in range(6):  # connections of their own: the kernel spreads them
        stub = served.stub()
        digests.add(digest(rows_of(read(stub, resolve(stub, MIX).recipe_json))))
    assert len(digests) == 1
    assert served.terminate() == 0


def test_a_dead_worker_is_replaced(serve: Serve, home: str) -> None:
    served = serve(home, "--workers", "2")
    children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    until = time.monotonic() + 40
    now = children
    while len(now) < 2 or children[0] in now:
        assert time.monotonic() < until, "no other worker came"
        threading.Event().wait(0.05)
        now = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children").read_text().split()
    stub = served.stub()
    assert kinds(read(stub, resolve(stub, MIX).recipe_json))[-1] == "end"


def running(pids: list[int]) -> list[int]:
    """Which of these processes are there and have not ended."""
    states = []
    for pid in pids:
        try:
            states.append((pid, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return [pid for pid, state in states if state not in "ZX"]


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_when_their_parent_has_ended_however_it_ended(serve: Serve, home: str, number: int) -> None:
    served = serve(home, "--workers", "2")
    workers = children_of(served.process.pid)
    assert len(workers) == 2
    reader = endless(served, target_message_bytes=4 << 20)  # it reads no further: no drain ends it
    served.signal(number)
    served.process.wait(30)
    until = time.monotonic() + 20  # it takes below a second; a busy machine may take longer
    while left := running(workers):
        assert time.monotonic() < until, f"workers {left} go on"
        threading.Event().wait(0.01)
    with socket.socket() as free:  # nobody listens there any more
        free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        free.bind(("127.0.0.1", served.port))
    reader.cancel()


def test_reflection_lists_our_service_only_when_asked(serve: Serve, standing: Served, home: str) -> None:
    from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

    def services(served: Served) -> list[str]:
        with served.channel() as channel:
            stub = reflection_pb2_grpc.ServerReflectionStub(channel)
            request = reflection_pb2.ServerReflectionRequest(list_services="")
            answer = next(iter(stub.ServerReflectionInfo(iter([request]), timeout=10)))
            return [s.name for s in answer.list_services_response.service]

    assert "choline_data.v1.FirehoseService" in services(standing)
    with pytest.raises(grpc.RpcError) as caught:
        services(serve(home))
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_hostile_frames_leave_the_server_and_its_readers_alone(serve: Serve, home: str, shared_data: Path) -> None:
    served = serve(home)
    folder = shared_data / "hostile" / "http2"
    stream = endless(served)
    for path in sorted(folder.glob("*.bin")):
        with socket.create_connection(("127.0.0.1", served.port), timeout=5) as peer:
            try:
                peer.sendall(path.read_bytes())
                peer.settimeout(0.2)
                while peer.recv(1 << 16):
                    pass
            except (TimeoutError, ConnectionError):
                pass
        assert served.process.poll() is None, path.name
    assert next(stream).WhichOneof("frame") == "batch"
    stream.cancel()
    assert health(served) == health_pb2.HealthCheckResponse.SERVING
    stub = served.stub()
    assert kinds(read(stub, resolve(stub, MIX).recipe_json))[-1] == "end"
    peak = next(line for line in Path(f"/proc/{served.process.pid}/status").read_text().splitlines() if "VmRSS" in line)
    assert int(peak.split()[1]) < 400 << 10


def test_the_ready_line_is_one_line(serve: Serve, home: str) -> None:
    served = serve(home, "--http-port", "0", "--metrics-port", "0")
    assert set(served.addresses) == {"address", "http", "metrics"}
    assert served.terminate() == 0
    assert served.process.stdout is not None
    assert served.process.stdout.read() == ""


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--host", "0.0.0.0"], "would be open to others"),
        (["--host", "::"], "would be open to others"),
        (["--tls-cert", "x.pem"], "must be set together"),
        (["--client-ca", "x.pem"], "needs --tls-cert"),
    ],
)
def test_an_unsafe_server_does_not_start(home: str, flags: list[str], words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "choline_data.service", "--home", home, "--json", *flags],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )
    assert done.returncode == 2
    assert words in json.loads(done.stderr)["error"]["message"]
