"""Work that somebody waits for: what asks for it may bound it, slow it down, and call it off.

Code that can take long calls `allow` before it begins and `pause` between steps of some milliseconds. Both do nothing
in a process that works for itself; a server sets a `Work` around what it does for a request.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from choline_data.errors import LimitError, UnavailableError

STEP = 0.002  # seconds of work between two rests
REST = 2.0  # times the work, while others are served
LONGEST_REST = 0.05

_CURRENT: ContextVar[Work | None] = ContextVar("choline_data_work", default=None)


class Work:
    """What is done for one request. `bounds` are the settings that `allow` names, `crowded` says if others are served."""

    def __init__(self, bounds: Mapping[str, float], crowded: Callable[[], bool]) -> None:
        self.bounds = bounds
        self._crowded = crowded
        self._gone = False
        self._since = time.monotonic()

    def call_off(self) -> None:
        """Ends the work at its next pause: nobody waits for it any more."""
        self._gone = True

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Makes this the work of what is called inside."""
        token = _CURRENT.set(self)
        self._since = time.monotonic()
        try:
            yield
        finally:
            _CURRENT.reset(token)

    def pause(self) -> None:
        """Rests for a while where others wait for the interpreter; UnavailableError where the work was called off."""
        if self._gone:
            raise UnavailableError("Nobody waits for this any more, or the server shuts down.", remedy="Ask again.")
        busy = time.monotonic() - self._since
        if busy >= STEP:
            if self._crowded():
                time.sleep(min(busy * REST, LONGEST_REST))
            self._since = time.monotonic()


def pause() -> None:
    """Lets others have their turn, in the middle of what may take long."""
    work = _CURRENT.get()
    if work is not None:
        work.pause()


def allow(setting: str, amount: float, what: str, remedy: str = "") -> None:
    """Refuses work of this amount where the request it is for may cause less: LimitError names the setting."""
    work = _CURRENT.get()
    limit = work.bounds.get(setting) if work is not None else None
    if limit is not None and amount > limit:
        raise LimitError(
            f"{what}: {amount:,.0f}, above the limit of {limit:,.0f}.",
            remedy=f"{remedy} Or raise --limit {setting}=… on the server.".strip(),
            setting=setting,
            limit=limit,
        )
