"""Ingestion: reads and maps a plan's units, writes them as store files, and publishes the files as one revision.

A unit is a pure function of the plan: any process on any machine writes the same bytes, named by their digest. Nothing is
visible before the catalog's next snapshot names the manifest. So a killed ingestion leaves only files that `gc` removes,
and running it again gives the identical result.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import orjson
import pyarrow as pa

from choline_data import schema as one
from choline_data.adapters.base import Reject, Shard, SourceChunk, foreign
from choline_data.adapters.jsonl import JsonLines
from choline_data.adapters.mapping import forms
from choline_data.adapters.mapping.samples_of import samples_of
from choline_data.adapters.parquet import Parquet
from choline_data.catalog.account import FileAccount, RowCount, RowsRead, check_rows, encode, with_rows
from choline_data.catalog.planning import IngestPart, IngestPlan, Unit, guarded_chunks
from choline_data.catalog.split_plan import MAX_SPLITS, Part, too_many_splits
from choline_data.errors import DataError, SourceFormatError, TooManyRejectsError, one_line
from choline_data.places.home import Home
from choline_data.process.fault_points import reached
from choline_data.process.reading_thread import one_ahead
from choline_data.store import BlockWriter, Catalog, Entry, Manifest, StoredFile
from choline_data.store.blocks import data_name, index_name
from choline_data.store.leases import check_published, check_written, writing
from choline_data.store.manifest import store_manifest
from choline_data.store.object_names import manifest_name

FILE_BYTES = 512 << 20
MAX_REJECTS_KEPT = 100_000
# Arrow reads these formats outside the interpreter's lock. So a thread reads a chunk while the one before it is mapped.
READ_AHEAD = (Parquet, JsonLines)

# A function that gets the numbers of rows and source bytes that were processed since its last call.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class UnitResult:
    """The result of a unit: its store files, and the rows that it rejected."""

    number: int
    files: tuple[StoredFile, ...]
    rows: int
    rejects: tuple[Reject, ...]
    rejected: int
    counts: tuple[RowCount, ...] = ()


class RunningUnit:
    """A unit that is being read, mapped and written. When all rows are read, its last file may still be syncing to
    disk.
    """

    def __init__(self, plan: IngestPlan, home: Home, unit: Unit) -> None:
        self._plan = plan
        self._home = home
        self._unit = unit
        self._schema = one.stored_schema(plan.columns)
        self._writers: dict[Part, BlockWriter] = {}
        self._ended: tuple[Part, BlockWriter] | None = None
        self._files: list[StoredFile] = []
        self._rejects: list[Reject] = []
        self._rejected = 0
        self._counts: list[RowCount] = []
        self._read = RowsRead("")
        self.rows = 0

    def read(self, progress: Progress | None = None) -> None:
        """Reads the unit to its end, or until the plan's limit is reached."""
        limit = self._plan.limit
        try:
            for number, shard in self._unit.shards:
                reported = 0
                self._read = RowsRead(shard.name)
                before = self.rows, self._rejected
                with closing(self._shard(number, shard)) as steps:
                    for rows, size in steps:
                        if progress is not None:
                            step = min(size, max(shard.size - reported, 0))
                            reported += step
                            progress(rows, step)
                        if limit and self.rows >= limit:
                            break
                self._counts.append(self._read.count(self.rows - before[0], self._rejected - before[1]))
                if progress is not None:
                    progress(0, max(shard.size - reported, 0))
                if limit and self.rows >= limit:
                    break
            for part in tuple(self._writers):
                self._end_file(part)
            reached("unit.read")
        except BaseException:
            self.abandon()
            raise

    def _shard(self, number: int, shard: Shard) -> Generator[tuple[int, int], None, None]:
        """Writes the shard's rows. Yields the number of rows and source bytes of each chunk."""
        part = self._plan.parts[number]
        read = partial(guarded_chunks, part.adapter, shard)
        with closing(one_ahead(read) if isinstance(part.adapter, READ_AHEAD) else read()) as chunks:
            for chunk in chunks:
                self._read.add(chunk)
                yield from self._chunk(part, shard, chunk)

    def _chunk(self, part: IngestPart, shard: Shard, chunk: SourceChunk) -> Iterator[tuple[int, int]]:
        # all rows of this chunk are rejects, so there is nothing to map, and the chunk may have no columns
        if not chunk.batch.num_rows:
            self._reject(chunk.rejects)
            return
        with foreign(shard.origin):
            normalised = forms.apply(part.mapping, chunk, shard)
            rows = normalised.batch.num_rows
            samples = samples_of(self._plan.columns, part.mapping.kind, shard, normalised) if rows else None
        self._reject((*chunk.rejects, *normalised.rejects))
        if samples is not None:
            for its_part, its_rows in self._divide(part, chunk.batch, normalised.keep, samples):
                self._write(its_part, its_rows)
        self.rows += rows
        yield rows, chunk.batch.nbytes

    def _divide(
        self, part: IngestPart, chunk: pa.RecordBatch, keep: pa.Array | None, samples: pa.RecordBatch
    ) -> Iterable[tuple[Part, pa.RecordBatch]]:
        """Returns the samples by config and split.

        If a column decides these, returns at most as many samples as the limit allows.
        """
        above = (self._unit.config, self._unit.split)
        if not part.by_row:
            return ((above, samples),)
        if self._plan.limit:
            samples = samples.slice(0, self._plan.limit - self.rows)
        return part.by_row.divide(samples, chunk, keep, above)

    def _write(self, part: Part, samples: pa.RecordBatch) -> None:
        writer = self._writers.get(part)
        if writer is None:
            if len(self._writers) == MAX_SPLITS:
                raise too_many_splits(self._plan.name)
            compression = self._plan.compression or None
            writer = BlockWriter(self._home, self._schema, self._plan.block_rows, compression=compression)
            self._writers[part] = writer
        writer.write(samples)
        if writer.bytes >= FILE_BYTES:
            self._end_file(part)

    def _reject(self, rejects: Sequence[Reject]) -> None:
        self._rejected += len(rejects)
        self._rejects += rejects[: MAX_REJECTS_KEPT - len(self._rejects)]

    def _end_file(self, part: Part) -> None:
        # At most one file syncs at a time, while the next one is written.
        self._await_file()
        self._ended = part, self._writers.pop(part)
        self._ended[1].end()

    def _await_file(self) -> None:
        if self._ended is None:
            return
        (config, split), writer = self._ended
        done = writer.close()
        self._ended = None
        if done is not None:
            source = self._unit.shards[0][1].name
            self._files.append(StoredFile(done.sha256, done.rows, done.bytes, source, split, config))

    def result(self) -> UnitResult:
        """Returns the unit's result. Waits until all its files are in the home and synced."""
        try:
            self._await_file()
        except BaseException:
            self.abandon()
            raise
        reached("unit.stored")
        counts = tuple(self._counts)
        return UnitResult(
            self._unit.number, tuple(self._files), self.rows, tuple(self._rejects), self._rejected, counts
        )

    def abandon(self) -> None:
        """Deletes those of its files that are not in the home yet."""
        for writer in (*self._writers.values(), *([self._ended[1]] if self._ended else [])):
            writer.abandon()


