"""In place: the samples of an ingested copy, read from where the Parquet files lie."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.export import export
from choline_data.catalog.planning import Wishes
from choline_data.catalog.register_in_place import register
from choline_data.catalog.sql import query_home
from choline_data.errors import DamagedStoreError, InvalidOptionError, TooManyRejectsError
from choline_data.mix.resolve import resolve_mix
from choline_data.places.home import Home
from choline_data.store import Catalog, open_revision
from choline_data.store.in_place import InPlaceRevision
from choline_data.store.windows import Store
from choline_data.streams.sample_stream import SampleStream
from choline_data.upkeep.garbage import collect
from choline_data.upkeep.verify import verify


def documents(count: int, start: int = 0) -> dict[str, list[Any]]:
    return {
        "text": [
            f"Document number {n}, with a few words of its own. " * (1 + n % 3) for n in range(start, start + count)
        ],
        "url": [f"https://example.org/{n}" for n in range(start, start + count)],
        "score": [n / 7 for n in range(start, start + count)],
    }


def write(path: Path, columns: dict[str, list[Any]], row_group: int = 7) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=row_group)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "data/part-0.parquet", documents(40), 7)
    write(tmp_path / "data/part-1.parquet", documents(25, 40), 10)
    return tmp_path / "data"


def both(home: Home, source: Path, **options: Any) -> tuple[Any, Any]:
    """The copy and the registered revision of one source."""
    ingest(home, prepare(home, str(source), name="copy", wishes=Wishes(**options)))
    register(home, prepare(home, str(source), name="there", wishes=Wishes(**options)))
    entries = Catalog(home).entries()
    return open_revision(home, entries["copy"].revision), open_revision(home, entries["there"].revision)


def rows(revision: Any, start: int, stop: int, columns: list[str] | None = None) -> list[dict[str, Any]]:
    return [row for batch in revision.read(start, stop, columns) for row in batch.to_pylist()]


def test_every_range_in_any_order_gives_the_samples_of_the_copy(tmp_path, folder):
    copy, there = both(Home(tmp_path / "home"), folder)
    assert isinstance(there, InPlaceRevision)
    assert (there.rows, there.columns, there.constants) == (copy.rows, copy.columns, copy.constants)
    dice = random.Random(5)
    for _ in range(60):
        start = dice.randrange(66)
        stop = dice.randrange(start, 66)
        columns = dice.choice([None, ["id", "text"], ["id", "extra"], ["id"], ["text", "origin"]])
        assert rows(there, start, stop, columns) == rows(copy, start, stop, columns)


@pytest.mark.parametrize(
    ("columns", "options"),
    [
        ({"question": ["one?", "two?", "three?"] * 9, "answer": ["1", "2", "3"] * 9}, {}),
        ({"a": list(range(30)), "b": [f"v{n}" for n in range(30)]}, {"as_kind": "tabular"}),
        (
            {
                "messages": [
                    [{"role": "user", "content": f"hi {n}"}, {"role": "assistant", "content": "yes"}] for n in range(30)
                ],
                "topic": ["x"] * 30,
            },
            {},
        ),
    ],
    ids=["qa", "tabular", "chat"],
)
def test_every_kind_has_the_ids_of_the_copy(tmp_path, columns, options):
    copy, there = both(Home(tmp_path / "home"), write(tmp_path / "x.parquet", columns), **options)
    assert rows(there, 0, there.rows) == rows(copy, 0, copy.rows)
    assert rows(there, 3, 20, ["id"]) == rows(copy, 3, 20, ["id"])


def test_rows_that_can_not_be_samples_are_left_out_as_in_the_copy(tmp_path):
    columns = documents(300)
    columns["text"][11] = columns["text"][204] = None
    home = Home(tmp_path / "home")
    copy, there = both(home, write(tmp_path / "x.parquet", columns, 50))
    assert there.rows == copy.rows == 298
    assert Catalog(home).entry("there").rejected == 2
    assert rows(there, 0, 298) == rows(copy, 0, 298)
    with pytest.raises(TooManyRejectsError, match="2 of 300 rows"):
        register(home, prepare(home, str(tmp_path / "x.parquet"), name="strict", wishes=Wishes(max_rejects=0.001)))
    assert "strict" not in Catalog(home).entries()


def test_splits_and_partition_folders_are_those_of_the_copy(tmp_path):
    write(tmp_path / "d/lang=en/train-0.parquet", documents(20))
    write(tmp_path / "d/lang=de/train-0.parquet", documents(12, 20))
    copy, there = both(Home(tmp_path / "home"), tmp_path / "d")
    assert there.splits() == copy.splits()
    assert there.spans() == copy.spans()
    assert rows(there, 0, 32) == rows(copy, 0, 32)


def test_a_stream_of_it_and_a_mix_with_stored_data_give_every_sample_once_an_epoch(tmp_path, folder):
    home = Home(tmp_path / "home")
    both(home, folder)
    recipe = resolve_mix({"there": 0.5, "copy": 0.5}, home, seed=3)
    stream = SampleStream(Store(home), recipe)
    seen: dict[str, set[bytes]] = {"there": set(), "copy": set()}
    for start in range(0, 156, 13):
        batch = stream.read(start, start + 13)
        for number, identity in zip(batch["dataset"].to_pylist(), batch["id"].to_pylist(), strict=True):
            seen[stream.datasets[number]].add(identity)
    assert seen["there"] == seen["copy"]
    assert len(seen["there"]) == 65


def test_the_order_does_not_depend_on_how_it_is_read(tmp_path, folder):
    home = Home(tmp_path / "home")
    both(home, folder)
    recipe = resolve_mix("there", home, seed=3)
    whole = SampleStream(Store(home), recipe).read(0, 100)["id"].to_pylist()
    backwards = SampleStream(Store(home, cache_bytes=1), recipe)
    assert [backwards.read(at, at + 1)["id"][0].as_py() for at in reversed(range(100))] == whole[::-1]


def test_sql_verify_export_and_gc_work_on_it(tmp_path, folder):
    home = Home(tmp_path / "home")
    both(home, folder)
    assert query_home(home, "SELECT count(DISTINCT id) AS n FROM there").to_pylist() == [{"n": 65}]
    assert verify(home, Catalog(home).entry("there"))["files"] == 2
    collect(home, keep_days=0)
    assert export(home, Catalog(home).entry("there"), "jsonl", str(tmp_path / "out"))["rows"] == 65
    assert sorted(os.listdir(folder)) == ["part-0.parquet", "part-1.parquet"]


def test_a_file_that_changed_is_named_and_so_is_the_remedy(tmp_path, folder):
    home = Home(tmp_path / "home")
    _, there = both(home, folder)
    write(folder / "part-1.parquet", documents(25, 41), 10)
    assert len(rows(there, 0, 40)) == 40
    with pytest.raises(DamagedStoreError, match=r"part-1.parquet has changed") as caught:
        rows(there, 40, 41)
    assert f"choline-data add {folder} --in-place --name" in caught.value.remedy
    with pytest.raises(DamagedStoreError, match=r"part-1.parquet has changed"):
        verify(home, Catalog(home).entry("there"))


def test_the_same_footer_with_other_pages_is_noticed_by_its_time(tmp_path, folder):
    _, there = both(Home(tmp_path / "home"), folder)
    os.utime(folder / "part-0.parquet", ns=(1, 1))
    with pytest.raises(DamagedStoreError, match=r"part-0.parquet has changed"):
        rows(there, 0, 1)


def test_a_file_that_is_gone_is_named(tmp_path, folder):
    home = Home(tmp_path / "home")
    _, there = both(home, folder)
    (folder / "part-0.parquet").unlink()
    with pytest.raises(DamagedStoreError, match=r"part-0.parquet can't be found"):
        rows(there, 0, 1)


def test_registered_again_after_a_change_it_is_another_revision(tmp_path, folder):
    home = Home(tmp_path / "home")
    both(home, folder)
    before = Catalog(home).entry("there").revision
    register(home, prepare(home, str(folder), name="there"))
    assert Catalog(home).entry("there").revision == before
    write(folder / "part-1.parquet", documents(26, 40), 10)
    register(home, prepare(home, str(folder), name="there"), replace_existing=True)
    assert Catalog(home).entry("there").revision != before
    assert Catalog(home).entry("there").rows == 66


def test_a_url_is_read_through_its_file_system(tmp_path, folder):
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/shelf/one.parquet", (folder / "part-0.parquet").read_bytes())
    home = Home(tmp_path / "home")
    try:
        register(home, prepare(home, "memory://shelf/one.parquet", name="far"))
        far = open_revision(home, Catalog(home).entry("far").revision)
        assert [row["text"] for row in rows(far, 0, 40)] == documents(40)["text"]
        memory.rm("/shelf/one.parquet")
        with pytest.raises(DamagedStoreError, match="can't be found"):
            rows(open_revision(home, far.revision), 0, 1)
    finally:
        memory.store.clear()


def test_memory_is_bounded_by_what_is_kept_decoded(tmp_path):
    columns = {"text": [f"{n} " + "word " * 2000 for n in range(12_000)]}
    home = Home(tmp_path / "home")
    register(home, prepare(home, str(write(tmp_path / "big.parquet", columns, 12_000)), name="big"))
    entry = Catalog(home).entry("big")
    there = InPlaceRevision(home, entry.revision, cache_bytes=4 << 20)  # a row group is 120 MB decoded
    assert there.block_rows * 10_000 <= 5 << 20
    base = pa.total_allocated_bytes()
    most = 0
    for start in range(0, 12_000, 500):
        assert rows(there, start, start + 500, ["text"])[0]["text"].startswith(f"{start} ")
        most = max(most, pa.total_allocated_bytes() - base)
    assert most < 48 << 20


def test_only_parquet_goes_in_place(tmp_path):
    (tmp_path / "x.jsonl").write_text('{"text": "a few words"}\n')
    home = Home(tmp_path / "home")
    with pytest.raises(InvalidOptionError, match="only Parquet"):
        register(home, prepare(home, str(tmp_path / "x.jsonl")))


def test_the_commands_work_on_it(tmp_path, folder):
    def run(*arguments: str) -> list[dict[str, Any]]:
        code = "import sys; from choline_data.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", code, *arguments, "--home", str(tmp_path / "home"), "--json"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    (added,) = run("add", str(folder), "--in-place", "--yes", "--name", "there")
    assert (added["rows"], added["kind"], added["rejected"]) == (65, "text", 0)
    assert [sample["text"] for sample in run("head", "there", "-n", "2")] == documents(2)["text"]
    assert run("show", "there")[0]["about"]["in_place"] is True
    assert run("verify", "there")[0]["ok"] is True
    assert [entry["name"] for entry in run("list")] == ["there"]
    assert not (tmp_path / "home/data").exists()


def test_the_client_in_this_process_reads_it(tmp_path, folder):
    pytest.importorskip("torch")
    from choline_data.client import FirehoseDataset

    home = Home(tmp_path / "home")
    both(home, folder)
    dataset = FirehoseDataset("there", home=home.location, seed=1, rank=0, world_size=1, max_samples=65)
    assert sorted(sample["text"] for sample in dataset) == sorted(documents(65)["text"])


def test_a_column_that_decides_the_splits_does_not_go_with_in_place(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a b c", "d e f"], "split": ["train", "test"]}), tmp_path / "rows.parquet")
    home = Home(tmp_path / "home")
    with pytest.raises(InvalidOptionError, match="'split' decides the splits"):
        register(home, prepare(home, str(tmp_path / "rows.parquet"), name="x"))
    prepared = prepare(home, str(tmp_path / "rows.parquet"), name="x", wishes=Wishes(split_by="none"))
    assert register(home, prepared).rows == 2
