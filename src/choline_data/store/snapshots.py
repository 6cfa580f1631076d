"""The catalog: the datasets of a home and the revision of each. It is a log of complete snapshots. Each snapshot is a
JSON file.

A change creates the snapshot with the next number, which fails if another writer has created it, and then writes a copy
of it. `catalog/HEAD` contains a hint of the newest number, so that a reader needs no listing. Each snapshot has a seal.
Snapshots of an older version have neither seal nor copy.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from choline_data.errors import (
    AlreadyExistsError,
    ConflictError,
    DamagedStoreError,
    HomeError,
    InvalidNameError,
    SourceNotFoundError,
    UnknownDatasetError,
)
from choline_data.places.home import Home
from choline_data.places.locations import redacted
from choline_data.process.fault_points import reached
from choline_data.store import sealed as sealing

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_TRIES = 50
HEAD = "catalog/HEAD"


def check_name(name: str) -> str:
    """Returns `name` if it is a valid dataset name: [a-z0-9][a-z0-9._-]{0,127} without "..". Raises InvalidNameError if
    not.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise InvalidNameError(
            f"{name[:80]!r} can't name a dataset.",
            remedy="Use small letters, digits, '.', '_' and '-', at most 128, beginning with a letter or digit.",
        )
    return name


def name_from(text: str) -> str:
    """Returns a dataset name that is similar to `text`, which may be the name of a file or folder."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    plain = re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", plain)).strip("._-")
    return plain[:128] or "dataset"


@dataclass(frozen=True)
class Entry:
    """A dataset of the catalog, as `choline-data list` shows it."""

    name: str
    revision: str
    kind: str
    rows: int
    bytes: int
    rejected: int = 0
    license: str = "NOASSERTION"
    language: str = ""
    tags: tuple[str, ...] = ()
    title: str = ""
    source: str = ""
    earlier: tuple[str, ...] = ()  # earlier revisions of this name; kept until `gc`
    card: dict[str, Any] = field(default_factory=dict)
    added: dict[str, Any] = field(default_factory=dict)  # the source and the options of `add`, for `repair`

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Entry:
        """Returns the entry from a dict that `dataclasses.asdict` made of one. Ignores keys that a newer version added."""
        known = {f.name for f in fields(cls)}
        values: dict[str, Any] = {key: value for key, value in raw.items() if key in known}
        values |= {key: tuple(values[key]) for key in ("tags", "earlier") if key in values}
        return cls(**values)


def snapshot_name(number: int) -> str:
    """Returns the name of the object that holds a snapshot of the catalog."""
    return f"catalog/{number:08d}.json"


def copy_name(number: int) -> str:
    """Returns the name of the object that holds a copy of the snapshot. The copy exists because a snapshot can't be
    rebuilt from other objects.
    """
    return f"copies/{number:08d}.json"


def encode_snapshot(number: int, entries: Mapping[str, Entry], **more: Any) -> bytes:
    """Returns the bytes of the snapshot with this number, with its seal."""
    datasets = {name: asdict(entry) for name, entry in sorted(entries.items())}
    return sealing.seal_json(snapshot_name(number), {"version": 1, **more, "datasets": datasets})


def decode_snapshot(number: int, raw: bytes) -> dict[str, Entry]:
    """Returns the datasets of a snapshot by name. Raises BrokenSealError if the snapshot is damaged."""
    body = sealing.unseal_json(snapshot_name(number), raw, before=b'{"version":1,"datasets":')
    try:
        return {name: Entry.from_json(entry) for name, entry in sorted(body["datasets"].items())}
    except (KeyError, TypeError, AttributeError) as error:
        raise sealing.BrokenSealError(snapshot_name(number)) from error


class Catalog:
    """The datasets of a home. Every read sees one complete snapshot."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def newest(self) -> int:
        """Returns the number of the newest snapshot, or 0 if there is none. A wrong hint in `catalog/HEAD` does no harm."""
        number = 0
        if self.home.exists(HEAD):
            hint = self.home.read(HEAD).strip()
            number = int(hint) if hint.isdigit() and len(hint) < 12 else 0
            if not number or not self.home.exists(snapshot_name(number)):
                number = max(self.numbers(), default=0)
        while self.home.exists(snapshot_name(number + 1)):
            number += 1
        return number

    def numbers(self) -> list[int]:
        """Returns the numbers of all snapshots, ascending. Lists the folder."""
        names = (name.removeprefix("catalog/").removesuffix(".json") for name in self.home.names("catalog"))
        return sorted(int(name) for name in names if name.isdigit())

    def entries(self, number: int | None = None) -> dict[str, Entry]:
        """Returns the datasets of a snapshot (None: the newest) by name, sorted. If the snapshot is damaged, reads its copy."""
        number = self.newest() if number is None else number
        if not number:
            return {}
        for name in (snapshot_name(number), copy_name(number)):
            try:
                return decode_snapshot(number, self.home.read(name))
            except (sealing.BrokenSealError, SourceNotFoundError):
                continue
        raise DamagedStoreError(
            f"Catalog snapshot {number} of {self.home.location} is damaged.", remedy="Run `choline-data repair`."
        )

    def entry(self, name: str) -> Entry:
        """Returns the dataset with this name. If there is none, raises UnknownDatasetError, which suggests the nearest
        name.
        """
        entries = self.entries()
        if name not in entries:
            raise UnknownDatasetError(name, entries, home=redacted(self.home.location))
        return entries[name]

    def _commit(
        self, change: Callable[[dict[str, Entry]], dict[str, Entry]], check: Callable[[], None] | None = None
    ) -> None:
        for _ in range(_TRIES):
            number = self.newest()
            after = change(self.entries(number))
            body = encode_snapshot(number + 1, after)
            if check is not None:
                check()
            reached("snapshot.ready")
            if self.home.create(snapshot_name(number + 1), body):
                reached("snapshot.created")
                with contextlib.suppress(HomeError):  # Without the copy and the hint, readers still find the snapshot.
                    self.home.put(copy_name(number + 1), body)
                    reached("snapshot.copied")
                    self.home.hint(HEAD, str(number + 1).encode())
                reached("snapshot.complete")
                return
        raise ConflictError("Other writers keep changing the catalog.", remedy="Try again.")

    def publish(self, entry: Entry, *, replaces: str | None = None, check: Callable[[], None] | None = None) -> Entry:
        """Publishes `entry` under its name. `check` is called right before, and may raise an error to prevent it.

        `replaces` is the revision that the writer saw under this name when it began (None: no revision). If another
        writer has published other content meanwhile, raises AlreadyExistsError. If the other writer has published the
        same content, there is no error.
        """
        check_name(entry.name)
        published = entry

        def change(now: dict[str, Entry]) -> dict[str, Entry]:
            nonlocal published
            there = now.get(entry.name)
            if there is not None and there.revision != entry.revision and there.revision != replaces:
                raise AlreadyExistsError(
                    f"{entry.name!r} exists already, with revision {there.revision[:12]}….",
                    remedy="Replace it with --replace, or choose another --name.",
                    dataset=entry.name,
                )
            earlier = there.earlier if there else ()
            if there is not None and there.revision != entry.revision:
                earlier = (*earlier, there.revision)
            published = Entry(**{**{f.name: getattr(entry, f.name) for f in fields(Entry)}, "earlier": earlier})
            return {**now, entry.name: published}

        self._commit(change, check)
        return published

    def remove(self, name: str) -> Entry:
        """Removes the dataset from the catalog. Its files stay until `gc`."""
        entry = self.entry(name)

        def change(now: dict[str, Entry]) -> dict[str, Entry]:
            if name not in now:
                raise UnknownDatasetError(name, now)
            return {key: value for key, value in now.items() if key != name}

        self._commit(change)
        return entry
