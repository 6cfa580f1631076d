"""`add --in-place`: registers a Parquet source as a revision without copying it.

Registering reads the footers. It must also count the rows that a mapping rejects, so it reads the mapped columns once,
unless the footers' statistics prove that no row can be rejected.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pyarrow.parquet as pq

from choline_data.adapters import int96
from choline_data.adapters.base import Reject, Shard
from choline_data.adapters.mapping import Mapping, forms
from choline_data.adapters.parquet import Parquet, footer_of
from choline_data.adapters.parquet_in_place import _mapped_columns, _state
from choline_data.catalog.account import RowCount, check_rows, encode, with_rows
from choline_data.catalog.add import Prepared
from choline_data.catalog.ingest import (
    MAX_REJECTS_KEPT,
    Ingested,
    check_rejects,
    entry_of,
    publish_entry,
    rejects_as_lines,
)
from choline_data.catalog.planning import IngestPart, IngestPlan
from choline_data.errors import InvalidOptionError
from choline_data.places.home import Home
from choline_data.places.locations import is_url
from choline_data.places.pins import without_pin
from choline_data.store.leases import writing
from choline_data.store.manifest import store_manifest
from choline_data.store.manifest_in_place import FileInPlace, ManifestInPlace
from choline_data.store.object_names import manifest_name

BLOCK_BYTES = 4 << 20  # bytes of a block: a window of 64 blocks has at most 256 MiB
SMALL_BLOCK_BYTES = 512 << 10
_READS = 16  # number of footers that are read at the same time


@dataclass(frozen=True)
class _File:
    """A file of the source that is not registered yet."""

    shard: Shard
    part: int
    footer: str
    meta: pq.FileMetaData
    location: str
    bytes: int
    stamp: str


def register(home: Home, prepared: Prepared, *, replace_existing: bool = False) -> Ingested:
    """Makes a revision of the plan's Parquet files without copying them, and publishes it in the catalog."""
    plan = prepared.plan
    if plan.limit:
        raise InvalidOptionError("--limit can't be combined with --in-place.", remedy="Leave one of them out.")
    column = next((part.by_row.split or part.by_row.config for part in plan.parts if part.by_row), "")
    if column:
        raise InvalidOptionError(
            f"The column {column!r} decides the splits or configs of rows, but the files stay as they are, "
            "and have rows of several splits or configs.",
            remedy="Leave out --in-place, or give --split-by none to keep all rows in one split.",
        )
    files = _files(plan)
    with ThreadPoolExecutor(_READS) as pool:
        looks = list(pool.map(lambda item: _looked_at(*item), files))
    rejects: list[Reject] = []
    listed: list[FileInPlace] = []
    counts: list[RowCount] = []
    for file in looks:
        groups, bad = _count_samples(plan.parts[file.part], file)
        counts.append(RowCount(file.shard.name, file.meta.num_rows, sum(groups), len(bad)))
        rejects += bad[: MAX_REJECTS_KEPT - len(rejects)]
        listed.append(
            FileInPlace(
                file.location,
                file.shard.name,
                file.part,
                file.shard.split,
                file.shard.config,
                file.bytes,
                file.stamp,
                file.footer,
                sum(groups),
                tuple(groups),
            )
        )
    read = check_rows(counts)
    rows, rejected = sum(c.published for c in counts), sum(c.rejected for c in counts)
    check_rejects(plan, rows, rejected, rejects)
    manifest = _manifest(plan, looks, listed, rejected)
    account = with_rows(plan.account, counts)
    revision = manifest.revision
    with writing(home, f"add {plan.name}") as leased:
        store_manifest(leased, manifest, rejects_as_lines(rejects), dataset=plan.name, account=encode(account))
        entry = publish_entry(
            leased,
            entry_of(
                plan,
                revision,
                rows,
                manifest.bytes,
                rejected,
                tags=prepared.tags,
                card=prepared.card,
                added={**prepared.added, "in_place": True} if prepared.added else {},
            ),
            [manifest_name(revision)],
            prepared.replaces if replace_existing else None,
        )
    return Ingested(entry, rows, rejected, rejects=tuple(rejects[:20]), read=read, account=account)


