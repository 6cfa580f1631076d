"""Turns for what is opened, resolved or looked up: in threads, a few at a time, and as often for each caller.

A caller is a token, or a connection where there are no tokens. One that asks for much waits for itself: the next turn
goes to the caller whose last turn is longest ago. What nobody waits for any more ends at its next pause.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from choline_data.errors import UnavailableError
from choline_data.process.work import Work
from choline_data.service.limits import reached

T = TypeVar("T")


class Openings:
    """Threads that do what requests ask for, and who is next."""

    def __init__(
        self,
        name: str,
        threads: int,
        a_caller: int,
        seconds: float,
        bounds: Mapping[str, float],
        crowded: Callable[[], bool],
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._free = threads
        self._a_caller = a_caller
        self._seconds = seconds
        self._bounds = bounds
        self._crowded = crowded
        self._running: Counter[str] = Counter()
        self._works: set[Work] = set()
        self._waiting: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()  # the next caller first

    def call_off(self) -> None:
        """Ends what is under way at its next pause, and what waits at once: the server shuts down."""
        for work in self._works:
            work.call_off()
        for queue in self._waiting.values():
            for granted in queue:
                if not granted.done():
                    granted.set_exception(UnavailableError("The server shuts down.", remedy="Ask another, or later."))
        self._waiting.clear()

    def close(self) -> None:
        """Calls off everything, and lets the threads go."""
        self.call_off()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def run(self, caller: str, work: Callable[[], T]) -> T:
        """The result of the work, within its time; LimitError names `open_timeout` where that is over."""
        its = Work(self._bounds, self._crowded)
        self._works.add(its)
        try:
            async with asyncio.timeout(self._seconds):
                await self._turn(caller)
                return await asyncio.wrap_future(self._submitted(caller, its, work))
        except TimeoutError as error:
            raise reached("open_timeout", self._seconds, "Opening took too long.") from error
        finally:
            its.call_off()
            self._works.discard(its)

    def _submitted(self, caller: str, its: Work, work: Callable[[], T]) -> Future[T]:
        loop = asyncio.get_running_loop()

        def done() -> T:
            with its.under_way():
                return work()

        def over(_: Future[T]) -> None:  # when the thread is free, which may be later than the wait for it ends
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
        """A thread is free: the next caller that may have one gets it."""
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
                self._waiting[name] = queue  # last in turn
