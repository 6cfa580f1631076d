"""The audit log: who asked for what, when, from where, and what came of it. One JSON object a line, only ever appended.

Each line of a process carries the digest of the line before it, so that a line that was changed or taken out shows:
`python -m choline_data.service --check-audit FILE` says where. Names and digests only: no token, no text of a sample, no
text of a mix. Where a line can't be written the request is refused: what is not recorded does not happen.
"""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import os
import stat
import sys
import threading
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any, Protocol

import orjson

from choline_data.cursor import Cursor
from choline_data.errors import CholineDataError, InvalidOptionError, UnavailableError, one_line
from choline_data.recipe import Recipe
from choline_data.service import status

FIRST = "0" * 64


class Progress(Protocol):
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
        self.stream: Progress | None = None

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
        self._file = _opened(path) if path else -1
        self._lock = threading.Lock()
        self._before = FIRST
        self._torn = False  # whether the file ends within a line
        self.failures = 0
        self._run = uuid.uuid4().hex[:16]
        if self.on:
            self._record({"action": "serve", "outcome": "started", "process": os.getpid()})

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
        if not asked.dataset and "dataset" in error.metadata:
            told["dataset"] = one_line(status.redacted(error.metadata["dataset"]), 128)
        self._record_late(told)

    def ended(self, asked: Asked, outcome: str) -> None:
        """Records what a stream that was granted came to."""
        if self.on:
            self._record_late({**asked.told(), "outcome": outcome, **_sent(asked)})

    def _record(self, told: dict[str, Any]) -> None:
        with self._lock:
            line = {"time": datetime.now(UTC).isoformat(timespec="milliseconds"), "run": self._run, **told}
            body = orjson.dumps({**line, "before": self._before})
            whole = b"\n" * self._torn + body + b"\n"
            try:
                written = os.write(self._file, whole)
                self._torn = self._torn and not written
                if written != len(whole):
                    self._torn = True
                    raise OSError("a short write")
            except OSError as error:
                self.failures += 1
                raise UnavailableError(
                    "The server can't record the request, so it is refused.",
                    remedy="Its operator has to make room for the audit log.",
                ) from error
            self._before = hashlib.sha256(body).hexdigest()

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
            self._file = -1


def _opened(path: str) -> int:
    if path == "-":
        return sys.stderr.fileno()
    try:
        file = os.open(
            path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600
        )
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


def broken(lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """The numbers of the lines, from 1, at which an audit log is not what was written, each with what is wrong."""
    before: dict[str, str] = {}
    for number, raw in enumerate(lines, 1):
        body = raw.rstrip(b"\n")
        try:
            line = orjson.loads(body)
            run, told = line["run"], line["before"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            yield number, "is no line of an audit log"
            continue
        if told != before.get(run, FIRST):
            yield number, "does not follow the line before it: one was changed or taken out"
        before[run] = hashlib.sha256(body).hexdigest()
