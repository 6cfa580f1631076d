"""`verify`: checks the files of a home, or of one dataset, against their checksums. Lists all faults, not only the first."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable

from choline_data.errors import (
    CholineDataError,
    DamagedStoreError,
    SourceNotFoundError,
    UnknownDatasetError,
)
from choline_data.places.home import Home
from choline_data.store import sealed as sealing
from choline_data.store.blocks import BlockFile, data_name
from choline_data.store.faults import Report
from choline_data.store.object_names import manifest_name
from choline_data.store.open_revision import open_revision
from choline_data.store.revision import Revision
from choline_data.store.snapshots import HEAD, Entry, copy_name, decode_snapshot, snapshot_name
from choline_data.upkeep.verify import check_revision, sha256_of

_DIGEST = "[0-9a-f]{64}"
_KINDS = {
    "data": re.compile(rf"data/[0-9a-f]{{2}}/{_DIGEST}\.(arrow|blocks)"),
    "manifest": re.compile(rf"revisions/({_DIGEST})/(manifest\.arrow|rejects\.jsonl|files-[0-9a-f]{{16}}\.arrow)"),
    "catalog": re.compile(r"(catalog|copies)/(\d{8,})\.json|catalog/HEAD"),
    "selection": re.compile(rf"selections/({_DIGEST})/{_DIGEST}\.arrow"),
    "ids": re.compile(rf"ids/({_DIGEST})\.index"),
    "tokens": re.compile(
        rf"(tokens/({_DIGEST})/[0-9a-f]{{32}})/((meta|bfd-[0-9a-f]{{32}})\.json|[a-z0-9-]+\.bin|on-request)"
    ),
    "tokenizer": re.compile(rf"tokenizers/({_DIGEST})\.json"),
    "job": re.compile(r"jobs/[0-9a-f]{32}/\d{6,}\.json"),
}
# Temporary objects of writers and readers, pins, and records of use. Only their names and times matter, not their
# content.
PASSING = ("staging/", "claims/", "leases/", "pins/", "read/", "used/")


def check(home: Home, name: str = "") -> Report:
    """Reads every byte of the home, or every byte of one dataset, and reports what is damaged or missing."""
    report = Report()
    names = home.names("")
    entries = check_catalog(home, names, report)
    if name and name not in entries:
        raise UnknownDatasetError(name, entries)
    wanted = {name: entries[name]} if name else entries
    owners = {entry.revision: entry.name for entry in entries.values()}
    seen: dict[str, tuple[str, int]] = {}
    for entry in wanted.values():
        before = len(report.faults)
        counts = check_revision(home, entry.revision, report, dataset=entry.name, seen=seen)
        good = len(report.faults) == before
        entry_counts = {"name": entry.name, "revision": entry.revision, "rows": entry.rows, "ok": good}
        report.datasets.append({**entry_counts, **counts})
    if not name:
        # Rejects without a manifest are not faults: `add` or `gc` was killed between writing or deleting the two files.
        there = {
            match[1] for match in map(_KINDS["manifest"].fullmatch, names) if match and match[2] == "manifest.arrow"
        }
        for digest in sorted(there - set(owners)):
            check_revision(home, digest, report, dataset="", seen=seen)
    _check_derived(home, names, owners, {entry.revision for entry in wanted.values()} if name else None, report)
    if not name:
        _check_unused(home, names, seen, report)
        _check_others(home, names, report)
    return report


def check_catalog(home: Home, names: Iterable[str], report: Report) -> dict[str, Entry]:
    """Checks each catalog snapshot and its copy. Returns the datasets of the newest snapshot that can be read."""
    there = set(names)
    numbers = {int(match[2]) for match in map(_KINDS["catalog"].fullmatch, there) if match and match[2]}
    newest: dict[str, Entry] = {}
    for number in sorted(numbers):
        place, copy = snapshot_name(number), copy_name(number)
        states = {name: _snapshot(home, number, name) if name in there else "is missing" for name in (place, copy)}
        sound = [state for state in states.values() if isinstance(state, dict)]
        if sound:
            newest = sound[0]
        if isinstance(states[place], str):
            other = "; its copy is sound" if sound else "; it has no sound copy"
            report.add("catalog", place, f"{states[place]}{other}")
        elif states[copy] == "is damaged":
            report.add("copy", copy, "is damaged; the snapshot that it copies is sound")
    hint = home.read(HEAD).strip() if HEAD in there else b""
    if HEAD in there and not (hint.isdigit() and len(hint) < 12 and int(hint) <= max(numbers, default=0)):
        report.add("hint", HEAD, "does not hold the number of a snapshot")
    return newest


def _snapshot(home: Home, number: int, name: str) -> dict[str, Entry] | str:
    try:
        return decode_snapshot(number, home.read(name))
    except sealing.BrokenSealError:
        return "is damaged"


def _check_derived(
    home: Home, names: Iterable[str], owners: dict[str, str], wanted: set[str] | None, report: Report
) -> None:
    """Checks the data that can be computed again: selections, indexes of ids, and tokens."""
    revisions = _Revisions(home)
    for name in names:
        for kind, digest in (
            ("selection", 1),
            ("ids", 1),
            ("tokens", 2),
        ):
            match = _KINDS[kind].fullmatch(name)
            if match is None or (wanted is not None and match[digest] not in wanted):
                continue
            whose = {"dataset": owners.get(match[digest], ""), "revision": match[digest]}
            if kind == "selection":
                _check_selection(home, name, revisions.get(match[digest]), whose, report)
            elif kind == "ids":
                _check_ids(home, name, revisions.get(match[digest]), whose, report)
            elif match[3] == "meta.json":
                inside = [n for n in names if n.startswith(match[1] + "/")]
                _check_tokens(home, match[1], inside, revisions.get(match[2]), whose, report)


class _Revisions:
    """Opens revisions by digest. Keeps only the last opened one."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._last: tuple[str, Revision | None] = ("", None)

    def get(self, digest: str) -> Revision | None:
        """Opens the revision with this digest.

        Returns None if it does not exist any more, or if it can't be opened (`check_revision` reports this).
        """
        if self._last[0] != digest:
            try:
                opened = open_revision(self._home, digest) if self._home.exists(manifest_name(digest)) else None
            except CholineDataError:
                opened = None
            self._last = (digest, opened)
        return self._last[1]


