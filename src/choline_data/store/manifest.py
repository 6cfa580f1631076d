"""The manifest of a revision: an Arrow IPC file with the list of its store files and the values that all rows share.

A seal (a checksum inside the object) protects all bytes of the manifest. A manifest of an older version has no seal.
When it is opened, its revision is computed again from the files and their numbers of rows, and compared.
"""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import orjson
import pyarrow as pa
import xxhash

from choline_data import schema as one
from choline_data.columns.arrow_values import array_of, strings
from choline_data.errors import CholineDataError, DamagedStoreError, RevisionGoneError, SourceNotFoundError
from choline_data.places.home import Home
from choline_data.process.fault_points import reached
from choline_data.store import sealed as sealing
from choline_data.store.object_names import IN_PLACE, account_name, manifest_name, rejects_name

_FILES = pa.schema(
    [
        pa.field("sha256", pa.binary(32)),
        pa.field("rows", pa.int64()),
        pa.field("bytes", pa.int64()),
        pa.field("source", pa.string()),
        pa.field("split", pa.string()),
        pa.field("config", pa.string()),
    ]
)
HEAD = b"choline_data.manifest"
REJECTS = "rejects_xxh3"
ACCOUNTS = "accounts"  # for each dataset that was added with this content: the digest of its account


@dataclass(frozen=True)
class StoredFile:
    """A store file of a revision, and the source, split and config of its rows."""

    sha256: str
    rows: int
    bytes: int
    source: str = ""
    split: str = ""
    config: str = ""


@dataclass(frozen=True)
class Manifest:
    """The definition of a revision: its files in order, their columns, and the values that are the same in every row."""

    files: tuple[StoredFile, ...]
    columns: tuple[str, ...]
    block_rows: int
    constants: dict[str, str]
    about: dict[str, Any] = field(default_factory=dict)  # how the revision was made; not part of the digest

    @property
    def rows(self) -> int:
        """The number of samples in the revision."""
        return sum(f.rows for f in self.files)

    @property
    def bytes(self) -> int:
        """The total size of its store files in bytes."""
        return sum(f.bytes for f in self.files)

    @cached_property
    def revision(self) -> str:
        """The digest that names the revision. It is equal for equal samples in equal order, whatever source they come
        from.
        """
        rows = ((file.sha256, file.rows, file.split, file.config) for file in self.files)
        return _digest(self.columns, self.block_rows, self.constants, rows)

    def with_about(self, about: dict[str, Any]) -> Manifest:
        """Returns the same manifest with another `about`, the description of how the revision was made."""
        return replace(self, about=about)

    def encode(self) -> builtins.bytes:
        """Returns the manifest as an Arrow IPC file. With 10^5 store files it has about 12 MB and is read in milliseconds."""
        digests = b"".join(bytes.fromhex(f.sha256) for f in self.files)
        columns: list[pa.Array] = [
            pa.Array.from_buffers(pa.binary(32), len(self.files), [None, pa.py_buffer(digests)]),
            array_of(np.array([f.rows for f in self.files], np.int64)),
            array_of(np.array([f.bytes for f in self.files], np.int64)),
            strings([f.source for f in self.files]),
            strings([f.split for f in self.files]),
            strings([f.config for f in self.files]),
        ]
        head = {
            "columns": list(self.columns),
            "block_rows": self.block_rows,
            "constants": self.constants,
            "about": self.about,
        }

        def encode(stated: str) -> builtins.bytes:
            metadata = {HEAD: orjson.dumps({sealing.KEY: stated, **head})}
            schema = _FILES.with_metadata(metadata)
            sink = pa.BufferOutputStream()
            with pa.ipc.new_file(sink, schema) as writer:
                writer.write_batch(pa.record_batch(columns, schema=schema))
            return bytes(sink.getvalue())

        return sealing.sealed(manifest_name(self.revision), encode)


def damaged_manifest(revision: str) -> DamagedStoreError:
    """Returns the error for a damaged manifest of this revision."""
    return DamagedStoreError(
        f"The manifest of revision {revision[:12]}… is damaged.", remedy="Run `choline-data repair`."
    )


def missing_manifest(home: Home, revision: str) -> CholineDataError:
    """Returns the error for a missing manifest: DamagedStoreError if the catalog has the revision, RevisionGoneError if not."""
    from choline_data.store.snapshots import Catalog

    entries = Catalog(home).entries().values()
    for entry in entries:
        if entry.revision == revision:
            return DamagedStoreError(
                f"The manifest of {entry.name}@{revision[:12]} is missing.",
                remedy=f"Run `choline-data repair {entry.name}`.",
            )
    return RevisionGoneError(next((e.name for e in entries if revision in e.earlier), ""), revision)


def read_manifest(home: Home, revision: str) -> pa.Table:
    """Returns the revision's manifest as a table with one row per file. The schema's metadata has the other values."""
    name = manifest_name(revision)
    try:
        raw = home.read(name)
    except SourceNotFoundError as error:
        raise missing_manifest(home, revision) from error
    intact = sealing.is_intact(name, raw)
    if intact is False:
        raise damaged_manifest(revision)
    try:
        table = pa.ipc.open_file(pa.py_buffer(raw)).read_all()
        table.validate(full=True)
        if intact is None and _digest_of(table) != revision:
            raise damaged_manifest(revision)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise damaged_manifest(revision) from error
    return table


