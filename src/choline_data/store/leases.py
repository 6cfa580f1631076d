"""Leases: which writers are at work in a home, so that `gc` deletes nothing that one of them relies on.

A writer creates `leases/write-ID` before it writes anything, renews it while it works, and removes it at the end. `gc`
creates `leases/gc-ID`. Each writes its own object first and looks for the others after that, so of the two at least one
sees the other: `gc` keeps what it can't tell from the files of a writer, and a writer waits until `gc` has ended.

No clock of one host is compared with that of another. On one host the kernel says whether a holder lives, by a lock on
the file. Everywhere else the storage's own times are compared: that of a lease, and that of an object written just now.
"""

from __future__ import annotations

import copy
import errno
import logging
import os
import platform
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import orjson

from choline_data.errors import ConflictError, HomeError, SourceNotFoundError, UnavailableError
from choline_data.places import folders
from choline_data.places.home import Home

FOLDER, WRITE, GC = "leases", "write", "gc"
RENEW_SECONDS = 30.0
DEAD_SECONDS = 300.0  # a lease that was not renewed for so long has no holder any more
TRUST_SECONDS = 200.0  # its holder trusts it for less than that
WAIT_SECONDS = 900.0  # a writer waits for `gc` for so long
_LOOK_SECONDS, _LOOK_LIMIT = 0.02, 2.0
LOG = logging.getLogger("choline_data.store")


def clock() -> float:
    """Seconds that pass also while this host sleeps, where the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as the lease states it."""

    name: str
    what: str
    host: str

    @property
    def id(self) -> str:
        """The lease's id."""
        return self.name.rsplit("-", 1)[-1]

    @property
    def kind(self) -> str:
        """WRITE or GC."""
        return self.name.rpartition("/")[2].partition("-")[0]


