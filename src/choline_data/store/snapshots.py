"""The catalog: which datasets there are, and which revision each has. A log of whole snapshots, one JSON file each.

A change writes the next number exclusively, and then a copy of it. `catalog/HEAD` hints at the newest number, so a reader
needs no listing. Each snapshot has a seal; those of an older version have neither seal nor copy.
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
from choline_data.store import sealed as sealing

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_TRIES = 50
HEAD = "catalog/HEAD"


def check_name(name: str) -> str:
    """`name`, where it is fit for a dataset: [a-z0-9][a-z0-9._-]{0,127} without "..".  InvalidNameError otherwise."""
    if not _NAME.fullmatch(name) or ".." in name:
        raise InvalidNameError(
            f"{name[:80]!r} can't name a dataset.",
            remedy="Use small letters, digits, '.', '_' and '-', at most 128, beginning with a letter or digit.",
        )
    return name


def name_from(text: str) -> str:
    """A name in the allowed pattern that is nearest to `text`, such as a file's or a folder's name."""
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
    earlier: tuple[str, ...] = ()  # revisions that this name had before; kept until `gc`
    card: dict[str, Any] = field(default_factory=dict)
    added: dict[str, Any] = field(default_factory=dict)  # the source and the options of `add`, for `repair`

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Entry:
        """The entry that `asdict` gave; keys of a newer version are left out."""
        known = {f.name for f in fields(cls)}
        kept: dict[str, Any] = {key: value for key, value in raw.items() if key in known}
        kept |= {key: tuple(kept[key]) for key in ("tags", "earlier") if key in kept}
        return cls(**kept)


def snapshot_name(number: int) -> str:
    """The object that holds a snapshot of the catalog."""
    return f"catalog/{number:08d}.json"


def copy_name(number: int) -> str:
    """The object that holds the same bytes a second time: a snapshot is small, and nothing else says what it says."""
    return f"copies/{number:08d}.json"


def encoded(number: int, entries: Mapping[str, Entry], **more: Any) -> bytes:
    """The snapshot of this number, with its seal."""
    datasets = {name: asdict(entry) for name, entry in sorted(entries.items())}
    return sealing.sealed_json(snapshot_name(number), {"version": 1, **more, "datasets": datasets})


def decoded(number: int, raw: bytes) -> dict[str, Entry]:
    """The datasets of a snapshot by name; BrokenSealError where it is not as it was written."""
    body = sealing.unsealed_json(snapshot_name(number), raw, before=b'{"version":1,"datasets":')
    try:
        return {name: Entry.from_json(entry) for name, entry in sorted(body["datasets"].items())}
    except (KeyError, TypeError, AttributeError) as error:
        raise sealing.BrokenSealError(snapshot_name(number)) from error


class Catalog:
    """The datasets of a home. Every read sees one whole snapshot."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def newest(self) -> int:
        """The number of the newest snapshot; 0 where there is none. The hint in `catalog/HEAD` may be of any content."""
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
        """The numbers of all snapshots, by a listing."""
        names = (name.removeprefix("catalog/").removesuffix(".json") for name in self.home.names("catalog"))
        return sorted(int(name) for name in names if name.isdigit())

    def entries(self, number: int | None = None) -> dict[str, Entry]:
        """The datasets by name, in order of name. A snapshot that is damaged is read from its copy."""
        number = self.newest() if number is None else number
        if not number:
            return {}
        for name in (snapshot_name(number), copy_name(number)):
            try:
                return decoded(number, self.home.read(name))
            except (sealing.BrokenSealError, SourceNotFoundError):
                continue
        raise DamagedStoreError(
            f"Catalog snapshot {number} of {self.home.location} is damaged.", remedy="Run `choline-data repair`."
        )

    def entry(self, name: str) -> Entry:
        """The dataset of this name; UnknownDatasetError, with the nearest, where there is none."""
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
            body = encoded(number + 1, after)
            if check is not None:
                check()
            if self.home.create(snapshot_name(number + 1), body):
                with contextlib.suppress(HomeError):  # the snapshot is there, and readers find it without copy and hint
                    self.home.put(copy_name(number + 1), body)
                    self.home.hint(HEAD, str(number + 1).encode())
                return
        raise ConflictError("Other writers keep changing the catalog.", remedy="Try again.")

    def publish(self, entry: Entry, *, replaces: str | None = None, check: Callable[[], None] | None = None) -> Entry:
        """Makes `entry` the dataset of its name. `check` is called right before, and refuses by what it raises.

        `replaces` is the revision that the writer saw under this name when it began (None: there was none). If another
        writer has put other content there since, AlreadyExistsError; the same content again is no error.
        """
        check_name(entry.name)
        published = entry

        def change(now: dict[str, Entry]) -> dict[str, Entry]:
            nonlocal published
            there = now.get(entry.name)
            if there is not None and there.revision != entry.revision and there.revision != replaces:
                raise AlreadyExistsError(
                    f"{entry.name!r} is there already, with revision {there.revision[:12]}….",
                    remedy="Choose another --name, or `choline-data rm` it first.",
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
        """Takes the dataset out of the catalog; its files stay until `gc`."""
        gone = self.entry(name)

        def change(now: dict[str, Entry]) -> dict[str, Entry]:
            if name not in now:
                raise UnknownDatasetError(name, now)
            return {key: value for key, value in now.items() if key != name}

        self._commit(change)
        return gone
