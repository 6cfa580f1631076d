"""Downloads the files of a hub dataset before they are read, so that each is compared with its checksum as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from choline_data.adapters.base import LEFT_OUT, Source
from choline_data.catalog.planning import IngestPlan
from choline_data.places.fetching import drop, fetch
from choline_data.places.kept_files import kept_name
from choline_data.places.locations import is_url

SMALL_BYTES = 1 << 20
SMALL_FILES = 32  # if a source has fewer small files, downloading them before the plan is not worthwhile
MOST_BYTES = 4 << 30


def fetch_small(source: Source) -> None:
    """Downloads the small files of a hub dataset that has many. The plan reads the first bytes of each, which is slow
    one by one.
    """
    small = [
        file for file in source.files if is_url(file.path) and 0 <= file.size <= SMALL_BYTES and kept_name(file.path)
    ]
    if len(small) >= SMALL_FILES and sum(file.size for file in small) <= MOST_BYTES:
        fetch(file.path for file in small)


@contextmanager
def keep_downloaded(plan: IngestPlan, source: Source) -> Iterator[None]:
    """Context manager: downloads the files that the plan reads, and keeps them during the block. After a failure the
    files stay for the next try.

    With a limit nothing is downloaded beforehand, because the plan may need only a small part of the files.
    """
    left_out = {file.name for file in plan.account if file.role == LEFT_OUT}
    files = [
        file.path
        for file in source.files
        if not plan.limit and file.name not in left_out and is_url(file.path) and kept_name(file.path) is not None
    ]
    fetch(files)
    yield
    drop(files)
