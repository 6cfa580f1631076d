"""The processes that ingest beside each other, started before there is work for them."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

# What every ingestion needs: loaded once and not in each worker.
FORMATS = (
    "choline_data.adapters.mapping.forms",
    "choline_data.adapters.parquet",
    "choline_data.adapters.jsonl",
)


def context(*modules: str) -> ForkServerContext:
    """Where workers come from: a server that has imported what they need.

    Not fork: the parent may hold threads (progress bar, arrow's pool), and a forked lock stays locked.
    """
    made = multiprocessing.get_context("forkserver")
    made.set_forkserver_preload([*modules, *FORMATS])
    return made


def start_server(*modules: str) -> None:
    """Starts that server, which imports these modules while this process plans; it ends with this process."""
    context(*modules)
    forkserver.ensure_running()
