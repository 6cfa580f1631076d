"""Windows of rows that readers share, and the open revisions of a home."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import pyarrow as pa

from choline_data.columns.gather import node_of
from choline_data.columns.parts import Parts
from choline_data.order import RowOrders
from choline_data.order.recipe import Recipe
from choline_data.places.home import Home
from choline_data.places.mapped import MappedFile
from choline_data.store import Revision, open_revision
from choline_data.store.retention import DAY, mark_read

if TYPE_CHECKING:
    from choline_data.tokens.allowed import Allowed


PICKS_BYTES = 32 << 20  # limit for the row orders of windows, for all streams of a store together


MARKED = 4096  # a `Store` remembers for this number of recipes when it last recorded that they were read


class Window:
    """The rows of one window of one source, as views into mapped or fetched blocks."""

    def __init__(self, schema: pa.Schema, columns: Mapping[str, Parts], files: Sequence[MappedFile]) -> None:
        self.files = tuple(dict.fromkeys(files))  # mapped files; callers must read `nodes` within `steady`
        self.nodes = {name: node_of(schema.field(name).type, parts) for name, parts in columns.items()}
        self.nbytes = sum(node.nbytes for node in self.nodes.values())
        self.opened_next = False  # whether a thread loads the next window, or has loaded it


class WindowCache:
    """A cache of windows for all streams of a process, bounded in bytes. Streams that share a window read it only once.

    `a_source` limits the number of windows for each source; 0 means no limit. Set it in a process with one reader. Such
    a reader only moves forward, and every epoch of a small source is a new window, so old windows would fill the
    memory.
    """

    def __init__(self, limit: int = 512 << 20, a_source: int = 0) -> None:
        self.limit = limit
        self._a_source = a_source
        self._of_source: dict[tuple[object, ...], deque[tuple[object, ...]]] = {}
        self.loads = 0
        self.bytes_loaded = 0
        self._held: OrderedDict[tuple[object, ...], Window] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._loading: dict[tuple[object, ...], threading.Event] = {}

    def cached(self, key: tuple[object, ...]) -> Window | None:
        """Returns the window with this key if it is in memory, else None."""
        with self._lock:
            return self._sound(key)

    def _sound(self, key: tuple[object, ...]) -> Window | None:
        """Returns the window with this key, or None. Drops a window with a damaged file, so that the file is opened
        again.
        """
        window = self._held.get(key)
        if window is not None and any(file.lost for file in window.files):
            self._bytes -= self._held.pop(key).nbytes
            return None
        if window is not None:
            self._held.move_to_end(key)
        return window

    def needs_loading(self, key: tuple[object, ...]) -> bool:
        """Returns whether the window is neither in memory nor being loaded."""
        with self._lock:
            return key not in self._held and key not in self._loading

    def get(self, key: tuple[object, ...], load: Callable[[], Window]) -> Window:
        """Returns the window with this key. If several threads request it at once, one calls `load` and the others
        wait.
        """
        while True:
            with self._lock:
                held = self._sound(key)
                if held is not None:
                    return held
                event = self._loading.get(key)
                if event is None:
                    self._loading[key] = threading.Event()
                    break
            event.wait(timeout=60)
        try:
            window = load()
            with self._lock:
                self.loads += 1
                self.bytes_loaded += window.nbytes
                self._held[key] = window
                self._bytes += window.nbytes
                self._evict(key)
            return window
        finally:
            with self._lock:
                self._loading.pop(key).set()

    @property
    def bytes(self) -> int:
        """The total size of the cached windows in bytes."""
        return self._bytes

    def _evict(self, key: tuple[object, ...]) -> None:
        """Drops the oldest window of this key's source if there are more than `a_source`, and the least recently used
        windows above `limit` bytes.
        """
        if self._a_source:
            windows = self._of_source.setdefault(key[:-2], deque())
            windows.append(key)
            if len(windows) > self._a_source:
                window = self._held.pop(windows.popleft(), None)
                self._bytes -= window.nbytes if window is not None else 0
        while self._bytes > self.limit and len(self._held) > 1:
            _, least = self._held.popitem(last=False)
            self._bytes -= least.nbytes


class Store:
    """The open revisions of a home and their windows. A process that reads streams has one `Store`."""

    def __init__(self, home: Home, *, cache_bytes: int = 512 << 20, windows_a_source: int = 0) -> None:
        self.home = home
        self.windows = WindowCache(cache_bytes, windows_a_source)
        self.picks = RowOrders(min(PICKS_BYTES, cache_bytes // 4))
        # the tokenizers that a recipe may name; None means all tokenizers that the user of this process may name
        self.tokenizers: Allowed | None = None
        self._revisions: dict[str, Revision] = {}
        self._marked: dict[str, float] = {}  # for each recipe, the earliest time at which its use is recorded again
        self._lock = threading.Lock()

    def revision(self, digest: str) -> Revision:
        """Returns the revision with this digest. It is opened only once."""
        with self._lock:
            revision = self._revisions.get(digest)
        if revision is None:
            revision = open_revision(self.home, digest)
            with self._lock:
                revision = self._revisions.setdefault(digest, revision)
        return revision

    def mark_read(self, recipe: Recipe) -> None:
        """Records that a stream of this recipe is read, so that `gc` keeps its revisions. Writes at most every 12 hours."""
        now = time.monotonic()
        if now < self._marked.get(recipe.digest, 0.0):
            return
        if len(self._marked) > MARKED:
            self._marked.clear()
        self._marked[recipe.digest] = now + DAY / 2
        mark_read(self.home, {source.revision for source in recipe.sources})
