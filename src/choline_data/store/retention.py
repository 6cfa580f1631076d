"""Which revisions a home keeps, and why: they are in the catalog, pinned, or recently removed, replaced or read."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import orjson

from choline_data.errors import (
    ConflictError,
    DamagedStoreError,
    InvalidOptionError,
    RevisionGoneError,
    SourceNotFoundError,
    UnknownDatasetError,
)
from choline_data.places.home import Home
from choline_data.store.leases import check_written, writing
from choline_data.store.object_names import manifest_name
from choline_data.store.snapshots import Catalog, check_name, snapshot_name

KEEP_DAYS = 30
DAY = 86_400.0
PINS, READ = "pins", "read"
_REVISION = re.compile(r"[0-9a-f]{64}")
_PART = re.compile(r"[0-9a-f]{8,64}")


@dataclass(frozen=True)
class Reason:
    """Why a revision is kept: a phrase that many revisions share, and the label of this revision."""

    why: str
    label: str


def label(name: str, revision: str) -> str:
    """Returns the revision as text for users: NAME@ABCDEF012345."""
    return f"{name}@{revision[:12]}" if name else revision[:12]


def kept_revisions(home: Home, keep_days: float, now: float) -> dict[str, Reason]:
    """Returns every revision that is kept, with the first reason that applies. `now` is the time by the storage's clock."""
    reasons: dict[str, Reason] = {}
    for why, revisions in (
        ("in the catalog", ((e.revision, e.name) for e in Catalog(home).entries().values())),
        ("pinned", ((pin.revision, pin.name) for pin in pins(home))),
        (f"removed or replaced in the last {keep_days:g} days", _recent(home, keep_days, now)),
        (f"read in the last {keep_days:g} days", _recently_used(home, keep_days, now)),
    ):
        for revision, name in revisions:
            reasons.setdefault(revision, Reason(why, label(name, revision)))
    return reasons


def _recent(home: Home, keep_days: float, now: float) -> Iterator[tuple[str, str]]:
    """Yields the revisions in all catalog snapshots that were the newest one at some time in the last `keep_days` days.

    A snapshot stops being the newest when the next one is written, so the write time of the next snapshot decides.
    """
    if keep_days <= 0:
        return
    catalog = Catalog(home)
    written = {name: at for name, (_, at) in home.listed("catalog").items()}
    for number in range(catalog.newest() - 1, 0, -1):
        ended = written.get(snapshot_name(number + 1))
        if ended is not None and now - ended > keep_days * DAY:
            return
        try:
            for entry in catalog.entries(number).values():
                yield entry.revision, entry.name
        except SourceNotFoundError:
            continue
        except DamagedStoreError:  # the damaged snapshot may have named any revision
            for name in home.names("revisions"):
                yield name.split("/")[1], ""


def _recently_used(home: Home, keep_days: float, now: float) -> Iterator[tuple[str, str]]:
    if keep_days <= 0:
        return
    for name, (_, at) in home.listed(READ).items():
        if now - at <= (keep_days + 1) * DAY:  # a use is recorded at most once a day, so the limit is one day longer
            yield name.rpartition("/")[2], ""


@dataclass(frozen=True)
class Pin:
    """A pin: its revision is kept until it is unpinned. Also has the name of the dataset."""

    name: str
    revision: str

    @property
    def object(self) -> str:
        """The name of the object in the home that represents the pin."""
        return f"{PINS}/{self.name}@{self.revision}"


def mark_read(home: Home, revisions: Iterable[str]) -> None:
    """Records that these revisions are read now. Never raises: a read-only home works without these marks.

    The clocks of the storage and of this host are compared only to save work. If they differ, marks are written more or
    less often.
    """
    with suppress(Exception):
        wanted = {f"{READ}/{revision}" for revision in revisions}
        there = home.listed(READ) if not home.local else {}
        for name in wanted:
            with suppress(FileNotFoundError):
                at = there[name][1] if name in there else home.modified_time(name) if home.local else 0.0
                if 0 <= time.time() - at < DAY / 2:
                    continue
            if home.local:
                os.makedirs(home.path(READ), exist_ok=True)
                Path(home.path(name)).touch()
            else:
                home.hint(name, b"")


def pins(home: Home) -> list[Pin]:
    """Returns all pins of the home, sorted by name."""
    out = []
    for name in home.names(PINS):
        dataset, _, revision = name.removeprefix(f"{PINS}/").rpartition("@")
        if _REVISION.fullmatch(revision):
            out.append(Pin(dataset, revision))
    return out


def pin(home: Home, name: str, revision: str = "") -> Pin:
    """Pins a revision of a dataset. `revision` is the beginning of its digest; if it is empty, the newest revision is
    pinned.
    """
    check_name(name)
    with writing(home, f"pin {name}") as leased:
        new_pin = Pin(name, _one_of(name, revision, _revisions_of(leased, name)))
        try:
            check_written(leased, [manifest_name(new_pin.revision)])
        except ConflictError as error:
            raise RevisionGoneError(name, new_pin.revision) from error
        leased.put(new_pin.object, orjson.dumps({"version": 1, "name": name, "revision": new_pin.revision}))
    return new_pin


def unpin(home: Home, name: str, revision: str = "") -> list[Pin]:
    """Removes the pins of those revisions of a dataset whose digest begins with `revision`. Returns these pins.

    An empty `revision` removes all pins of the dataset.
    """
    removed = [p for p in pins(home) if p.name == name and p.revision.startswith(revision)]
    if not removed:
        raise InvalidOptionError(
            f"There is no pin {label(name, revision)}.", remedy="`choline-data pin` lists the pins."
        )
    for each in removed:
        home.remove(each.object)
    return removed


def _revisions_of(home: Home, name: str) -> list[str]:
    """Returns the revisions of this dataset in the catalog's snapshots, the newest first."""
    catalog = Catalog(home)
    out: dict[str, None] = {}
    known: Iterable[str] = ()
    for number in range(catalog.newest(), 0, -1):
        with suppress(DamagedStoreError, SourceNotFoundError):
            entries = catalog.entries(number)
            known = known or list(entries)
            if name in entries:
                out |= dict.fromkeys((entries[name].revision, *reversed(entries[name].earlier)))
                break  # `earlier` contains the older revisions
    if not out:
        raise UnknownDatasetError(name, known)
    return list(out)


def _one_of(name: str, wanted: str, revisions: list[str]) -> str:
    if not wanted:
        return revisions[0]
    matches = [r for r in revisions if r.startswith(wanted)] if _PART.fullmatch(wanted) else []
    if len(matches) != 1:
        raise InvalidOptionError(
            f"{wanted[:64]!r} names {len(matches) or 'no'} revision{'s' * (len(matches) > 1)} of {name}.",
            remedy=f"Give 8 to 64 digits of one of: {', '.join(r[:12] for r in revisions[:8])}.",
            option="revision",
        )
    return matches[0]
