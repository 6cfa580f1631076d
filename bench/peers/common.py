"""Shared code of the scripts in this folder: the corpus on disk, the command line and the timing.

Imports only the standard library at the top, because each script runs in its own environment.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

SOURCES = {"web": 0.7, "code": 0.3}  # the mix of every run; weights count documents
TOKENS_A_ROW, ROWS_A_BATCH = 2048, 8
CORES = 2
RESUME_AT = 150_000
BUFFER = 1000  # buffer size of loaders that shuffle in a buffer; the default of `datasets`
WARM_SECONDS = 0.4


@dataclass(frozen=True)
class Read:
    """What a script reads, and how."""

    kind: str  # texts, tokens or images
    folder: Path
    batch: int | None
    decode: bool
    lists: bool  # convert lazily made texts of a batch to lists
    workers: int
    at: int
    server: str | None
    message_bytes: int  # size of a server's messages; 0 leaves it to the server


Prepare = Callable[[str, Path, Path], None]
Open = Callable[[Read], Iterator[Any]]


def split(row: Any) -> tuple[Any, Any]:
    """Splits windows with one extra token into x and y of nanoGPT. Both are views of one int64 tensor, the cheapest way."""
    import torch

    wide = torch.as_tensor(row).to(torch.int64)
    return wide[..., :-1], wide[..., 1:]


def records(path: Path) -> Iterator[bytes]:
    """The documents of a corpus file. Each is stored as its length in four bytes and its content."""
    with open(path, "rb") as file:
        while length := file.read(4):
            yield file.read(int.from_bytes(length, "little"))


def write_records(path: Path, documents: Iterator[bytes]) -> None:
    """Writes the documents to a corpus file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "wb") as file:
        for document in documents:
            file.write(len(document).to_bytes(4, "little") + document)


def sources(corpus: Path) -> dict[str, Path]:
    """The corpus files by source name, in the order of the mix."""
    files = {path.stem: path for path in sorted(corpus.glob("*.records"), reverse=True)}
    return {name: files[name] for name in sorted(files, key=lambda n: list(SOURCES).index(n) if n in SOURCES else 9)}


def rgb(image: Any) -> Any:
    """A PIL image as a tensor: channels, height, width; uint8."""
    import numpy as np
    import torch

    # torch's own permute().contiguous() is several times slower on two cores.
    return torch.from_numpy(np.ascontiguousarray(np.array(image.convert("RGB")).transpose(2, 0, 1)))


def rgb_of(data: bytes) -> Any:
    """A JPEG as a tensor, decoded by Pillow."""
    import io

    from PIL import Image

    return rgb(Image.open(io.BytesIO(data)))


def timed(opened: Callable[[], Iterator[Any]], units: int, most: int, seconds: float) -> dict[str, float]:
    """Measures the seconds to the first item, and after a warm-up the number of units and the seconds that they took.

    A loader that ends is opened again, and this time counts: the measurement is limited by time, not by the corpus. If a
    loader ends during the warm-up, the warm-up ends too.
    """
    began = time.perf_counter()
    items = opened()
    if next(items, None) is None:
        raise SystemExit("the loader ended without an item")
    first = time.perf_counter() - began
    count, spent = 0, 0.0
    if most > 1:
        warm = time.perf_counter() + WARM_SECONDS
        while time.perf_counter() < warm and next(items, None) is not None:
            pass
        began, idle = time.perf_counter(), 0
        while spent < seconds and count * units < most:
            came = sum(1 for _ in islice(items, 32))
            count += came
            if came < 32:
                idle = 0 if came else idle + 1
                if idle > 1:
                    raise SystemExit("the loader ended twice in a row without an item")
                items = opened()
            spent = time.perf_counter() - began
    return {"docs": count * units, "seconds": spent, "first_seconds": round(first, 4)}


def main(prepare: Prepare, read: Open, imports: str) -> None:
    """`prepare KIND CORPUS DIR` makes what the loader reads; `read KIND DIR` measures it and prints one line of JSON."""
    parser = argparse.ArgumentParser(description=sys.modules["__main__"].__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    one = verbs.add_parser("prepare", help="make what the loader reads of a corpus")
    one.add_argument("kind", choices=["texts", "tokens", "images"], help="what the documents are")
    one.add_argument("corpus", type=Path, help="folder of the documents")
    one.add_argument("folder", type=Path, help="folder of the prepared data")
    two = verbs.add_parser("read", help="read it and print documents, seconds and seconds to the first")
    two.add_argument("kind", choices=["texts", "tokens", "images"], help="what the documents are")
    two.add_argument("folder", type=Path, help="folder of the prepared data")
    two.add_argument(
        "--docs", type=int, default=1 << 40, help="stop after this many documents; 1 measures the first one alone"
    )
    two.add_argument("--seconds", type=float, default=2.0, help="stop after this many seconds")
    two.add_argument("--batch", type=int, help="documents in a batch")
    two.add_argument("--decode", action="store_true", help="decode images")
    two.add_argument("--lists", action="store_true", help="use every string of a batch")
    two.add_argument("--workers", type=int, default=0, help="worker processes of the loader")
    two.add_argument("--at", type=int, default=0, help="resume after this many documents")
    two.add_argument("--server", help="address of the server")
    two.add_argument("--message-bytes", type=int, default=0, help="size of the server's messages")
    options = parser.parse_args()
    if options.verb == "prepare":
        options.folder.mkdir(parents=True, exist_ok=True)
        prepare(options.kind, options.corpus, options.folder)
        return
    wanted = Read(
        options.kind,
        options.folder,
        options.batch,
        options.decode,
        options.lists,
        options.workers,
        options.at,
        options.server,
        options.message_bytes,
    )
    for name in imports.split():  # imports do not count as part of the time to the first sample
        importlib.import_module(name)
    units = ROWS_A_BATCH * TOKENS_A_ROW if options.kind == "tokens" else options.batch or 1
    print(json.dumps(timed(lambda: read(wanted), units, options.docs, options.seconds)), flush=True)
