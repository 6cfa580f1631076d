"""What a server process holds for all its streams: opened recipes, encoded messages, and the threads that make them.

A reader sees positions of its own rank as 0, 1, 2 …: its index. Messages are cut from the indexes on a fixed grid, so
readers of one recipe that are dealt alike share their encoded messages wherever they began.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

from choline_data import wire
from choline_data.columns import Column
from choline_data.cursor import Cursor
from choline_data.errors import InvalidOptionError, OutOfRangeError, RecipeMismatchError
from choline_data.home import Home
from choline_data.ipc import Encoder, Message, message_of
from choline_data.recipe import Recipe
from choline_data.service import frames
from choline_data.service.limits import Limits, reached
from choline_data.service.metrics import Metrics
from choline_data.store import Catalog, Entry
from choline_data.stream import Store, Stream
from choline_data.views import Readable, open_stream

T = TypeVar("T")
MIN_MESSAGE, MAX_MESSAGE = 64 << 10, wire.MAX_BYTES
MAX_ROWS = 1 << 16
GATHERED_AHEAD = 8  # messages
CATALOG_SECONDS = 2.0
FIREHOSE, FLIGHT = "firehose", "flight"


@dataclass(frozen=True)
class Deal:
    """How positions are dealt to ranks: step j is positions base + [j*G, (j+1)*G), rank r has its contiguous part."""

    rank: int = 0
    world: int = 1
    batch: int = 1
    base: int = 0

    @classmethod
    def of(cls, rank: int, world: int, batch: int, base: int = 0) -> Deal:
        """The deal that a request states; 0 for the defaults. One reader of all is the same deal at any batch."""
        world = world or 1
        if not 1 <= world <= 1 << 20 or not 0 <= rank < world:
            raise InvalidOptionError(
                f"rank {rank} of world_size {world} can't be.",
                remedy="world_size is 1 to 1048576, rank is 0 to world_size - 1.",
                option="rank",
            )
        if not 0 <= batch <= 1 << 24:
            raise InvalidOptionError(
                f"batch_size {batch} can't be.", remedy="batch_size is 0 to 16777216.", option="batch_size"
            )
        if base < 0:
            raise InvalidOptionError(
                f"base_position {base} can't be.", remedy="It is 0 or more.", option="base_position"
            )
        return cls() if world == 1 else cls(rank, world, batch or 1, base % (world * (batch or 1)))

    def positions(self, start: int, stop: int) -> np.ndarray[Any, np.dtype[np.int64]]:
        """The positions behind indexes start … stop-1."""
        index = np.arange(start, stop, dtype=np.int64)
        if self.world == 1:
            return index
        step, within = np.divmod(index, self.batch)
        return self.base + step * (self.world * self.batch) + self.rank * self.batch + within

    def position(self, index: int) -> int:
        """The position behind one index."""
        step, within = divmod(index, self.batch)
        return self.base + step * self.world * self.batch + self.rank * self.batch + within

    def index(self, position: int) -> int:
        """The first index whose position is not before `position`."""
        if position <= self.base:
            return 0
        step, within = divmod(position - self.base, self.world * self.batch)
        return step * self.batch + min(max(within - self.rank * self.batch, 0), self.batch)


class MessageCache:
    """Encoded messages in use, bounded in bytes."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held: OrderedDict[tuple[object, ...], tuple[frames.Framed, ...]] = OrderedDict()
        self._bytes = 0

    def get(self, key: tuple[object, ...]) -> tuple[frames.Framed, ...] | None:
        """The messages of this key, if they are held."""
        held = self._held.get(key)
        if held is not None:
            self._held.move_to_end(key)
        return held

    def put(self, key: tuple[object, ...], messages: tuple[frames.Framed, ...]) -> None:
        """Holds the messages; the ones least lately used go."""
        if key in self._held:
            return
        self._held[key] = messages
        self._bytes += sum(len(m.frame) for m in messages)
        while self._bytes > self.limit and len(self._held) > 1:
            _, gone = self._held.popitem(last=False)
            self._bytes -= sum(len(m.frame) for m in gone)


