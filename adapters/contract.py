"""Tests that every adapter must pass. Our adapters and those of third parties inherit them.

class TestRivers(AdapterContract):
    @pytest.fixture
    def adapter(self):
        return Rivers()

    @pytest.fixture
    def files(self, tmp_path):
        ...  # a few SourceFiles with at least one row; several chunks are better
"""

from __future__ import annotations

import gzip
import zipfile
from collections.abc import Sequence
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from choline_data.adapters.base import BATCH_BYTES, BATCH_ROWS, Adapter, Shard, SourceChunk, SourceFile
from choline_data.adapters.reading.members import listing
from choline_data.adapters.reading.plain_files import compression_of


def rows_of(chunks: Sequence[SourceChunk]) -> list[tuple[int, dict[str, Any]]]:
    """Returns, for each row, its row number and its values without nulls."""
    return [
        (int(number), {k: v for k, v in row.items() if v is not None})
        for chunk in chunks
        for number, row in zip(chunk.rows, chunk.batch.to_pylist(), strict=True)
    ]


def _all_rows(adapter: Adapter, files: Sequence[SourceFile]) -> list[tuple[int, dict[str, Any]]]:
    return [row for shard in adapter.shards(files) for row in rows_of(list(adapter.read(shard)))]


def _as_a_worker_gets_it(value: Any) -> Any:
    return ForkingPickler.loads(ForkingPickler.dumps(value))


class AdapterContract:
    """Inherit this class and define the fixtures `adapter` and `files` to run these tests.

    Set `reads_gz` to False if the format has a compression of its own, so that nobody compresses its files again.
    """

    reads_gz = True

    @pytest.fixture
    def adapter(self) -> Adapter:
        pytest.fail("a contract test needs the fixture `adapter`: the adapter under test")

    @pytest.fixture
    def files(self) -> list[SourceFile]:
        pytest.fail("a contract test needs the fixture `files`: files that the adapter reads")

    @pytest.fixture
    def shards(self, adapter: Adapter, files: list[SourceFile]) -> list[Shard]:
        return adapter.shards(files)

    def test_it_is_an_adapter_and_has_rows(self, adapter: Adapter, shards: list[Shard]) -> None:
        assert isinstance(adapter, Adapter)
        assert sum(len(c.rows) for shard in shards for c in adapter.read(shard)) > 0

    def test_it_is_a_frozen_value(self, adapter: Adapter) -> None:
        value: object = adapter
        assert is_dataclass(value)
        assert hash(adapter) == hash(_as_a_worker_gets_it(adapter))
        names = [f.name for f in fields(value)]
        with pytest.raises(FrozenInstanceError):
            setattr(adapter, names[0] if names else "option", None)

    def test_a_copy_from_another_process_reads_the_same(self, adapter: Adapter, shards: list[Shard]) -> None:
        copy, copied = _as_a_worker_gets_it((adapter, shards))
        assert copy == adapter
        assert copied == shards
        assert rows_of(list(copy.read(copied[0]))) == rows_of(list(adapter.read(shards[0])))

    def test_shards_are_the_same_twice(self, adapter: Adapter, files: list[SourceFile]) -> None:
        assert adapter.shards(files) == adapter.shards(list(files))

    def test_a_shard_gives_the_same_chunks_twice(self, adapter: Adapter, shards: list[Shard]) -> None:
        for shard in shards:
            first, second = list(adapter.read(shard)), list(adapter.read(shard))
            assert len(first) == len(second)
            for a, b in zip(first, second, strict=True):
                assert a.batch.equals(b.batch, check_metadata=True)
                assert a.rows.tolist() == b.rows.tolist()
                assert a.rejects == b.rejects

    def test_resuming_at_any_row_gives_the_rest(self, adapter: Adapter, shards: list[Shard]) -> None:
        for shard in shards:
            chunks = list(adapter.read(shard))
            whole = rows_of(chunks)
            rejects = [r for c in chunks for r in c.rejects]
            numbers = [n for n, _ in whole]
            starts = numbers if len(numbers) <= 40 else [*numbers[:10], *numbers[:: len(numbers) // 20], numbers[-1]]
            for start in [*starts, (numbers[-1] + 1 if numbers else 0)]:
                rest = list(adapter.read(shard, start=start))
                assert rows_of(rest) == [(n, row) for n, row in whole if n >= start]
                assert [r for c in rest for r in c.rejects] == [r for r in rejects if r.row >= start]

    def test_row_numbers_count_up(self, adapter: Adapter, shards: list[Shard]) -> None:
        for shard in shards:
            chunks = list(adapter.read(shard))
            numbers = [int(n) for c in chunks for n in c.rows]
            assert numbers == sorted(set(numbers))
            assert not set(numbers) & {r.row for c in chunks for r in c.rejects}

    def test_chunks_are_valid_and_bounded(self, adapter: Adapter, shards: list[Shard]) -> None:
        for shard in shards:
            for chunk in adapter.read(shard):
                chunk.batch.validate(full=True)
                assert chunk.batch.num_rows == len(chunk.rows) <= BATCH_ROWS
                assert chunk.batch.num_rows <= 1 or chunk.batch.nbytes <= 2 * BATCH_BYTES
                assert len(set(chunk.batch.schema.names)) == chunk.batch.num_columns
                assert not any(isinstance(f.type, pa.BaseExtensionType) for f in chunk.batch.schema)

    def test_rejects_say_where_and_why(self, adapter: Adapter, shards: list[Shard]) -> None:
        for shard in shards:
            for chunk in adapter.read(shard):
                for reject in chunk.rejects:
                    assert reject.file == shard.origin
                    assert reject.row >= 0
                    assert reject.reason

    def test_compressed_files_give_the_same_rows(
        self, adapter: Adapter, files: list[SourceFile], tmp_path: Path
    ) -> None:
        if not self.reads_gz:
            pytest.skip("the format has a compression of its own")
        copies = []
        for number, file in enumerate(files):
            path = tmp_path / f"copy_{number}.gz"
            content = Path(file.path).read_bytes()
            path.write_bytes(content if compression_of(content) else gzip.compress(content))
            copies.append(replace(file, path=str(path), size=path.stat().st_size))
        assert _all_rows(adapter, copies) == _all_rows(adapter, files), (
            "Open files with choline_data.adapters.api (`content`, `pieces`, `lines_of`), which decompress them."
        )

    def test_members_of_an_archive_give_the_same_rows(
        self, adapter: Adapter, files: list[SourceFile], tmp_path: Path
    ) -> None:
        with zipfile.ZipFile(tmp_path / "copies.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for number, file in enumerate(files):
                archive.write(file.path, str(number))
        listed = listing(SourceFile(str(tmp_path / "copies.zip"), "copies.zip"))
        members = [replace(file, path=member.file.path) for file, member in zip(files, listed, strict=True)]
        assert _all_rows(adapter, members) == _all_rows(adapter, files), (
            "Open files with choline_data.adapters.api (`content`, `pieces`, `open_raw`), which open members of archives."
        )
