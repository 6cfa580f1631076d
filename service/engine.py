"""Opens recipes and makes encoded messages, with threads and caches that all streams of a server process share.

The rows of one reader have the numbers 0, 1, 2 …, called indexes. Messages begin and end at fixed indexes. So readers
with the same recipe and the same positions share messages, wherever they began.
"""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

import pyarrow as pa

from choline_data.columns.ipc import Message
from choline_data.errors import InvalidOptionError, OutOfRangeError, RecipeMismatchError
from choline_data.order.cursor import Cursor
from choline_data.order.lanes import Lane
from choline_data.order.recipe import Recipe
from choline_data.places.home import Home
from choline_data.places.mapped import mark, same
from choline_data.process.memory import Sweeper
from choline_data.process.pages import PAGES
from choline_data.process.work import Work
from choline_data.service import frames
from choline_data.service.audit import CURRENT
from choline_data.service.lane_requests import is_far
from choline_data.service.limits import Limits, bounds, limit_error, too_large
from choline_data.service.metrics import ServerMetrics
from choline_data.service.opened import ROWS_IN_LOOP, Gathered, MessageCache, Opened
from choline_data.service.opening import Openings
from choline_data.store import Catalog, Entry
from choline_data.store.windows import Store
from choline_data.streams import wire
from choline_data.streams.sample_stream import SampleStream
from choline_data.views import open_stream

T = TypeVar("T")
MIN_MESSAGE, MAX_MESSAGE = 64 << 10, wire.MAX_BYTES
# limit for the JSON of the recipes that the server remembers; a request may name such a recipe by its digest
RECIPE_BYTES = 2 << 20
COLUMNS = 64
DRAIN_SECONDS = 1.0  # how many seconds requests may still open streams when the server drains
OPENED = 128
CATALOG_SECONDS = 2.0
FIREHOSE, FLIGHT = "firehose", "flight"


