"""Claims: each part of a named run has one reader at a time, of all that read one home.

A claim is a lock on a small file in the home's folder `claims`. The system lets go of it with the process that holds it,
however that ends, and every process sees it: servers on one home, and readers of the home without a server. The file
holds the claimant's random bytes, so that a reader which comes back by another way takes its own claim along.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import orjson

from choline_data.errors import InvalidOptionError, RankTakenError, UnavailableError
from choline_data.places.home import Home

FOLDER, ANYONE = "claims", "anyone"
CLAIMANT_BYTES = 16
_RUN_CHARACTERS = 64
_MOST = 1 << 20
_LOCK_SECONDS, _LOOK_SECONDS = 10.0, 0.002
_ANYBODYS = 0o666  # whoever may use the folder may use what is in it


def check_run(run: object) -> None:
    """InvalidOptionError for what is no name of a run."""
    if not (isinstance(run, str) and 0 < len(run) <= _RUN_CHARACTERS and run.isprintable()):
        raise InvalidOptionError(
            f"run is {run!r}.", remedy=f"Give a name of at most {_RUN_CHARACTERS} characters.", option="run"
        )


@dataclass(frozen=True)
class RunClaim:
    """The part of a run that a reader wants to itself, and who the reader is."""

    run: str
    rank: int
    claimant: bytes
    worker: int = 0
    peer: int = 0

    def check(self) -> None:
        """InvalidOptionError for what no reader of ours claims."""
        check_run(self.run)
        for name in ("rank", "worker", "peer"):
            if not 0 <= getattr(self, name) < _MOST:
                raise InvalidOptionError(
                    f"A claim's {name} can't be {getattr(self, name)}.", remedy=f"0 to {_MOST - 1}.", option="claim"
                )
        if len(self.claimant) != CLAIMANT_BYTES:
            raise InvalidOptionError(
                f"A claimant of {len(self.claimant)} bytes can't be.", remedy=f"{CLAIMANT_BYTES}.", option="claim"
            )

    def taken(self) -> RankTakenError:
        """What a second reader is told."""
        part = f"Worker {self.worker} of rank" if self.worker else "Rank"
        return RankTakenError(
            f"{part} {self.rank} of run {self.run!r} has a reader already, which reads on.",
            remedy="End that one, or give this one a rank or a run name of its own.",
            run=self.run,
            rank=self.rank,
        )

    def file(self, owner: str) -> str:
        """The name of the file that stands for this part of the run."""
        part = orjson.dumps([owner, self.run, self.rank, self.worker, self.peer])
        return hashlib.sha256(part).hexdigest()


class Held:
    """A claim that this process holds, until `release` or its end."""

    def __init__(self, claims: Claims, path: str, file: int) -> None:
        self._claims, self._path, self._file = claims, path, file
        self._process = os.getpid()

    def release(self) -> None:
        """Lets go of it; nothing where it is let go already, or is another process's that forked this one."""
        file, self._file = self._file, -1
        if file < 0:
            return
        if os.getpid() == self._process:  # a lock is shared with children: unlocking is for the one that locked
            with suppress(OSError), self._claims.alone():
                if os.path.samestat(os.fstat(file), os.stat(self._path)):
                    os.unlink(self._path)
            _unlock(file)
        os.close(file)


class Claims:
    """The claims on the parts of runs that are kept in one folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.makedirs(folder, exist_ok=True)
        self._lock = os.path.join(folder, "lock")
        with suppress(BlockingIOError), self.alone():
            pass

    @classmethod
    def of(cls, home: Home) -> Claims | None:
        """The claims of a home; None for one that is no folder, or whose files can't be written or locked."""
        try:
            return cls(home.path(FOLDER)) if home.local else None
        except (OSError, ImportError):  # ImportError: there are no such locks on Windows
            return None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """The only one at work in the folder, for some microseconds; BlockingIOError where that is another."""
        file = _opened(self._lock)
        try:
            _lock(file)
            try:
                yield
            finally:
                _unlock(file)
        finally:
            os.close(file)

    def take(self, claim: RunClaim, owner: str = ANYONE) -> Held | None:
        """The claim, held; None where another claimant has it. BlockingIOError: ask again at once.

        `owner` keeps the runs of one principal apart from those of another.
        """
        path = os.path.join(self._folder, claim.file(owner))
        with self.alone():
            held, claimant = self._locked(path, claim)
            if held is None and claimant == claim.claimant:
                # The reader is here, so who holds it is left: a server that is frozen, or has not noticed yet.
                os.unlink(path)
                held, _ = self._locked(path, claim)
            return held

    def _locked(self, path: str, claim: RunClaim) -> tuple[Held | None, bytes]:
        """The file locked for the claim, or None and the claimant that it is locked for."""
        file = _opened(path)
        try:
            _lock(file)
            os.pwrite(file, claim.claimant, 0)
        except BlockingIOError:
            claimant = os.pread(file, CLAIMANT_BYTES, 0)
            os.close(file)
            return None, claimant
        except OSError:
            os.close(file)
            raise
        return Held(self, path, file), claim.claimant

    @contextmanager
    def held(self, claim: RunClaim) -> Iterator[None]:
        """Has the claim as long as the block runs; RankTakenError where another claimant has it."""
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                held = self.take(claim)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise UnavailableError(
                        "The claims of the home stay locked.", remedy="End the process that is stopped in them."
                    ) from error
                time.sleep(_LOOK_SECONDS)
            except OSError as error:
                raise UnavailableError(
                    "The home can't keep claims on runs now.", remedy="Read without a run."
                ) from error
        if held is None:
            raise claim.taken()
        try:
            yield
        finally:
            held.release()


def _opened(path: str) -> int:
    if importlib.util.find_spec("fcntl") is None:
        raise InvalidOptionError(
            f"run= needs locks on files, which {sys.platform} does not have.", remedy="Leave run out.", option="run"
        )
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_CREAT, _ANYBODYS)
    with suppress(OSError):  # another user's
        os.fchmod(file, _ANYBODYS)
    return file


def _lock(file: int) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(file: int) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_UN)
