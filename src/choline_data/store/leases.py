"""Leases show which writers are active in a home, so that `gc` deletes nothing that a writer needs.

A writer creates `leases/write-ID` before it writes anything, renews it while it works, and removes it at the end. `gc`
creates `leases/gc-ID`. A writer and `gc` both first create their own lease and then look for other leases. So at least one of the
two sees the other. `gc` keeps every file that may belong to an active writer. A writer waits until `gc` has ended.

Clocks of different hosts are never compared. On one host a lock on the lease file shows whether its holder is alive.
For a lease of another host, two write times of the storage are compared: that of the lease, and that of an object written just now.
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
from choline_data.process.fault_points import reached

FOLDER, WRITE, GC = "leases", "write", "gc"
RENEW_SECONDS = 30.0
DEAD_SECONDS = 300.0  # a lease that was not renewed for this long counts as dead
TRUST_SECONDS = 200.0  # the holder relies on its lease for this long after a renewal: less than DEAD_SECONDS
WAIT_SECONDS = 900.0  # the longest time that a writer waits for `gc`
_LOOK_SECONDS, _LOOK_LIMIT = 0.02, 2.0
LOG = logging.getLogger("choline_data.store")


def clock() -> float:
    """Returns a clock in seconds. It continues while the host sleeps, if the system has such a clock."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease, as the content of the lease describes it."""

    name: str
    what: str
    host: str

    @property
    def id(self) -> str:
        """The id of the lease."""
        return self.name.rsplit("-", 1)[-1]

    @property
    def kind(self) -> str:
        """The kind of the lease: WRITE or GC."""
        return self.name.rpartition("/")[2].partition("-")[0]


