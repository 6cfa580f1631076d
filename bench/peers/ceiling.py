"""The bare ceilings: Arrow rows gathered and made Python, and windows of a mapped token file made tensors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from common import ROWS_A_BATCH, TOKENS_A_ROW, Read, main, records, sources

CHUNK = 512


def prepare(kind: str, corpus: Path, folder: Path) -> None:
    """Writes one Arrow file of all documents, or the flat file of tokens."""
    if kind == "tokens":
        with open(folder / "tokens.bin", "wb") as file:
            for path in sources(corpus).values():
                for data in records(path):
                    np.frombuffer(data + b"\n", np.uint8).astype(np.uint16).tofile(file)
        return
    kinds = pa.schema([("text", pa.large_string()) if kind == "texts" else ("data", pa.large_binary())])
    with pa.OSFile(str(folder / "all.arrow"), "wb") as sink, pa.ipc.new_file(sink, kinds) as writer:
        for path in sources(corpus).values():
            held = [data.decode() if kind == "texts" else data for data in records(path)]
            writer.write_table(pa.table({kinds.names[0]: pa.array(held, kinds.types[0])}))


def read(wanted: Read) -> Iterator[Any]:
    """The stream's items."""
    if wanted.kind == "tokens":
        yield from _windows(wanted.folder / "tokens.bin")
    with pa.memory_map(str(wanted.folder / "all.arrow")) as source:
        table = pa.ipc.open_file(source).read_all().combine_chunks()
    draw = np.random.default_rng(0)
    while True:
        order = draw.permutation(table.num_rows)
        for start in range(0, len(order), CHUNK):
            yield from table.take(pa.array(order[start : start + CHUNK])).to_pylist()


def _windows(path: Path) -> Iterator[Any]:
    """Windows at random offsets, split into x and y as in nanoGPT's loop."""
    import torch

    flat = np.memmap(path, np.uint16, "r")
    windows = np.lib.stride_tricks.sliding_window_view(flat, TOKENS_A_ROW + 1)
    draw = np.random.default_rng(0)
    while True:
        rows = windows[draw.integers(0, len(windows), ROWS_A_BATCH)]
        x = torch.from_numpy(rows[:, :-1].astype(np.int64, order="C"))
        yield x, torch.from_numpy(rows[:, 1:].astype(np.int64, order="C"))


if __name__ == "__main__":
    main(prepare, read, "torch")