def run_unit(plan: IngestPlan, home: Home, unit: Unit) -> UnitResult:
    """Reads, maps and writes one unit. A rerun writes the same files again, under the same names."""
    running = RunningUnit(plan, home, unit)
    running.read()
    return running.result()


def run_here(
    plan: IngestPlan, home: Home, units: Iterable[Unit], progress: Progress | None = None
) -> Iterator[UnitResult]:
    """Runs the units in this process, one after the other. Each is read while the previous one syncs.

    Ends early when `--limit` is reached.
    """
    rows = 0
    open_: list[RunningUnit] = []
    try:
        for unit in units:
            left = replace(plan, limit=plan.limit - rows) if plan.limit else plan
            open_.append(RunningUnit(left, home, unit))
            open_[-1].read(progress)
            rows += open_[-1].rows
            if len(open_) > 1:
                yield open_.pop(0).result()
            if plan.limit and rows >= plan.limit:
                break
        for running in open_:
            yield running.result()
    except BaseException:
        for running in open_:
            running.abandon()
        raise


@dataclass(frozen=True)
class Ingested:
    """The result of an `add`: the catalog entry, and the numbers of stored, rejected and duplicate rows."""

    entry: Entry
    rows: int
    rejected: int
    duplicates: int = 0
    rejects: tuple[Reject, ...] = field(default=(), repr=False)
    read: int = 0
    account: tuple[FileAccount, ...] = field(default=(), repr=False)


