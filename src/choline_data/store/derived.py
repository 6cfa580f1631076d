"""What a home keeps because somebody asked for it, and can make again: its quota, its eviction by last use, its collection.

=============================== ===================================================================
selections/REVISION/*.arrow      the rows that a `where` keeps
ids/REVISION.index               the index of a revision's ids
tokens/REVISION/KEY/bfd-*        an index of packed rows
tokens/REVISION/KEY/             tokens that were made on request: the folder has a file `on-request`
=============================== ===================================================================

Tokens of `choline-data tokenize` are not among them. The quota holds for the whole home, and each process that writes
keeps it: before it writes, it lists what there is and removes what was used least lately. When something was used is the
modification time that the storage itself gives: a local file is touched; an object store has a small object under `used/`
that is written again. Times are only compared with times of the same storage, never with a host's clock.

What is read whole (a selection, an index) may be evicted at any time. Tokens on request are mapped where the home is
local: those that were used in the last `MAPPED_SECONDS` stay, and a stream that goes on marks them again. What was evicted
is made again when it is next needed. A home that can't be written is served without all this.
"""

from __future__ import annotations

import contextlib
import os
import re
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field

from choline_data.errors import HomeError, InvalidOptionError, LimitError, UnavailableError
from choline_data.places.home import Home

BYTES, FILES = 32 << 30, 10_000
TOKENS_BYTES = 256 << 20  # of a dataset that is tokenized on request
VARIABLE = "CHOLINE_DATA_DERIVED_BYTES"
ON_REQUEST = "on-request"
MAPPED_SECONDS = 900.0
GC_SECONDS = 900.0
_MARK_SECONDS = 300.0  # how long a use is not marked again
_BLIND_WRITES = 16  # so many are written on the last listing's word
_FULL = 0.9  # what is left of the quota once something had to go
_SINGLE = re.compile(r"(?:selections/([0-9a-f]{64})/[^/]+\.arrow|ids/([0-9a-f]{64})\.index)")
_TOKENS = re.compile(r"tokens/([0-9a-f]{64})/([0-9a-f]+)/([^/]+)")


@dataclass(frozen=True)
class Item:
    """Something derived: its files in the order in which they are removed, what makes it seen first."""

    revision: str
    files: tuple[str, ...]
    size: int
    used: float  # by the storage's time
    mapped: bool = False

    @property
    def name(self) -> str:
        """What it is called: its first file."""
        return self.files[0]


@dataclass
class Derived:
    """The quota of a home, as one process keeps it."""

    limit: int = BYTES
    files: int = FILES
    tokens: int = TOKENS_BYTES
    wait: float | None = None  # for another thread's making; None for as long as it takes
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _making: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _marked: dict[str, float] = field(default_factory=dict, repr=False)
    _known: tuple[int, int, int] | None = None  # bytes and items of the last listing and what came since; writes since

    def room(self, home: Home, size: int) -> bool:
        """Whether `size` bytes more may be kept, once what was used least lately has gone."""
        if size > self.limit:
            return False
        with self._lock:
            bytes_, count, writes = self._known or (0, 0, _BLIND_WRITES)
            if writes >= _BLIND_WRITES or bytes_ + size > self.limit or count + 1 > self.files:
                left = self._trimmed(home, size)
                bytes_, count, writes = sum(item.size for item in left), len(left), 0
            if bytes_ + size > self.limit or count + 1 > self.files:
                self._known = None
                return False
            self._known = bytes_ + size, count + 1, writes + 1
        return True

    def _trimmed(self, home: Home, size: int) -> list[Item]:
        """What is left once there is room for `size` bytes."""
        left = items(home)
        total = sum(item.size for item in left)
        if total + size <= self.limit and len(left) < self.files:
            return left
        for item in above(home, left, max(int(self.limit * _FULL) - size, 0), int(self.files * _FULL)):
            with _where_allowed():
                remove(home, item)
                left.remove(item)
        return left

    def mark(self, home: Home, name: str) -> None:
        """Says that a derived object is used now; at most once in a few minutes, and never an error."""
        now = time.monotonic()
        if now - self._marked.get(name, -_MARK_SECONDS) < _MARK_SECONDS:
            return
        if len(self._marked) >= self.files:
            self._marked.clear()
        self._marked[name] = now
        with _where_allowed():
            if home.local:
                os.utime(home.path(name))
            else:
                home.hint(f"used/{name}", b"")

    @property
    def patience(self) -> float:
        """Seconds that who makes something waits for `gc` to end."""
        return GC_SECONDS if self.wait is None else self.wait

    @contextlib.contextmanager
    def making(self, what: str) -> Iterator[None]:
        """One thread at a time makes something big; UnavailableError for who would wait too long."""
        if not self._making.acquire(timeout=-1 if self.wait is None else self.wait):
            raise UnavailableError(f"{what} are being made for another request.", remedy="Ask again in a minute.")
        try:
            yield
        finally:
            self._making.release()


