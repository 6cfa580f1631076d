"""Runs an ingestion in several processes on this machine.

Each worker asks for a unit, reads it, and asks for the next one while its last file syncs. So a slow worker does not delay
the others, and no core waits for the disk.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerProcess
from typing import Any

from choline_data.catalog import processes
from choline_data.catalog.ingest import Progress, UnitResult, run_here
from choline_data.catalog.planning import IngestPlan, Unit
from choline_data.errors import UnavailableError
from choline_data.places import apart
from choline_data.places.home import Home


def run_beside(
    plan: IngestPlan, home: Home, units: Sequence[Unit], workers: int, progress: Progress | None = None
) -> Iterator[UnitResult]:
    """Runs the units in up to `workers` processes. Yields the results as the units are completed. An error in one
    process ends all processes.
    """
    left = iter(in_turn(plan, units))
    sizes = {unit.number: _size(unit) for unit in units}
    crew: dict[Connection[Any, Any], ForkServerProcess] = {}
    notes: dict[ForkServerProcess, Any] = {}
    workers_started: list[ForkServerProcess] = []
    try:
        for _ in range(min(workers, len(units))):
            connection, process, notes_here = _start(plan, home)
            crew[connection] = process
            notes[process] = notes_here
            workers_started.append(process)
        while crew:
            for ready in wait(list(crew)):
                assert isinstance(ready, Connection)
                try:
                    message = ready.recv()
                    if message is None:
                        ready.send(next(left, None))
                except (EOFError, OSError):
                    ended = crew.pop(ready)
                    _check_ended(ended, notes[ended])
                    continue
                if isinstance(message, Exception):
                    raise message
                if message is not None:
                    if progress is not None:
                        progress(message.rows, sizes[message.number])
                    yield message
    finally:
        for process in crew.values():
            process.terminate()
        for process in workers_started:
            process.join()
            # The parent removes the staged files of a worker that was stopped before it could do so.
            home.drop_staged(process.pid or 0)


def in_turn(plan: IngestPlan, units: Sequence[Unit]) -> list[Unit]:
    """Returns the units in the order of processing: the biggest first, so that no big unit runs alone at the end.

    With a limit, the source order is kept, because the first rows are needed.
    """
    return list(units) if plan.limit else sorted(units, key=_size, reverse=True)


def _size(unit: Unit) -> int:
    return sum(max(shard.size, 0) for _, shard in unit.shards)


def _start(plan: IngestPlan, home: Home) -> tuple[Connection[Any, Any], ForkServerProcess, Any]:
    """Starts a worker. Returns the connection to it, its process, and the buffer in which it records the file that it
    reads.
    """
    context = processes.context(__name__)
    ours, theirs = context.Pipe()
    note = context.RawArray("c", apart.NOTE_BYTES)
    process = context.Process(target=_work, args=(plan, home, theirs, note), daemon=True)
    process.start()
    theirs.close()
    return ours, process, note


def _check_ended(process: ForkServerProcess, note: Any) -> None:
    process.join()
    if process.exitcode:
        if -process.exitcode in apart.CRASHES:
            raise apart.crash_error(-process.exitcode, apart.name_in_note(note))
        how = f"signal {-process.exitcode}" if process.exitcode < 0 else f"exit code {process.exitcode}"
        raise UnavailableError(
            f"A worker process ended before its work was done ({how}). Nothing was published.",
            remedy="If memory ran out, use fewer --workers; otherwise run it again.",
        )


def _work(plan: IngestPlan, home: Home, parent: Connection[Any, Any], note: Any) -> None:
    """Runs the loop of a worker. Ends when no units are left, the parent terminates it, or the parent is gone."""
    apart.note_in(note)
    # A Ctrl-C also reaches the parent process, which then ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        try:
            for result in run_here(plan, home, _asked(parent)):
                parent.send(result)
        except (EOFError, BrokenPipeError):
            return
        except Exception as error:  # noqa: BLE001 - carried to the parent, which raises it
            parent.send(error)
    finally:
        parent.close()


def _asked(parent: Connection[Any, Any]) -> Iterator[Unit]:
    while True:
        parent.send(None)
        unit = parent.recv()
        if unit is None:
            return
        yield unit
