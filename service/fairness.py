"""Decides which stream sends next: start-time fair queueing over the streams that have a message ready.

If every stream could send at any time, some of several hundred streams would send nothing for many seconds. So streams
take turns, and the next turn goes to the stream that has sent the fewest bytes. The streams of one connection share one
part: a reader that opens hundreds of streams delays mostly itself. Only a few writes run at once, so that the
transport's own queue stays short. A reader that does not take its data occupies one of these writes for at most
`PATIENCE` seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heappop, heappush
from itertools import count
from math import inf
from weakref import WeakValueDictionary

IDLE = 0.004
PATIENCE = 0.02
MEMORY = 16  # After a slow write, its stream counts as slow for this many times the duration of the write.
LONGEST = 60.0
OPENED_AT_ONCE, OPENED_A_SECOND = 2, 100.0  # streams of one connection
RECEIVED_AT_ONCE = 2  # how many requests of one connection are received at the same time
QUIET = 0.05  # a connection that has not requested a stream for this many seconds may open its waiting streams
SAVED = 1 << 20  # the largest credit, in bytes, that a stream collects while it has nothing to send


class ReaderConnection:
    """A connection: how many streams it has, and when it may open more."""

    def __init__(self) -> None:
        self.streams = 0
        self.unread = 0  # bytes of sent messages that its readers have not taken yet
        self.waiting = 0  # number of streams that wait to be opened
        self.receiving = asyncio.Semaphore(RECEIVED_AT_ONCE)
        # times of the event loop: when the next stream may open, and when a stream was last requested
        self._opens_at = self._asked_at = -inf

    async def opening(self) -> None:
        """Waits until the connection may open one more stream.

        OPENED_AT_ONCE streams open at once. The others open when the connection has not asked for a stream for a moment, and not
        more than OPENED_A_SECOND. The server accepts its requests one after another, and slowly while it sends. So a connection
        that asks for hundreds of streams would delay the requests of all other connections.
        """
        now = asyncio.get_running_loop().time()
        self._asked_at = now
        self._opens_at = max(self._opens_at, now - OPENED_AT_ONCE / OPENED_A_SECOND) + 1 / OPENED_A_SECOND
        opens_at = self._opens_at
        if opens_at <= now:
            return
        self.waiting += 1
        try:
            await self._quiet(opens_at)
        finally:
            self.waiting -= 1

    async def writing(self) -> None:
        """Waits as long as the connection requests many streams."""
        if self.waiting:
            await self._quiet(0.0)

    async def _quiet(self, opens_at: float) -> None:
        loop = asyncio.get_running_loop()
        while (wait := max(opens_at, self._asked_at + QUIET) - loop.time()) > 0:
            await asyncio.sleep(wait)

    @contextmanager
    def streaming(self) -> Iterator[None]:
        """Context manager: counts a stream of this connection."""
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1


class FairShare:
    """How much one stream has sent. `at` counts its bytes, divided by its part of the connection.

    A stream is slow while its reader delays it, and for some time after. `rate` is the number of bytes per second in
    the last message that the reader delayed.
    """

    __slots__ = ("at", "connection", "proven", "rate", "slow_until")

    def __init__(self, connection: ReaderConnection | None = None, *, proven: bool = True) -> None:
        self.connection = connection or ReaderConnection()
        self.at = 0
        self.slow_until = 0.0
        self.rate = inf
        self.proven = proven  # whether its reader has taken so many bytes that other streams may wait for its writes

    def slow(self, now: float) -> bool:
        """Whether the next write of this stream may take long."""
        return not self.proven or now < self.slow_until

    def takes(self, seconds: float, now: float) -> float:
        """Returns about how many bytes the reader of this stream takes in `seconds`. Returns infinity if the stream is not
        slow.
        """
        return self.rate * seconds if now < self.slow_until else inf


class Turn:
    """The right to run one write. It is given back after the write, or earlier if the write takes long; only once."""

    __slots__ = ("_held", "_loop", "_share", "_since", "_size", "_timer", "_turns")

    def __init__(self, turns: Turns, share: FairShare, size: int) -> None:
        self._turns = turns
        self._share = share
        self._size = size
        self._held = True
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        if self._since < share.slow_until:  # other streams must not wait for a slow stream, proven or not
            self._give_back()
        else:
            self._timer = self._loop.call_later(IDLE, self._give_back_early)

    def _give_back_early(self) -> None:
        """Ends the turn while its write still runs.

        It does so if the write has taken PATIENCE seconds; then the stream also counts as slow. It does so earlier if
        the reader has never taken a message in time, or if no write of any stream has ended for IDLE seconds, because
        then the streams wait for their readers. While other writes end, only the transport is busy.
        """
        now = self._loop.time()
        if now - self._since >= PATIENCE:
            self._share.slow_until = self._since + LONGEST
            self._give_back()
        elif not self._share.proven or now - max(self._turns.written, self._since) >= IDLE:
            self._give_back()
        if self._held or now - self._since < PATIENCE:
            self._timer = self._loop.call_later(IDLE, self._give_back_early)

    def _give_back(self) -> None:
        if self._held:
            self._held = False
            self._turns.free()

    def done(self) -> None:
        """Ends the turn, after its write has ended. If the write took PATIENCE seconds or longer, the stream is marked
        as slow.
        """
        if self._timer is not None:
            self._timer.cancel()
        self._turns.written = now = self._loop.time()
        if now - self._since >= PATIENCE:
            self._share.slow_until = now + min(MEMORY * (now - self._since), LONGEST)
            self._share.rate = self._size / (now - self._since)
        self._give_back()


class Turns:
    """Gives turns to streams, at most `at_once` at a time."""

    def __init__(self, at_once: int) -> None:
        self.written = 0.0
        self._free = at_once
        self._at = 0
        self._order = count()
        self._waiting: list[tuple[int, int, asyncio.Future[None]]] = []
        self._connections: WeakValueDictionary[str, ReaderConnection] = WeakValueDictionary()

    def connection(self, peer: str) -> ReaderConnection:
        """Returns the connection from this address."""
        return self._connections.setdefault(peer, ReaderConnection())

    def leaves_most(self, share: FairShare, unread: int) -> bool:
        """Returns whether this stream is slow, and its connection has more unread bytes than its share of `unread`."""
        now = asyncio.get_running_loop().time()
        return share.slow(now) and share.connection.unread * len(self._connections) >= unread

    async def take(self, share: FairShare, size: int) -> Turn:
        """Waits for the turn to send `size` bytes."""
        start = max(share.at, self._at - (SAVED if share.proven else 0))
        share.at = start + size * max(share.connection.streams, 1)
        if self._free and not self._waiting:
            self._at = start
            self._free -= 1
            return Turn(self, share, size)
        granted = asyncio.get_running_loop().create_future()
        heappush(self._waiting, (start, next(self._order), granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.free()
            raise
        return Turn(self, share, size)

    def free(self) -> None:
        """Ends a turn. The next turn goes to the waiting stream that has sent the fewest bytes."""
        self._free += 1
        while self._free and self._waiting:
            start, _, granted = heappop(self._waiting)
            if not granted.cancelled():
                self._at = start
                self._free -= 1
                granted.set_result(None)
