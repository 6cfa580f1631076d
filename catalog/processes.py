"""The fork server for worker processes of an ingestion. It starts before there is work for them."""

from __future__ import annotations

import multiprocessing
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext

# Modules that every ingestion needs. The fork server imports them once, instead of each worker.
FORMATS = (
    "choline_data.adapters.mapping.forms",
    "choline_data.adapters.parquet",
    "choline_data.adapters.jsonl",
)


def context(*modules: str) -> ForkServerContext:
    """Returns the multiprocessing context for workers: a fork server that has imported their modules.

    Plain fork is not safe: the parent may have threads (progress bar, Arrow's pool), and a lock held at the fork stays locked.
    """
    context_of_workers = multiprocessing.get_context("forkserver")
    context_of_workers.set_forkserver_preload([*modules, *FORMATS])
    return context_of_workers


def start_server(*modules: str) -> None:
    """Starts the fork server, which begins to import these modules at once, in parallel with this process. It ends with
    this process.
    """
    context(*modules)
    forkserver.ensure_running()
