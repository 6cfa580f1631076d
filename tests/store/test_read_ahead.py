"""Blocks that are not in memory are read from the disk at once, and the bytes around them are not."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from choline_data.columns.ipc import Header
from choline_data.places.home import Home
from choline_data.process.read_ahead import in_memory
from choline_data.store import BlockFile, BlockWriter
from choline_data.store.blocks import data_name

SCHEMA = pa.schema([("text", pa.large_binary())])
BLOCKS, BLOCK_BYTES = 160, 400_000


@pytest.fixture(scope="module")
def cold(tmp_path_factory: pytest.TempPathFactory) -> tuple[BlockFile, list[int]]:
    """A store file of 64 MB that is not in the page cache, and where the text of each block begins."""
    home = Home(tmp_path_factory.mktemp("cold") / "home")
    writer = BlockWriter(home, SCHEMA, 1)
    for number in range(BLOCKS):
        writer.write(pa.record_batch([pa.array([bytes([number]) * BLOCK_BYTES], pa.large_binary())], schema=SCHEMA))
    written = writer.close()
    assert written is not None
    opened = BlockFile(home, written.sha256, SCHEMA, written.bytes)
    path = Path(home.location) / data_name(written.sha256)
    content = path.read_bytes()
    starts = [content.index(bytes([number]) * BLOCK_BYTES) for number in range(BLOCKS)]
    file = os.open(path, os.O_RDONLY)
    os.fsync(file)
    try:
        for _ in range(20):  # the kernel keeps pages that it wrote a moment ago
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            if not _resident(opened):
                return opened, starts
            time.sleep(0.1)
    finally:
        os.close(file)
    pytest.skip("this file system keeps its files in memory")


def _resident(opened: BlockFile) -> int:
    """Bytes of the mapped file that are in memory, in steps of 64 KiB."""
    assert opened.mapped is not None
    memory, step = opened.mapped.buffer, 1 << 16
    return sum(step for at in range(0, memory.size - step, step) if in_memory(memory.address + at, step))


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="needs Linux")
def test_reading_cold_blocks_reads_little_else_from_the_disk(cold: tuple[BlockFile, list[int]]) -> None:
    blocks, starts = cold
    wanted = np.arange(5, BLOCKS, 20)
    found: Any = blocks.numbers(wanted, Header(SCHEMA))
    assert found is not None
    assert blocks.mapped is not None
    for block in wanted.tolist():
        assert in_memory(blocks.mapped.buffer.address + starts[block], BLOCK_BYTES)
    assert _resident(blocks) < 2 * len(wanted) * BLOCK_BYTES
