"""Derived data of a home: objects that are made on request and can be rebuilt. This module applies their quota, and evicts and
collects them.

=============================== ===================================================================
selections/REVISION/*.arrow      the rows that a `where` keeps
ids/REVISION.index               the index of a revision's ids
tokens/REVISION/KEY/bfd-*        an index of packed rows
tokens/REVISION/KEY/             tokens that were made on request: the folder has a file `on-request`
=============================== ===================================================================

Tokens of `choline-data tokenize` are not derived data. The quota is for the whole home, and each process that writes
observes it: before it writes, it removes the least recently used objects if there is no room. The time of an object's last use is
stored as a modification time: a local file is touched; in an object store, a small object under `used/` is written again. Times
are only compared with times of the same storage, never with a host's clock.

Objects that are read as a whole (selections, indexes) may be evicted at any time. Tokens on request are mapped if the
home is local. They are not evicted within `MAPPED_SECONDS` after their last use, and an active stream renews that time.
An evicted object is made again when it is needed. If a home is read-only, streams work without stored derived data.
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
TOKENS_BYTES = 256 << 20  # limit for a dataset that is tokenized on request
VARIABLE = "CHOLINE_DATA_DERIVED_BYTES"
ON_REQUEST = "on-request"
MAPPED_SECONDS = 900.0
GC_SECONDS = 900.0
MARK_SECONDS = 300.0  # the shortest time between two records that an object was used
_BLIND_WRITES = 16  # after this many writes, the home is listed again
_FULL = 0.9  # an eviction continues until only this fraction of the quota is used
_SINGLE = re.compile(r"(?:selections/([0-9a-f]{64})/[^/]+\.arrow|ids/([0-9a-f]{64})\.index)")
_TOKENS = re.compile(r"tokens/([0-9a-f]{64})/([0-9a-f]+)/([^/]+)")


@dataclass(frozen=True)
class Item:
    """A derived object with its files, in the order in which they are removed. The first file is the one that readers
    look for.
    """

    revision: str
    files: tuple[str, ...]
    size: int
    used: float  # time of the last use, by the storage's clock
    mapped: bool = False

    @property
    def name(self) -> str:
        """The name of the object's first file."""
        return self.files[0]


@dataclass
class DerivedQuota:
    """The quota for the derived data of a home, as one process applies it. Derived data can be computed again."""

    limit: int = BYTES
    files: int = FILES
    tokens: int = TOKENS_BYTES
    wait: float | None = None  # seconds to wait for another thread that makes a large object; None for no limit
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _making: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _marked: dict[str, float] = field(default_factory=dict, repr=False)
    # (bytes of all items, number of items, writes since the home was last listed)
    _known: tuple[int, int, int] | None = None

    def room(self, home: Home, size: int) -> bool:
        """Returns whether `size` more bytes may be stored. Evicts the least recently used items first if that is
        necessary.
        """
        if size > self.limit:
            return False
        with self._lock:
            bytes_, count, writes = self._known or (0, 0, _BLIND_WRITES)
            if writes >= _BLIND_WRITES or bytes_ + size > self.limit or count + 1 > self.files:
                left = self._evict_for(home, size)
                bytes_, count, writes = sum(item.size for item in left), len(left), 0
            if bytes_ + size > self.limit or count + 1 > self.files:
                self._known = None
                return False
            self._known = bytes_ + size, count + 1, writes + 1
        return True

    def _evict_for(self, home: Home, size: int) -> list[Item]:
        """Evicts items until there is room for `size` bytes, if possible. Returns the remaining items."""
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
        """Records that a derived object is used now. Writes at most once in 300 seconds for each object.

        If the home is read-only, full or not reachable, nothing is recorded, and there is no error.
        """
        now = time.monotonic()
        if now - self._marked.get(name, -MARK_SECONDS) < MARK_SECONDS:
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
        """How many seconds, at most, the making of an object waits for `gc`."""
        return GC_SECONDS if self.wait is None else self.wait

    @contextlib.contextmanager
    def making(self, what: str) -> Iterator[None]:
        """Context manager: holds a lock, so that only one thread at a time makes large objects. Raises UnavailableError
        after `wait` seconds.
        """
        if not self._making.acquire(timeout=-1 if self.wait is None else self.wait):
            raise UnavailableError(f"{what} are being made for another request.", remedy="Ask again in a minute.")
        try:
            yield
        finally:
            self._making.release()


