"""Runs the work that opens streams, resolves mixes or looks up rows, in a few threads. Callers take turns.

A caller is a token, or a connection if there are no tokens. The next turn goes to the caller whose last turn is longest
ago, so a caller with many requests delays only itself. Work that nobody waits for any more ends at its next pause.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from choline_data.errors import UnavailableError
from choline_data.process.memory import SWEEP_BYTES, Sweeper
from choline_data.process.work import Work
from choline_data.service.limits import limit_error

T = TypeVar("T")
LONG_SECONDS = 0.02  # After work that takes longer than this many seconds, freed memory returns to the system.


class Openings:
    """A pool of threads for the work of requests, with one queue for each caller."""

    def __init__(
        self,
        name: str,
        threads: int,
        a_caller: int,
        seconds: float,
        bounds: Mapping[str, float],
        crowded: Callable[[], bool],
        sweeper: Sweeper,
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads
        self._a_caller = a_caller
        self._seconds = seconds
        self._bounds = bounds
        self._crowded = crowded
        self._sweeper = sweeper
        self._running: Counter[str] = Counter()
        self._works: set[Work] = set()
        # the work of each waiting caller; the first caller gets the next thread
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()

    def call_off(self) -> None:
        """Cancels all work when the server stops. Running work ends at its next pause, and waiting work fails at once with
        UnavailableError.
        """
        for work in self._works:
            work.call_off()
        for queue in self._waiting.values():
            for granted in queue:
                if not granted.done():
                    granted.set_exception(
                        UnavailableError("The server shuts down.", remedy="Ask another server, or try again later.")
                    )
        self._waiting.clear()

    def close(self) -> None:
        """Cancels all work and releases the threads."""
        self.call_off()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, caller: str, work: Callable[[], T]) -> T:
        """Runs the work and returns its result.

        Raises a LimitError that names `open_timeout` if waiting and work together take longer than that.
        """
        task = Work(self._bounds, self._crowded)
        self._works.add(task)
        try:
            async with asyncio.timeout(self._seconds):
                await self._turn(caller)
                return await asyncio.wrap_future(self._submitted(caller, task, work))
        except TimeoutError as error:
            raise limit_error("open_timeout", self._seconds, "Opening the stream took too long.") from error
        finally:
            task.call_off()
            self._works.discard(task)

    def _submitted(self, caller: str, task: Work, work: Callable[[], T]) -> Future[T]:
        loop = asyncio.get_running_loop()

        def done() -> T:
            began = time.monotonic()
            try:
                with task.under_way():
                    return work()
            finally:
                if time.monotonic() - began > LONG_SECONDS:
                    self._sweeper.freed(SWEEP_BYTES)

        def over(_: Future[T]) -> None:  # This runs when a thread is free. By then, the caller may wait no longer.
            if not loop.is_closed():
                loop.call_soon_threadsafe(self._left, caller)

        try:
            job = self._threads.submit(contextvars.copy_context().run, done)
        except BaseException:
            self._left(caller)
            raise
        job.add_done_callback(over)
        return job

    async def _turn(self, caller: str) -> None:
        if self._free and self._running[caller] < self._a_caller and caller not in self._waiting:
            self._take(caller)
            return
        granted = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(caller, deque()).append(granted)
        try:
            await granted
        except asyncio.CancelledError:
            if granted.done() and not granted.cancelled():
                self._left(caller)
            raise

    def _take(self, caller: str) -> None:
        self._free -= 1
        self._running[caller] += 1

    def _left(self, caller: str) -> None:
        """Frees the thread of a caller, and gives it to the next caller that may have one."""
        self._free += 1
        self._running[caller] -= 1
        if not self._running[caller]:
            del self._running[caller]
        for name in [*self._waiting]:
            if not self._free:
                return
            if self._running[name] >= self._a_caller:
                continue
            queue = self._waiting.pop(name)
            while queue and (granted := queue.popleft()):
                if not granted.done():
                    self._take(name)
                    granted.set_result(None)
                    break
            if queue:
                self._waiting[name] = queue  # The caller moves to the end, because it just had a turn.