class Engine:
    """Opens the streams of recipes, and makes their messages, for all streams of a process."""

    def __init__(self, home: Home, limits: Limits, metrics: ServerMetrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self.catalog = Catalog(home)
        # The row orders of windows take up to a quarter of `cache_bytes` in addition.
        self.store = Store(home, cache_bytes=limits.memory // 2)
        self._messages = MessageCache(limits.memory * 3 // 8)
        # for each group of equal messages, the number of streams that read them
        self._reading: Counter[tuple[object, ...]] = Counter()
        self._making: dict[tuple[object, ...], asyncio.Future[tuple[frames.FramedMessage, ...]]] = {}
        self._recipes: OrderedDict[str, tuple[Recipe, int]] = OrderedDict()
        self._recipe_bytes = 0
        self._opened: OrderedDict[tuple[object, ...], Opened] = OrderedDict()
        self._entries: tuple[int, dict[str, Entry]] = (-1, {})
        self._looking = threading.Lock()
        self._looked = -CATALOG_SECONDS
        self._lock = threading.Lock()
        threads = 1 if home.local else limits.read_threads
        self._readers = ThreadPoolExecutor(threads, thread_name_prefix="choline-read")
        self._makers = ThreadPoolExecutor(threads, thread_name_prefix="choline-make")
        self._near = 0  # number of streams that are read now and whose messages are cheap to make
        self._held = 0  # bytes of opened streams
        # bytes of opened streams that were garbage-collected, to subtract from `_held`
        self._gone: deque[int] = deque()
        self._closed = False

        self.sweeper = Sweeper(self._makers.submit)

        def openings(name: str, threads: int, a_caller: int) -> Openings:
            return Openings(
                name, threads, a_caller, limits.open_timeout, bounds(limits), lambda: bool(self._reading), self.sweeper
            )

        threads = limits.open_threads if home.local else limits.read_threads
        self._openings = openings("choline-open", threads, max(threads // 2, 1))
        self._lookups = openings("choline-look", 2 if home.local else limits.read_threads, 1 if home.local else 2)

    def close(self) -> None:
        """Releases the threads."""
        self._closed = True
        for pool in (self._readers, self._makers):
            pool.shutdown(wait=False, cancel_futures=True)
        for openings in (self._openings, self._lookups):
            openings.close()

    def drain(self) -> None:
        """Cancels requests that still open streams after DRAIN_SECONDS, or after a quarter of `drain` if that is shorter."""
        asyncio.get_running_loop().call_later(min(DRAIN_SECONDS, self.limits.drain / 4), self._openings.call_off)

    async def opening(self, work: Callable[..., T], *arguments: object, **options: object) -> T:
        """Runs work that opens, resolves or gathers, in a thread.

        The work waits for the turn of its caller. Waiting and work together may take `open_timeout` seconds.
        """
        return await self._openings.run(_caller(), partial(work, *arguments, **options))

    async def looking(self, work: Callable[..., T], *arguments: object, **options: object) -> T:
        """Runs work that only reads the catalog, in a thread. It does not wait for the work of `opening`."""
        return await self._lookups.run(_caller(), partial(work, *arguments, **options))

    async def aside(self, work: Callable[..., T], *arguments: object) -> T:
        """Runs work that converts a message into another format, in a separate thread."""
        return await asyncio.get_running_loop().run_in_executor(self._makers, partial(work, *arguments))

    def entries(self, *, now: bool = False) -> dict[str, Entry]:
        """Returns the catalog's datasets. They are read again only if there is a newer snapshot. In a remote home, the server
        looks for a newer snapshot at most once in CATALOG_SECONDS, even if many ranks begin together. With `now` it looks at once:
        callers set `now` when they do not find a dataset or a revision.
        """
        with self._looking:
            began = time.monotonic()
            if now or self.catalog.home.local or began - self._looked >= CATALOG_SECONDS:
                number = self.catalog.newest()
                if number != self._entries[0]:
                    self._entries = (number, self.catalog.entries(number))
                self._looked = began
            return self._entries[1]

    def remember(self, recipe: Recipe) -> Recipe:
        """Keeps the recipe, so that later requests can name it by its digest. Raises RequestTooLargeError if it has too
        many sources.
        """
        if len(recipe.sources) > self.limits.sources:
            raise too_large("sources", self.limits.sources, f"The mix has {len(recipe.sources)} sources.")
        size = len(recipe.to_json())
        with self._lock:
            if recipe.digest not in self._recipes:
                self._recipe_bytes += size
            self._recipes[recipe.digest] = (recipe, size)
            self._recipes.move_to_end(recipe.digest)
            while self._recipe_bytes > RECIPE_BYTES and len(self._recipes) > 1:
                _, (_, least) = self._recipes.popitem(last=False)
                self._recipe_bytes -= least
        return recipe

    def recipe(self, raw: bytes, digest: str) -> Recipe:
        """Returns the recipe that a request contains or names by its digest."""
        if bool(raw) == bool(digest):
            raise InvalidOptionError(
                "A request has either recipe_json or recipe_digest.",
                remedy="Set one of them.",
                option="recipe_json",
            )
        if raw:
            if len(raw) > self.limits.recipe_bytes:
                raise too_large("recipe_bytes", self.limits.recipe_bytes, f"The recipe has {len(raw)} bytes.")
            return self.remember(Recipe.from_json(raw))
        with self._lock:
            known = self._recipes.get(digest)
        if known is None:
            raise RecipeMismatchError(
                f"This server does not know recipe {digest[:12]}….",
                remedy="Send recipe_json.",
                found=digest[:64],
            )
        return known[0]

    def open(self, recipe: Recipe, columns: Sequence[str] = ()) -> Opened:
        """Opens the recipe's stream with the columns id, dataset and `columns`. An empty sequence means all columns."""
        if len(columns) > COLUMNS:
            raise InvalidOptionError(
                f"The request names {len(columns)} columns.", remedy=f"At most {COLUMNS}.", option="columns"
            )
        wanted = tuple(sorted(set(columns))) or None
        key = (recipe.digest, wanted)
        with self._lock:
            cached = self._opened.get(key)
            if cached is not None and cached.stream.lost:
                del self._opened[key]
            elif cached is not None:
                self._opened.move_to_end(key)
        if cached is not None:
            # The stream may have been opened days ago, so its use is recorded again, for `gc`.
            self.store.mark_read(recipe)
            return cached
        opened = Opened(open_stream(self.store, recipe, wanted), wanted)
        with self._lock:
            cached = self._opened.setdefault(key, opened)
        if cached is opened:
            self._holds(opened)
        return cached

    def _holds(self, opened: Opened) -> None:
        """Counts the bytes of an opened stream until it is garbage-collected. Raises LimitError if open streams hold too many."""
        with self._lock:
            while self._gone:
                self._held -= self._gone.popleft()
            self._held += opened.nbytes
            weakref.finalize(opened, self._gone.append, opened.nbytes).atexit = False
            while len(self._opened) > OPENED or (self._held > self.limits.opened_bytes and len(self._opened) > 1):
                self._opened.popitem(last=False)
                while self._gone:
                    self._held -= self._gone.popleft()
        if self._held > self.limits.opened_bytes and self._held > opened.nbytes:
            with self._lock:
                self._opened.pop((opened.digest, opened.columns), None)
            raise limit_error("opened_bytes", self.limits.opened_bytes, "The open streams use too much memory.")

    @staticmethod
    def start_of(recipe: Recipe, length: int | None, cursor: str, position: int) -> int:
        """Returns the position at which a request begins: the position of its cursor if it has a cursor, else `position`."""
        if cursor:
            if position:
                raise InvalidOptionError(
                    "A request has either start_position or cursor.",
                    remedy="Set one of them.",
                    option="cursor",
                )
            at = Cursor.decode(cursor)
            recipe.check_digest(at.recipe, at.position)
            position = at.position
        if not 0 <= position < 1 << 62 or (length is not None and position > length):
            raise OutOfRangeError(
                f"Position {position} lies outside the stream.",
                remedy=f"It has {length} positions." if length is not None else "Positions begin with 0.",
            )
        return position

    @contextmanager
    def reading(self, opened: Opened, lane: Lane, face: str) -> Iterator[None]:
        """Counts a stream while it is read.

        Messages are cached only if several streams can use them: otherwise the cache wastes memory.
        """
        key = (opened.digest, opened.columns, lane, face)
        self._reading[key] += 1
        near = not self._alone(opened, lane, 0, 1 << 10)
        self._near += near
        try:
            yield
        finally:
            self._near -= near
            self._reading[key] -= 1
            if not self._reading[key]:
                del self._reading[key]

    def at_once(
        self,
        opened: Opened,
        lane: Lane,
        start: int,
        stop: int,
        end: int | None,
        gathered: Gathered,
        *,
        sequence: int,
        face: str,
    ) -> tuple[frames.FramedMessage, ...] | None:
        """Returns the messages of the reader's samples start … stop-1 if they are cached, or cheap to make from memory.
        Otherwise returns None, and the caller uses `messages`, which makes them in a thread. Passing work to a thread
        takes about as long as making a message. A stream that reads on picks samples for several messages at a time, up
        to `end`.
        """
        key = (opened.digest, opened.columns, lane, start, stop, face)
        cached = self._messages.get(key)
        if cached is not None:
            self.metrics.cache_hits.inc()
            return cached
        if (
            key in self._making
            or start >= stop
            or stop - start > ROWS_IN_LOOP
            or self._alone(opened, lane, start, stop)
        ):
            return None
        if opened.packed and not all(file.unchanged() for file in opened.files):
            return None  # A file has changed. `messages` checks it in a thread.
        if opened.packed:
            self.metrics.cache_misses.inc()
            rows = opened.stream.read_at(lane.positions(start, stop - start))
            return self._cache(key, tuple(self._framed(opened, lane, start, sequence, face, rows)))
        if opened.direct is None:
            return None
        columns = gathered.part(start, stop)
        if columns is None:
            alone = self._reading[(*key[:3], face)] == 1
            far = gathered.reach(start, stop, end, opened) if alone else stop
            # Even if some windows of these messages are not loaded, those of the first message may be.
            if not any(self._gather(opened.direct, lane, start, to, gathered) for to in dict.fromkeys((far, stop))):
                return None
            columns = gathered.part(start, stop)
            assert columns is not None
        self.metrics.cache_misses.inc()
        arrays = [column.to_arrow() for column in columns]
        message = opened.writer.message(pa.record_batch(arrays, schema=opened.stream.wire_schema))
        if message.size > MAX_MESSAGE:
            return None
        framed = self._frame(opened, lane, start, stop - start, sequence, face, message)
        # If a file has changed, the result is None, and `messages` checks the file in a thread.
        return self._cache(key, (framed,)) if gathered.whole() else None

    def _gather(self, stream: SampleStream, lane: Lane, start: int, stop: int, gathered: Gathered) -> bool:
        """Gathers these samples if their windows are in memory, and starts to load the windows that come next.

        Returns False if a window is missing, or if reading failed because a file has changed.
        """
        located = stream.locate(lane.positions(start, stop - start))
        if not stream.ready(located):
            return False
        since, files = mark(), located.files
        try:
            columns = stream.gather(located)
        except Exception:
            if same(files, since):
                raise
            return False
        gathered.take(start, stop, columns, files, since)
        for load in stream.upcoming(located):
            self._readers.submit(load)
        return True

    def _cache(
        self, key: tuple[object, ...], messages: tuple[frames.FramedMessage, ...]
    ) -> tuple[frames.FramedMessage, ...]:
        """Returns the messages, and caches them if several streams can use them."""
        if self._reading[(*key[:3], key[5])] > 1:
            self._messages.put(key, messages)
        return messages

    async def messages(
        self,
        opened: Opened,
        lane: Lane,
        start: int,
        stop: int,
        end: int | None,
        gathered: Gathered,
        *,
        sequence: int,
        face: str,
    ) -> tuple[frames.FramedMessage, ...]:
        """Makes the messages of the reader's samples start … stop-1 in a thread, once for all streams that wait for them. A stream
        whose positions lie far apart gathers samples for several messages at a time, like in `at_once`.
        """
        key = (opened.digest, opened.columns, lane, start, stop, face)
        making = self._making.get(key)
        if making is None:
            self.metrics.cache_misses.inc()
            loop = asyncio.get_running_loop()
            apart = opened.direct is None or self._alone(opened, lane, start, stop)
            threads = self._makers if apart else self._readers
            read = partial(opened.stream.read_at, lane.positions(start, stop - start))
            if apart and opened.direct is not None and self._reading[(*key[:3], face)] == 1:
                far = gathered.reach(start, stop, end, opened)
                read = partial(gathered.read, opened.direct, lane, start, stop, far)
            making = loop.run_in_executor(threads, self._make, opened, lane, start, read, sequence, face)
            self._making[key] = making
            making.add_done_callback(partial(self._made, key))
        else:
            self.metrics.cache_hits.inc()
        return await asyncio.shield(making)

    @staticmethod
    def _alone(opened: Opened, lane: Lane, start: int, stop: int) -> bool:
        """Returns whether making a message of this stream takes so long that other streams must not wait."""
        return opened.many or is_far(lane, start, stop)

    def _is_crowded(self) -> bool:
        """Returns whether streams with cheap messages are being read. Then expensive work pauses at times."""
        return self._near > 0

    def _made(self, key: tuple[object, ...], making: asyncio.Future[tuple[frames.FramedMessage, ...]]) -> None:
        self._making.pop(key, None)
        if not making.cancelled() and making.exception() is None:
            self._cache(key, making.result())

    def _make(
        self,
        opened: Opened,
        lane: Lane,
        start: int,
        read: Callable[[], pa.RecordBatch],
        sequence: int,
        face: str,
    ) -> tuple[frames.FramedMessage, ...]:
        with Work({}, self._is_crowded).under_way():
            batch = read()
        self.metrics.window_loads(self.store.windows.loads, self.store.windows.bytes_loaded)
        return tuple(self._framed(opened, lane, start, sequence, face, batch))

    def _framed(
        self, opened: Opened, lane: Lane, start: int, sequence: int, face: str, batch: pa.RecordBatch
    ) -> list[frames.FramedMessage]:
        message = opened.writer.message(batch)
        rows = batch.num_rows
        if message.size > MAX_MESSAGE and rows > 1:
            opened.settle(rows, message.size)
            half = rows // 2
            first = self._framed(opened, lane, start, sequence, face, batch.slice(0, half))
            return first + self._framed(opened, lane, start + half, sequence + len(first), face, batch.slice(half))
        if message.size > self.limits.row_bytes + (64 << 10) and rows == 1:
            raise too_large(
                "row_bytes", self.limits.row_bytes, f"The sample at position {lane.position(start)} is too big."
            )
        return [self._frame(opened, lane, start, rows, sequence, face, message)]

    @staticmethod
    def _frame(
        opened: Opened, lane: Lane, start: int, rows: int, sequence: int, face: str, message: Message
    ) -> frames.FramedMessage:
        opened.settle(rows, message.size)
        PAGES.look()
        after = lane.position(start + rows)
        if opened.stream.length is not None:
            after = min(after, opened.stream.length)
        cursor = Cursor(opened.digest, after).encode()
        first_position = lane.position(start)
        if face == FLIGHT:
            frame = frames.flight_frame(message, cursor=cursor)
            return frames.FramedMessage(frame, rows, start, start + rows, 0, (0, 0), first_position, cursor, 0)
        return frames.batch_frame(
            message.parts,
            size=message.size,
            rows=rows,
            start=start,
            first_position=first_position,
            cursor=cursor,
            checksum=message.checksum(),
            sequence=sequence,
        )


def _caller() -> str:
    """Returns the name under which a request takes turns: the id of its token, or else its connection."""
    request_in_progress = CURRENT.get()
    if request_in_progress is None:
        return ""
    return (
        request_in_progress.principal
        if request_in_progress.principal not in ("", "anyone")
        else request_in_progress.peer
    )