class _where_allowed:
    """Context manager: ignores the error of a home that is read-only, full or not reachable. Other errors pass."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        return isinstance(error, HomeError | OSError | NotImplementedError)


def of(home: Home) -> DerivedQuota:
    """Returns the quota of this home, set by the server or by `CHOLINE_DATA_DERIVED_BYTES`."""
    if home.derived is None:
        text = os.environ.get(VARIABLE, "")
        if text and not (text.isascii() and text.isdigit()):
            raise InvalidOptionError(f"{VARIABLE} is {text!r}.", remedy="Give a number of bytes.", option=VARIABLE)
        home.derived = DerivedQuota(int(text) if text else BYTES)
    quota: DerivedQuota = home.derived
    return quota


def kept(home: Home, size: int, write: Callable[[], object]) -> bool:
    """Calls `write` to store a derived object. Returns whether it was stored: False, without an error, if the quota has no
    room or the home can't be written.
    """
    if not of(home).room(home, size):
        return False
    with _where_allowed():
        write()
        return True
    return False


def room_for_tokens(home: Home, size: int) -> None:
    """Raises LimitError if the quota has no room for tokens of this size in bytes."""
    quota = of(home)
    if not quota.room(home, size):
        raise LimitError(
            f"The quota of the home has no room for {size} bytes of tokens that are made on request.",
            remedy="Run `choline-data tokenize` (its tokens do not count towards the quota), or raise the quota: "
            f"--limit derived_bytes=… on the server, "
            f"{VARIABLE} without one.",
            setting="derived_bytes",
            limit=quota.limit,
        )


def items(home: Home) -> list[Item]:
    """Returns all derived objects of the home, the least recently used first."""
    listed: dict[str, tuple[int, float]] = {}
    for folder in ("selections", "ids", "tokens") if home.local else ("selections", "ids", "tokens", "used"):
        listed |= home.listed(folder)
    out: list[Item] = []
    folders: dict[str, list[str]] = {}
    for name in listed:
        single = _SINGLE.fullmatch(name)
        if name.startswith("used/"):
            # the object itself was removed, and only its mark of use is left
            if name.removeprefix("used/") not in listed:
                out.append(Item("", (name,), 0, listed[name][1]))
        elif single:
            out.append(_item(single.group(1) or single.group(2), [name], listed))
        elif _TOKENS.fullmatch(name):
            folders.setdefault(name.rpartition("/")[0], []).append(name)
    for folder, names in folders.items():
        revision = folder.split("/")[1]
        if f"{folder}/{ON_REQUEST}" in names:
            order = sorted(names, key=lambda name: (not name.endswith("/meta.json"), name.endswith(ON_REQUEST), name))
            out.append(_item(revision, order, listed, mapped=home.local))
            continue
        packed: dict[str, list[str]] = {}
        for name in names:
            if "/bfd-" in name:
                packed.setdefault(name.rpartition(".")[0], []).append(name)
        # remove the .json files before the .bin files
        out += [_item(revision, sorted(files, reverse=True), listed) for files in packed.values()]
    return sorted(out, key=lambda item: (item.used, item.name))


def _item(revision: str, names: list[str], found: dict[str, tuple[int, float]], *, mapped: bool = False) -> Item:
    times = [found[name][1] for name in names] + [found[f"used/{name}"][1] for name in names if f"used/{name}" in found]
    return Item(revision, tuple(names), sum(found[name][0] for name in names), max(times), mapped)


def above(home: Home, listed: Iterable[Item], limit: int, files: int) -> Iterator[Item]:
    """Yields the items to remove, so that the other ones have at most `limit` bytes and `files` files.

    `listed` begins with the least recently used items. Items that an active stream may have mapped are not removed.
    """
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
    """Returns the items that `gc` removes: those whose revision is not in `revisions`, and those above the quota."""
    listed, quota = items(home), of(home)
    of_removed = [item for item in listed if item.revision not in revisions]
    left = [item for item in listed if item.revision in revisions]
    return of_removed + list(above(home, left, quota.limit, quota.files))


def remove(home: Home, item: Item) -> None:
    """Removes an item's files in order. A file that another process has removed already is not an error."""
    for name in item.files:
        for each in (name,) if home.local else (name, f"used/{name}"):
            with contextlib.suppress(FileNotFoundError):
                home.remove(each)
    if home.local:
        with contextlib.suppress(OSError):  # the folder may not be empty
            os.rmdir(os.path.dirname(home.path(item.name)))


def _now(home: Home) -> float:
    """Returns the present time of the clock of a local home's disk, from the time of a new file; 0 if no file can be
    written.
    """
    with _where_allowed():
        staged = home.new_staging_path()
        try:
            with open(staged, "wb") as file:
                return os.fstat(file.fileno()).st_mtime
        finally:
            with contextlib.suppress(OSError):
                os.unlink(staged)
    return 0.0
