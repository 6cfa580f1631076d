"""Prepares the process of `add`, which copies much data and then ends, before NumPy and Arrow are imported."""

from __future__ import annotations

import gc
import os

# Arrow's allocator returns memory to the system after some milliseconds and asks for it again, which costs a page fault
# for each page. NumPy starts a thread for each core, and nothing here multiplies matrices.
_SETTINGS = {"MIMALLOC_PURGE_DELAY": "-1", "OPENBLAS_NUM_THREADS": "1"}
_OBJECTS = 20_000  # number of new objects between two runs of the garbage collector


def prepare_process(*, workers: bool) -> None:
    """Sets up this process and its children. Variables that the user has set stay. With `workers`, starts their server."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)
    gc.set_threshold(_OBJECTS, *gc.get_threshold()[1:])
    if workers:
        from choline_data.catalog.processes import start_server

        # The worker server imports the same modules as this process, at the same time.
        start_server("choline_data.catalog.crew")
