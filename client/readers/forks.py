"""Fork safety: streams pause while a process forks, and a dataset learns which loader will start workers for it.

gRPC survives a fork only if no channel is open and none of its threads runs. Before a fork, every live stream of this
process stops its thread and closes its channel. It continues at the same sample when the next one is requested.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sys
import threading
import time
import weakref
from typing import Any, Protocol

from choline_data.client.ranks.frameworks import iterating


class Pausable(Protocol):
    """Interface of an object with a thread or a channel that must not exist during a fork."""

    def pause(self) -> bool:
        """Stops the thread and closes the channel. Returns False if that took too long."""


_live: weakref.WeakSet[Any] = weakref.WeakSet()
_datasets: weakref.WeakSet[Any] = weakref.WeakSet()
_unsafe = False
_forks = 0  # number of forks that are in progress in threads of this process
_OFF = ("0", "false", "f", "no", "n")  # values of GRPC_ENABLE_FORK_SUPPORT that turn gRPC's fork support off
_GRPC_THREADS = ("event_engine", "lifeguard", "grpc_", "timer_manager")
_LEAVE_SECONDS, _STILL_SECONDS = 5.0, 0.5
# the gRPC threads that belong to other code: the set of threads did not change for _STILL_SECONDS
_staying: frozenset[str] = frozenset()
_bound = False  # whether `end_with_parent` was already called in this worker


def watch(stream: Pausable) -> None:
    """Registers `stream` to be paused before each fork."""
    _live.add(stream)


def watch_dataset(dataset: object) -> None:
    """Registers `dataset`: before each fork, `dataset._expect` is called with the loader that iterates the dataset."""
    _datasets.add(dataset)


def unsafe() -> bool:
    """Returns whether this process was forked while its parent had a stream that could not be paused."""
    return _unsafe


def under_way() -> bool:
    """Returns whether a thread of this process is forking at the moment. Streams are then paused, and none may start."""
    return _forks > 0


def end_with_parent() -> None:
    """Makes this DataLoader worker exit as soon as its parent process is gone, whatever it is doing.

    torch's own watchdog checks only every five seconds. It misses a parent that died before the first check, and it
    cannot end a worker that is blocked on a full pipe that nobody reads.
    """
    global _bound
    parent = multiprocessing.parent_process()
    if parent is None or _bound:
        return
    _bound = True

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, name="ends with its parent", daemon=True).start()


def _grpc_threads() -> frozenset[str]:
    """Returns the ids of gRPC's own threads in this process. Empty on systems without /proc."""
    threads = set()
    try:
        for task in os.listdir("/proc/self/task"):
            # The thread may have ended since it was listed.
            with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm") as file:
                if file.read().startswith(_GRPC_THREADS):
                    threads.add(task)
    except OSError:
        pass
    return frozenset(threads)


def _wait_for_grpc() -> bool:
    """Waits until gRPC's threads end. They end some milliseconds after gRPC's last channel closes. Returns whether a fork is safe.

    If gRPC is half shut down at a fork, the child waits for threads that do not exist in it. If other code in this process has
    open channels, gRPC handles the fork itself, unless GRPC_ENABLE_FORK_SUPPORT turns that off.
    """
    global _staying
    if "grpc" not in sys.modules:
        return True
    supported = os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "1").lower() not in _OFF
    seen: frozenset[str] = frozenset()
    began = since = time.monotonic()
    while (threads := _grpc_threads()) and not (supported and threads == _staying):
        now = time.monotonic()
        if threads != seen:
            seen, since = threads, now
        elif now - since > _STILL_SECONDS:
            _staying = threads
            return supported
        if now - began > _LEAVE_SECONDS:
            return supported
        time.sleep(0.001)
    return True


def _before() -> None:
    global _forks, _unsafe
    _forks += 1
    for dataset in list(_datasets):
        dataset._expect(iterating(dataset))
    for stream in list(_live):
        if not stream.pause():
            _unsafe = True  # This value is for the child process. `_in_parent` sets it back in the parent.
    if not _wait_for_grpc():
        _unsafe = True


def _in_parent() -> None:
    global _forks, _unsafe
    _forks -= 1
    _unsafe = False


def _in_child() -> None:
    global _bound, _forks
    _bound, _forks = False, 0
    _live.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