class Gathered:
    """Samples that one stream gathered for several messages: which, and a column for each field."""

    def __init__(self) -> None:
        self.start = self.stop = -1
        self._columns: list[Column] = []

    def take(self, start: int, stop: int, columns: list[Column]) -> None:
        """Holds these in place of what was held."""
        self.start, self.stop, self._columns = start, stop, columns

    def part(self, start: int, stop: int) -> list[Column] | None:
        """Samples start … stop-1, where all of them are held."""
        if not self.start <= start < stop <= self.stop:
            return None
        if (start, stop) == (self.start, self.stop):
            return self._columns
        return [column.part(start - self.start, stop - self.start) for column in self._columns]


class Opened:
    """A recipe opened for some columns: its stream, its schema as bytes, and how many rows make a message."""

    def __init__(self, stream: Readable, columns: tuple[str, ...] | None) -> None:
        self.stream = stream
        self.digest = stream.recipe.digest
        self.columns = columns
        self.schema_bytes = stream.schema.serialize().to_pybytes()
        self.encoder = Encoder(stream.wire_schema)
        self.direct = stream if isinstance(stream, Stream) else None  # moves memory alone once its windows are there
        self.packed = stream.recipe.view == "tokens"  # slices of mapped arrays: there is nothing to load
        self._row_bytes = max(stream.mean_row_bytes(), 1.0)
        self._settled = False

    def rows_a_message(self, target: int) -> int:
        """Rows so that a message has about `target` bytes: a power of two, by what rows came to so far."""
        rows = 1
        while rows < MAX_ROWS and rows * 1.5 * self._row_bytes <= target:
            rows *= 2
        return rows

    def settle(self, rows: int, size: int) -> None:
        """Takes the size of the first message for all that follow, so that the grid stays what it is."""
        if not self._settled and rows:
            self._settled = True
            self._row_bytes = max(size / rows, 1.0)