class Lease:
    """A lease that this process holds. A thread renews it until it is released."""

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
        """The id of the lease. It is also part of the names of the temporary files of its holder."""
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
        reached("lease.created")

    def _create_locked(self, name: str, body: dict[str, Any]) -> None:
        # The file is locked before it gets its final name. Otherwise other processes would see it unlocked, and regard
        # its holder as dead.
        path = self.home.path(name)
        staged = self.home.new_staging_path()
        file = os.open(staged, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            if _lock_file(file, exclusive=True):
                body = {**body, "kernel": _kernel(), "device": os.fstat(file).st_dev}
            try:
                os.write(file, orjson.dumps(body))
            except OSError as error:
                if self._kind != GC or error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    # `gc` must work on a full disk. An empty lease is enough for it, because the name of the lease
                    # identifies the holder.
                    raise
            folders.make(os.path.dirname(path))
            reached("lease.staged")
            os.rename(staged, path)
        except BaseException:
            os.close(file)
            with suppress(OSError):
                os.unlink(staged)
            raise
        self._file = file

    def _keep(self) -> None:
        while not self._ended.wait(RENEW_SECONDS):
            # If the renewal fails, the next round of this loop tries again. `valid` tells when it is too late.
            with self._lock, suppress(Exception):
                if not self._ended.is_set():
                    self.renew()

    def renew(self) -> None:
        """Shows that the holder is alive. If it is too late for a renewal, the lease is lost and stays lost."""
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
        """Returns whether no other process can regard the holder as dead yet. False after a long pause of the process
        or the network.
        """
        return not self._lost and clock() - self._renewed < TRUST_SECONDS

    def secure(self) -> bool:
        """Renews the lease. If it was lost, takes a new lease and returns False: `gc` may have deleted the files
        written before.
        """
        with self._lock:
            self.renew()
            if self.valid:
                return True
            self._drop()
            self._take()
        self.wait_for_gc()
        return False

    def now(self) -> float:
        """Returns the present time by the storage's clock, for comparison with the modification times of objects."""
        with self._lock:
            self.renew()
        if self.valid:
            with suppress(FileNotFoundError):
                return self.home.modified_time(self.name)
        raise self.lost_error()

    def lost_error(self) -> ConflictError:
        """Returns the error for a holder that other processes may regard as dead."""
        return ConflictError(
            f"{self._what} was paused for too long in {self.home.location}: other processes may have concluded that it had ended.",
            remedy="Run the same command again.",
        )

    def wait_for_gc(self, seconds: float = WAIT_SECONDS) -> None:
        """Waits until no `gc` is active; UnavailableError if one is still active after this many seconds."""
        until, pause, warned = clock() + seconds, _LOOK_SECONDS, False
        while others(self.home, GC, self):
            if not warned:
                LOG.warning("gc is running in %s. Waiting until it ends.", self.home.location)
                warned = True
            if clock() > until:
                raise UnavailableError(
                    f"gc has been running in {self.home.location} for {seconds:.0f} seconds.",
                    remedy="Try again when it has ended. Nothing was published.",
                )
            self._ended.wait(pause)
            pause = min(pause * 2, _LOOK_LIMIT)

    def release(self) -> None:
        """Ends the renewal and removes the lease."""
        self._ended.set()
        if os.getpid() != self._process:  # In a forked child, the lease belongs to the parent.
            return
        self._thread.join()
        with suppress(Exception):  # a lease that could not be removed is regarded as dead later
            self._drop()

    def _drop(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            with suppress(FileNotFoundError):
                os.unlink(self.home.path(self.name))
            os.close(file)
        else:
            self.home.remove(self.name)
        reached("lease.released")


@contextmanager
def writing(home: Home, what: str, *, patience: float = WAIT_SECONDS) -> Iterator[Home]:
    """Context manager for a writer: waits for an active `gc`, then yields the home. `gc` does not delete what the
    writer writes inside the block.

    A home that comes from an enclosing block, in this process or in its parent, already has a lease, and no second one
    is taken. `what` names the writer in errors.
    """
    if home.holder:
        yield home
        return
    lease = Lease(home, WRITE, what)
    try:
        lease.wait_for_gc(patience)
        leased = copy.copy(home)
        leased.__dict__ |= home.__dict__  # also copies the attributes that pickling leaves out
        leased.lease, leased.holder = lease, lease.id
        yield leased
    finally:
        lease.release()


def check_written(home: Home, names: Sequence[str]) -> None:
    """Raises ConflictError if one of these objects is missing. Call it right before writing an object that refers to
    them.

    After a pause of minutes, others may have regarded this writer as dead, and `gc` may have deleted its files.
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
    """Repeats the check of `check_written` right after an object that refers to these objects was written. Does nothing
    if the lease is still valid.
    """
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
    """Returns the holders of leases of this kind that are alive, without the lease `own`."""
    return [holder for holder, lives in look(home, own) if lives and holder.kind == kind]


def look(home: Home, own: Lease) -> list[tuple[Holder, bool]]:
    """Returns the holder of every lease except `own`, and whether that holder is alive."""
    holders = (_look(home, name, own) for name in home.names(FOLDER) if name != own.name)
    return [(holder, lives) for holder, lives in holders if lives is not None]


def _look(home: Home, name: str, own: Lease) -> tuple[Holder, bool | None]:
    """Returns the holder of the lease, and whether it is alive; None if the lease has just been released."""
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
        return holder, now - home.modified_time(name) <= DEAD_SECONDS
    except (SourceNotFoundError, FileNotFoundError):
        return holder, None


def _kernel() -> str:
    """Identifies this boot of this kernel, as seen from this container; "" if the system does not provide it."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            return f"{file.read().strip()} {platform.node()}"
    except OSError:
        return ""


def _lock_file(file: int, *, exclusive: bool) -> bool:
    """Locks an open file. Returns False if another process holds the lock, or if file locks are not supported."""
    try:
        import fcntl

        fcntl.flock(file, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except (OSError, ImportError):
        return False
    return True


def _lock_is_held(path: str, device: object) -> bool | None:
    """Returns whether a process on this kernel holds a lock on the file; None if this mount does not show it."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if os.fstat(file).st_dev != device:
            return None
        return not _lock_file(file, exclusive=False)
    finally:
        os.close(file)
