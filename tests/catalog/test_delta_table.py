"""Delta Lake tables: only the current files are read, and a table that needs more than its list of files is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from choline_data.catalog.planning import Wishes, plan_source
from choline_data.catalog.sources import resolve_sources
from choline_data.errors import SourceDamagedError, SourceFormatError

START = [{"protocol": {"minReaderVersion": 1}}, {"metaData": {"id": "t", "configuration": {}}}]


def add(path: str, **more: Any) -> dict[str, Any]:
    return {"add": {"path": path, "partitionValues": {}, "dataChange": True, **more}}


def table(root: Path, *commits: list[dict[str, Any]], first: int = 0) -> Path:
    """A table whose file `N.parquet` holds the row N, with these commits in its log."""
    (root / "_delta_log").mkdir(parents=True, exist_ok=True)
    for number in range(4):
        pq.write_table(pa.table({"n": [number]}), root / f"{number}.parquet")
    for version, actions in enumerate(commits, first):
        lines = "\n".join(map(json.dumps, actions))
        (root / "_delta_log" / f"{version:020}.json").write_text(lines)
    return root


def rows(path: Path | str) -> list[int]:
    plan = plan_source(resolve_sources([str(path)]), "x", Wishes())
    chunks = [c for part in plan.parts for shard in part.shards for c in part.adapter.read(shard)]
    return sorted(row["n"] for chunk in chunks for row in chunk.batch.to_pylist())


def test_removed_files_and_files_that_no_commit_names_are_not_read(tmp_path: Path) -> None:
    path = table(
        tmp_path, [*START, add("0.parquet"), add("1.parquet")], [{"remove": {"path": "0.parquet"}}, add("2.parquet")]
    )
    assert rows(path) == [1, 2]
    source = resolve_sources([str(path)])
    assert dict(source.left_out)["0.parquet"] == "not in the current version of the Delta Lake table"


def test_the_newest_whole_checkpoint_stands_for_the_commits_before_it(tmp_path: Path) -> None:
    path = table(tmp_path, [add("3.parquet")], first=8)
    struct = pa.struct([("path", pa.string()), ("partitionValues", pa.map_(pa.string(), pa.string()))])
    added = pa.array([None, {"path": "1.parquet", "partitionValues": []}], struct)
    state = pa.table({"add": added, "metaData": [{"id": "t"}, None]})
    pq.write_table(state, path / "_delta_log" / f"{7:020}.checkpoint.parquet")
    pq.write_table(state, path / "_delta_log" / f"{9:020}.checkpoint.{1:010}.{2:010}.parquet")
    assert rows(path) == [1, 3]


def test_values_of_partitions_come_from_the_path(tmp_path: Path) -> None:
    path = table(tmp_path, [*START, add("k=a%20b/0.parquet", partitionValues={"k": "a b"})])
    (path / "k=a b").mkdir()
    (path / "0.parquet").rename(path / "k=a b" / "0.parquet")
    assert rows(path) == [0]
    (path / "_delta_log" / f"{1:020}.json").write_text(json.dumps(add("1.parquet", partitionValues={"k": "c"})))
    with pytest.raises(SourceFormatError, match="partition columns"):
        rows(path)


@pytest.mark.parametrize(
    ("actions", "words"),
    [
        ([add("0.parquet", deletionVector={"storageType": "u"})], "deletion vectors"),
        ([{"metaData": {"configuration": {"delta.columnMapping.mode": "name"}}}], "other names"),
        ([{"protocol": {"minReaderVersion": 3, "readerFeatures": ["v2Checkpoint"]}}], "v2Checkpoint"),
    ],
)
def test_a_table_that_needs_more_than_its_files_is_refused(
    tmp_path: Path, actions: list[dict[str, Any]], words: str
) -> None:
    with pytest.raises(SourceFormatError, match=words):
        rows(table(tmp_path, [*START, add("1.parquet"), *actions]))


def test_a_file_with_an_old_deletion_vector_does_not_matter(tmp_path: Path) -> None:
    old = add("0.parquet", deletionVector={"storageType": "u"})
    assert rows(table(tmp_path, [*START, old], [{"remove": {"path": "0.parquet"}}, add("1.parquet")])) == [1]


def test_a_log_with_a_gap_or_a_missing_file_is_damage(tmp_path: Path) -> None:
    with pytest.raises(SourceDamagedError, match="lacks the commits"):
        rows(table(tmp_path / "a", [*START, add("0.parquet")], first=1))
    with pytest.raises(SourceDamagedError, match="does not exist"):
        rows(table(tmp_path / "b", [*START, add("gone.parquet")]))


@pytest.mark.parametrize("part", ["*.parquet", "0.parquet", "k=a"])
def test_a_part_of_a_table_is_refused(tmp_path: Path, part: str) -> None:
    path = table(tmp_path, [*START, add("1.parquet")])
    (path / "k=a").mkdir()
    pq.write_table(pa.table({"n": [9]}), path / "k=a" / "9.parquet")
    with pytest.raises(SourceFormatError, match="part of a Delta Lake table"):
        rows(f"{path}/{part}")


@pytest.mark.parametrize("mark", ["zarr.json", "x/.zarray"])
def test_a_zarr_store_is_refused_by_name(tmp_path: Path, mark: str) -> None:
    (tmp_path / "a.zarr" / "x").mkdir(parents=True)
    (tmp_path / "a.zarr" / mark).write_text("{}")
    (tmp_path / "a.zarr" / "0.json").write_text('[{"a": 1}, {"a": 2}]')
    with pytest.raises(SourceFormatError, match="Zarr"):
        rows(tmp_path / "a.zarr")
