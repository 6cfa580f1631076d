"""Ingestion: the same source gives the same revision with every runner, and after any number of kills."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from choline_data.catalog import planning
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.ingest import Ingested
from choline_data.catalog.planning import Wishes
from choline_data.errors import AlreadyExistsError, TooManyRejectsError
from choline_data.places.home import Home
from choline_data.store import Catalog, open_revision

ADD = "import sys; from choline_data.cli import main; sys.exit(main())"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Six Parquet files; half of the last one's rows repeat the first's."""
    folder = tmp_path / "source"
    folder.mkdir()
    for number in range(6):
        rows = range(number * 50, number * 50 + 50)
        text = [f"Document {n if number < 5 or n % 2 else n - 250}: some words, and some more of them." for n in rows]
        table = pa.table({"text": text, "url": [f"https://example.org/{n}" for n in rows], "n": list(rows)})
        pq.write_table(table, folder / f"part-{number}.parquet", row_group_size=20)
    return folder


@pytest.fixture
def small_units(monkeypatch):
    """A unit a file, so that there is work to spread."""
    monkeypatch.setattr(planning, "UNIT_BYTES", 1)


def add(home: Home, source: Path, name: str = "web", wishes: Wishes | None = None, **options: Any) -> Ingested:
    return ingest(home, prepare(home, str(source), name=name, wishes=wishes), **options)


def ids(home: Home, revision: str) -> list[bytes]:
    opened = open_revision(home, revision)
    return [i for batch in opened.read(0, opened.rows, ["id"]) for i in batch["id"].to_pylist()]


def test_the_same_source_again_is_the_same_revision_and_no_error(tmp_path, source):
    home = Home(tmp_path / "home")
    first = add(home, source)
    assert add(home, source).entry.revision == first.entry.revision
    other = Home(tmp_path / "other")
    assert add(other, source).entry.revision == first.entry.revision
    assert ids(other, first.entry.revision) == ids(home, first.entry.revision)


@pytest.mark.parametrize(
    "options",
    [{"workers": 2}, pytest.param({"runner": "local"}, marks=pytest.mark.filterwarnings("ignore"))],
    ids=["two workers", "Beam in memory"],
)
def test_the_revision_does_not_depend_on_who_runs_it(tmp_path, source, small_units, options):
    if "runner" in options:
        pytest.importorskip("apache_beam")
    one, other = Home(tmp_path / "one"), Home(tmp_path / "other")
    here = add(one, source)
    there = add(other, source, **options)
    assert len(open_revision(one, here.entry.revision).file_rows) == 6
    assert there.entry.revision == here.entry.revision
    assert ids(other, there.entry.revision) == ids(one, here.entry.revision)
    assert other.names("jobs") == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_dask_cluster_makes_the_same_revision(tmp_path, source):
    # A process of its own: Beam's runner and the cluster leave threads and handlers behind.
    script = """
import sys
from choline_data.catalog import planning
from choline_data.catalog.add import ingest, prepare
from choline_data.places.home import Home
if __name__ == "__main__":
    from dask.distributed import LocalCluster
    planning.UNIT_BYTES = 1
    home = Home(sys.argv[1])
    with LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None) as cluster:
        prepared = prepare(home, sys.argv[2], name="web")
        made = ingest(home, prepared, runner="dask", scheduler=cluster.scheduler_address)
    print("revision", made.entry.revision)
"""
    pytest.importorskip("distributed")
    home = tmp_path / "dask"
    told = subprocess.run(
        [sys.executable, "-c", script, str(home), str(source)], capture_output=True, text=True, timeout=200
    )
    assert told.returncode == 0, told.stderr[-2000:]
    before = planning.UNIT_BYTES
    planning.UNIT_BYTES = 1
    try:
        here = add(Home(tmp_path / "here"), source)
    finally:
        planning.UNIT_BYTES = before
    assert f"revision {here.entry.revision}" in told.stdout


def lines(path: Path, bad: int, good: int = 100) -> Path:
    rows = [json.dumps({"text": f"line {n} of some words"}) for n in range(good)]
    for n in range(bad):
        rows.insert(n * 3, '{"text": broken')
    path.write_text("\n".join(rows) + "\n")
    return path


def test_rows_read_are_rows_stored_and_rows_rejected(tmp_path):
    home = Home(tmp_path / "home")
    done = add(home, lines(tmp_path / "x.jsonl", 3), wishes=Wishes(max_rejects=0.05))
    assert (done.rows, done.rejected) == (100, 3)
    (kept,) = [n for n in home.names("revisions") if n.endswith("rejects.jsonl")]
    rejects = [json.loads(line) for line in home.read(kept).splitlines()]
    assert [(r["file"], r["row"]) for r in rejects] == [("x.jsonl", 0), ("x.jsonl", 3), ("x.jsonl", 6)]


