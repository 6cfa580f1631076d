"""Who asked for what, and what came of it, in a log that shows when it was changed."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pyarrow.flight as flight
import pytest

from choline_data.service.audit import FIRST, broken
from choline_data.v1 import firehose_pb2 as pb

from .conftest import Serve, kinds, read, refusal, resolve
from .test_access import READER, TRAINER, ask, bearer, token_file


def lines(path: Path) -> list[dict[str, Any]]:
    """The whole lines that the log has by now."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def until(path: Path, holds: Callable[[dict[str, Any]], bool], seconds: float = 20) -> dict[str, Any]:
    """The first line for which this holds."""
    end = time.monotonic() + seconds
    while True:
        for line in lines(path):
            if holds(line):
                return line
        assert time.monotonic() < end, lines(path)
        threading.Event().wait(0.05)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Where the log is."""
    return tmp_path / "audit.jsonl"


def test_who_opened_what_is_recorded_and_what_was_refused(serve: Serve, home: str, tmp_path: Path, log: Path) -> None:
    served = serve(home, "--token-file", token_file(tmp_path), "--audit", str(log))
    stub = served.stub()
    reader = {"metadata": bearer(READER), "timeout": 20}
    resolved = stub.ResolveMix(pb.ResolveMixRequest(mix="web"), **reader)
    start = {"start_position": 100, "max_row_count": 50}
    assert kinds(read(stub, resolved.recipe_json, metadata=bearer(READER), **start))[-1] == "end"
    refusal(lambda: stub.ResolveMix(pb.ResolveMixRequest(mix="code"), **reader))
    refusal(lambda: stub.ListDatasets(pb.ListDatasetsRequest(), metadata=bearer("guess"), timeout=20))
    assert served.terminate() == 0

    told = lines(log)
    assert [line["action"] for line in told] == [
        *("serve", "Firehose.resolve", "Firehose.read", "Firehose.read", "Firehose.resolve", "Firehose.list", "serve"),
    ]
    _, asked, opened, ended, unknown, guessed, _ = told
    assert (asked["principal"], asked["outcome"], opened["outcome"], ended["outcome"]) == (
        *("reader", "granted", "granted", "ended"),
    )
    assert opened["recipe"] == resolved.recipe_digest
    assert [name.split("@")[0] for name in opened["datasets"]] == ["web"]
    assert (ended["from"], ended["to"], ended["rows"]) == (100, 150, 50)
    assert opened["request"] == ended["request"] != asked["request"]
    assert (unknown["outcome"], unknown["reason"], unknown["dataset"]) == ("refused", "DATASET_UNKNOWN", "code")
    assert (guessed["outcome"], guessed["reason"]) == ("refused", "UNAUTHENTICATED")
    assert "principal" not in guessed
    assert all(line["peer"].startswith("ipv4:127.0.0.1:") for line in told[1:-1])
    text = log.read_text()
    assert not any(secret in text for secret in (READER, "guess", "web 1"))
    assert log.stat().st_mode & 0o777 == 0o600


def test_every_face_is_recorded(serve: Serve, home: str, log: Path) -> None:
    served = serve(home, "--audit", str(log), "--http-port", "0")
    assert ask(served.told["http"], "/v1/stream?mix=code&n=7")[0] == 200
    assert ask(served.told["http"], "/v1/stream?mix=nope")[0] == 404
    with flight.connect(f"grpc://{served.address}") as client:
        info = client.get_flight_info(flight.FlightDescriptor.for_path("code"))
        client.do_get(info.endpoints[0].ticket).read_all()
    assert served.terminate() == 0
    told = [(line["action"], line["outcome"], line.get("rows")) for line in lines(log)[1:-1]]
    assert told == [
        ("Http.stream", "granted", None),
        ("Http.stream", "ended", 7),
        ("Http.stream", "refused", None),
        ("Flight.info", "granted", None),
        ("Flight.get", "granted", None),
        ("Flight.get", "ended", 700),
    ]


def test_a_stream_that_is_left_and_one_whose_grant_is_taken_back_are_recorded(
    serve: Serve, home: str, tmp_path: Path, log: Path
) -> None:
    served = serve(home, "--token-file", token_file(tmp_path), "--audit", str(log), "--limit", "recheck=0.2")
    stub = served.stub()
    options = {"metadata": bearer(TRAINER), "timeout": 30}
    recipe = stub.ResolveMix(pb.ResolveMixRequest(mix="web", repeat=True), **options).recipe_json
    left, kept = (stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe), **options) for _ in range(2))
    for stream in (left, kept):
        next(stream)
    left.cancel()
    assert until(log, lambda line: line["outcome"] == "cancelled")["action"] == "Firehose.read"
    token_file(tmp_path, trainer='{"code": [read]}')
    with pytest.raises(grpc.RpcError):
        for _ in kept:
            pass
    taken = until(log, lambda line: line["outcome"] == "refused")
    assert (taken["principal"], taken["reason"]) == ("trainer", "DATASET_UNKNOWN")
    assert taken["rows"] > 0


def test_what_can_not_be_recorded_is_refused(serve: Serve, home: str, log: Path) -> None:
    served = serve(home, "--audit", str(log), "--metrics-port", "0")
    stub = served.stub()
    recipe = resolve(stub, "web").recipe_json
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (log.stat().st_size + 10,) * 2)  # no room is left
    code, reason, info = refusal(lambda: read(stub, recipe))
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE")
    assert "can't record" in info["message"]
    assert served.process.poll() is None
    _, body = ask(served.told["metrics"], "/metrics")
    assert b"choline_audit_failures_total 1.0" in body


def test_an_audit_log_that_is_no_file_is_refused_at_the_start(home: str, tmp_path: Path) -> None:
    for path in ("/dev/null", str(tmp_path / "none" / "audit.jsonl")):
        command = [sys.executable, "-m", "choline_data.service", "--home", home, "--audit", path]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2
        assert done.stderr.startswith("--audit")
        assert len(done.stderr.splitlines()) == 1


def test_a_line_that_was_changed_or_taken_out_shows(serve: Serve, home: str, log: Path) -> None:
    for _ in range(2):  # a restart begins another chain in the same file
        served = serve(home, "--audit", str(log))
        resolve(served.stub(), "web")
        assert served.terminate() == 0
    whole = log.read_bytes().splitlines(keepends=True)
    assert len(whole) == 6
    assert json.loads(whole[0])["before"] == json.loads(whole[3])["before"] == FIRST
    assert list(broken(whole)) == []
    for number in (1, 4):
        without = whole[:number] + whole[number + 1 :]
        assert [at for at, _ in broken(without)] == [number + 1]
        changed = [*whole]
        changed[number] = changed[number].replace(b"granted", b"refused")
        assert [at for at, _ in broken(changed)] == [number + 2]
    command = [sys.executable, "-m", "choline_data.service", "--check-audit", str(log)]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    log.write_bytes(b"".join(whole[:1] + whole[2:]))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stdout.startswith("line 2 does not follow")
