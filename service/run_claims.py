"""Claims on the ranks of named training runs (`run=`): while a reader has a claim, the server refuses a second reader of
the rank.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable

from choline_data.errors import UnavailableError
from choline_data.places.claims import Claims, HeldClaim, RunClaim
from choline_data.places.home import Home
from choline_data.service.limits import Limits
from choline_data.v1 import firehose_pb2 as pb

# If the server ends a stream on purpose, it keeps the claim for this many seconds, so that the reader can come back.
KEPT_SECONDS = 10.0
_FIRST_LOOK, _LONGEST_LOOK = 0.02, 0.5


class RunClaims:
    """The claims of a server process. They are kept in the home, or in a temporary folder if the home can't hold claims."""

    def __init__(self, home: Home, limits: Limits, draining: asyncio.Event) -> None:
        self._home = home
        self._limits = limits
        self._draining = draining
        self._claims: Claims | None = None
        self._own: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Removes the temporary folder, if there is one."""
        if self._own is not None:
            self._own.cleanup()

    def _opened(self) -> Claims:
        if self._claims is None:
            self._claims = Claims.of(self._home)
        if self._claims is None:
            self._own = tempfile.TemporaryDirectory(prefix="choline-claims-")
            self._claims = Claims(self._own.name)
        return self._claims

    async def take(self, claim: RunClaim | None, owner: str, alive: Callable[[], Awaitable[None]]) -> HeldClaim | None:
        """Acquires the claim. Returns None if `claim` is None.

        Waits up to `claim_wait` seconds until another claimant releases it, then raises RankTakenError. While it waits,
        it awaits `alive` every `heartbeat` seconds.
        """
        if claim is None:
            return None
        loop = asyncio.get_running_loop()
        until = loop.time() + self._limits.claim_wait
        beat_at = loop.time() + self._limits.heartbeat
        look = _FIRST_LOOK
        while True:
            busy = False
            try:
                lock = self._opened().take(claim, owner)
                if lock is not None:
                    return lock
            except BlockingIOError:
                busy = True
            except OSError as error:
                raise UnavailableError(
                    "The server can't store claims on runs at the moment.", remedy="Retry later, or read without a run."
                ) from error
            if self._draining.is_set():
                raise UnavailableError(
                    "The server shuts down.", remedy="Resume on another server, or here after its restart."
                )
            now = loop.time()
            if now >= until:
                if not busy:
                    raise claim.taken_error()
                raise UnavailableError(
                    "The folder `claims` of the home stays locked.",
                    remedy="End the process that holds the lock. It seems to hang.",
                )
            if now >= beat_at:
                beat_at = now + self._limits.heartbeat
                await alive()
            await asyncio.sleep(min(look, until - now))
            look = min(look * 2, _LONGEST_LOOK)

    def leave(self, held: HeldClaim | None, *, sent_away: bool) -> None:
        """Releases a claim.

        If the server itself ended the stream (`sent_away`), it keeps the claim for KEPT_SECONDS, so that the same
        reader can continue.
        """
        if held is not None and sent_away:
            asyncio.get_running_loop().call_later(KEPT_SECONDS, held.release)
        elif held is not None:
            held.release()


def claim_of(request: pb.ReadStreamRequest) -> RunClaim | None:
    """Returns the claim of the request, or None. Raises InvalidOptionError if the claim is not valid."""
    if not request.HasField("claim"):
        return None
    message = request.claim
    claim = RunClaim(message.run, message.rank, message.claimant, message.worker, message.peer)
    claim.check()
    return claim
