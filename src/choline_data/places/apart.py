"""A child process for work that a hostile file may crash.

Some files make a native library abort or access invalid memory. No `except` catches that. `add` therefore does its work
in a child process. If a file crashes the child, the parent survives and reports one error that names the file.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import IO, Any

from choline_data.errors import CholineDataError, SourceDamagedError, UnavailableError, one_line
from choline_data.places.locations import redacted

NOTE_BYTES = 4096
CRASHES = frozenset(
    getattr(signal, name).value
    for name in ("SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV", "SIGSYS", "SIGTRAP")
    if hasattr(signal, name)
)
_PASSED_ON = ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
_SHOWN_BYTES = 64 << 10
_PARENT_DEATH_SIGNAL = 1  # the prctl option PR_SET_PDEATHSIG: the signal that this process gets when its parent ends

_note: Any = None


def note_in(buffer: Any) -> None:
    """Sets the shared buffer of NOTE_BYTES that `note` writes to. The parent process reads it after a crash."""
    global _note
    _note = buffer


def note(name: str) -> None:
    """Records the file that this process reads now. Call it for each file that is opened; the cost is negligible."""
    if _note is not None:
        raw = name.encode("utf-8", "replace")[: NOTE_BYTES - 2]
        _note[: len(raw) + 2] = len(raw).to_bytes(2, "little") + raw


def name_in_note(buffer: Any) -> str:
    """Returns the file name in the buffer, without credentials; "" if there is none."""
    length = int.from_bytes(bytes(buffer[:2]), "little")
    return redacted(bytes(buffer[2 : 2 + length]).decode("utf-8", "replace"))


def crash_error(number: int, name: str, why: str = "") -> CholineDataError:
    """Returns the error for a process that crashed with signal `number` while it read the file `name` ("" if unknown)."""
    how = signal.Signals(number).name
    if not name:
        return UnavailableError(
            f"The process that did the work crashed ({how}){f': {why}' if why else ''}.",
            remedy="Run it again; if it crashes again, report it.",
        )
    return SourceDamagedError(
        f"{name}: the library that reads it crashed ({how}{f': {why}' if why else ''}). Nothing was published.",
        remedy="The file is damaged, or uses a feature that the library cannot read: leave it out, or write it again.",
    )


def run_apart(work: Callable[[], None], on_crash: Callable[[int], None] | None = None) -> None:
    """Runs `work` in a forked child. The child then continues the program from here; this process only waits for it.

    This process exits with the child's exit code or signal. If the child crashed, `on_crash` is called with its pid, and
    the error that names the file is raised in this process. The work runs in this process, without a child, if the system
    has no usable `fork`, if Python's stdout or stderr is replaced, or if other threads run.
    """
    if not _can_fork():
        work()
        return
    buffer = mmap.mmap(-1, NOTE_BYTES)
    sys.stdout.flush()
    sys.stderr.flush()
    with _unnamed_file() as library_output:
        parent = os.getpid()
        child = os.fork()
        if not child:
            _become_the_program(parent, library_output)
            note_in(buffer)
            try:
                work()
            finally:
                note("")
            return
        status = _wait_for(child)
        _end_as(status, child, buffer, library_output, on_crash)


def _can_fork() -> bool:
    return (
        hasattr(os, "fork")
        and sys.platform != "darwin"  # the system libraries of macOS do not support a fork that is not followed by exec
        and threading.active_count() == 1
        and sys.stdout is sys.__stdout__
        and sys.stderr is sys.__stderr__
        and sys.stderr is not None
    )


def _unnamed_file() -> IO[bytes]:
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("said"), "w+b")
    return tempfile.TemporaryFile()


def _become_the_program(parent: int, stderr_file: IO[bytes]) -> None:
    """Makes the child end when the parent ends, and redirects the stderr of native libraries to the file `stderr_file`.

    Python's own stderr stays unchanged.
    """
    import ctypes

    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    ours = os.dup(2)
    os.dup2(stderr_file.fileno(), 2)
    sys.stderr = open(ours, "w", buffering=1, errors="backslashreplace")  # noqa: SIM115 - for good


def _wait_for(child: int) -> int:
    """Waits for the child and returns its exit status. Forwards termination signals to the child while it waits."""

    def pass_on(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    for name in _PASSED_ON:
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), pass_on)
    while True:
        _, status = os.waitpid(child, 0)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            return status


def _end_as(
    status: int, child: int, buffer: mmap.mmap, stderr_file: IO[bytes], on_crash: Callable[[int], None] | None
) -> None:
    stderr_file.seek(0)
    written = stderr_file.read(_SHOWN_BYTES)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) in CRASHES:
        if on_crash is not None:
            on_crash(child)
        raise crash_error(os.WTERMSIG(status), name_in_note(buffer), _reason(written))
    if os.WIFEXITED(status):
        code = os.WEXITSTATUS(status)
        if not code:  # otherwise the child has already printed its error on one line
            os.write(2, written)
        os._exit(code)  # the child has already run the exit handlers
    number = os.WTERMSIG(status)
    if number == signal.SIGKILL:
        reading = name_in_note(buffer)
        where = f" while it read {one_line(reading, 200)}" if reading else ""
        os.write(2, f"Killed{where}: perhaps memory ran out. Run it again.\n".encode())
    else:
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
    os._exit(128 + number)


def _reason(written: bytes) -> str:
    """Returns the first line that the library wrote to stderr before it crashed, without the source location at its
    start.
    """
    for line in written.decode("utf-8", "replace").splitlines():
        if line.strip():
            return one_line(line.rpartition(": ")[2].strip() or line, 120)
    return ""
