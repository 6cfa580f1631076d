"""A thread that computes the next item of an iterator while the caller uses the current one.

This helps if most of the work of both sides is done outside the interpreter's lock, as in Arrow.
"""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable, Generator
from contextlib import closing
from itertools import islice
from typing import Generic, TypeVar

Item = TypeVar("Item")


def one_ahead(start: Callable[[], Generator[Item, None, None]]) -> Generator[Item, None, None]:
    """Yields the items of the generator that `start` returns. It runs in a thread, at most one item ahead.

    An error of the generator is raised here, after the items before it. When this generator is closed, so is the other one.
    """
    reader = _Reader(start)
    try:
        while item := reader.next():
            yield item.pop()  # not kept here, so at most two items are in memory
    finally:
        reader.stop()


class _Reader(Generic[Item]):
    def __init__(self, start: Callable[[], Generator[Item, None, None]]) -> None:
        self._start = start
        self._items: queue.SimpleQueue[list[Item] | BaseException] = queue.SimpleQueue()
        self._room = threading.Semaphore(1)
        self._stopped = False
        run = contextvars.copy_context().run
        self._thread = threading.Thread(target=run, args=(self._run,), name="choline-read", daemon=True)
        self._thread.start()

    def next(self) -> list[Item]:
        """Returns a list of the next item; an empty list at the end."""
        item = self._items.get()
        if isinstance(item, BaseException):
            raise item
        self._room.release()
        return item

    def stop(self) -> None:
        """Ends the thread. Waits until it has computed the item that it has begun."""
        self._stopped = True
        self._room.release()
        self._thread.join()

    def _run(self) -> None:
        try:
            with closing(self._start()) as items:
                while self._room.acquire() and not self._stopped:
                    item = list(islice(items, 1))
                    ended = not item  # afterwards the list belongs to the caller
                    self._items.put(item)
                    del item
                    if ended:
                        return
        except BaseException as error:  # noqa: BLE001 - carried to the caller's thread, which raises it
            self._items.put(error)
