"""The catalog: which datasets there are, and which revision each has. A log of whole snapshots, one JSON file each.

A change writes the next number exclusively. `catalog/HEAD` hints at the newest number, so a reader needs no listing.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, fields
from typing import Any

import orjson

from choline_data.errors import (
    AlreadyExistsError,
    ConflictError,
    DamagedStoreError,
    HomeError,
    InvalidNameError,
    UnknownDatasetError,
)
from choline_data.home import Home

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,127}")
_TRIES = 50


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

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Entry:
        """The entry that `asdict` gave; keys of a newer version are left out."""
        known = {f.name for f in fields(cls)}
        kept: dict[str, Any] = {key: value for key, value in raw.items() if key in known}
        kept |= {key: tuple(kept[key]) for key in ("tags", "earlier") if key in kept}
        return cls(**kept)


class Catalog:
    """The datasets of a home. Every read sees one whole snapshot."""

    def __init__(self, home: Home) -> None:
        self.home = home

    def _name(self, number: int) -> str:
        return f"catalog/{number:08d}.json"

    def newest(self) -> int:
        """The number of the newest snapshot; 0 where there is none."""
        number = 0
        if self.home.exists("catalog/HEAD"):
            hint = self.home.read("catalog/HEAD").strip()
            number = int(hint) if hint.isdigit() else 0
            if number and not self.home.exists(self._name(number)):
                number = 0
        while self.home.exists(self._name(number + 1)):
            number += 1
        return number

    def entries(self, number: int | None = None) -> dict[str, Entry]:
        """The datasets by name, in order of name."""
        number = self.newest() if number is None else number
        if not number:
            return {}
        try:
            raw = orjson.loads(self.home.read(self._name(number)))
            return {name: Entry.from_json(entry) for name, entry in sorted(raw["datasets"].items())}
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
            raise DamagedStoreError(
                f"Catalog snapshot {number} of {self.home.location} can't be read.",
                remedy=f"Remove catalog/{number:08d}.json to go back to the one before.",
            ) from error

    def entry(self, name: str) -> Entry:
        """The dataset of this name; UnknownDatasetError, with the nearest, where there is none."""
        entries = self.entries()
        if name not in entries:
            raise UnknownDatasetError(name, entries)
        return entries[name]

    def _commit(self, change: Callable[[dict[str, Entry]], dict[str, Entry]]) -> None:
        for _ in range(_TRIES):
            number = self.newest()
            after = change(self.entries(number))
            body = orjson.dumps(
                {"version": 1, "datasets": {name: asdict(entry) for name, entry in sorted(after.items())}}
            )
            if self.home.create(self._name(number + 1), body):
                with suppress(HomeError):  # the snapshot is there, and readers find it without the hint
                    self.home.hint("catalog/HEAD", str(number + 1).encode())
                return
        raise ConflictError("Other writers keep changing the catalog.", remedy="Try again.")

    def publish(self, entry: Entry, *, replaces: str | None = None) -> Entry:
        """Makes `entry` the dataset of its name.

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

        self._commit(change)
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
