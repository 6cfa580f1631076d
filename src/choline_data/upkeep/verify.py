"""Checks revisions of a home against their checksums."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa

from choline_data.errors import DamagedStoreError, RevisionGoneError, SourceNotFoundError
from choline_data.places.home import Home
from choline_data.store.blocks import BlockFile, data_name, index_name
from choline_data.store.faults import Report
from choline_data.store.in_place import InPlaceRevision, check_in_place
from choline_data.store.manifest import StoredFile, accounts_faults, rejects_fault
from choline_data.store.object_names import manifest_name, rejects_name
from choline_data.store.open_revision import open_revision
from choline_data.store.revision import Revision
from choline_data.store.snapshots import Entry

_READ = 8 << 20


def sha256_of(home: Home, name: str) -> str:
    """Returns the sha256 of an object's content, which is read in pieces of 8 MiB."""
    digest = hashlib.sha256()
    size = home.size(name)
    for at in range(0, size, _READ):
        digest.update(home.read_range(name, at, min(at + _READ, size)))
    return digest.hexdigest()


def verify(home: Home, entry: Entry) -> dict[str, Any]:
    """Reads every byte of the dataset's revision, and returns counts of what was read.

    Raises DamagedStoreError for the first fault.
    """
    report = Report()
    counts = check_revision(home, entry.revision, report, dataset=entry.name, seen={})
    if report.faults:
        raise DamagedStoreError(str(report.faults[0]), remedy=report.faults[0].remedy, dataset=entry.name)
    return counts


def check_revision(
    home: Home, digest: str, report: Report, *, dataset: str, seen: dict[str, tuple[str, int]]
) -> dict[str, Any]:
    """Reads every byte of a revision, adds each fault to the report, and returns counts of what was read.

    `seen` maps the digests of store files that were read before, also for other revisions, to (fault or "", number of
    blocks).
    """
    counts = {"files": 0, "blocks": 0, "bytes": 0}
    where = {"dataset": dataset, "revision": digest}
    try:
        revision = open_revision(home, digest)
    except (DamagedStoreError, RevisionGoneError):
        what = "is damaged" if home.exists(manifest_name(digest)) else "is missing"
        report.add("manifest", manifest_name(digest), what, **where)
        return counts
    fault = rejects_fault(home, digest)
    if fault:
        report.add("rejects", rejects_name(digest), fault, **where)
    for name, fault in accounts_faults(home, digest):
        report.add("files", name, fault, **where)
    counts["bytes"] = revision.bytes
    if isinstance(revision, InPlaceRevision):
        # No dataset of the catalog has this revision now. So its original files may have been changed on purpose.
        if not dataset:
            return counts
        for location, groups, problem in check_in_place(revision):
            counts["files"] += 1
            counts["blocks"] += groups
            if problem is not None:
                report.add(
                    "source",
                    location,
                    f"is damaged: {problem.message}",
                    remedy=problem.remedy.replace("--name NAME", f"--name {dataset or 'NAME'}"),
                    **where,
                )
        return counts
    for file in revision.files():
        counts["files"] += 1
        if file.sha256 not in seen:
            seen[file.sha256] = _check_file(home, file, revision, report, where)
        elif seen[file.sha256][0]:
            report.add("data", data_name(file.sha256), seen[file.sha256][0], **where)
        counts["blocks"] += seen[file.sha256][1]
    return counts


def _check_file(
    home: Home, file: StoredFile, revision: Revision, report: Report, where: dict[str, str]
) -> tuple[str, int]:
    """Checks a store file and its index, and reports their faults.

    Returns a description of the fault in the file ("" for none), and its number of blocks.
    """
    name = data_name(file.sha256)
    from_where = f" (from {file.source})" if file.source else ""
    what = ""
    try:
        if sha256_of(home, name) != file.sha256:
            what = "does not have its checksum"
    except (SourceNotFoundError, FileNotFoundError):
        what = "is missing"
    except OSError as error:
        what = f"can't be read: {error.strerror or error}"
    if what:
        report.add("data", name, what + from_where, **where)
        return what, 0
    try:
        opened = BlockFile(home, file.sha256, revision.schema, file.bytes)
        opened.check_rows(file.rows, revision.block_rows)
        rows = 0
        for number in range(len(opened)):
            block = opened.block(number)
            block.validate(full=True)
            rows += block.num_rows
        if rows != file.rows:
            report.add("data", name, f"has {rows} rows, not {file.rows}" + from_where, **where)
        return "", len(opened)
    except (DamagedStoreError, SourceNotFoundError, pa.ArrowException, ValueError, IndexError) as error:
        # The file's digest is right, so the fault must be in its index.
        what = "is missing" if isinstance(error, SourceNotFoundError) else "is damaged"
        report.add("index", index_name(file.sha256), what, **where)
        return "", 0