class Lease:
    """A lease that this process holds. Renewed by a thread until it is released."""

    def __init__(self, home: Home, kind: str, what: str) -> None:
        self.home = home
        self._kind, self._what = kind, what
        self._file = -1
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._process = os.getpid()
        self._lost = False
        self.name = ""
        self._take()
        self._thread = threading.Thread(target=self._keep, name="choline-lease", daemon=True)
        self._thread.start()

    @property
    def id(self) -> str:
        """What names the lease, and the files that its holder has staged."""
        return self.name.rsplit("-", 1)[-1]

    def _take(self) -> None:
        began = clock()
        name = f"{FOLDER}/{self._kind}-{uuid.uuid4().hex}"
        body = {"version": 1, "what": self._what, "host": platform.node()}
        with self.home.writing(name):
            if self.home.local:
                self._create_locked(name, body)
            else:
                self._body = orjson.dumps(body)
                self.home.fs.pipe_file(self.home.path(name), self._body)
        self.name, self._renewed, self._lost = name, began, False

    def _create_locked(self, name: str, body: dict[str, Any]) -> None:
        # It gets its name only when it is locked: one without a lock would look like that of a dead holder.
        path = self.home.path(name)
        staged = self.home.staged()
        file = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            if _locked(file, exclusive=True):
                body = {**body, "kernel": _kernel(), "device": os.fstat(file).st_dev}
            try:
                os.write(file, orjson.dumps(body))
            except OSError as error:
                if self._kind != GC or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise  # `gc` has to work where there is no room: its lease says enough by its name
            folders.make(os.path.dirname(path))
            os.rename(staged, path)
        except BaseException:
            os.close(file)
            with suppress(OSError):
                os.unlink(staged)
            raise
        self._file = file

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            with self._lock, suppress(Exception):  # tried again next time; `valid` says when it is too late
                if not self._ended.is_set():
                    self.renew()

    def renew(self) -> None:
        """Shows that the holder lives. One that is late for that has lost the lease, and does not take it back."""
        began = clock()
        if not self.valid:
            return
        try:
            if self.home.local:
                os.utime(self.home.path(self.name))
            elif self.home.missing([self.name]):
                raise FileNotFoundError(self.name)
            else:
                self.home.fs.pipe_file(self.home.path(self.name), self._body)
        except FileNotFoundError:
            self._lost = True
        else:
            self._renewed = began

    @property
    def valid(self) -> bool:
        """Whether nobody can take the holder for dead yet. False after a long stop of the process or of the network."""
        return not self._lost and clock() - self._renewed < TRUST_SECONDS

    def secure(self) -> bool:
        """Makes sure of the lease. False where it was lost and another was taken: what was there may be gone."""
        with self._lock:
            self.renew()
            if self.valid:
                return True
            self._drop()
            self._take()
        self.wait_for_gc()
        return False

    def now(self) -> float:
        """The time by the clock of the storage, to compare with when objects were written."""
        with self._lock:
            self.renew()
        if self.valid:
            with suppress(FileNotFoundError):
                return self.home.modified(self.name)
        raise self.lost()

    def lost(self) -> ConflictError:
        """What a holder raises that others may have taken for dead."""
        return ConflictError(
            f"{self._what} was stopped for too long in {self.home.location}: others may take it for dead.",
            remedy="Run the same command again.",
        )

    def wait_for_gc(self, seconds: float = WAIT_SECONDS) -> None:
        """Returns when no `gc` is at work; UnavailableError where one is for so many seconds more."""
        until, pause, told = clock() + seconds, _LOOK_SECONDS, False
        while others(self.home, GC, self):
            if not told:
                LOG.warning("gc is at work in %s; waiting for its end.", self.home.location)
                told = True
            if clock() > until:
                raise UnavailableError(
                    f"gc has been at work in {self.home.location} for {seconds:.0f} seconds.",
                    remedy="Try again when it has ended. Nothing was published.",
                )
            self._ended.wait(pause)
            pause = min(pause * 2, _LOOK_LIMIT)

    def release(self) -> None:
        """Ends the lease."""
        self._ended.set()
        if os.getpid() != self._process:  # a forked child: the lease is its parent's
            return
        self._thread.join()
        with suppress(Exception):  # what is left of it is that of a dead holder
            self._drop()

    def _drop(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            with suppress(FileNotFoundError):
                os.unlink(self.home.path(self.name))
            os.close(file)
        else:
            self.home.remove(self.name)


@contextmanager
def writing(home: Home, what: str, *, patience: float = WAIT_SECONDS) -> Iterator[Home]:
    """The home for a writer: what it writes is safe from `gc` as long as the block runs. It waits for a `gc` at work.

    Within the block of another, in this process or in one that works for it, nothing is taken.
    """
    if home.holder:
        yield home
        return
    lease = Lease(home, WRITE, what)
    try:
        lease.wait_for_gc(patience)
        held = copy.copy(home)
        held.__dict__ |= home.__dict__  # also what is left out when it is sent to another process
        held.lease, held.holder = lease, lease.id
        yield held
    finally:
        lease.release()


def check_written(home: Home, names: Sequence[str]) -> None:
    """ConflictError where one of these objects is missing; asked right before something refers to them.

    A writer that was stopped for minutes may have been taken for dead, and its files for garbage.
    """
    if home.lease is not None:
        home.lease.secure()
    missing = home.missing(names)
    if missing:
        raise ConflictError(
            f"{len(missing)} of the {len(names)} files that were written are gone from {home.location}, such as {missing[0]}.",
            remedy="Run the same command again: it writes what is missing. Nothing was published.",
            missing=len(missing),
        )


def check_published(home: Home, names: Sequence[str]) -> None:
    """The same right after something refers to them, where this process may have been stopped in between."""
    if home.lease is None or home.lease.valid:
        return
    home.lease.secure()
    missing = home.missing(names)
    if missing:
        raise ConflictError(
            f"This process was stopped while it published, and {len(missing)} of the {len(names)} files are gone from "
            f"{home.location}, such as {missing[0]}.",
            remedy="Run the same command again: it writes what is missing.",
            missing=len(missing),
        )


def others(home: Home, kind: str, own: Lease) -> list[Holder]:
    """The holders of this kind of lease that live, as the holder of `own` sees them."""
    return [holder for holder, lives in look(home, own) if lives and holder.kind == kind]


def look(home: Home, own: Lease) -> list[tuple[Holder, bool]]:
    """All who hold or held a lease, but for `own`, and whether each of them lives."""
    found = (_look(home, name, own) for name in home.names(FOLDER) if name != own.name)
    return [(holder, lives) for holder, lives in found if lives is not None]


def _look(home: Home, name: str, own: Lease) -> tuple[Holder, bool | None]:
    """Who holds the lease, and whether the holder lives; None where the lease has just been released."""
    body: dict[str, Any] = {}
    holder = Holder(name, "a writer", "a host that is not known")
    try:
        body = orjson.loads(home.read(name))
        holder = Holder(name, str(body["what"]), str(body["host"]))
    except (SourceNotFoundError, FileNotFoundError):
        return holder, None
    except (OSError, HomeError, orjson.JSONDecodeError, KeyError, TypeError):
        body = {}
    now = own.now()
    try:
        if home.local and body.get("kernel") and body["kernel"] == _kernel():
            lives = _lock_is_held(home.path(name), body.get("device"))
            if lives is not None:
                return holder, lives
        return holder, now - home.modified(name) <= DEAD_SECONDS
    except (SourceNotFoundError, FileNotFoundError):
        return holder, None


def _kernel() -> str:
    """Names this run of this kernel, as seen from this container; "" where the system does not say."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {platform.node()}"
    except OSError:
        return ""


def _locked(file: int, *, exclusive: bool) -> bool:
    """Locks an open file; False where another has it, or where there are no such locks."""
    try:
        import fcntl

        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (OSError, ImportError):
        return False
    return True


def _lock_is_held(path: str, device: object) -> bool | None:
    """Whether a process of this kernel has the file locked; None where this mount of it can't tell."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(file).st_dev != device:
            return None
        return not _locked(file, exclusive=False)
    finally:
        os.close(file)