def _digest(
    columns: Iterable[str], block_rows: int, constants: dict[str, str], files: Iterable[tuple[str, int, str, str]]
) -> str:
    head = {
        "schema": one.VERSION,
        "columns": list(columns),
        "block_rows": block_rows,
        "constants": constants,
    }
    digest = hashlib.sha256(orjson.dumps(head, option=orjson.OPT_SORT_KEYS))
    for file in files:
        digest.update(orjson.dumps(file))
    return digest.hexdigest()


def _digest_of(table: pa.Table) -> str:
    """Returns the revision of a manifest without a seal, computed from the table. Takes about 0.1 s for 10^5 files."""
    metadata = table.schema.metadata or {}
    if IN_PLACE in metadata:
        from choline_data.store.manifest_in_place import digest_of

        return digest_of(table)
    if not table.schema.equals(_FILES):
        raise ValueError("the columns are not those of a manifest")
    (raw,) = metadata.values()
    head = orjson.loads(raw)
    files = ((row["sha256"].hex(), row["rows"], row["split"], row["config"]) for row in table.to_pylist())
    return _digest(head["columns"], head["block_rows"], head["constants"], files)


class AnyManifest(Protocol):
    """The common interface of the manifests of stored and of in-place revisions."""

    @property
    def about(self) -> dict[str, Any]:
        """How the revision was made. This is not part of the digest."""

    @property
    def revision(self) -> str:
        """The digest that names the revision."""

    def encode(self) -> builtins.bytes:
        """Returns the manifest as bytes, as the home stores it."""

    def with_about(self, about: dict[str, Any]) -> Self:
        """Returns the same manifest with another `about`, the description of how the revision was made."""


def store_manifest(
    home: Home,
    manifest: AnyManifest,
    rejects: builtins.bytes = b"",
    *,
    dataset: str = "",
    account: builtins.bytes = b"",
) -> None:
    """Writes into the home: a manifest, the list of rejected rows, and the account of a dataset's files (what each file
    was used for).

    Does not replace undamaged objects. Several datasets may have this revision, each from other files, so each dataset
    has its own account.
    """
    revision = manifest.revision
    sound = _is_sealed(home, revision) and rejects_fault(home, revision) is None
    accounts = _sound_accounts(home, revision)
    digest = xxhash.xxh3_64_hexdigest(account) if account else ""
    if sound and not accounts_faults(home, revision) and accounts.get(dataset, "") == digest:
        return
    about = about_of(home, revision) if sound else dict(manifest.about)
    if rejects and not sound:
        about[REJECTS] = sealing.checksum(rejects_name(revision), rejects)
        home.put(rejects_name(revision), rejects)
        reached("rejects.stored")
    if digest:
        accounts[dataset] = digest
        home.put(account_name(revision, digest), account)
        reached("account.stored")
    if accounts:
        about[ACCOUNTS] = accounts
    home.put(manifest_name(revision), manifest.with_about(about).encode())
    reached("manifest.stored")


def about_of(home: Home, revision: str) -> dict[str, Any]:
    """Returns the part of the manifest that says how the revision was made."""
    (raw,) = (read_manifest(home, revision).schema.metadata or {}).values()
    return dict(orjson.loads(raw)["about"])


def accounts_of(home: Home, revision: str) -> dict[str, str]:
    """Returns the digests of the accounts, one for each dataset that was added with this revision. An account says what
    each file of the source was used for. Returns an empty list if the manifest can't be read.
    """
    try:
        return dict(about_of(home, revision).get(ACCOUNTS, {}))
    except (CholineDataError, KeyError, TypeError, ValueError):
        return {}


def accounts_faults(home: Home, revision: str) -> list[tuple[str, str]]:
    """Returns a pair (object, description of the fault) for each account that is missing or damaged."""
    names = {account_name(revision, digest): digest for digest in accounts_of(home, revision).values()}
    faults = []
    for name, digest in names.items():
        if not home.exists(name):
            faults.append((name, "is missing"))
        elif xxhash.xxh3_64_hexdigest(home.read(name)) != digest:
            faults.append((name, "does not have its checksum"))
    return faults


def _sound_accounts(home: Home, revision: str) -> dict[str, str]:
    faulty = {name for name, _ in accounts_faults(home, revision)}
    accounts = accounts_of(home, revision)
    return {dataset: digest for dataset, digest in accounts.items() if account_name(revision, digest) not in faulty}


def _is_sealed(home: Home, revision: str) -> bool:
    name = manifest_name(revision)
    return home.exists(name) and sealing.is_intact(name, home.read(name)) is True


def rejects_fault(home: Home, revision: str) -> str | None:
    """Returns a description of the fault in the revision's rejects; None if they agree with the manifest."""
    name = rejects_name(revision)
    try:
        stated = about_of(home, revision).get(REJECTS)
    except (CholineDataError, KeyError, TypeError, ValueError):
        return "the manifest that has its checksum can't be read"
    if stated is None:
        return None
    if not home.exists(name):
        return "it is missing"
    return None if sealing.checksum(name, home.read(name)) == stated else "it does not have its checksum"
