"""Checking a home against its checksums, and freeing what nothing refers to."""

from __future__ import annotations

import hashlib
import os
from typing import Any

from choline_data.errors import CholineDataError, DamagedStoreError, SourceNotFoundError
from choline_data.home import Home
from choline_data.store.blocks import BlockFile, data_name, index_name
from choline_data.store.catalog import Catalog, Entry
from choline_data.store.in_place import InPlaceRevision, verify_in_place
from choline_data.store.revision import Manifest, manifest_name, open_revision, rejects_name

_READ = 8 << 20


def _sha256(home: Home, name: str) -> str:
    digest = hashlib.sha256()
    size = home.size(name)
    for at in range(0, size, _READ):
        digest.update(home.read_range(name, at, min(at + _READ, size)))
    return digest.hexdigest()


def verify(home: Home, entry: Entry) -> dict[str, Any]:
    """Reads every byte of the dataset's revision; DamagedStoreError for the first thing that is not as it was written."""
    revision = open_revision(home, entry.revision)
    if isinstance(revision, InPlaceRevision):
        return verify_in_place(revision)
    files = revision.files()
    manifest = Manifest(tuple(files), revision.columns, revision.block_rows, revision.constants)
    if manifest.revision != entry.revision:
        raise DamagedStoreError(
            f"{entry.name}: the manifest does not have the digest {entry.revision[:12]}….", remedy="Add it again."
        )
    blocks = 0
    for file in files:
        where = f"{entry.name}: store file {file.sha256[:12]}… (from {file.source})"
        remedy = "`choline-data rm` it and add it again."
        try:
            found = _sha256(home, data_name(file.sha256))
        except (SourceNotFoundError, FileNotFoundError) as error:
            raise DamagedStoreError(f"{where} is missing.", remedy=remedy) from error
        if found != file.sha256:
            raise DamagedStoreError(f"{where} does not have its checksum.", remedy=remedy)
        opened = BlockFile(home, file.sha256, revision.schema, file.bytes)
        rows = 0
        for number in range(len(opened)):
            block = opened.block(number)
            block.validate(full=True)
            rows += block.num_rows
        if rows != file.rows:
            raise DamagedStoreError(f"{where} has {rows} rows, not {file.rows}.", remedy=remedy)
        blocks += len(opened)
    return {"files": len(files), "blocks": blocks, "bytes": revision.bytes}


def collect(home: Home) -> tuple[int, int]:
    """Deletes store files, manifests and staged files that no dataset refers to; (files, bytes)."""
    catalog = Catalog(home)
    newest = catalog.newest()
    kept: set[str] = {f"catalog/{newest:08d}.json", "catalog/HEAD"}
    for entry in catalog.entries(newest).values():
        kept |= {manifest_name(entry.revision), rejects_name(entry.revision)}
        try:
            files = open_revision(home, entry.revision).files()
        except CholineDataError as error:
            raise DamagedStoreError(
                f"{entry.name}: its manifest can't be read, so what it needs is not known; nothing was deleted.",
                remedy=f"Run `choline-data verify {entry.name}`.",
            ) from error
        for file in files:
            kept |= {data_name(file.sha256), index_name(file.sha256)}
    count = freed = 0
    for folder in ("data", "revisions", "selections", "ids", "jobs", "staging"):
        for name in home.names(folder):
            if name in kept or (folder == "staging" and _writer_lives(name)):
                continue
            if folder == "selections" and any(name.startswith(f"selections/{e}/") for e in _revisions(kept)):
                continue
            if folder == "ids" and name.removeprefix("ids/").removesuffix(".index") in _revisions(kept):
                continue
            freed += home.size(name)
            home.remove(name)
            count += 1
    return count, freed


def _revisions(kept: set[str]) -> set[str]:
    return {name.split("/")[1] for name in kept if name.startswith("revisions/")}


def _writer_lives(name: str) -> bool:
    pid = name.rsplit("/", 1)[-1].split("-")[0]
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
