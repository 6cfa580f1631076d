"""The audit log records requests and their outcomes, and shows later changes of the log."""

from __future__ import annotations

import json
import resource
import signal
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
from tests.served import Serve

from choline_data.service.audit_check import FIRST, SLOT_BYTES, Check, check_log
from choline_data.v1 import firehose_pb2 as pb

from .conftest import kinds, read, refusal, resolve
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
    assert ask(served.addresses["http"], "/v1/stream?mix=code&n=7")[0] == 200
    assert ask(served.addresses["http"], "/v1/stream?mix=nope")[0] == 404
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
    _, body = ask(served.addresses["metrics"], "/metrics")
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
    assert list(Check().broken(whole)) == []
    for number in (1, 4):
        without = whole[:number] + whole[number + 1 :]
        assert [at for at, _ in Check().broken(without)] == [number + 1]
        changed = [*whole]
        changed[number] = changed[number].replace(b"granted", b"refused")
        assert [at for at, _ in Check().broken(changed)] == [number + 2]
    command = [sys.executable, "-m", "choline_data.service", "--check-audit", str(log)]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    log.write_bytes(b"".join(whole[:1] + whole[2:]))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 3
    assert done.stdout.startswith("line 2 does not follow")


def check(*paths: Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "choline_data.service", "--check-audit", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout


def test_an_end_that_was_cut_off_shows(serve: Serve, home: str, log: Path) -> None:
    for _ in range(2):
        served = serve(home, "--audit", str(log))
        resolve(served.stub(), "web")
        assert served.terminate() == 0
    head = Path(f"{log}.head")
    assert head.stat().st_mode & 0o777 == 0o600 and head.stat().st_size == 2 * SLOT_BYTES
    whole, heads = log.read_bytes().splitlines(keepends=True), head.read_bytes()
    assert check(log) == (0, "The log is as it was written.\n")
    for left in range(len(whole)):  # each end, down to no line at all
        log.write_bytes(b"".join(whole[:left]))
        faults, _ = check_log([str(log)])
        assert any("cut off" in fault for fault in faults), left
    log.write_bytes(b"".join(whole[:4]))
    code, told = check(log)
    assert code == 3 and "has 1 lines of 3" in told
    copy = log.with_name("copy")
    copy.write_bytes(heads[:SLOT_BYTES])  # made before the second run
    faults, notes = check_log([str(log)], str(copy))
    assert faults == [] and "began after this copy" in notes[0]
    log.write_bytes(b"".join(whole[:2]))
    assert "cut off" in check_log([str(log)], str(copy))[0][0]
    log.write_bytes(b"".join(whole))
    head.unlink()
    assert "head file is missing" in check(log)[1]
    for damage in (heads[SLOT_BYTES:], heads[:40], b"\xff" * SLOT_BYTES):
        head.write_bytes(damage)
        assert check(log)[0] == 3


def test_an_end_that_is_cut_off_while_the_server_runs_shows(serve: Serve, home: str, log: Path) -> None:
    served = serve(home, "--audit", str(log))
    for _ in range(3):
        resolve(served.stub(), "web")
    assert check_log([str(log)]) == ([], [])  # of a server at work
    whole = log.read_bytes().splitlines(keepends=True)
    with log.open("r+b") as file:
        file.truncate(len(b"".join(whole[:2])))
    assert "cut off" in check_log([str(log)])[0][0]
    resolve(served.stub(), "web")
    assert "does not follow" in check_log([str(log)])[0][0]
    served.kill()  # a server that had no time for a last line is none that was cut
    log.write_bytes(b"")
    Path(f"{log}.head").unlink()
    killed = serve(home, "--audit", str(log))
    resolve(killed.stub(), "web")
    killed.kill()
    assert check_log([str(log)]) == ([], [])


def test_a_log_is_rotated_and_its_files_are_checked_together(serve: Serve, home: str, log: Path) -> None:
    served = serve(home, "--audit", str(log))
    stub = served.stub()
    for number in (1, 2):
        resolve(stub, "web")
        log.rename(f"{log}.{number}")
        resolve(stub, "code")  # still into the file that was renamed
        served.signal(signal.SIGHUP)
        assert until(log, lambda line: line["outcome"] == "continued")["before"] != FIRST
    served.signal(signal.SIGHUP)  # of the same file: nothing changes
    resolve(stub, "web")
    assert served.terminate() == 0
    files = [Path(f"{log}.1"), Path(f"{log}.2"), log]
    assert [len(lines(file)) for file in files] == [3, 3, 3]
    assert check(*files) == (0, "The log is as it was written.\n")
    code, told = check(*files[1:])
    assert code == 0 and "note: run" in told
    for wrong in (files[:1] + files[2:], files[1::-1] + files[2:]):
        assert check(*wrong)[0] == 3
    assert check_log([str(files[0]), str(files[1])], f"{log}.head")[0] != []  # the last file is missing
    kept = files[1].read_bytes()
    files[1].write_bytes(b"".join(kept.splitlines(keepends=True)[:-1]))
    assert check(*files)[0] == 3


def test_a_new_file_that_can_not_be_opened_leaves_the_old_one(serve: Serve, home: str, log: Path) -> None:
    served = serve(home, "--audit", str(log))
    stub = served.stub()
    log.rename(f"{log}.1")
    log.mkdir()
    served.signal(signal.SIGHUP)
    threading.Event().wait(0.2)
    resolve(stub, "web")
    assert len(lines(Path(f"{log}.1"))) == 2
    assert served.terminate() == 0
    assert "The server keeps writing to the old file" in served.errors()


def test_workers_write_one_log_that_is_rotated(serve: Serve, home: str, log: Path) -> None:
    served = serve(home, "--audit", str(log), "--workers", "2")
    resolve(served.stub(), "web")
    log.rename(f"{log}.1")
    served.signal(signal.SIGHUP)
    end = time.monotonic() + 30
    while sum(line["outcome"] == "continued" for line in lines(log)) < 2:
        assert time.monotonic() < end, lines(log)
        threading.Event().wait(0.05)
    assert served.terminate() == 0
    first = Path(f"{log}.1")
    assert check_log([str(first), str(log)]) == ([], [])
    whole = log.read_bytes().splitlines(keepends=True)
    log.write_bytes(b"".join(whole[:-1]))
    assert "cut off" in check_log([str(first), str(log)])[0][0]


def test_guessing_does_not_fill_the_log(serve: Serve, home: str, tmp_path: Path, log: Path) -> None:
    flags = ("--token-file", token_file(tmp_path), "--audit", str(log), "--limit", "auth_failures=3")
    served = serve(home, *flags)
    stub = served.stub()
    for _ in range(40):
        refusal(lambda: stub.ListDatasets(pb.ListDatasetsRequest(), metadata=bearer("guess"), timeout=20))
    assert served.terminate() == 0
    refused = [line["reason"] for line in lines(log) if line["outcome"] == "refused"]
    assert refused == ["UNAUTHENTICATED"] * 3 + ["LIMIT_REACHED"]
