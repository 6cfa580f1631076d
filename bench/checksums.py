"""Measures the cost of checksums: for opening a manifest of 10^5 files, and for the first and later passes over stored tokens.

python bench/checksums.py
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from choline_data.places.home import Home
from choline_data.store import Manifest, StoredFile
from choline_data.store.manifest import read_manifest, store_manifest
from choline_data.store.object_names import manifest_name
from choline_data.store.sealed import is_intact
from choline_data.tokens.checked import Pieces, SummingFile

FILES = 100_000
TOKENS, ROW, AT_ONCE = 64 << 20, 1025, 64


def best(work: Callable[[], Any], runs: int = 5) -> float:
    """Returns the shortest time of several runs, in milliseconds."""
    took = []
    for _ in range(runs):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return min(took) * 1e3


def manifest() -> None:
    """Measures the opening of a manifest of FILES files."""
    with tempfile.TemporaryDirectory() as folder:
        home = Home(folder)
        digests = [hashlib.sha256(str(n).encode()).hexdigest() for n in range(FILES)]
        files = tuple(StoredFile(digest, 1000, 1 << 20, f"part-{n}", "train") for n, digest in enumerate(digests))
        manifest_value = Manifest(files, ("text",), 512, {"kind": "text"})
        store_manifest(home, manifest_value)
        name = manifest_name(manifest_value.revision)
        raw = home.read(name)
        whole = best(lambda: read_manifest(home, manifest_value.revision))
        seal = best(lambda: is_intact(name, raw))
    print(
        f"manifest of {FILES:,} files, {len(raw) / 1e6:.1f} MB: opened in {whole:.1f} ms, of which {seal:.1f} ms for its seal"
    )


def tokens() -> None:
    """Measures gathering all rows of a token array, block by block in random order, as a stream does."""

    class Nowhere:
        def write(self, content: bytes) -> int:
            """Does nothing with the content, so that only the checksums cost time."""
            return len(content)

    chance = np.random.default_rng(0)
    flat = chance.integers(0, 1 << 16, TOKENS, np.uint16)
    summed = SummingFile(Nowhere())  # type: ignore[arg-type]
    writing = best(lambda: summed.write(flat.tobytes()), 1)
    starts = np.arange(0, TOKENS - ROW, ROW - 1)
    blocks = starts[: len(starts) // AT_ONCE * AT_ONCE].reshape(-1, AT_ONCE)
    chance.shuffle(blocks)
    windows, lengths = np.lib.stride_tricks.sliding_window_view(flat, ROW), np.full(AT_ONCE, ROW)

    def a_pass(pieces: Pieces | None) -> None:
        for block in blocks:
            if pieces is not None:
                pieces.check(block, lengths)
            windows[block]

    bare = best(lambda: a_pass(None))
    pieces = Pieces(flat, summed.sums(), lambda: ValueError("damaged"))
    first = best(lambda: a_pass(pieces), 1)
    later = best(lambda: a_pass(pieces))
    print(
        f"{flat.nbytes >> 20} MiB of tokens: checksums made in {writing:.0f} ms; a pass of gathers takes {bare:.0f} ms without "
        f"checks, {first:.0f} ms the first time and {later:.0f} ms after it"
    )


if __name__ == "__main__":
    manifest()
    tokens()