def _manifest(
    plan: IngestPlan, found: Sequence[_File], listed: Sequence[FileInPlace], rejected: int
) -> ManifestInPlace:
    """Returns the manifest of the files, with the mapping of each part of the plan."""
    group_bytes = _typical(
        [meta.row_group(i).total_byte_size for meta in _metas(found) for i in range(meta.num_row_groups)]
    )
    return ManifestInPlace(
        files=tuple(listed),
        columns=plan.columns,
        block_rows=_block_rows(plan, found),
        constants=dict(plan.constants),
        reader="parquet",
        parts=tuple(
            {"kind": p.mapping.kind, "form": p.mapping.form, "fields": [list(f) for f in p.mapping.fields]}
            for p in plan.parts
        ),
        about={
            "source": plan.source,
            "source_revision": plan.source_revision,
            "in_place": True,
            "rejected": rejected,
            "row_group_bytes": group_bytes,
            "mappings": [
                {"kind": p.mapping.kind, "form": p.mapping.form, "fields": dict(p.mapping.fields)} for p in plan.parts
            ],
        },
    )


def _files(plan: IngestPlan) -> list[tuple[int, Shard]]:
    """Returns the plan's files in the plan's order, each once per part. Raises InvalidOptionError if one is not a Parquet file."""
    files: dict[tuple[int, str], tuple[int, Shard]] = {}
    for number, part in enumerate(plan.parts):
        for shard in part.shards:
            if not isinstance(part.adapter, Parquet) or shard.member:
                raise InvalidOptionError(
                    f"{shard.origin}: only Parquet files can be registered in place.",
                    remedy="Leave out --in-place: a copy is stored.",
                )
            files.setdefault((number, shard.path), (number, shard))
    return list(files.values())


def _looked_at(number: int, shard: Shard) -> _File:
    location = without_pin(shard.path)[0] if is_url(shard.path) else os.path.abspath(shard.path)
    size, stamp = _state(location)
    digest, meta = footer_of(location, shard.name)
    return _File(shard, number, digest, meta, location, size, stamp)


def _metas(files: Sequence[_File]) -> list[pq.FileMetaData]:
    return [file.meta for file in files]


def _typical(values: list[int]) -> int:
    return sorted(values)[len(values) // 2] if values else 0


def _block_rows(plan: IngestPlan, files: Sequence[_File]) -> int:
    """Returns the number of rows in a block of the order: that of a row group, of several small row groups, or of a
    part of a big one.

    A block must not be big, because a window of decoded blocks is held in memory. It should not be much smaller than a
    row group, because reading a block decodes its whole row group.
    """
    metas = _metas(files)
    rows = _typical([m.row_group(i).num_rows for m in metas for i in range(m.num_row_groups)])
    if not rows:
        return plan.block_rows
    size = _typical([m.row_group(i).total_byte_size for m in metas for i in range(m.num_row_groups)])
    # The footer counts encoded bytes. The plan measured samples: a block of its rows has at least half a small block.
    size = max(size, rows * SMALL_BLOCK_BYTES // (2 * plan.block_rows), 1)
    if size > BLOCK_BYTES:
        return max(1, -(-rows // -(-size // BLOCK_BYTES)))
    return rows * max(1, min(SMALL_BLOCK_BYTES // size, -(-4096 // rows)))


def _count_samples(part: IngestPart, file: _File) -> tuple[list[int], list[Reject]]:
    """Returns the number of samples in each row group, and the rejected rows."""
    meta = file.meta
    if _keeps_all(part.mapping, meta):
        return [meta.row_group(i).num_rows for i in range(meta.num_row_groups)], []
    counts: list[int] = []
    rejects: list[Reject] = []
    row = 0
    adapter = Parquet(columns=_mapped_columns(part.mapping, meta))
    for group in range(meta.num_row_groups):
        samples = 0
        for chunk in adapter.row_group(file.shard, meta, group, row):
            rejects += chunk.rejects
            if not chunk.batch.num_rows:
                continue
            normalised = forms.apply(part.mapping, chunk, file.shard)
            samples += normalised.batch.num_rows
            rejects += normalised.rejects
        counts.append(samples)
        row += meta.row_group(group).num_rows
    return counts, rejects


def _keeps_all(mapping: Mapping, meta: pq.FileMetaData) -> bool:
    """Whether the footer proves that no row is rejected: a table, or a document whose text is never null."""
    if any(int96.columns_of(meta.row_group(number)) for number in range(meta.num_row_groups)):
        return False
    if mapping.form == "table":
        return True
    texts = [column for role, column in mapping.fields if role == "text"]
    if mapping.form != "document" or len(texts) != 1 or any(role in ("label", "media") for role, _ in mapping.fields):
        return False
    for number in range(meta.num_row_groups):
        group = meta.row_group(number)
        columns = [group.column(i) for i in range(group.num_columns) if group.column(i).path_in_schema == texts[0]]
        if len(columns) != 1 or columns[0].physical_type != "BYTE_ARRAY":
            return False
        statistics = columns[0].statistics
        if statistics is None or not statistics.has_null_count or statistics.null_count:
            return False
    return True
