"""Whether an audit log is as it was written: no line changed, none taken out, and its end not cut off.

A line carries the sha256 of the line before it of the same run. What the last line of each run is stands in the file
`FILE.head`, which the server writes after every line:

    run (16 digits)  lines (12 digits)  sha256 of the last line (64 digits)

one line for each run, in the order in which they began. A log that is rotated is checked as the sequence of its files,
oldest first. Who can write both the log and its head can forge both: keep a copy of the head on another machine.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

FIRST = "0" * 64
SLOT_BYTES = 95
SUFFIX = ".head"


def slot(run: str, lines: int, last: str) -> bytes:
    """The line of the head file that says where a run's log ends."""
    return f"{run} {lines:012d} {last}\n".encode()


def heads_of(raw: bytes) -> dict[str, tuple[int, str]]:
    """The lines and the last digest of each run, in their order; ValueError for what is no head file."""
    out: dict[str, tuple[int, str]] = {}
    for line in raw.decode("ascii").splitlines():
        run, lines, last = line.split(" ")
        if len(line) + 1 != SLOT_BYTES or len(run) != 16 or len(last) != 64:
            raise ValueError("no head file")
        out[run] = int(lines), last
    return out


@dataclass
class _Run:
    """What a log shows of a run."""

    headed: bool  # its end stands in the head file
    number: int  # its place there
    lines: int = 0
    last: str = FIRST
    at: dict[int, str] = field(default_factory=dict)  # the digest of the line that the head names


class Check:
    """Reads a log's files, oldest first, and says at which lines it is not what was written."""

    def __init__(self, heads: Mapping[str, tuple[int, str]] | None = None, *, copy: bool = False) -> None:
        self._heads = heads
        self._copy = copy  # of the head file, which may be older than the log
        self._runs: dict[str, _Run] = {}
        self._base: int | None = None  # runs that began before the first line
        self.notes: list[str] = []

    def broken(self, lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
        """The numbers of the lines of a file, from 1, that are wrong, each with what is wrong."""
        for number, raw in enumerate(lines, 1):
            body = raw.rstrip(b"\n")
            try:
                line = orjson.loads(body)
                run, before = str(line["run"]), str(line["before"])
            except (orjson.JSONDecodeError, KeyError, TypeError):
                yield number, "is no line of an audit log"
                continue
            seen = self._runs.get(run)
            if seen is None:
                seen = self._runs[run] = self._begun(run, line, before)
            if before != seen.last:
                yield number, "does not follow the line before it: one was changed or taken out"
            seen.lines += 1
            seen.last = hashlib.sha256(body).hexdigest()
            if self._heads and seen.lines == self._heads.get(run, (0, ""))[0]:
                seen.at[seen.lines] = seen.last

    def _begun(self, run: str, line: Mapping[str, Any], before: str) -> _Run:
        earlier = line.get("runs")
        if self._base is None:
            self._base = earlier if isinstance(earlier, int) else 0
        if line.get("outcome") != "continued":
            return _Run(isinstance(earlier, int), self._base if earlier is None else int(earlier))
        self.notes.append(f"run {run} goes on from a file that is not among these")
        lines = line.get("lines")
        return _Run(True, 0, lines if isinstance(lines, int) else 0, before)

    def ends(self) -> Iterator[str]:
        """What is wrong with where the runs end, once all files are read."""
        headed = [run for run, seen in self._runs.items() if seen.headed]
        if self._heads is None:
            if headed:
                yield "the head file is missing: it would show whether the end was cut off"
            return
        for run in headed:
            seen = self._runs[run]
            if run not in self._heads:
                if self._copy and seen.number >= len(self._heads):
                    self.notes.append(f"run {run} began after this copy of the head file was made")
                    continue
                yield f"the head file does not have run {run}: it was replaced"
                continue
            lines, last = self._heads[run]
            if lines > seen.lines:
                yield f"the end of run {run} was cut off: it has {seen.lines} lines of {lines}"
            elif lines and lines in seen.at and seen.at[lines] != last:
                yield f"line {lines} of run {run} is not the one that was written"
        for number, (run, (lines, _)) in enumerate(self._heads.items()):
            if run in self._runs or not lines:
                continue
            if number < (self._base or 0):
                self.notes.append(f"run {run} is in a file that is not among these")
            else:
                yield f"run {run} was cut off: all of its {lines} lines are missing"


def broken(lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
    """The same for one file alone, without its head."""
    return Check().broken(lines)


def checked(paths: Sequence[str], head: str = "") -> tuple[list[str], list[str]]:
    """What is wrong with a log in these files, and what else is to know; OSError or ValueError where one can't be read."""
    try:
        with open(head or paths[-1] + SUFFIX, "rb") as file:
            heads: dict[str, tuple[int, str]] | None = heads_of(file.read())  # before the log, which only grows
    except FileNotFoundError:
        if head:
            raise
        heads = None
    check = Check(heads, copy=bool(head))
    faults = []
    for path in paths:
        with open(path, "rb") as file:
            place = f"{path}: " if len(paths) > 1 else ""
            faults += [f"{place}line {number} {what}" for number, what in check.broken(file)]
    faults += check.ends()
    return faults, check.notes
