"""`gc`: deletes the objects to which nothing in the home refers. Reports which objects it keeps, and why.

It is safe to run together with writers, readers and another `gc`, and safe to kill: see `leases` and `retention`. A
manifest is deleted before its files, so either a revision is complete or a reader gets the error that it was removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from choline_data.errors import DamagedStoreError, InvalidOptionError, RevisionGoneError
from choline_data.places.home import Home
from choline_data.process.fault_points import reached
from choline_data.store import derived
from choline_data.store.blocks import data_name, index_name
from choline_data.store.leases import GC, WRITE, Holder, Lease, clock, look, others
from choline_data.store.manifest import HEAD, accounts_of, read_manifest
from choline_data.store.object_names import account_name, manifest_name, rejects_name
from choline_data.store.retention import KEEP_DAYS, READ, Reason, kept_revisions

# a temporary file without a lease is abandoned if nothing was written to it for this many seconds
STAGED_SECONDS = 3600.0
_AT_ONCE = 256
_DERIVED = ("selections", "ids", "tokens")
_LOOK_SECONDS = 0.2
Objects = dict[str, tuple[int, float]]


@dataclass
class KeptFiles:
    """The number and size of the files that are kept for one reason."""

    files: int = 0
    bytes: int = 0
    names: dict[str, None] = field(default_factory=dict)


@dataclass
class GarbageReport:
    """What `gc` deleted, or would delete in a dry run, and what it kept for each reason."""

    files: int = 0
    bytes: int = 0
    revisions: int = 0
    kept: dict[str, KeptFiles] = field(default_factory=dict)

    def drop(self, name: str, size: int) -> None:
        """Adds a deleted file to the counts."""
        self.files += 1
        self.bytes += size
        self.revisions += name.endswith("/manifest.arrow")

    def keep(self, why: str, size: int, name: str = "") -> None:
        """Adds a kept file to the counts of the reason `why`."""
        files = self.kept.setdefault(why, KeptFiles())
        files.files += 1
        files.bytes += size
        if name:
            files.names[name] = None


def collect(home: Home, *, keep_days: float = KEEP_DAYS, dry_run: bool = False, wait: float = 0) -> GarbageReport:
    """Deletes the objects that no kept revision needs. While a writer is active, deletes nothing that may belong to the writer.

    Before that it waits up to `wait` seconds until active writers end. New writers wait until `gc` has ended, except
    in a dry run.
    """
    if keep_days < 0:
        raise InvalidOptionError("--keep-days is below 0.", remedy="0 frees at once.", option="keep_days")
    own = Lease(home, "look" if dry_run else GC, "gc")
    try:
        until = clock() + wait
        while others(home, WRITE, own) and clock() < until:
            own._ended.wait(_LOOK_SECONDS)
        holders = look(home, own)
        done, garbage = _what_to_delete(home, own, keep_days, holders)
        if not dry_run:
            reached("gc.chosen")
            # If such a holder is in fact alive, it notices that its lease is missing, and checks what it has written.
            _delete(home, own, [holder.name for holder, lives in holders if not lives])
            _delete(home, own, garbage)
            reached("gc.done")
        return done
    finally:
        own.release()


def _what_to_delete(
    home: Home, own: Lease, keep_days: float, holders: list[tuple[Holder, bool]]
) -> tuple[GarbageReport, list[str]]:
    """Decides what to delete. Returns the report, and the objects to delete in the order of deletion."""
    now = own.now()
    living = [holder for holder, lives in holders if lives and holder.kind == WRITE]
    reasons = kept_revisions(home, keep_days, now)
    needed = _needed_objects(home, reasons)
    done = GarbageReport()
    # Derived data above the quota is deleted too, in its own order.
    garbage = [] if living else [name for item in derived.collectable(home, reasons) for name in item.files]
    over = set(garbage)
    for folder in ("revisions", *_DERIVED, READ, "jobs", "data"):
        objects = home.listed(folder)
        for name, why in _with_reasons(folder, objects, reasons, needed):
            size = objects[name][0]
            if why is not None and name not in over:
                done.keep(why.why, size, why.label)
            elif living:
                done.keep("a writer is at work", size, f"{living[0].what} on {living[0].host}")
            else:
                garbage += () if name in over else (name,)
                done.drop(name, size)
    alive = {holder.id for holder, lives in holders if lives}
    for name, (size, at) in home.listed("staging").items():
        if _is_staged_by(name, alive, now - at):
            done.keep("being written", size)
        else:
            garbage.append(name)
            done.drop(name, size)
    return done, garbage


def _needed_objects(home: Home, kept: dict[str, Reason]) -> dict[str, Reason]:
    """Returns the objects of the kept revisions, with the reason for each."""
    needed: dict[str, Reason] = {}
    for revision, why in kept.items():
        names = [manifest_name(revision), rejects_name(revision)]
        try:
            table = read_manifest(home, revision)
        except RevisionGoneError:
            continue  # an earlier `gc` has already deleted this object
        except DamagedStoreError as error:
            raise DamagedStoreError(
                f"{why.label} is kept ({why.why}), but its manifest can't be read, so the files that it needs are unknown. "
                "Nothing was deleted.",
                remedy=error.remedy if why.why == "in the catalog" else "`choline-data gc --keep-days 0`, or unpin it.",
            ) from error
        names += (account_name(revision, digest) for digest in accounts_of(home, revision).values())
        if HEAD in (table.schema.metadata or {}):
            for digest in table["sha256"].to_pylist():
                names += (data_name(digest.hex()), index_name(digest.hex()))
        for name in names:
            needed.setdefault(name, why)
    return needed


def _with_reasons(
    folder: str, objects: Objects, kept: dict[str, Reason], needed: dict[str, Reason]
) -> Iterator[tuple[str, Reason | None]]:
    """Yields each object of a folder, and the reason why it is kept, or None if it is not kept.

    Manifests and `meta.json` come first, so that they are deleted before the files that they refer to.
    """
    for name in sorted(objects, key=lambda name: (not name.endswith(("/manifest.arrow", "/meta.json")), name)):
        if folder in ("data", "revisions", "jobs"):
            yield name, needed.get(name)
            continue
        why = kept.get(name.split("/")[1].removesuffix(".index"))
        if folder == "tokens" and f"{name.rpartition('/')[0]}/meta.json" not in objects:
            why = None  # these tokens are not complete
        yield name, why


def _is_staged_by(name: str, alive: set[str], age: float) -> bool:
    """Returns whether a process may still write this temporary file, or move it to its final name."""
    parts = os.path.basename(name).split("-")
    holder = parts[1] if len(parts) == 3 else ""
    return holder in alive if len(holder) == 32 else age <= STAGED_SECONDS


def _delete(home: Home, own: Lease, names: list[str]) -> None:
    for at in range(0, len(names), _AT_ONCE):
        for name in names[at : at + _AT_ONCE] if home.local else ():
            if not own.valid:
                raise own.lost_error()
            reached("gc.deleting")
            with suppress(FileNotFoundError):
                os.unlink(home.path(name))
        if not home.local:
            if not own.valid:
                raise own.lost_error()
            _delete_remote(home, names[at : at + _AT_ONCE])


def _delete_remote(home: Home, names: list[str]) -> None:
    paths = [home.path(name) for name in names]
    try:
        home.fs.rm(paths)
    except FileNotFoundError:  # another `gc` has deleted some of these objects
        for path in paths:
            with suppress(FileNotFoundError):
                home.fs.rm(path)
