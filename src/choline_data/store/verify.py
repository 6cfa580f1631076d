"""Checking a home against its checksums."""

from __future__ import annotations

import hashlib
from typing import Any

from choline_data.errors import DamagedStoreError, SourceNotFoundError
from choline_data.home import Home
from choline_data.store.blocks import BlockFile, data_name
from choline_data.store.catalog import Entry
from choline_data.store.in_place import InPlaceRevision, verify_in_place
from choline_data.store.revision import Manifest, open_revision

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
