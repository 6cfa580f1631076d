"""Sends one stream to one reader: messages in order, the next message made ahead, turns with other streams, and
heartbeats.

gRPC, Flight and HTTP use the same `Reading`, which makes and sends the batches. Each protocol adds its own header and
end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from enum import Enum

from choline_data.order.cursor import Cursor
from choline_data.order.lanes import Lane
from choline_data.service import frames
from choline_data.service.audit import CURRENT
from choline_data.service.auth import Principal
from choline_data.service.calls import Calls
from choline_data.service.engine import FIREHOSE, MAX_MESSAGE, MIN_MESSAGE
from choline_data.service.fairness import FairShare
from choline_data.service.lane_requests import most_rows
from choline_data.service.limits import limit_error
from choline_data.service.opened import Gathered, Opened

PROOF_BYTES = 1 << 20  # other streams wait for the writes of a reader only after it has taken this many bytes
READ_SECONDS = 0.25  # messages for a slow reader are so small that it takes one in about this time

Write = Callable[[bytes], Awaitable[object]]


class EndedByServer(Enum):
    """Why the server ended a stream on purpose. The numbers are those of `EndReason` in the protocol."""

    COMPLETE = 1
    DRAINING = 2
    MAX_AGE = 3


class Reading:
    """A stream to one reader. `cursor` is where to resume after the samples that were sent so far."""

    def __init__(
        self,
        calls: Calls,
        opened: Opened,
        lane: Lane,
        start: int,
        *,
        target: int,
        most: int = 0,
        face: str = FIREHOSE,
        stop: int | None = None,
        recheck: Callable[[], Principal] | None = None,
    ) -> None:
        self._calls = calls
        self._opened = opened
        self._lane = lane
        self._target = min(target, MAX_MESSAGE)
        self._face = face
        self._recheck = recheck
        request_in_progress = CURRENT.get()
        self._share = FairShare(
            calls.turns.connection(request_in_progress.peer) if request_in_progress else None, proven=False
        )
        self._taken = 0
        self._gathered = Gathered()
        self._inline = opened.direct is not None or opened.packed
        self._index = lane.below(start)
        length = opened.stream.length
        ends = [lane.below(end) for end in (length, stop) if end is not None]
        if most:
            ends.append(self._index + most)
        self._end = min(ends) if ends else None
        self.start = start
        self.rows = 0
        self.batches = 0
        self.end_reason = EndedByServer.COMPLETE
        self._ahead: asyncio.Task[tuple[frames.FramedMessage, ...]] | None = None
        calls.follow(self)

    @property
    def cursor(self) -> str:
        """Where to resume after the samples that were sent."""
        position = self._lane.position(self._index) if self.rows else max(self.start, self._lane.position(self._index))
        length = self._opened.stream.length
        return Cursor(self._opened.digest, position if length is None else min(position, length)).encode()

    def _size(self) -> int:
        """Returns the size of the next message in bytes. It is small at first, because the message stays in memory until it is
        read. A slow reader gets as much as it takes in READ_SECONDS. All streams together may have `unread_bytes` of unread
        messages in memory.
        """
        calls = self._calls
        room = calls.limits.unread // calls.open_streams if calls.unread > calls.limits.unread // 2 else self._target
        takes = self._share.takes(READ_SECONDS, asyncio.get_running_loop().time())
        return min(self._target, max(MIN_MESSAGE, int(min(self._taken // 4, room, takes))))

    def _next_stop(self, index: int) -> int:
        rows = min(self._opened.rows_a_message(self._size()), most_rows(self._lane))
        stop = (index // rows + 1) * rows
        return stop if self._end is None else min(stop, self._end)

    def _at_once(self) -> tuple[frames.FramedMessage, ...] | None:
        stop = self._next_stop(self._index)
        return self._calls.engine.at_once(
            self._opened,
            self._lane,
            self._index,
            stop,
            self._end,
            self._gathered,
            sequence=self.batches,
            face=self._face,
        )

    def _fetch(self, index: int, sequence: int) -> asyncio.Task[tuple[frames.FramedMessage, ...]]:
        stop = self._next_stop(index)
        return asyncio.ensure_future(
            self._calls.engine.messages(
                self._opened,
                self._lane,
                index,
                stop,
                self._end,
                self._gathered,
                sequence=sequence,
                face=self._face,
            )
        )

    async def batches_in_order(self) -> AsyncIterator[frames.FramedMessage | None]:
        """Yields the stream's messages in order. Yields None if no message is ready for `heartbeat` seconds."""
        with self._share.connection.streaming(), self._calls.engine.reading(self._opened, self._lane, self._face):
            async for message in self._batches():
                yield message

    async def _batches(self) -> AsyncIterator[frames.FramedMessage | None]:
        loop = asyncio.get_running_loop()
        limits, engine = self._calls.limits, self._calls.engine
        ages_at = self._calls.ages_at()
        check_at = loop.time() + limits.recheck
        try:
            while self._end is None or self._index < self._end:
                if self._calls.draining.is_set():
                    self.end_reason = EndedByServer.DRAINING
                    return
                now = loop.time()
                if now >= ages_at:
                    self.end_reason = EndedByServer.MAX_AGE
                    return
                if now >= check_at and self._recheck is not None:
                    check_at = now + limits.recheck
                    await engine.looking(self._calls.admitted, self._recheck(), self._opened.stream.recipe)
                messages = self._at_once() if self._ahead is None else None
                if messages is None:
                    fetching, self._ahead = self._ahead or self._fetch(self._index, self.batches), None
                    if not fetching.done():
                        done, _ = await asyncio.wait({fetching}, timeout=limits.heartbeat)
                        if not done:
                            self._ahead = fetching
                            yield None
                            continue
                    messages = fetching.result()
                    after = messages[-1].stop
                    if not self._inline and (self._end is None or after < self._end) and not self._share.slow(now):
                        self._ahead = self._fetch(after, self.batches + len(messages))
                for message in messages:
                    yield message
                    self._index = message.stop
                    self.rows += message.rows
                    self.batches += 1
        finally:
            if self._ahead is not None:
                self._ahead.cancel()

    async def send(self, write: Write, frame: bytes, *, rows: int = 0) -> None:
        """Sends one frame when it is this stream's turn. Raises LimitError if the reader does not read."""
        calls, connection = self._calls, self._share.connection
        calls.unread += len(frame)
        connection.unread += len(frame)
        try:
            await self._write(write, frame)
        finally:
            calls.unread -= len(frame)
            connection.unread -= len(frame)
        self._taken += len(frame)
        self._share.proven = self._share.proven or self._taken >= PROOF_BYTES
        calls.metrics.bytes.labels(self._face).inc(len(frame))
        if rows:
            calls.metrics.rows.labels(self._face).inc(rows)

    async def _write(self, write: Write, frame: bytes) -> None:
        calls = self._calls
        await self._share.connection.writing()
        turn = await calls.turns.take(self._share, len(frame))
        wait = calls.waiting(calls.limits.stall)
        calls.track(wait)
        try:
            if calls.unread > calls.limits.unread and calls.turns.leaves_most(self._share, calls.limits.unread):
                raise limit_error("unread_bytes", calls.limits.unread, "Readers have left too much data unread.")
            async with wait:
                await write(frame)
        except TimeoutError:
            calls.metrics.stalls.inc()
            raise limit_error("stall", calls.limits.stall, "The consumer is too slow and was dropped.") from None
        finally:
            calls.untrack(wait)
            turn.done()
