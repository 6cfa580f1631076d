"""A file that crashes the library that reads it ends an `add` in one typed error, wherever it is read."""

from __future__ import annotations

import base64
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pyarrow.parquet.encryption as pe
import pytest

from choline_data.errors import SourceDamagedError, UnavailableError
from choline_data.places.apart import NOTE_BYTES, crash_error, name_in_note, note, note_in
from choline_data.places.home import Home
from choline_data.store import Catalog

ADD = "import sys; from choline_data.cli import main; sys.exit(main())"
UNITS = "from choline_data.catalog import planning; planning.UNIT_BYTES = 1; "


class Keys(pe.KmsClient):
    """Keys that are only encoded: what matters here is that the reader has none."""

    def wrap_key(self, key_bytes: bytes, master_key_identifier: str) -> str:
        return base64.b64encode(key_bytes).decode()

    def unwrap_key(self, wrapped_key: str, master_key_identifier: str) -> bytes:
        return base64.b64decode(wrapped_key)


def encrypted(path: Path) -> Path:
    """A Parquet file whose footer anybody can read, and whose column makes the library abort."""
    table = pa.table({"text": ["some words", "and some more"] * 20, "secret": list(range(40))})
    how = pe.EncryptionConfiguration(footer_key="f", column_keys={"c": ["text"]}, plaintext_footer=True)
    keys = pe.CryptoFactory(lambda config: Keys()).file_encryption_properties(pe.KmsConnectionConfig(), how)
    with pq.ParquetWriter(path, table.schema, encryption_properties=keys) as writer:
        writer.write_table(table)
    return path


def add(home: Path, source: Path, *flags: str, setup: str = "") -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        setup + ADD,
        "add",
        str(source),
        "--yes",
        "--home",
        str(home),
        "--name",
        "a",
        *flags,
    ]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)


def test_a_file_that_makes_the_library_abort_is_one_typed_error(tmp_path):
    done = add(tmp_path / "home", encrypted(tmp_path / "hidden.parquet"), "--json")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    error = json.loads(line)["error"]
    assert error["reason"] == "SOURCE_DAMAGED"
    assert "hidden.parquet" in error["message"]
    assert error["remedy"]
    assert done.stdout == ""
    assert Catalog(Home(tmp_path / "home")).entries() == {}


@pytest.mark.parametrize("workers", ["1", "2"])
def test_one_such_file_among_many_is_named_and_leaves_nothing(tmp_path, workers):
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(30):  # more than are looked at before the work begins
        pq.write_table(
            pa.table({"text": [f"document {number} {n}" for n in range(50)]}), folder / f"{number:02d}.parquet"
        )
    hide = f"{UNITS}planning._first_chunks = lambda *a, first=planning._first_chunks: [] if 'hidden' in a[1].name else first(*a); "
    encrypted(folder / "17-hidden.parquet")
    done = add(tmp_path / "home", folder, "--json", "--workers", workers, setup=hide)
    assert done.returncode == 1
    error = json.loads(done.stderr)["error"]
    assert error["reason"] == "SOURCE_DAMAGED"
    assert "17-hidden.parquet" in error["message"]
    home = Home(tmp_path / "home")
    assert Catalog(home).entries() == {}
    assert home.names("staging") == []


def test_a_crash_is_told_with_the_file_that_was_read(tmp_path):
    number = signal.SIGSEGV
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "some words"}\n' * 9)
    # The process itself sends the signal as soon as it maps rows.
    setup = (
        "import os; from choline_data.adapters.mapping import forms; "
        f"forms.apply = lambda *a: os.kill(os.getpid(), {int(number)}); "
    )
    done = add(tmp_path / "home", source, setup=setup)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "a.jsonl" in done.stderr and number.name in done.stderr


def test_the_program_ends_by_the_signal_that_ended_its_child(tmp_path, monkeypatch):
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "some words"}\n' * 9)
    monkeypatch.setenv("CHOLINE_FAULT_POINT", "unit.read")
    done = add(tmp_path / "home", source)
    assert done.returncode == -signal.SIGKILL
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a child with its parent")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_child_ends_with_the_program(tmp_path, number):
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "some words"}\n' * 9)
    said = tmp_path / "pid"
    setup = (
        "import os, time; from choline_data.adapters.mapping import forms; "
        f"forms.apply = lambda *a: (open({str(said)!r} + '.new', 'w').write(str(os.getpid())), "
        f"os.rename({str(said)!r} + '.new', {str(said)!r}), time.sleep(600)); "
    )
    command = [sys.executable, "-c", setup + ADD, "add", str(source), "--yes", "--home", str(tmp_path / "home")]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _until(said.exists)
        child = int(said.read_text())
        assert child != process.pid
        process.send_signal(number)
        assert process.wait(60) == -number
        _until(lambda: not _runs(child))
    finally:
        process.kill()
        process.communicate()


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _until(true) -> None:
    until = time.monotonic() + 60
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


def test_what_a_library_writes_to_standard_error_is_shown_at_the_end(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "some words"}\n' * 9)
    setup = (
        "import os; from choline_data.adapters.mapping import forms; "
        "forms.apply = lambda *a, do=forms.apply: (os.write(2, b'a warning of a library\\n'), do(*a))[1]; "
    )
    done = add(tmp_path / "home", source, "--json", setup=setup)
    assert done.returncode == 0, done.stderr
    assert set(done.stderr.splitlines()) == {"a warning of a library"}
    assert json.loads(done.stdout)["rows"] == 9


def test_a_note_names_the_last_file_and_no_secret():
    buffer = bytearray(NOTE_BYTES)
    note_in(memoryview(buffer))
    try:
        assert name_in_note(buffer) == ""
        note("https://user:hunter2@example.org/a.parquet?token=hunter2")
        assert name_in_note(buffer) == "https://example.org/a.parquet"
        note("x" * 2 * NOTE_BYTES)
        assert name_in_note(buffer) == "x" * (NOTE_BYTES - 2)
        note("b.parquet")
        error = crash_error(signal.SIGSEGV, name_in_note(buffer))
    finally:
        note_in(None)
    assert isinstance(error, SourceDamagedError)
    assert "b.parquet" in error.message and "SIGSEGV" in error.message
    assert isinstance(crash_error(signal.SIGSEGV, ""), UnavailableError)
