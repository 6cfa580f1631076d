"""Limits, slows down or cancels the work for a request of the server.

Code that can take long calls `allow` before it begins, and `pause` between steps of a few milliseconds. A server sets a
`Work` while it handles a request. Without a `Work`, both functions do nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from choline_data.errors import RequestTooLargeError, UnavailableError

STEP = 0.002  # seconds of work between two pauses
REST = 2.0  # While other requests are served, a pause lasts this many times as long as the work before it.
LONGEST_REST = 0.05  # seconds

_CURRENT: ContextVar[Work | None] = ContextVar("choline_data_work", default=None)


class Work:
    """The limits and the state of the work for one request.

    `bounds` maps the settings that `allow` checks to their limits. `crowded` returns whether other requests are served
    at the moment.
    """

    def __init__(self, bounds: Mapping[str, float], crowded: Callable[[], bool]) -> None:
        self.bounds = bounds
        self._crowded = crowded
        self._gone = False
        self._since = time.monotonic()

    def call_off(self) -> None:
        """Cancels the work: its next `pause` raises UnavailableError."""
        self._gone = True

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Context manager: makes this object the current work for all code that the block calls."""
        token = _CURRENT.set(self)
        self._since = time.monotonic()
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def pause(self) -> None:
        """Sleeps for up to 0.05 s if other requests are served and STEP seconds have passed.

        Raises UnavailableError if the work was cancelled.
        """
        if self._gone:
            raise UnavailableError(
                "The request was cancelled, or the server shuts down.", remedy="Send the request again."
            )
        busy = time.monotonic() - self._since
        if busy >= STEP:
            if self._crowded():
                time.sleep(min(busy * REST, LONGEST_REST))
            self._since = time.monotonic()


def pause() -> None:
    """Lets others run during a long operation: calls `Work.pause` of the current work, if there is one."""
    work = _CURRENT.get()
    if work is not None:
        work.pause()


def allow(setting: str, amount: float, what: str, remedy: str = "") -> None:
    """Raises RequestTooLargeError, which names the setting, if `amount` exceeds the current request's limit for `setting`."""
    work = _CURRENT.get()
    limit = work.bounds.get(setting) if work is not None else None
    if limit is not None and amount > limit:
        raise RequestTooLargeError(
            f"{what}: {amount:,.0f}, but the limit is {limit:,.0f}.",
            remedy=f"{remedy} Or raise --limit {setting}=… on the server.".strip(),
            setting=setting,
            limit=limit,
        )