class Engine:
    """Turns recipes into messages for all streams of a process."""

    def __init__(self, home: Home, limits: Limits, metrics: Metrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self.catalog = Catalog(home)
        self.store = Store(home, cache_bytes=limits.memory * 2 // 3)
        self._messages = MessageCache(limits.memory // 3)
        self._reading: Counter[tuple[object, ...]] = Counter()  # streams that are dealt the same messages
        self._making: dict[tuple[object, ...], asyncio.Future[tuple[frames.Framed, ...]]] = {}
        self._recipes: OrderedDict[str, Recipe] = OrderedDict()
        self._opened: OrderedDict[tuple[object, ...], Opened] = OrderedDict()
        self._entries: tuple[int, dict[str, Entry]] = (-1, {})
        self._looking = threading.Lock()
        self._looked = -CATALOG_SECONDS
        self._lock = threading.Lock()
        self._readers = ThreadPoolExecutor(1 if home.local else limits.read_threads, thread_name_prefix="choline-read")
        self._openers = ThreadPoolExecutor(limits.read_threads, thread_name_prefix="choline-open")

    def close(self) -> None:
        """Lets the threads go."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._openers.shutdown(wait=False, cancel_futures=True)

    async def opening(self, work: Callable[..., T], *arguments: object, **options: object) -> T:
        """Runs what opens or resolves in a thread, within its time."""
        job = asyncio.get_running_loop().run_in_executor(self._openers, partial(work, *arguments, **options))
        try:
            return await asyncio.wait_for(job, self.limits.open_timeout)
        except TimeoutError as error:
            raise reached("open_timeout", self.limits.open_timeout, "Opening took too long.") from error

    def entries(self, *, now: bool = False) -> dict[str, Entry]:
        """The catalog's datasets as they are now; read again only when there is a newer snapshot.

        A remote home is asked once in CATALOG_SECONDS, however many ranks begin at once, and `now` where what is sought
        is not there.
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
        """Keeps the recipe so that it can be asked for by its digest."""
        if len(recipe.sources) > self.limits.sources:
            raise reached("sources", self.limits.sources, f"The mix has {len(recipe.sources)} sources.")
        with self._lock:
            self._recipes[recipe.digest] = recipe
            self._recipes.move_to_end(recipe.digest)
            while len(self._recipes) > 1024:
                self._recipes.popitem(last=False)
        return recipe

    def recipe(self, raw: bytes, digest: str) -> Recipe:
        """The recipe that a request carries or names."""
        if bool(raw) == bool(digest):
            raise InvalidOptionError(
                "A request has either recipe_json or recipe_digest.",
                remedy="Set one of them.",
                option="recipe_json",
            )
        if raw:
            if len(raw) > self.limits.recipe_bytes:
                raise reached("recipe_bytes", self.limits.recipe_bytes, f"The recipe has {len(raw)} bytes.")
            return self.remember(Recipe.from_json(raw))
        with self._lock:
            found = self._recipes.get(digest)
        if found is None:
            raise RecipeMismatchError(
                f"This server does not know recipe {digest[:12]}….",
                remedy="Send recipe_json.",
                found=digest[:64],
            )
        return found

    def open(self, recipe: Recipe, columns: Sequence[str] = ()) -> Opened:
        """The recipe's stream with these columns beside id and dataset; all of them for none."""
        wanted = tuple(sorted(set(columns))) or None
        key = (recipe.digest, wanted)
        with self._lock:
            found = self._opened.get(key)
            if found is not None:
                self._opened.move_to_end(key)
                return found
        opened = Opened(open_stream(self.store, recipe, wanted), wanted)
        with self._lock:
            opened = self._opened.setdefault(key, opened)
            while len(self._opened) > 128:
                self._opened.popitem(last=False)
        return opened

    @staticmethod
    def start_of(recipe: Recipe, length: int | None, cursor: str, position: int) -> int:
        """The position that a request begins with."""
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
    def reading(self, opened: Opened, deal: Deal, face: str) -> Iterator[None]:
        """Counts a stream: messages are kept only where another may want them, or the cache would only be cold memory."""
        key = (opened.digest, opened.columns, deal, face)
        self._reading[key] += 1
        try:
            yield
        finally:
            self._reading[key] -= 1
            if not self._reading[key]:
                del self._reading[key]

    def at_once(
        self,
        opened: Opened,
        deal: Deal,
        start: int,
        stop: int,
        end: int | None,
        gathered: Gathered,
        *,
        sequence: int,
        face: str,
    ) -> tuple[frames.Framed, ...] | None:
        """The reader's samples start … stop-1 without a wait: held already, or gathered from windows in memory.

        Handing a message of a millisecond's work to a thread and back costs about as much as making it, so what only
        moves memory is done in the loop; None where something has to be read first. A stream that goes on, up to `end`,
        gathers for some messages at a time: to find and to pick many samples costs little more than to do so for few.
        """
        key = (opened.digest, opened.columns, deal, start, stop, face)
        held = self._messages.get(key)
        if held is not None:
            self.metrics.cache_hits.inc()
            return held
        if key in self._making or start >= stop:
            return None
        if opened.packed:
            self.metrics.cache_misses.inc()
            rows = opened.stream.read_at(deal.positions(start, stop))
            return self._kept(key, tuple(self._framed(opened, deal, start, sequence, face, rows)))
        if opened.direct is None:
            return None
        columns = gathered.part(start, stop)
        if columns is None:
            alone = self._reading[(*key[:3], face)] == 1
            far = start + GATHERED_AHEAD * (stop - start) if alone and gathered.stop == start else stop
            far = far if end is None else min(far, end)
            # Where the windows of all these are not there yet, those of the first message may be.
            if not any(self._gather(opened.direct, deal, start, to, gathered) for to in dict.fromkeys((far, stop))):
                return None
            columns = gathered.part(start, stop)
            assert columns is not None
        self.metrics.cache_misses.inc()
        message = opened.encoder.encode(columns, stop - start)
        if message.size > MAX_MESSAGE:
            return None
        return self._kept(key, (self._frame(opened, deal, start, stop - start, sequence, face, message),))

    def _gather(self, stream: Stream, deal: Deal, start: int, stop: int, gathered: Gathered) -> bool:
        """Gathers these samples where their windows are in memory, and has the next ones loaded."""
        located = stream.locate(deal.positions(start, stop))
        if not stream.ready(located):
            return False
        gathered.take(start, stop, stream.gather(located))
        for load in stream.upcoming(located):
            self._readers.submit(load)
        return True

    def _kept(self, key: tuple[object, ...], made: tuple[frames.Framed, ...]) -> tuple[frames.Framed, ...]:
        """The messages, kept where another reader may want them."""
        if self._reading[(*key[:3], key[5])] > 1:
            self._messages.put(key, made)
        return made

    async def messages(
        self, opened: Opened, deal: Deal, start: int, stop: int, *, sequence: int, face: str
    ) -> tuple[frames.Framed, ...]:
        """The same made in a thread, once for all who wait."""
        key = (opened.digest, opened.columns, deal, start, stop, face)
        making = self._making.get(key)
        if making is None:
            self.metrics.cache_misses.inc()
            loop = asyncio.get_running_loop()
            making = loop.run_in_executor(self._readers, self._make, opened, deal, start, stop, sequence, face)
            self._making[key] = making
            making.add_done_callback(partial(self._made, key))
        else:
            self.metrics.cache_hits.inc()
        return await asyncio.shield(making)

    def _made(self, key: tuple[object, ...], making: asyncio.Future[tuple[frames.Framed, ...]]) -> None:
        self._making.pop(key, None)
        if not making.cancelled() and making.exception() is None:
            self._kept(key, making.result())

    def _make(
        self, opened: Opened, deal: Deal, start: int, stop: int, sequence: int, face: str
    ) -> tuple[frames.Framed, ...]:
        batch = opened.stream.read_at(deal.positions(start, stop))
        self.metrics.window_loads(self.store.windows.loads, self.store.windows.bytes_loaded)
        return tuple(self._framed(opened, deal, start, sequence, face, batch))

    def _framed(
        self, opened: Opened, deal: Deal, start: int, sequence: int, face: str, batch: pa.RecordBatch
    ) -> list[frames.Framed]:
        message = message_of(batch)
        rows = batch.num_rows
        if message.size > MAX_MESSAGE and rows > 1:
            opened.settle(rows, message.size)
            half = rows // 2
            first = self._framed(opened, deal, start, sequence, face, batch.slice(0, half))
            return first + self._framed(opened, deal, start + half, sequence + len(first), face, batch.slice(half))
        if message.size > self.limits.row_bytes + (64 << 10) and rows == 1:
            raise reached("row_bytes", self.limits.row_bytes, f"The sample at {deal.position(start)} is too big.")
        return [self._frame(opened, deal, start, rows, sequence, face, message)]

    @staticmethod
    def _frame(
        opened: Opened, deal: Deal, start: int, rows: int, sequence: int, face: str, message: Message
    ) -> frames.Framed:
        opened.settle(rows, message.size)
        after = deal.position(start + rows)
        if opened.stream.length is not None:
            after = min(after, opened.stream.length)
        cursor = Cursor(opened.digest, after).encode()
        first_position = deal.position(start)
        if face == FLIGHT:
            frame = frames.flight_frame(message, cursor=cursor)
            return frames.Framed(frame, rows, start, start + rows, 0, (0, 0), first_position, cursor, 0)
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
