"""Measures packed tokens per second into the training process: our loader, a bare gather from the flat file, and other
loaders.

    python bench/tokens.py                               # our loader and the ceiling
    python bench/tokens.py --peers envs --keep work      # with the environments that bench/peers/setup.py made

A batch has 8 rows of 2048 tokens, as int64 `x` and `y`. The ceiling gathers windows at random offsets of the memory-mapped
file and splits them, as nanoGPT's loop does, and does nothing else. The other loaders give windows of 2049 tokens, of which
`x` and `y` are views. This costs less than the two tensors that our loader and the ceiling make. webdataset has no packed
tokens.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import beside
from beside import Bench, Case, Target
from common import write_records

# Options as the documentation recommends. If there are several ways, the fastest one on two cores here.
WAYS = {"datasets": (), "grain": (), "litdata": (), "mosaicml": ()}
CASES = [
    Case("ceiling: windows of the mapped file", "ceiling", "tokens"),
    Case("ours", "ours", "tokens"),
    Case("ours, server", "ours", "tokens", served=True),
    *(Case(name, f"with_{name}", "tokens", how, name) for name, how in WAYS.items()),
]
CEILING = [CASES[0].name]
TARGETS = [
    Target("tokens to the mapped file", 0.6, "ours", CEILING),
    Target("tokens through the server to the mapped file", 0.4, "ours, server", CEILING),
]


def write(folder: Path, megabytes: int) -> None:
    """Writes one source of documents. Each byte is one token."""
    write_records(folder / "web.records", beside.documents((megabytes << 20) // 2400, 2400, seed=5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=64, help="size of the tokens in MB")
    beside.options(parser)
    options = parser.parse_args()
    with beside.folder_of(options.keep) as work:
        beside.corpus(work, "tokens", partial(write, megabytes=options.megabytes))
        figures = Bench(work, options.peers, options.seconds, options.rounds, quiet=options.json).run(CASES)
    beside.report("tokens a second", figures, TARGETS, top=CASES[0].name, as_json=options.json, seconds=", s")


if __name__ == "__main__":
    main()