def test_over_the_budget_nothing_is_published(tmp_path):
    home = Home(tmp_path / "home")
    with pytest.raises(TooManyRejectsError, match=r"3 of 103 rows were rejected, more than 1.0%.*x.jsonl, row 0"):
        add(home, lines(tmp_path / "x.jsonl", 3))
    assert Catalog(home).entries() == {}
    assert home.names("revisions") == []


@pytest.mark.parametrize("limit", [1, 49, 50, 51, 137, 300, 1000])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_limit_is_exact(tmp_path, source, small_units, limit, workers):
    if workers == 2 and limit not in (51, 137):
        pytest.skip("two workers are tried at two limits")
    home = Home(tmp_path / "home")
    whole = ids(home, add(home, source, "whole").entry.revision)
    cut = add(home, source, "cut", Wishes(limit=limit), workers=workers)
    assert cut.rows == cut.entry.rows == min(limit, 300)
    assert ids(home, cut.entry.revision) == whole[:limit]


def test_exact_repeats_are_left_out_and_counted(tmp_path, source):
    home = Home(tmp_path / "home")
    done = add(home, source, dedup="exact")
    assert (done.rows, done.duplicates) == (275, 25)
    assert len(set(ids(home, done.entry.revision))) == 275


def test_near_repeats_are_left_out_and_counted(tmp_path):
    pytest.importorskip("rensa")
    long = " ".join(f"word{n}" for n in range(400))
    other = " ".join(f"other{n}" for n in range(400))
    rows = [long, long + " and", other, "the end of " + other]
    (tmp_path / "x.jsonl").write_text("".join(json.dumps({"text": row}) + "\n" for row in rows))
    done = add(Home(tmp_path / "home"), tmp_path / "x.jsonl", dedup="near")
    assert (done.rows, done.duplicates) == (2, 2)


def test_of_two_that_add_other_content_under_one_name_one_wins_and_the_other_is_told(tmp_path, source):
    home = Home(tmp_path / "home")
    # Both have looked at the catalog before either has published.
    one = prepare(home, str(source), name="web")
    other = prepare(home, str(source), name="web", wishes=Wishes(limit=7))
    start = threading.Barrier(2)
    told: list[str] = []

    def run(prepared: Any) -> None:
        start.wait(20)
        try:
            told.append(f"won {ingest(home, prepared).rows}")
        except AlreadyExistsError as error:
            told.append(error.reason)

    threads = [threading.Thread(target=run, args=(p,)) for p in (one, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    winner = next(t for t in told if t.startswith("won"))
    assert sorted(told) == ["DATASET_EXISTS", winner]
    assert Catalog(home).entry("web").rows == int(winner.split()[1])


def command(home: Path, source: Path, *more: str) -> list[str]:
    return [sys.executable, "-c", ADD, "add", str(source), "--home", str(home), "--name", "web", "--json", *more]


def test_two_processes_that_add_one_name_one_wins_the_other_is_told(tmp_path, source):
    home = tmp_path / "home"
    both = [
        subprocess.Popen(command(home, source, *more), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for more in ((), ("--limit", "7"))
    ]
    said = [process.communicate(timeout=100) for process in both]
    assert sorted(process.returncode for process in both) == [0, 1]
    loser = said[0] if both[0].returncode else said[1]
    assert json.loads(loser[1].splitlines()[-1])["error"]["reason"] == "DATASET_EXISTS"


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_home_that_takes_no_more_bytes_is_one_line_and_leaves_nothing(tmp_path, workers):
    source = tmp_path / "source"
    source.mkdir()
    for name in "ab":
        lines(source / f"{name}.jsonl", 0, good=20_000)
    # As on a full disk, a write fails in the middle of a file: here where a process may write no more than 256 KiB.
    script = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, 1 << 18)); " + (
        "from choline_data.catalog import planning; planning.UNIT_BYTES = 1; " + ADD
    )
    home = Home(tmp_path / "home")
    arguments = [
        sys.executable,
        "-c",
        script,
        *command(tmp_path / "home", source, "--workers", workers, "--include", "*")[3:],
    ]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    error = json.loads(line)["error"]
    assert error["reason"] == "HOME_UNUSABLE"
    assert error["message"].startswith(f"{home.location} can't be written (staging/")
    assert error["message"].endswith(": File too large.")
    assert Catalog(home).entries() == {}
    assert home.names("staging") == home.names("data") == []


@pytest.mark.slow
def test_a_small_dataset_is_in_the_catalog_after_a_few_seconds_of_work(tmp_path, shared_data):
    import resource

    took = []
    for number in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [
                sys.executable,
                "-c",
                ADD,
                "add",
                str(shared_data / "gsm8k"),
                "--yes",
                "--json",
                "--home",
                str(tmp_path / str(number)),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime)
    # Processor time, not the clock: the machine that runs the tests has other work.
    assert min(took) < 8
