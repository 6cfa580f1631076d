"""Claims: in one home, each rank or worker of a named run has at most one reader at a time.

A claim is a lock on a small file in the home's folder `claims`. The operating system releases the lock when the process
ends, for any reason. All processes that use the home see the lock: servers, and readers without a server. The file
contains random bytes that identify the reader, so that a reader that reconnects through another server recovers its own
claim.
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
from choline_data.places.disk import home_error
from choline_data.places.home import Home

FOLDER, ANYONE = "claims", "anyone"
CLAIMANT_BYTES = 16
_RUN_CHARACTERS = 64
_MOST = 1 << 20
_LOCK_SECONDS, _LOOK_SECONDS = 10.0, 0.002
_ANYBODYS = 0o666  # every user with access to the folder may use the files in it


def check_run(run: object) -> None:
    """Raises InvalidOptionError if `run` is not a valid name of a run."""
    if not (isinstance(run, str) and 0 < len(run) <= _RUN_CHARACTERS and run.isprintable()):
        raise InvalidOptionError(
            f"run is {run!r}.", remedy=f"Give a name of at most {_RUN_CHARACTERS} characters.", option="run"
        )


@dataclass(frozen=True)
class RunClaim:
    """What a reader claims: a part of a named run, such as a rank, and the random bytes that identify the reader (the
    claimant).
    """

    run: str
    rank: int
    claimant: bytes
    worker: int = 0
    peer: int = 0

    def check(self) -> None:
        """Raises InvalidOptionError if a field is out of its range."""
        check_run(self.run)
        for name in ("rank", "worker", "peer"):
            if not 0 <= getattr(self, name) < _MOST:
                raise InvalidOptionError(
                    f"A claim's {name} can't be {getattr(self, name)}.", remedy=f"0 to {_MOST - 1}.", option="claim"
                )
        if len(self.claimant) != CLAIMANT_BYTES:
            raise InvalidOptionError(
                f"The claimant id has {len(self.claimant)} bytes.",
                remedy=f"It must have {CLAIMANT_BYTES} bytes.",
                option="claim",
            )

    def taken_error(self) -> RankTakenError:
        """Returns the error for a second reader of this part of the run."""
        part = f"Worker {self.worker} of rank" if self.worker else "Rank"
        return RankTakenError(
            f"{part} {self.rank} of run {self.run!r} already has a reader, which is still reading.",
            remedy="End that reader, or give this one another rank or another run name.",
            run=self.run,
            rank=self.rank,
        )

    def file(self, owner: str) -> str:
        """Returns the name of the lock file of this part of the run."""
        part = orjson.dumps([owner, self.run, self.rank, self.worker, self.peer])
        return hashlib.sha256(part).hexdigest()


class HeldClaim:
    """A claim that this process holds until it calls `release` or ends."""

    def __init__(self, claims: Claims, path: str, file: int) -> None:
        self._claims, self._path, self._file = claims, path, file
        self._process = os.getpid()

    def release(self) -> None:
        """Releases the claim. May be called again. In a forked child it only closes the file; the parent keeps the claim."""
        file, self._file = self._file, -1
        if file < 0:
            return
        # child processes share the lock, so only the process that locked the file may unlock it
        if os.getpid() == self._process:
            with suppress(OSError), self._claims.alone():
                if os.path.samestat(os.fstat(file), os.stat(self._path)):
                    os.unlink(self._path)
            _unlock(file)
        os.close(file)


class Claims:
    """The claims on parts of runs in one folder."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        os.makedirs(folder, exist_ok=True)
        self._lock = os.path.join(folder, "lock")
        with suppress(BlockingIOError), self.alone():
            pass

    @classmethod
    def of(cls, home: Home) -> Claims | None:
        """Returns the claims of a home. Returns None if the home is remote, or if its files can't be written or locked."""
        try:
            return cls(home.path(FOLDER)) if home.local else None
        except (OSError, ImportError):  # ImportError: Windows has no such locks
            return None

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Context manager: holds the folder's exclusive lock. Callers hold it for microseconds. Raises BlockingIOError
        if another process holds it.
        """
        file = _opened(self._lock)
        try:
            _lock(file)
            try:
                yield
            finally:
                _unlock(file)
        finally:
            os.close(file)

    def take(self, claim: RunClaim, owner: str = ANYONE) -> HeldClaim | None:
        """Acquires the claim. Returns None if another claimant holds it; raises BlockingIOError if the folder's lock is busy.

        After BlockingIOError, retry at once. `owner` separates the runs of different principals.
        """
        path = os.path.join(self._folder, claim.file(owner))
        with self.alone():
            lock, claimant = self._lock_file(path, claim)
            if lock is None and claimant == claim.claimant:
                # The same reader holds the claim through another process: a server that hangs, or that has not noticed
                # yet that the reader disconnected. Take the claim from that process.
                os.unlink(path)
                lock, _ = self._lock_file(path, claim)
            return lock

    def _lock_file(self, path: str, claim: RunClaim) -> tuple[HeldClaim | None, bytes]:
        """Locks the file for the claim. If another process has locked it, returns None and the id of the claimant."""
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
        return HeldClaim(self, path, file), claim.claimant

    @contextmanager
    def hold(self, claim: RunClaim) -> Iterator[None]:
        """Context manager: holds the claim. Raises RankTakenError if another claimant holds it.

        Raises UnavailableError if the folder's lock stays busy for 10 seconds, and HomeError if the folder can't be
        written.
        """
        until = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                held = self.take(claim)
                break
            except BlockingIOError as error:
                if time.monotonic() > until:
                    raise UnavailableError(
                        "The folder `claims` of the home stays locked.",
                        remedy="End the process that holds the lock; it seems to hang.",
                    ) from error
                time.sleep(_LOOK_SECONDS)
            except OSError as error:
                raise home_error(error, self._folder, FOLDER, "written") from error
        if held is None:
            raise claim.taken_error()
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
    with suppress(OSError):  # the file belongs to another user
        os.fchmod(file, _ANYBODYS)
    return file


def _lock(file: int) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(file: int) -> None:
    import fcntl

    fcntl.flock(file, fcntl.LOCK_UN)
