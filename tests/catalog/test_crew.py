"""Ingestion in several processes: how they share the units, and how all end if one fails."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from choline_data.catalog import crew, planning
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.errors import SourceDamagedError
from choline_data.places.home import Home
from choline_data.store import Catalog


@pytest.fixture
def source(tmp_path, monkeypatch) -> Path:
    """Six Parquet files of one unit each, the later the bigger."""
    monkeypatch.setattr(planning, "UNIT_BYTES", 1)
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(6):
        text = [f"Document {n} of file {number}, some words and some more." for n in range(50 * (number + 1))]
        pq.write_table(pa.table({"text": text}), folder / f"part-{number}.parquet")
    return folder


def test_the_biggest_units_are_dealt_first_and_the_first_where_there_is_a_limit(tmp_path, source):
    home = Home(tmp_path / "home")
    plan = prepare(home, str(source), name="a").plan
    assert [unit.number for unit in crew.in_turn(plan, plan.units())] == [5, 4, 3, 2, 1, 0]
    plan = prepare(home, str(source), name="a", wishes=Wishes(limit=120)).plan
    assert [unit.number for unit in crew.in_turn(plan, plan.units())] == [0, 1, 2, 3, 4, 5]


def test_every_unit_is_told_of_once_with_its_rows_and_bytes(tmp_path, source):
    home = Home(tmp_path / "home")
    prepared = prepare(home, str(source), name="a")
    told: list[tuple[int, int]] = []
    ingest(home, prepared, workers=2, progress=lambda rows, size: told.append((rows, size)))
    sizes = [(source / f"part-{n}.parquet").stat().st_size for n in range(6)]
    assert sorted(told) == list(zip([50, 100, 150, 200, 250, 300], sizes, strict=True))


def test_an_error_in_one_process_ends_them_all_and_is_told_as_it_is(tmp_path, source):
    home = Home(tmp_path / "home")
    prepared = prepare(home, str(source), name="a")
    raw = bytearray((source / "part-5.parquet").read_bytes())
    raw[4:40] = bytes(36)
    (source / "part-5.parquet").write_bytes(raw)
    with pytest.raises(SourceDamagedError, match=r"part-5\.parquet"):
        ingest(home, prepared, workers=2)
    assert Catalog(home).entries() == {}
    assert home.names("staging") == []


def test_a_process_that_is_killed_is_named_and_nothing_is_published(tmp_path, source):
    home = tmp_path / "home"
    code = (
        "from choline_data.catalog import planning; planning.UNIT_BYTES = 1; from choline_data.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "add", str(source), "--home", str(home), "--yes", "--workers", "2"]
    environment = {**os.environ, "CHOLINE_FAULT_POINT": "unit.read"}  # the processes that read reach it
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert re.search(r"ended before its work was done \(signal 9\).*fewer --workers", last)
    assert Home(home).names("staging") == []
    assert Catalog(Home(home)).entries() == {}


@pytest.mark.slow
def test_an_interrupt_ends_the_workers_too_without_a_traceback(tmp_path):
    folder = tmp_path / "source"
    folder.mkdir()
    line = json.dumps({"text": "some words of a document " * 40}) + "\n"
    for number in range(4):
        (folder / f"{number}.jsonl").write_text(line * 70_000)  # 70 MB: a unit of a second or so
    code = "import sys; from choline_data.cli import main; sys.exit(main())"
    home = tmp_path / "home"
    command = [sys.executable, "-c", code, "add", str(folder), "--home", str(home), "--yes", "--workers", "2"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        until = time.monotonic() + 60
        while not any(path.stat().st_size for path in (home / "staging").glob("*")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        _, said = process.communicate(timeout=60)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert said.strip().endswith("Nothing half-done was published.")
    assert Catalog(Home(home)).entries() == {}
    assert list((home / "staging").iterdir()) == []


def test_workers_import_no_pandas(tmp_path):
    code = """
import sys
from choline_data.catalog import processes
def look(told):
    told.send("pandas" in sys.modules)
if __name__ == "__main__":
    made = processes.context()
    ours, theirs = made.Pipe()
    process = made.Process(target=look, args=(theirs,))
    process.start()
    print(ours.recv())
    process.join()
"""
    script = tmp_path / "look.py"
    script.write_text(code)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("False", "")