def _check_selection(home: Home, name: str, revision: Revision | None, whose: dict[str, str], report: Report) -> None:
    from choline_data.where.selection import read_selection

    try:
        read_selection(home, name, revision.rows if revision is not None else 1 << 62)
    except (DamagedStoreError, SourceNotFoundError):
        report.add("selection", name, "is damaged", **whose)


def _check_ids(home: Home, name: str, revision: Revision | None, whose: dict[str, str], report: Report) -> None:
    from choline_data.store.id_index import IdIndex

    if revision is None:
        return
    try:
        IdIndex(home, revision).check_all()
    except (DamagedStoreError, SourceNotFoundError):
        report.add("ids", name, "is damaged", **whose)


def _check_tokens(
    home: Home, folder: str, names: list[str], revision: Revision | None, whose: dict[str, str], report: Report
) -> None:
    from choline_data.tokens.packing import read_best_fit
    from choline_data.tokens.token_store import TokenArray, key_of

    try:
        array = TokenArray(home, key_of(home, folder))
        array.check_all()
    except (DamagedStoreError, SourceNotFoundError):
        report.add("tokens", folder, "is damaged", **whose)
        return
    if revision is not None and array.documents != revision.rows:
        report.add("tokens", folder, f"has {array.documents} documents, not {revision.rows}", **whose)
        return
    if not array.sealed:
        report.notes.append(f"{folder} has no checksums, because an older version made it. It is read as before.")
    for index in sorted({name.rsplit(".", 1)[0] for name in names if "/bfd-" in name and name.endswith(".json")}):
        try:
            read_best_fit(home, index, array, 1)
        except (DamagedStoreError, SourceNotFoundError):
            report.add("packing", f"{index}.bin", "is damaged", **whose)


def _check_unused(home: Home, names: Iterable[str], seen: Iterable[str], report: Report) -> None:
    """Checks store files to which no manifest refers: `gc` deletes them later, but an `add` may use them before."""
    known = set(seen)
    for name in names:
        digest = name.rsplit("/", 1)[-1].split(".")[0]
        if digest in known or _KINDS["data"].fullmatch(name) is None:
            continue
        try:
            if name.endswith(".arrow"):
                sound = sha256_of(home, name) == digest
            else:
                BlockFile(home, digest, None, home.size(data_name(digest)))
                sound = True
        except SourceNotFoundError:
            continue  # A writer stores an index before its file, and `gc` deletes a file before its index.
        except DamagedStoreError:
            sound = False
        if not sound:
            report.add("unused", name, "does not have its checksum, and no dataset needs it")


def _check_others(home: Home, names: Iterable[str], report: Report) -> None:
    """Checks tokenizers and results of jobs, and notes files that do not belong to a home."""
    unknown: list[str] = []
    for name in names:
        if (match := _KINDS["tokenizer"].fullmatch(name)) is not None:
            if hashlib.sha256(home.read(name)).hexdigest() != match[1]:
                report.add("tokenizer", name, "does not have its checksum")
        elif _KINDS["job"].fullmatch(name) is not None:
            try:
                sealing.unseal_json(name, home.read(name), before=b'{"number":')
            except sealing.BrokenSealError:
                report.add("job", name, "is damaged")
        elif not name.startswith(PASSING) and not any(kind.fullmatch(name) for kind in _KINDS.values()):
            unknown.append(name)
    if unknown:
        more = f" and {len(unknown) - 8} more" if len(unknown) > 8 else ""
        report.notes.append(f"Files that are no part of a home: {', '.join(unknown[:8])}{more}.")