def check_rejects(plan: IngestPlan, rows: int, rejected: int, rejects: Sequence[Reject]) -> None:
    """Raises TooManyRejectsError if more rows with data were rejected than the plan allows."""
    rejected -= sum(not reject.fault for reject in rejects)
    if rejected and rejected > plan.max_rejects * (rows + rejected):
        first = next((reject for reject in rejects if reject.fault), rejects[0])
        raise TooManyRejectsError(
            f"{plan.name}: {rejected} of {rows + rejected} rows were rejected, more than {plan.max_rejects:.1%}; the first: "
            f"{first.file}, row {first.row}: {first.reason}.",
            remedy="Correct the source, or raise --max-rejects. Nothing was published.",
        )


def _refuse_nothing(plan: IngestPlan, rows: int) -> None:
    """Raises SourceFormatError if files whose rows are records of a text hold no record. A table without rows is a dataset."""
    of_records = all(".text_records." in type(part.adapter).__module__ for part in plan.parts)
    if not rows and of_records and plan.bytes:
        shards = [shard for part in plan.parts for shard in part.shards]
        raise SourceFormatError(
            f"{plan.name}: {one_line(shards[0].origin, 120)} holds no record of its format.",
            remedy="Check the file, or choose another format with --format.",
        )


def entry_of(
    plan: IngestPlan,
    revision: str,
    rows: int,
    size: int,
    rejected: int,
    *,
    tags: tuple[str, ...] = (),
    card: dict[str, Any] | None = None,
    added: dict[str, Any] | None = None,
) -> Entry:
    """Returns the catalog entry for a revision that this plan produced."""
    return Entry(
        name=plan.name,
        revision=revision,
        kind=plan.kind,
        rows=rows,
        bytes=size,
        rejected=rejected,
        license=plan.constants.get("license", "NOASSERTION"),
        language=plan.constants.get("language", ""),
        source=plan.source,
        tags=tags,
        card=card or {},
        added=added or {},
    )


def rejects_as_lines(rejects: Sequence[Reject]) -> bytes:
    """Returns the rejects as they are stored: one JSON object per line. Empty if there are no rejects."""
    return b"".join(orjson.dumps({"file": r.file, "row": r.row, "reason": r.reason}) + b"\n" for r in rejects)


def publish(
    plan: IngestPlan,
    home: Home,
    results: Iterable[UnitResult],
    *,
    replaces: str | None = None,
    dedup: str = "",
    about: dict[str, Any] | None = None,
    card: dict[str, Any] | None = None,
    tags: tuple[str, ...] = (),
    added: dict[str, Any] | None = None,
) -> Ingested:
    """Makes one revision from the units' files and adds it to the catalog, all or nothing."""
    with writing(home, f"add {plan.name}") as leased:
        return _publish(plan, leased, results, replaces, dedup, about or {}, card or {}, tags, added or {})


