"""Checks that an audit log is as it was written: no line was changed or removed, and its end was not cut off.

Each line carries the sha256 of the line before it in the same run. The file `FILE.head` has one line for each run, in the
order in which the runs began. The server writes the line of its run again after every line of the log:

    run (16 digits)  lines (12 digits)  sha256 of the last line (64 digits)

A rotated log is checked as the sequence of its files, oldest first. Anybody who can write both the log and its head file can
forge both: keep a copy of the head file on another machine.
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
    """Returns a run's line in the head file. It says where the log of this run ends."""
    return f"{run} {lines:012d} {last}\n".encode()


def heads_of(raw: bytes) -> dict[str, tuple[int, str]]:
    """Returns the number of lines and the last digest of each run, in the order of the head file.

    Raises ValueError if the file is not a head file.
    """
    out: dict[str, tuple[int, str]] = {}
    for line in raw.decode("ascii").splitlines():
        run, lines, last = line.split(" ")
        if len(line) + 1 != SLOT_BYTES or len(run) != 16 or len(last) != 64:
            raise ValueError("it is not a head file")
        out[run] = int(lines), last
    return out


@dataclass
class _Run:
    """One run of the server, as far as the check has read its lines."""

    headed: bool  # whether the head file must have a line for this run
    number: int  # which line of the head file belongs to the run, counted from 0
    lines: int = 0
    last: str = FIRST
    # by line number: the digest of the log line that the head file states as the last one
    at: dict[int, str] = field(default_factory=dict)


class Check:
    """Reads the files of a log, oldest first, and reports lines that were changed or removed."""

    def __init__(self, heads: Mapping[str, tuple[int, str]] | None = None, *, copy: bool = False) -> None:
        self._heads = heads
        self._copy = copy  # whether the head file is a copy, which may be older than the log
        self._runs: dict[str, _Run] = {}
        self._base: int | None = None  # how many runs began before the first line of these files
        self.notes: list[str] = []

    def broken(self, lines: Iterable[bytes]) -> Iterator[tuple[int, str]]:
        """Yields the wrong lines of a file: the number of each line, from 1, and what is wrong with the line."""
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
        """Yields faults at the ends of the runs: lines that were cut off. Call this after all files are read."""
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


def check_log(paths: Sequence[str], head: str = "") -> tuple[list[str], list[str]]:
    """Returns the faults of the log in these files, and notes that are not faults. Raises OSError if a file can't be read, and
    Raises ValueError if the head file is damaged.
    """
    try:
        with open(head or paths[-1] + SUFFIX, "rb") as file:
            # Read the head file first. The log may grow in the meantime, and then has more lines than the head file states.
            heads: dict[str, tuple[int, str]] | None = heads_of(file.read())
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