class _where_allowed:
    """Leaves the block where the home may only be read, is full, or can't be reached; other errors pass."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, HomeError | OSError | NotImplementedError)


def of(home: Home) -> Derived:
    """The quota of this home: that of the server, or of `CHOLINE_DATA_DERIVED_BYTES`."""
    if home.derived is None:
        text = os.environ.get(VARIABLE, "")
        if text and not (text.isascii() and text.isdigit()):
            raise InvalidOptionError(f"{VARIABLE} is {text!r}.", remedy="Give a number of bytes.", option=VARIABLE)
        home.derived = Derived(int(text) if text else BYTES)
    kept: Derived = home.derived
    return kept


def kept(home: Home, size: int, write: Callable[[], object]) -> bool:
    """Writes something derived where the quota and the home allow it; False where not, and nothing is seen of it."""
    if not of(home).room(home, size):
        return False
    with _where_allowed():
        write()
        return True
    return False


def room_for_tokens(home: Home, size: int) -> None:
    """LimitError where tokens of this size can't be kept on request."""
    quota = of(home)
    if not quota.room(home, size):
        raise LimitError(
            f"The home has no room for {size} bytes of tokens that are made on request.",
            remedy="Run `choline-data tokenize`, whose tokens need none, or raise --limit derived_bytes=… on the server, "
            f"{VARIABLE} without one.",
            setting="derived_bytes",
            limit=quota.limit,
        )


def items(home: Home) -> list[Item]:
    """Everything derived that the home has, least lately used first."""
    found: dict[str, tuple[int, float]] = {}
    for folder in ("selections", "ids", "tokens") if home.local else ("selections", "ids", "tokens", "used"):
        found |= home.listed(folder)
    out: list[Item] = []
    folders: dict[str, list[str]] = {}
    for name in found:
        single = _SINGLE.fullmatch(name)
        if name.startswith("used/"):
            if name.removeprefix("used/") not in found:  # of what is gone
                out.append(Item("", (name,), 0, found[name][1]))
        elif single:
            out.append(_item(single.group(1) or single.group(2), [name], found))
        elif _TOKENS.fullmatch(name):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
    for folder, names in folders.items():
        revision = folder.split("/")[1]
        if f"{folder}/{ON_REQUEST}" in names:
            order = sorted(names, key=lambda name: (not name.endswith("/meta.json"), name.endswith(ON_REQUEST), name))
            out.append(_item(revision, order, found, mapped=home.local))
            continue
        packed: dict[str, list[str]] = {}
        for name in names:
            if "/bfd-" in name:
                packed.setdefault(name.rpartition(".")[0], []).append(name)
        out += [_item(revision, sorted(files, reverse=True), found) for files in packed.values()]  # .json before .bin
    return sorted(out, key=lambda item: (item.used, item.name))


def _item(revision: str, names: list[str], found: dict[str, tuple[int, float]], *, mapped: bool = False) -> Item:
    times = [found[name][1] for name in names] + [found[f"used/{name}"][1] for name in names if f"used/{name}" in found]
    return Item(revision, tuple(names), sum(found[name][0] for name in names), max(times), mapped)


def above(home: Home, listed: Iterable[Item], limit: int, files: int) -> Iterator[Item]:
    """Of these items, least lately used first, those that have to go for the rest to have `limit` bytes."""
    left = list(listed)
    total, count = sum(item.size for item in left), len(left)
    now = _now(home) if any(item.mapped for item in left) else 0.0
    for item in left:
        if total <= limit and count <= files:
            return
        if item.mapped and now - item.used < MAPPED_SECONDS:
            continue
        total, count = total - item.size, count - 1
        yield item


def collectable(home: Home, revisions: Collection[str]) -> list[Item]:
    """What `gc` removes: what is of none of these revisions, and what is above the quota."""
    listed, quota = items(home), of(home)
    gone = [item for item in listed if item.revision not in revisions]
    left = [item for item in listed if item.revision in revisions]
    return gone + list(above(home, left, quota.limit, quota.files))


def remove(home: Home, item: Item) -> None:
    """Removes an item's files, in their order; one that another process has removed meanwhile is no error."""
    for name in item.files:
        for each in (name,) if home.local else (name, f"used/{name}"):
            with contextlib.suppress(FileNotFoundError):
                home.remove(each)
    if home.local:
        with contextlib.suppress(OSError):  # others may have put something into it
            os.rmdir(os.path.dirname(home.path(item.name)))


def _now(home: Home) -> float:
    """The time of a local home's storage: that of a file which is written now; 0 where none can be written."""
    with _where_allowed():
        staged = home.staged()
        try:
            with open(staged, "wb") as file:
                return os.fstat(file.fileno()).st_mtime
        finally:
            with contextlib.suppress(OSError):
                os.unlink(staged)
    return 0.0
