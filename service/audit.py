"""The audit log: who asked for what, when, from where, and what came of it. One JSON object a line, only ever appended.

Each line of a process carries the digest of the line before it, and `FILE.head` says which line is the last, so that a
line that was changed or taken out shows, and an end that was cut off: `python -m choline_data.service --check-audit FILE`
says where. `reopen` goes on in another file after a rotation, and the chain with it. Names and digests only: no token, no
text of a sample, no text of a mix. Where a line can't be written the request is refused: what is not recorded does not
happen.
"""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import hashlib
import os
import stat
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from choline_data.errors import CholineDataError, InvalidOptionError, UnavailableError, one_line
from choline_data.order.cursor import Cursor
from choline_data.order.recipe import Recipe
from choline_data.service import status
from choline_data.service.audit_check import FIRST, SLOT_BYTES, SUFFIX, slot
from choline_data.service.peers import network_of

GUESSES_SECONDS = 60.0


class StreamProgress(Protocol):
    """What a stream has sent so far."""

    rows: int
    start: int

    @property
    def cursor(self) -> str:
        """Where to resume after it."""


class Asked:
    """One request on its way: what the handlers find out about it, and what its stream has sent."""

    def __init__(self, action: str, peer: str) -> None:
        self.id = uuid.uuid4().hex[:16]
        self.action = action
        self.peer = peer
        self.principal = ""
        self.recipe: Recipe | None = None
        self.dataset = ""
        self.granted = False
        self.stream: StreamProgress | None = None

    def told(self) -> dict[str, Any]:
        """What is known of it by now."""
        told: dict[str, Any] = {"request": self.id, "action": self.action, "peer": self.peer}
        if self.principal:
            told["principal"] = self.principal
        if self.dataset:
            told["dataset"] = one_line(self.dataset, 128)
        if self.recipe is not None:
            told["recipe"] = self.recipe.digest
            names = sorted({f"{source.dataset}@{source.revision[:12]}" for source in self.recipe.sources})
            told["datasets"] = names[:64]
            if len(names) > 64:
                told["more_datasets"] = len(names) - 64
        return told


