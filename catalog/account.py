"""The account of a source: how `add` used each file, and how many rows of each file were stored or rejected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import (
    DESCRIBED,
    LEFT_OUT,
    ROLES,
    FileRole,
    FormatClaim,
    Source,
    SourceChunk,
)
from choline_data.adapters.reading.file_roles import roles_of, unclaimed
from choline_data.columns.arrow_values import array_of, strings
from choline_data.errors import DataError, one_line

_SCHEMA = pa.schema(
    [
        pa.field("file", pa.string()),
        pa.field("role", pa.dictionary(pa.int8(), pa.string())),
        pa.field("reason", pa.string()),
        pa.field("bytes", pa.int64()),
        pa.field("rows", pa.int64()),
        pa.field("rejected", pa.int64()),
    ]
)


@dataclass(frozen=True)
class FileAccount:
    """A file of a source: its role, and how many of its rows were read, stored and rejected. -1 stands for a number
    that is not known.
    """

    name: str
    role: str
    reason: str = ""
    bytes: int = -1
    rows: int = -1
    rejected: int = 0


@dataclass(frozen=True)
class RowCount:
    """The rows of a shard: rows that were read, published and rejected."""

    file: str
    read: int
    published: int
    rejected: int


class RowsRead:
    """Counts the rows of a shard while they are read, and remembers their row numbers."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._rows = self._of_batches = 0
        self._first = self._last = -1

    def add(self, chunk: SourceChunk) -> None:
        """Counts the rows and the rejects of a chunk."""
        self._rows += chunk.batch.num_rows + len(chunk.rejects)
        self._of_batches += chunk.batch.num_rows
        numbers = [r.row for r in chunk.rejects]
        if len(chunk.rows):
            numbers += (int(chunk.rows[0]), int(chunk.rows[-1]))
        if numbers:
            self._first = min(numbers) if self._first < 0 else min(self._first, *numbers)
            self._last = max(self._last, *numbers)

    def count(self, published: int, rejected: int) -> RowCount:
        """Returns the count. An adapter numbers all rows of a shard, so a gap in the numbers shows that the adapter lost a row."""
        span = self._last - self._first + 1
        return RowCount(self._file, span if self._of_batches else self._rows, published, rejected)


def account_of(source: Source, claims: Sequence[FormatClaim], rest: Source, only: str = "") -> tuple[FileAccount, ...]:
    """Returns the account of all files, in order of role and name. `rest` holds the files that no format claimed.

    `only` is the one format that the user asked for.
    """
    sizes = {file.name: file.size for file in source.files}
    roles: dict[str, FileRole] = {name: FileRole(name, LEFT_OUT, reason) for name, reason in source.left_out}
    roles |= {role.name: role for role in unclaimed(rest.files, only)}
    roles |= {role.name: role for role in roles_of(claims)}
    rank = {role: number for number, role in enumerate(ROLES)}
    ordered = sorted(roles.values(), key=lambda r: (rank[r.role], r.name))
    return tuple(FileAccount(r.name, r.role, r.reason, sizes.get(r.name, -1)) for r in ordered)


def with_rows(account: Sequence[FileAccount], counts: Iterable[RowCount]) -> tuple[FileAccount, ...]:
    """Returns the account with the numbers of rows filled in.

    Only files that were not read together with other files have such numbers.
    """
    rows: dict[str, list[int]] = {}
    for count in counts:
        total = rows.setdefault(count.file, [0, 0])
        total[0] += count.published
        total[1] += count.rejected
    return tuple(
        replace(file, rows=rows[file.name][0], rejected=rows[file.name][1]) if file.name in rows else file
        for file in account
    )


def check_rows(counts: Iterable[RowCount]) -> int:
    """Returns the number of rows read. Raises DataError if rows of a file are neither published nor rejected."""
    total = 0
    for count in counts:
        total += count.read
        if count.read != count.published + count.rejected:
            raise DataError(
                f"{count.file}: {count.read:,} rows were read, but {count.published:,} were published and "
                f"{count.rejected:,} rejected. This is an error in choline-data. Nothing was published.",
                remedy="Please report it with the file's first lines.",
            )
    return total


def names_by_role(account: Sequence[FileAccount]) -> Mapping[str, list[FileAccount]]:
    """Returns the files of each role. Roles without files are left out."""
    by_role: dict[str, list[FileAccount]] = {role: [] for role in ROLES}
    for file in account:
        by_role[file.role].append(file)
    return {role: files for role, files in by_role.items() if files}


def summary(account: Sequence[FileAccount], names: int = 3) -> list[str]:
    """Returns a line for each role: the number of its files and their first names."""
    lines = []
    for role, files in names_by_role(account).items():
        first = ", ".join(_named(file) for file in files[:names])
        lines.append(f"{len(files):,} {role}: {first}{' …' if len(files) > names else ''}")
    return lines


def _named(file: FileAccount) -> str:
    name = one_line(file.name, 80)
    return f"{name} ({one_line(file.reason, 120)})" if file.reason and file.role != DESCRIBED else name


def encode(account: Sequence[FileAccount]) -> bytes:
    """Returns the account as a compressed Arrow IPC file. Empty if there is no account."""
    if not account:
        return b""
    roles = pa.DictionaryArray.from_arrays(
        array_of(np.array([ROLES.index(f.role) for f in account], np.int8)), strings(ROLES)
    )
    columns = [
        strings([f.name for f in account]),
        roles,
        strings([f.reason for f in account]),
        *(array_of(np.array([getattr(f, key) for f in account], np.int64)) for key in ("bytes", "rows", "rejected")),
    ]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, _SCHEMA, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_batch(pa.record_batch(columns, schema=_SCHEMA))
    return bytes(sink.getvalue())


def decode(raw: bytes) -> pa.Table:
    """Returns the account that `encode` wrote, as a table with the columns file, role, reason, bytes, rows and rejected."""
    return pa.ipc.open_file(pa.py_buffer(raw)).read_all()
