"""JPEGs per second into the training process, as bytes and decoded: our loader and other loaders, in one run.

    python bench/images.py                               # our loader
    python bench/images.py --peers envs --keep work      # with the environments that bench/peers/setup.py made

The images are noise, about 35 KB each, in one source, shuffled. "Decoded" means a uint8 tensor of channels,
height and width. Every loader decodes with Pillow, in two worker processes if it has workers. Needs Pillow.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import beside
import numpy as np
from beside import Bench, Case, Target
from common import write_records

TWO = ("--workers", "2")
DECODED = ("--decode", *TWO)
DATASETS_AT_ONCE = "datasets, 64 rows of an index at once"
CASES = {
    "bytes": [
        Case("ours", "ours", "images"),
        Case("ours, server", "ours", "images", served=True),
        *(Case(name, f"with_{name}", "images", (), name) for name in beside.PEERS),
        Case(DATASETS_AT_ONCE, "with_datasets", "images", ("--lists",), "datasets"),
    ],
    "decoded": [
        Case("ours, decoded", "ours", "images", ("--decode",)),
        Case("ours, decoded, 2 workers", "ours", "images", ("--batch", "8", *DECODED)),
        *(Case(f"{name}, decoded", f"with_{name}", "images", DECODED, name) for name in beside.PEERS),
    ],
}
OTHERS = list(beside.PEERS)
ALL = [*OTHERS, DATASETS_AT_ONCE]
OURS_DECODED = "ours, decoded"  # Our loader is fastest in one process.
TARGETS = [
    Target("bytes to the fastest peer", 0.8, "ours", ALL),
    Target("bytes to the second peer, row by row", 2, "ours", OTHERS, rank=1),
    Target("bytes through the server to webdataset", 2, "ours, server", ["webdataset"]),
    Target("bytes through the server to mosaicml", 2, "ours, server", ["mosaicml"]),
    Target("decoded to the fastest peer", 1.2, OURS_DECODED, [f"{name}, decoded" for name in OTHERS]),
]


def photographs(count: int, size: int) -> Iterator[bytes]:
    """Returns JPEGs of about `size` bytes. Each has a comment of its own, so that no two are equal."""
    from PIL import Image

    draw = np.random.default_rng(0)
    bases = []
    for _ in range(32):
        small = Image.fromarray(draw.integers(0, 255, (30, 40, 3), dtype=np.uint8)).resize((400, 300))
        grain = np.asarray(small, np.int16) + draw.normal(0, 12, (300, 400, 1)).astype(np.int16)
        sink = io.BytesIO()
        Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(sink, "JPEG", quality=65)
        bases.append(sink.getvalue())
    scale = size / np.mean([len(base) for base in bases])
    for number in range(count):
        base = bases[number % len(bases)]
        room = max(int(len(base) * scale) - len(base), 8)
        text = number.to_bytes(8, "little") + bytes(min(room, 60_000) - 8)
        yield base[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + base[2:]


def write(folder: Path, count: int, size: int) -> None:
    """Writes one source of photographs."""
    write_records(folder / "photos.records", photographs(count, size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=6000, help="number of images")
    parser.add_argument("--bytes", type=int, default=35_000, help="mean bytes of an image")
    beside.options(parser, CASES)
    options = parser.parse_args()
    groups = beside.groups_of(parser, options, CASES)
    with beside.folder_of(options.keep) as work:
        beside.corpus(work, "images", partial(write, count=options.images, size=options.bytes))
        bench = Bench(work, options.peers, options.seconds, options.rounds, quiet=options.json)
        figures = bench.run([case for group in groups for case in CASES[group]])
    beside.report("images a second", figures, TARGETS, top=None, as_json=options.json, seconds=", s")


if __name__ == "__main__":
    main()
