"""`choline-data repair`: restores damaged objects of a home, and reports those that can't be restored.

A dataset's own files are made again from its source, with the options of its `add`. The result must be the same revision.
Derived objects are computed again, or removed so that the next reader computes them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from choline_data.catalog.add import ingest, prepare, wishes_of
from choline_data.errors import (
    AlreadyExistsError,
    ChoiceNeededError,
    CholineDataError,
    SourceDamagedError,
    SourceNotFoundError,
)
from choline_data.places.home import Home
from choline_data.store.blocks import index_name, index_of
from choline_data.store.faults import Fault, Report
from choline_data.store.in_place import InPlaceRevision
from choline_data.store.manifest import ACCOUNTS, REJECTS, AnyManifest, Manifest, read_manifest
from choline_data.store.object_names import account_name, manifest_name, rejects_name
from choline_data.store.open_revision import open_revision
from choline_data.store.revision import Revision
from choline_data.store.sealed import BrokenSealError
from choline_data.store.snapshots import (
    HEAD,
    Catalog,
    Entry,
    copy_name,
    decode_snapshot,
    encode_snapshot,
    snapshot_name,
)
from choline_data.upkeep.check import check, check_catalog

_FROM_SOURCE = {"data", "manifest", "rejects", "files", "source"}
_BESIDE = {"rejects": "rejects", "files": "accounts of files"}


@dataclass
class RepairReport:
    """The result of a repair: what was repaired, what is lost, and the faults that remain."""

    done: list[tuple[str, str]] = field(default_factory=list)  # pairs: a file, and how it was repaired
    lost: list[str] = field(default_factory=list)  # pairs: a file that could not be repaired, and what the user can do
    failed: list[CholineDataError] = field(default_factory=list)
    left: list[Fault] = field(default_factory=list)  # the faults that remain


def repair(home: Home, name: str = "", *, workers: int = 1, said: Callable[[str], None] | None = None) -> RepairReport:
    """Repairs the home, or only the objects of one dataset. Calls `said` with a message before each long step."""
    out = RepairReport()
    report = Report()
    check_catalog(home, home.names(""), report)
    _repair_catalog(home, report, out)
    report = check(home, name)  # the catalog is repaired now, so the faults can be assigned to datasets
    for fault in [f for f in report.faults if f.kind == "index"]:
        _repair_index(home, fault, out)
    entries = Catalog(home).entries()
    for dataset in sorted({f.dataset for f in report.faults if f.kind in _FROM_SOURCE and f.dataset}):
        if said is not None:
            said(f"{dataset}: reading its source again")
        _restore(home, entries[dataset], [f for f in report.faults if f.dataset == dataset], out, workers)
    _drop_unowned(home, report, out)
    for fault in report.faults:
        if fault.kind in ("selection", "ids", "packing", "tokenizer", "job", "tokens", "unused"):
            _repair_derived(home, fault, out)
    out.left = check(home, name).faults
    return out


def _repair_catalog(home: Home, report: Report, out: RepairReport) -> None:
    catalog = Catalog(home)
    for fault in report.faults:
        if fault.kind == "hint":
            home.hint(HEAD, str(catalog.newest()).encode())
            out.done.append((fault.file, "written again"))
        if fault.kind not in ("catalog", "copy"):
            continue
        number = int(fault.file.rsplit("/", 1)[-1].split(".")[0])
        place, copy = snapshot_name(number), copy_name(number)
        sound = next((raw for raw in map(_content(home, number), (place, copy)) if raw is not None), None)
        if sound is not None:
            home.put(place, sound)
            home.put(copy, sound)
            out.done.append((fault.file, "put back from its copy" if fault.kind == "catalog" else "written again"))
            continue
        before, entries = _before(home, number)
        raw = encode_snapshot(number, entries, lost=True)
        home.put(place, raw)
        home.put(copy, raw)
        out.done.append(
            (fault.file, f"replaced by what snapshot {before} says" if before else "replaced by an empty one")
        )
        out.lost.append(
            f"Catalog snapshot {number} is lost: the change that made it is undone where no later one holds it."
        )
    if out.lost:
        out.lost += _revisions_without_name(home)


def _content(home: Home, number: int) -> Callable[[str], bytes | None]:
    def sound(name: str) -> bytes | None:
        """Returns the bytes of the object `name` if they are a valid copy of the snapshot, otherwise None."""
        try:
            raw = home.read(name)
            decode_snapshot(number, raw)
        except (SourceNotFoundError, BrokenSealError):
            return None
        return raw

    return sound


def _before(home: Home, number: int) -> tuple[int, dict[str, Entry]]:
    for earlier in range(number - 1, 0, -1):
        for name in (snapshot_name(earlier), copy_name(earlier)):
            raw = _content(home, earlier)(name)
            if raw is not None:
                return earlier, decode_snapshot(earlier, raw)
    return 0, {}


def _revisions_without_name(home: Home) -> list[str]:
    """Reports revisions in the home that no dataset has or had. A lost snapshot may have named them."""
    entries = Catalog(home).entries().values()
    named = {digest for entry in entries for digest in (entry.revision, *entry.earlier)}
    out = []
    for name in home.names("revisions"):
        digest = name.split("/")[1]
        if not name.endswith("/manifest.arrow") or digest in named:
            continue
        try:
            (raw,) = (read_manifest(home, digest).schema.metadata or {}).values()
            source = orjson.loads(raw)["about"].get("source", "")
        except CholineDataError:
            continue
        out.append(
            f"Revision {digest[:12]}… is in the home and no dataset has it. `choline-data add {source or 'SOURCE'}` "
            "puts it back into the catalog."
        )
    return out


def _repair_index(home: Home, fault: Fault, out: RepairReport) -> None:
    """Makes a block index again from its store file, which is not damaged."""
    digest = fault.file.rsplit("/", 1)[-1].split(".")[0]
    home.put(index_name(digest), index_of(home, digest))
    out.done.append((fault.file, "made again from its store file"))


def _restore(home: Home, entry: Entry, faults: list[Fault], out: RepairReport, workers: int) -> None:
    """Ingests the source of the dataset again, which restores its damaged files."""
    added = entry.added or {"source": entry.source, "options": {}}
    unsure = "" if entry.added else " An older version added it and kept no options, so the defaults were taken."
    again = f"`choline-data add SOURCE --name {entry.name} --replace` takes what the source holds now."
    try:
        _ingest_again(home, entry, added, workers)
    except AlreadyExistsError:
        error: CholineDataError = SourceDamagedError(
            f"{entry.name}: its source {added['source']} does not give revision {entry.revision[:12]}… any more.{unsure}",
            remedy=f"Bring the source back as it was and run this again, or {again}",
        )
    except (ChoiceNeededError, CholineDataError, TypeError) as found:
        error = SourceDamagedError(
            f"{entry.name}: its source {added['source'] or '(not recorded)'} can't be read again: "
            f"{found.message if isinstance(found, CholineDataError) else found}{unsure}",
            remedy=f"Bring the source back and run this again, or {again}",
        )
    else:
        out.done += [(f.file, "put back from the source") for f in faults if f.kind in _FROM_SOURCE]
        return
    out.failed.append(error)


def _ingest_again(home: Home, entry: Entry, added: dict[str, Any], workers: int) -> None:
    wishes = replace(wishes_of(added.get("options", {})), ask=False)
    places = added.get("sources") or added["source"]
    prepared = prepare(home, places, name=entry.name, wishes=wishes, revision=added.get("revision", ""))
    prepared = replace(prepared, card=entry.card, tags=entry.tags, added=added if entry.added else prepared.added)
    if added.get("in_place"):
        from choline_data.catalog.register_in_place import register

        register(home, prepared)
    else:
        ingest(home, prepared, workers=workers, dedup=added.get("dedup", ""))


def _drop_unowned(home: Home, report: Report, out: RepairReport) -> None:
    """Removes damaged objects of revisions that no dataset has now, because there is no source to make them from."""
    unowned = [f for f in report.faults if f.kind in _FROM_SOURCE and f.revision and not f.dataset]
    for digest in sorted({f.revision for f in unowned}):
        faults = [f for f in unowned if f.revision == digest]
        if {f.kind for f in faults} <= {"rejects", "files"}:
            damaged = {f.file for f in faults}
            rest = without(open_revision(home, digest), damaged)
            for name in damaged:
                home.remove(name)
            home.put(manifest_name(digest), rest.encode())
            what = " and ".join(sorted(_BESIDE[f.kind] for f in faults))
            out.lost.append(f"The {what} of revision {digest[:12]}…, which no dataset has now, are lost.")
        else:
            home.remove(manifest_name(digest).rsplit("/", 1)[0])
            for fault in faults:
                if fault.kind == "data":
                    home.remove(fault.file)
            out.lost.append(
                f"Revision {digest[:12]}…, which no dataset has now, is lost: recipes that name it are refused."
            )
        out.done += [(f.file, "removed") for f in faults if f.kind != "source"]


def _repair_derived(home: Home, fault: Fault, out: RepairReport) -> None:
    if fault.kind == "tokens":
        out.done.append((fault.file, _repair_tokens(home, fault)))
        return
    home.remove(fault.file)
    if fault.kind == "packing":
        home.remove(fault.file.removesuffix(".bin") + ".json")
    if fault.kind == "tokenizer":
        out.lost.append(f"{fault.file} is lost: `choline-data tokenize` with that tokenizer.json stores it again.")
    out.done.append((fault.file, "removed; it is made again when it is needed"))


def _repair_tokens(home: Home, fault: Fault) -> str:
    """Makes damaged tokens again if their tokenizer is available, otherwise removes them."""
    from choline_data.errors import DamagedStoreError
    from choline_data.tokens.allowed import Allowed
    from choline_data.tokens.token_store import key_of, read_meta, tokenize

    try:
        key = key_of(home, fault.file)
        tokenizer = Allowed().known(home, key.tokenizer, str(read_meta(home, fault.file).get("name", "")))
        if tokenizer is not None:
            on_request = home.exists(key.marker)
            home.remove(fault.file)
            tokenize(home, key.revision, tokenizer, key.boundary, on_request=on_request)
            return "made again"
    except (DamagedStoreError, SourceNotFoundError):
        pass
    home.remove(fault.file)
    return f"removed; `choline-data tokenize {fault.dataset or 'NAME'}` makes it again"


def without(revision: Revision, missing: Collection[str]) -> AnyManifest:
    """Returns the manifest of the revision without the checksums of these objects, which do not exist any more."""
    digest = revision.revision
    about = dict(revision.about)
    if rejects_name(digest) in missing:
        about.pop(REJECTS, None)
    accounts: dict[str, str] = about.get(ACCOUNTS, {})
    about[ACCOUNTS] = {
        name: checksum for name, checksum in accounts.items() if account_name(digest, checksum) not in missing
    }
    if isinstance(revision, InPlaceRevision):
        return revision.manifest().with_about(about)
    return Manifest(tuple(revision.files()), revision.columns, revision.block_rows, revision.constants, about)