def _publish(
    plan: IngestPlan,
    home: Home,
    results: Iterable[UnitResult],
    replaces: str | None,
    dedup: str,
    about: dict[str, Any],
    card: dict[str, Any],
    tags: tuple[str, ...],
    added: dict[str, Any],
) -> Ingested:
    ordered = sorted(results, key=lambda r: r.number)
    files = [file for result in ordered for file in result.files]
    rejects = [reject for result in ordered for reject in result.rejects]
    rejected = sum(result.rejected for result in ordered)
    rows = sum(result.rows for result in ordered)
    check_rejects(plan, rows, rejected, rejects)
    _refuse_nothing(plan, rows + rejected)
    counts = [count for result in ordered for count in result.counts]
    read = check_rows(counts)
    # with a limit, some of the rows that were read are cut off, so the row counts of files would be wrong
    account = plan.account if plan.limit else with_rows(plan.account, counts)
    duplicates = 0
    manifest = Manifest(tuple(files), plan.columns, plan.block_rows, dict(plan.constants))
    if dedup and files:
        from choline_data.catalog.dedup import without_duplicates

        manifest, duplicates = without_duplicates(home, manifest, near=dedup == "near", compression=plan.compression)
    manifest = Manifest(
        manifest.files,
        manifest.columns,
        manifest.block_rows,
        manifest.constants,
        {
            "source": plan.source,
            "source_revision": plan.source_revision,
            "read": read,
            "rejected": rejected,
            "duplicates": duplicates,
            "mappings": [
                {"kind": p.mapping.kind, "form": p.mapping.form, "fields": dict(p.mapping.fields)} for p in plan.parts
            ],
            **({"encodings": plan.encodings} if plan.encodings else {}),
            **about,
        },
    )
    store_manifest(home, manifest, rejects_as_lines(rejects), dataset=plan.name, account=encode(account))
    entry = entry_of(
        plan, manifest.revision, manifest.rows, manifest.bytes, rejected, tags=tags, card=card, added=added
    )
    entry = publish_entry(home, entry, names_of(manifest), replaces)
    return Ingested(entry, manifest.rows, rejected, duplicates, tuple(rejects[:20]), read, account)


def publish_entry(home: Home, entry: Entry, names: Sequence[str], replaces: str | None) -> Entry:
    """Publishes `entry` in the catalog. Checks that the objects `names`, which its revision needs, are in the home."""
    entry_of_catalog = Catalog(home).publish(entry, replaces=replaces, check=partial(check_written, home, names))
    check_published(home, names)
    return entry_of_catalog


def names_of(manifest: Manifest) -> list[str]:
    """Returns the names of the objects that a revision needs in the home."""
    files = [name(file.sha256) for file in manifest.files for name in (data_name, index_name)]
    return [manifest_name(manifest.revision), *files]


def check_limit(results: list[UnitResult], plan: IngestPlan, home: Home) -> list[UnitResult]:
    """With `--limit n`, cuts the results to exactly the first n samples. Unit boundaries do not matter."""
    if not plan.limit:
        return results
    left = plan.limit
    results_cut: list[UnitResult] = []
    for result in sorted(results, key=lambda r: r.number):
        if left <= 0:
            break
        files: list[StoredFile] = []
        for file in result.files:
            if left <= 0:
                break
            files.append(file if file.rows <= left else _cut(home, plan, file, left))
            left -= files[-1].rows
        rows_so_far = sum(f.rows for f in files)
        results_cut.append(replace(result, files=tuple(files), rows=rows_so_far))
    return results_cut


def _cut(home: Home, plan: IngestPlan, file: StoredFile, rows: int) -> StoredFile:
    from choline_data.store import BlockFile

    schema = one.stored_schema(plan.columns)
    source = BlockFile(home, file.sha256, schema, file.bytes)
    writer = BlockWriter(home, schema, plan.block_rows, compression=plan.compression or None)
    left = rows
    for number in range(len(source)):
        block = source.block(number).slice(0, left)
        writer.write(block)
        left -= block.num_rows
        if not left:
            break
    done = writer.close()
    if done is None:
        raise DataError(f"{plan.name}: the limit left no rows.", remedy="Raise --limit.")
    return StoredFile(done.sha256, done.rows, done.bytes, file.source, file.split, file.config)