class Audit:
    """Appends to a file, or to standard error for `-`; without either it does nothing."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = _opened(path) if path else -1
        self._lock = threading.Lock()
        self._before = FIRST
        self._lines = 0
        self._torn = False  # whether the file ends within a line
        self.failures = 0
        self._guesses: dict[str, tuple[float, int]] = {}  # by address: when one was recorded, and how many came since
        self._run = uuid.uuid4().hex[:16]
        self._head: Head | None = None
        if self.on:
            told: dict[str, Any] = {"action": "serve", "outcome": "started", "process": os.getpid()}
            if path != "-":
                self._head = Head(path + SUFFIX, self._run)
                told["runs"] = self._head.number
            self._record(told)

    @property
    def on(self) -> bool:
        """Whether anything is recorded."""
        return self._file >= 0

    def granted(self, asked: Asked) -> None:
        """Records that what was asked for is about to be given; UnavailableError where it can't be recorded."""
        if self.on and not asked.granted:
            asked.granted = True
            self._record({**asked.told(), "outcome": "granted"})

    def refused(self, asked: Asked, error: CholineDataError) -> None:
        """Records a refusal or a failure, by its reason."""
        if not self.on:
            return
        told = {**asked.told(), "outcome": "refused", "reason": error.reason, **_sent(asked)}
        if error.metadata.get("setting") == "auth_failures":
            refusals = self._guessed(asked.peer)
            if not refusals:
                return
            told["refusals"] = refusals
        if not asked.dataset and "dataset" in error.metadata:
            told["dataset"] = one_line(status.redacted(error.metadata["dataset"]), 128)
        self._record_late(told)

    def _guessed(self, peer: str) -> int:
        """How many throttled guesses of an address to record now as one line, or 0 to wait: guessing must not fill the disk."""
        address, now = network_of(peer), time.monotonic()
        with self._lock:
            at, count = self._guesses.pop(address, (-GUESSES_SECONDS, 0))
            due = now - at >= GUESSES_SECONDS
            self._guesses[address] = (now, 0) if due else (at, count + 1)
            while len(self._guesses) > 1024:
                del self._guesses[next(iter(self._guesses))]
        return count + 1 if due else 0

    def ended(self, asked: Asked, outcome: str) -> None:
        """Records what a stream that was granted came to."""
        if self.on:
            self._record_late({**asked.told(), "outcome": outcome, **_sent(asked)})

    def _record(self, told: dict[str, Any]) -> None:
        with self._lock:
            self._append(told)

    def _append(self, told: dict[str, Any]) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "run": self._run, **told}
        body = orjson.dumps({**line, "before": self._before})
        whole = b"\n" * self._torn + body + b"\n"
        try:
            written = os.write(self._file, whole)
            self._torn = self._torn and not written
            if written != len(whole):
                self._torn = True
                raise OSError("a short write")
            self._before = hashlib.sha256(body).hexdigest()
            self._lines += 1
            if self._head is not None:
                self._head.write(self._lines, self._before)
        except OSError as error:
            self.failures += 1
            raise UnavailableError(
                "The server can't record the request, so it is refused.",
                remedy="Its operator has to make room for the audit log.",
            ) from error

    def reopen(self) -> None:
        """Goes on in the file that now has the log's name, where that is another one; the chain goes on with it."""
        if not self.on or self._path == "-":
            return
        try:
            file = _opened(self._path)
        except InvalidOptionError as error:
            status.LOG.error("%s The old file goes on.", error.message)
            return
        with self._lock, contextlib.suppress(UnavailableError):  # a failure is counted, and shows at the next request
            if _same(file, self._file):
                os.close(file)
                return
            old, self._file = self._file, file
            os.close(old)
            self._torn = False
            runs = self._head.runs() if self._head is not None else 0
            self._append({"action": "serve", "outcome": "continued", "lines": self._lines, "runs": runs})
        status.LOG.info("The audit log goes on in a new file.")

    def _record_late(self, told: dict[str, Any]) -> None:
        """Records what is over already: a failure is counted, and shows at the next request."""
        with contextlib.suppress(UnavailableError):
            self._record(told)

    def close(self) -> None:
        """Records the end and lets the file go."""
        if self.on:
            self._record_late({"action": "serve", "outcome": "stopped"})
            if self._file != sys.stderr.fileno():
                os.close(self._file)
            if self._head is not None:
                self._head.close()
            self._file = -1


class Head:
    """The line of one run in the head file: how many lines its log has, and the digest of the last."""

    def __init__(self, path: str, run: str) -> None:
        self._run = run
        self._file = _opened(path, os.O_RDWR)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            self.number = os.fstat(self._file).st_size // SLOT_BYTES
            self.write(0, FIRST)
            fcntl.flock(self._file, fcntl.LOCK_UN)
        except OSError as error:
            os.close(self._file)
            raise InvalidOptionError(
                "--audit: its head file can't be written.", remedy=f"Make room for {path}.", option="audit"
            ) from error

    def write(self, lines: int, last: str) -> None:
        """Says that the log of the run has so many lines, of which this is the digest of the last."""
        written = os.pwrite(self._file, slot(self._run, lines, last), self.number * SLOT_BYTES)
        if written != SLOT_BYTES:
            raise OSError("a short write")

    def runs(self) -> int:
        """How many runs have begun."""
        return os.fstat(self._file).st_size // SLOT_BYTES

    def close(self) -> None:
        """Lets the file go."""
        os.close(self._file)


def _same(one: int, other: int) -> bool:
    """Whether two descriptors are of one file."""
    a, b = os.fstat(one), os.fstat(other)
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def _opened(path: str, how: int = os.O_WRONLY | os.O_APPEND) -> int:
    if path == "-":
        return sys.stderr.fileno()
    try:
        file = os.open(path, how | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise InvalidOptionError(
            "--audit: the file can't be written.", remedy="Give a file, or - for standard error.", option="audit"
        ) from error
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise InvalidOptionError(
            "--audit is no regular file.", remedy="Give a file, or - for standard error.", option="audit"
        )
    return file


def _sent(asked: Asked) -> dict[str, Any]:
    """From where to where a stream came."""
    stream = asked.stream
    if stream is None:
        return {}
    return {"from": stream.start, "to": Cursor.decode(stream.cursor).position, "rows": stream.rows}


CURRENT: contextvars.ContextVar[Asked | None] = contextvars.ContextVar("asked", default=None)
