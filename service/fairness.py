"""Turns: who may send next. Deficit round robin over the streams that have a message ready.

A bare server lets whichever stream is ready send on, and with hundreds of streams some send nothing for many seconds.
Here a stream that has used its share waits behind all others that are ready, and only a few writes are under way at
once, so the transport's own queue stays short. A reader that does not read holds its place for `PATIENCE` only.
"""

from __future__ import annotations

import asyncio
from collections import deque

QUANTUM = 512 << 10
PATIENCE = 0.02


class Share:
    """One stream's account. `slow` is set while its reader keeps it waiting."""

    __slots__ = ("credit", "slow")

    def __init__(self) -> None:
        self.credit = 0
        self.slow = False


class Turn:
    """The right to have one write under way; `done` gives it back, once."""

    __slots__ = ("_held", "_loop", "_share", "_since", "_timer", "_turns")

    def __init__(self, turns: Turns, share: Share) -> None:
        self._turns = turns
        self._share = share
        self._held = True
        self._loop = asyncio.get_running_loop()
        self._since = self._loop.time()
        self._timer: asyncio.TimerHandle | None = None
        if share.slow:  # its write may take long: it keeps nobody else waiting
            self._give_back()
        else:
            self._timer = self._loop.call_later(PATIENCE, self._stalled)

    def _stalled(self) -> None:
        self._share.slow = True
        self._give_back()

    def _give_back(self) -> None:
        if self._held:
            self._held = False
            self._turns.free()

    def done(self) -> None:
        """The write is over."""
        if self._timer is not None:
            self._timer.cancel()
        if self._loop.time() - self._since < PATIENCE:
            self._share.slow = False
        self._give_back()


class Turns:
    """Deals turns to streams, `at_once` at a time."""

    def __init__(self, at_once: int) -> None:
        self._free = at_once
        self._waiting: deque[tuple[Share, int, asyncio.Future[None]]] = deque()

    async def take(self, share: Share, size: int) -> Turn:
        """Waits for the turn to send `size` bytes."""
        if self._free and not self._waiting:
            share.credit = max(share.credit, 0)
            self._free -= 1
            return Turn(self, share)
        granted = asyncio.get_running_loop().create_future()
        self._waiting.append((share, size, granted))
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self.free()
            raise
        return Turn(self, share)

    def free(self) -> None:
        """A turn is back: the next stream whose credit covers its message gets it."""
        self._free += 1
        while self._free and self._waiting:
            share, size, granted = self._waiting.popleft()
            if granted.cancelled():
                continue
            share.credit += QUANTUM
            if share.credit < size and self._waiting:
                self._waiting.append((share, size, granted))
                continue
            share.credit = min(max(share.credit - size, 0), QUANTUM)
            self._free -= 1
            granted.set_result(None)
