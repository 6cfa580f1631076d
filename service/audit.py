"""The audit log: who requested what, when, from which address, and the outcome. Each line is a JSON object; lines are only
appended.

Each line of a process carries the digest of the line before it, and `FILE.head` has the digest of the last line. So
`python -m choline_data.service --check-audit FILE` finds lines that were changed or removed, and an end that was cut
off. After a rotation, `reopen` continues the log and its chain of digests in another file. The log has names and
digests only: no token, no text of a sample, no text of a mix. If a line can't be written, the request is refused, so no
request is granted without a record.
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
        """Where to resume after the samples that were sent."""


class RequestRecord:
    """The record of one request: what the handlers know about it, and the progress of its stream."""

    def __init__(self, action: str, peer: str) -> None:
        self.id = uuid.uuid4().hex[:16]
        self.action = action
        self.peer = peer
        self.principal = ""
        self.recipe: Recipe | None = None
        self.dataset = ""
        self.is_granted = False
        self.stream: StreamProgress | None = None

    def fields(self) -> dict[str, Any]:
        """Returns the fields of a log line: all that is known about the request so far."""
        fields: dict[str, Any] = {"request": self.id, "action": self.action, "peer": self.peer}
        if self.principal:
            fields["principal"] = self.principal
        if self.dataset:
            fields["dataset"] = one_line(self.dataset, 128)
        if self.recipe is not None:
            fields["recipe"] = self.recipe.digest
            names = sorted({f"{source.dataset}@{source.revision[:12]}" for source in self.recipe.sources})
            fields["datasets"] = names[:64]
            if len(names) > 64:
                fields["more_datasets"] = len(names) - 64
        return fields


class Audit:
    """Appends to the file `path`, or to standard error for `-`. With an empty path it does nothing."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = _opened(path) if path else -1
        self._lock = threading.Lock()
        self._before = FIRST
        self._lines = 0
        self._torn = False  # whether the file ends with an incomplete line
        self.failures = 0
        # for each address: the time of its last line in the log, and the number of refusals since then
        self._guesses: dict[str, tuple[float, int]] = {}
        self._run = uuid.uuid4().hex[:16]
        self._head: Head | None = None
        if self.on:
            line: dict[str, Any] = {"action": "serve", "outcome": "started", "process": os.getpid()}
            if path != "-":
                self._head = Head(path + SUFFIX, self._run)
                line["runs"] = self._head.number
            self._record(line)

    @property
    def on(self) -> bool:
        """Whether requests are recorded."""
        return self._file >= 0

    def record_grant(self, record: RequestRecord) -> None:
        """Records that the request is granted, once for each request. Raises UnavailableError if it can't be recorded."""
        if self.on and not record.is_granted:
            record.is_granted = True
            self._record({**record.fields(), "outcome": "granted"})

    def record_refusal(self, record: RequestRecord, error: CholineDataError) -> None:
        """Records that a request was refused or failed, with the reason."""
        if not self.on:
            return
        line = {**record.fields(), "outcome": "refused", "reason": error.reason, **_stream_fields(record)}
        if error.metadata.get("setting") == "auth_failures":
            refusals = self._refusals_to_record(record.peer)
            if not refusals:
                return
            line["refusals"] = refusals
        if not record.dataset and "dataset" in error.metadata:
            line["dataset"] = one_line(status.redacted(error.metadata["dataset"]), 128)
        self._record_late(line)

    def _refusals_to_record(self, peer: str) -> int:
        """Counts a refusal of an address. Returns how many of its refusals to record in one line now, or 0 to record
        none yet. At most one line a minute is recorded for an address, so that guessing tokens can't fill the disk.
        """
        address, now = network_of(peer), time.monotonic()
        with self._lock:
            at, count = self._guesses.pop(address, (-GUESSES_SECONDS, 0))
            due = now - at >= GUESSES_SECONDS
            self._guesses[address] = (now, 0) if due else (at, count + 1)
            while len(self._guesses) > 1024:
                del self._guesses[next(iter(self._guesses))]
        return count + 1 if due else 0

    def record_end(self, record: RequestRecord, outcome: str) -> None:
        """Records the outcome of a stream that was granted."""
        if self.on:
            self._record_late({**record.fields(), "outcome": outcome, **_stream_fields(record)})

    def _record(self, fields: dict[str, Any]) -> None:
        with self._lock:
            self._append(fields)

    def _append(self, fields: dict[str, Any]) -> None:
        line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "run": self._run, **fields}
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
                remedy="Its operator must make room for the audit log.",
            ) from error

    def reopen(self) -> None:
        """Continues in a new file with the log's name, if the log was renamed. The chain of digests continues too."""
        if not self.on or self._path == "-":
            return
        try:
            file = _opened(self._path)
        except InvalidOptionError as error:
            status.LOG.error("%s The server keeps writing to the old file.", error.message)
            return
        # The failure is counted. If writing still fails, the next request is refused.
        with self._lock, contextlib.suppress(UnavailableError):
            if _same(file, self._file):
                os.close(file)
                return
            old, self._file = self._file, file
            os.close(old)
            self._torn = False
            runs = self._head.runs() if self._head is not None else 0
            self._append({"action": "serve", "outcome": "continued", "lines": self._lines, "runs": runs})
        status.LOG.info("The audit log continues in a new file.")

    def _record_late(self, fields: dict[str, Any]) -> None:
        """Records a request that has already ended. A failure to record is counted. If writing still fails, the next
        request is refused.
        """
        with contextlib.suppress(UnavailableError):
            self._record(fields)

    def close(self) -> None:
        """Records the end and closes the files."""
        if self.on:
            self._record_late({"action": "serve", "outcome": "stopped"})
            if self._file != sys.stderr.fileno():
                os.close(self._file)
            if self._head is not None:
                self._head.close()
            self._file = -1


class Head:
    """The line in the head file for this run of the server. It has the number of lines that the run has logged, and the
    digest of the last one.
    """

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
        """Writes into the head file that the run has logged `lines` lines, and that `last` is the digest of the last line."""
        written = os.pwrite(self._file, slot(self._run, lines, last), self.number * SLOT_BYTES)
        if written != SLOT_BYTES:
            raise OSError("a short write")

    def runs(self) -> int:
        """Returns how many runs of the server the head file has."""
        return os.fstat(self._file).st_size // SLOT_BYTES

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


def _same(one: int, other: int) -> bool:
    """Whether two descriptors refer to the same file."""
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
            "--audit is not a regular file.", remedy="Give a file, or - for standard error.", option="audit"
        )
    return file


def _stream_fields(record: RequestRecord) -> dict[str, Any]:
    """Returns the log fields of a stream: its first position, the position at which to resume, and the number of rows sent."""
    stream = record.stream
    if stream is None:
        return {}
    return {"from": stream.start, "to": Cursor.decode(stream.cursor).position, "rows": stream.rows}


CURRENT: contextvars.ContextVar[RequestRecord | None] = contextvars.ContextVar("asked", default=None)
