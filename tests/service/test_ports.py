"""The HTTP port and the metrics port: who may use them, and what a misbehaving client can do."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from tests.served import Serve, Served

from .conftest import read, resolve, rows_of

MIX = "web:0.7,code:0.3"


def scraped(served: Served, **headers: str) -> str:
    request = urllib.request.Request(f"http://{served.addresses['metrics']}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


def status_of(address: str, **headers: str) -> int:
    try:
        with urllib.request.urlopen(urllib.request.Request(f"http://{address}", headers=headers), timeout=20) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return int(error.code)


def free_ports(count: int) -> list[int]:
    """Ports next to each other that nobody has: as an operator writes them."""
    for first in range(20_000 + os.getpid() % 5000, 32_000, count):
        held = []
        try:
            for port in range(first, first + count):
                held.append(socket.socket())
                held[-1].bind(("127.0.0.1", port))
        except OSError:
            continue
        finally:
            for each in held:
                each.close()
        return list(range(first, first + count))
    raise AssertionError("no free ports")


@pytest.fixture(params=[1, 3], ids=["alone", "workers"])
def workers(request: pytest.FixtureRequest) -> list[str]:
    return ["--workers", str(request.param)] if request.param > 1 else []


@pytest.mark.parametrize("numbered", [True, False])
def test_ports_side_by_side_are_each_where_they_were_asked_for(
    serve: Serve, home: str, workers: list[str], numbered: bool
) -> None:
    port, http, metrics = free_ports(3) if numbered else (0, 0, 0)
    served = serve(home, *workers, "--http-port", str(http), "--metrics-port", str(metrics), port=port)
    assert set(served.addresses) == {"address", "http", "metrics"}
    got = [int(at.rpartition(":")[2]) for at in served.addresses.values()]
    assert got == [port, http, metrics] if numbered else len(set(got)) == 3
    stub = served.stub()
    assert len(rows_of(read(stub, resolve(stub, MIX).recipe_json, max_row_count=50))) == 50
    for _ in range(6):  # the kernel spreads connections over the workers
        with urllib.request.urlopen(f"http://{served.addresses['http']}/v1/stream?mix=web&n=3", timeout=20) as answer:
            assert len(answer.read().splitlines()) == 3
    assert "choline_streams" in scraped(served)
    assert served.terminate() == 0


def test_one_metrics_port_has_what_every_worker_counts(serve: Serve, home: str) -> None:
    served = serve(home, "--workers", "2", "--metrics-port", "0")
    rows = 0
    for _ in range(6):
        stub = served.stub()
        rows += len(rows_of(read(stub, resolve(stub, "code").recipe_json)))
    found = re.findall(r'choline_rows_total\{face="firehose",worker="(\d)"\} ([\d.e+]+)', scraped(served))
    assert sum(float(count) for _, count in found) == rows == 6 * 700
    assert {worker for worker, _ in found} <= {"0", "1"}
    assert "# EOF" in scraped(served, accept="application/openmetrics-text; version=1.0.0")


def refused_to_start(home: str, *flags: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "choline_data.service", "--home", home, *flags],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")},
    )
    assert done.returncode == 2, done
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("flag", ["--http-port", "--metrics-port"])
def test_a_port_that_someone_has_is_named_on_one_line(home: str, workers: list[str], flag: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = refused_to_start(home, *workers, flag, str(port))
    assert flag in said
    assert str(port) in said


def test_one_port_for_two_things_is_refused(home: str, workers: list[str]) -> None:
    said = refused_to_start(home, *workers, "--port", "9555", "--metrics-port", "9555")
    assert "--port" in said
    assert "--metrics-port" in said
    assert "9555" in said
    assert "65535" in refused_to_start(home, *workers, "--http-port", "70000")


def test_metrics_ask_for_a_token_where_streams_do(serve: Serve, home: str, tmp_path: Path, workers: list[str]) -> None:
    tokens = tmp_path / "tokens.yaml"
    sha256 = hashlib.sha256(b"open sesame").hexdigest()
    tokens.write_text(json.dumps({"tokens": [{"id": "ops", "sha256": sha256, "grants": {}}]}))
    served = serve(home, *workers, "--metrics-port", "0", "--token-file", str(tokens))
    at = f"{served.addresses['metrics']}/metrics"
    assert status_of(at) == 401
    assert status_of(at, authorization="Bearer other") == 401
    assert status_of(at, authorization="Bearer open sesame") == 200
    assert "choline_streams" in scraped(served, authorization="Bearer open sesame")


def test_metrics_are_not_for_a_page_in_a_browser(serve: Serve, home: str) -> None:
    served = serve(home, "--metrics-port", "0")
    at = f"{served.addresses['metrics']}/metrics"
    assert status_of(at, host="evil.example") == 421
    assert status_of(at, origin="http://evil.example") == 403
    assert status_of(f"{served.addresses['metrics']}/other") == 404


def test_peers_that_send_nothing_to_the_metrics_port_get_no_thread_and_no_more_than_its_connections(
    serve: Serve, home: str
) -> None:
    served = serve(home, "--metrics-port", "0", "--limit", "http_connections=8")
    host, _, port = served.addresses["metrics"].rpartition(":")
    threads = Path(f"/proc/{served.process.pid}/task")
    assert "choline_streams" in scraped(served)
    before = len(os.listdir(threads))
    with contextlib.ExitStack() as peers:
        connected = [peers.enter_context(socket.create_connection((host, int(port)), timeout=20)) for _ in range(40)]
        for peer in connected[8:]:  # they come in order: the first 8 are waited for
            with contextlib.suppress(ConnectionError):
                assert peer.recv(1) == b""
        assert len(os.listdir(threads)) <= before
        stub = served.stub()
        assert len(rows_of(read(stub, resolve(stub, MIX).recipe_json, max_row_count=10))) == 10
    until = time.monotonic() + 20
    while True:
        try:
            assert "choline_streams" in scraped(served)
            return
        except (urllib.error.URLError, ConnectionError):
            assert time.monotonic() < until
            threading.Event().wait(0.05)
