"""Forks: streams rest while a process forks, and a dataset learns which loader is about to start workers for it.

gRPC survives a fork only where no channel is open and no thread is in it. Before a fork every live stream of this
process stops its thread and closes its channel; it goes on from where it was when it is next asked for a sample.
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
    """Something with a thread or a channel that must not be there during a fork."""

    def pause(self) -> bool:
        """Stops the thread and closes the channel; False where that did not work in time."""


_live: weakref.WeakSet[Any] = weakref.WeakSet()
_datasets: weakref.WeakSet[Any] = weakref.WeakSet()
_unsafe = False
_forks = 0  # that threads of this process are in the middle of
_OFF = ("0", "false", "f", "no", "n")  # what GRPC_ENABLE_FORK_SUPPORT is where gRPC does nothing about forks
_GRPC_THREADS = ("event_engine", "lifeguard", "grpc_", "timer_manager")
_LEAVE_SECONDS, _STILL_SECONDS = 5.0, 0.5
_staying: frozenset[str] = frozenset()  # gRPC's threads that were still there after so long without a change
_bound = False  # this worker ends with the process that started it


def watch(stream: Pausable) -> None:
    """Has `stream` paused before each fork."""
    _live.add(stream)


def watch_dataset(dataset: object) -> None:
    """Has `dataset._expect(found)` called when a loader is about to fork workers for it."""
    _datasets.add(dataset)


def unsafe() -> bool:
    """Whether this process was forked while its parent had a stream that could not be paused."""
    return _unsafe


def under_way() -> bool:
    """Whether a thread of this process is about to fork: streams are at rest, and none may start."""
    return _forks > 0


def end_with_parent() -> None:
    """Has this process, a DataLoader's worker, end as soon as the one that started it is gone, whatever it is doing.

    torch's own watchdog looks every five seconds, sees nothing where the parent died before it first looked, and
    cannot end a worker whose batches fill a pipe that nobody reads any more.
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
    """The threads of gRPC's own in this process, as far as Linux tells."""
    found = set()
    try:
        for task in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError), open(f"/proc/self/task/{task}/comm") as file:  # it may have just ended
                if file.read().startswith(_GRPC_THREADS):
                    found.add(task)
    except OSError:
        pass
    return frozenset(found)


def _settled() -> bool:
    """Waits out gRPC's threads, which end some milliseconds after its last channel is closed; whether a fork is safe.

    A child of a gRPC that is half shut down waits for threads which it does not have. Those of a gRPC at work, for
    channels that are none of ours, gRPC sees to itself, unless GRPC_ENABLE_FORK_SUPPORT tells it not to.
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
            _unsafe = True  # the child reads this; the parent forgets it below
    if not _settled():
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
