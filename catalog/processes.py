"""The processes that ingest beside each other, started before there is work for them."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

# Loaded once and not in each worker.
PRELOADED = (
    "choline_data.catalog.crew",
    "choline_data.adapters.mapping.forms",
    "choline_data.adapters.parquet",
    "choline_data.adapters.jsonl",
)


def context() -> ForkServerContext:
    """Where workers come from: a server that has imported what they need.

    Not fork: the parent may hold threads (progress bar, arrow's pool), and a forked lock stays locked.
    """
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload(list(PRELOADED))
    return made


def start_server() -> None:
    """Starts that server, which imports while this process plans; it ends with this process."""
    context()
    forkserver.ensure_running()
