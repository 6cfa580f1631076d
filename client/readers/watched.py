"""A DataLoader that notices within seconds when a worker dies, or when the script has no `if __name__ == "__main__"`
guard.

torch learns at once of the death of a process that it forked itself. It learns of other workers only after the loader's
timeout, because their parent is the fork server.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from typing import Any

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter, _MultiProcessingDataLoaderIter

from choline_data.errors import InvalidOptionError

LOOK_SECONDS = 2.0
_UNGUARDED = 78  # the exit status of a worker that tried to start workers itself while it imported the script


def _unguarded() -> InvalidOptionError:
    return InvalidOptionError(
        "Each worker imports the script, and the script starts workers when it is imported.",
        remedy='Put the code that iterates the loader under `if __name__ == "__main__":`.',
        option="num_workers",
    )


class WatchedMultiProcessingDataLoaderIter(_MultiProcessingDataLoaderIter):  # type: ignore[misc]
    """Looks every two seconds whether the workers are alive, whatever the timeout is."""

    def _try_get_data(self, timeout: float = LOOK_SECONDS) -> tuple[bool, Any]:
        until = time.monotonic() + timeout
        while True:
            rest = until - time.monotonic()
            received: tuple[bool, Any] = super()._try_get_data(max(min(rest, LOOK_SECONDS), 0.001))
            if received[0] or time.monotonic() >= until:
                return received

    def __next__(self) -> Any:
        try:
            return super().__next__()
        except RuntimeError as error:
            if any(worker.exitcode == _UNGUARDED for worker in self._workers):
                raise _unguarded() from error
            raise


class WatchedLoader(DataLoader[Any]):  # type: ignore[misc]
    """A DataLoader whose iterator watches its workers."""

    def _get_iterator(self) -> _BaseDataLoaderIter:
        if not self.num_workers:
            return super()._get_iterator()
        context = self.multiprocessing_context or multiprocessing
        if context.get_start_method() != "fork" and getattr(multiprocessing.current_process(), "_inheriting", False):
            sys.stdout.flush()
            # This process is a worker that imports the script. Its exit status makes the parent raise the error.
            os._exit(_UNGUARDED)
        try:
            return WatchedMultiProcessingDataLoaderIter(self)
        except (EOFError, ConnectionError) as error:
            raise _unguarded() from error
