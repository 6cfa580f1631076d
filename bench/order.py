"""Measures the code that computes the order: nanoseconds per position, milliseconds per seek, and the distance of
quotas from their ideals.

python bench/order.py [--json] [--quick]
"""

from __future__ import annotations

import argparse
import json
import random
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
from mixing_quality import adjacent_correlation, mixedness

from choline_data.order import Plan, SourceOrder
from choline_data.order.interleave import MIXING_BLOCK, dealt
from choline_data.order.permute import Permutation, key_of
from choline_data.order.quotas import Quotas


def seconds(work: Callable[[], object], repeats: int) -> float:
    """Returns the least CPU time of `repeats` runs of this thread, in seconds. Other work of the machine hardly changes it."""
    return min(cpu_seconds(work) for _ in range(repeats))


def cpu_seconds(work: Callable[[], object]) -> float:
    """Returns the CPU time of one run of this thread, in seconds."""
    begun = time.thread_time()
    work()
    return time.thread_time() - begun


def peak(work: Callable[[], object]) -> int:
    """Returns the peak of the bytes that Python and NumPy allocated during the work."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def plan_and_seek(weights: list[int], caps: list[int], position: int) -> None:
    """Makes a new plan, and finds the sample at one position."""
    list(Plan([(0, weights)], caps, seed=0).place(position, position + 1))


def weights_of(count: int) -> list[int]:
    """Returns weights that span about five orders of magnitude. The same count gives the same weights."""
    chance = random.Random(count)
    return [int(chance.lognormvariate(10, 3)) + 1 for _ in range(count)]


def positions(repeats: int) -> dict[str, float]:
    """Measures the nanoseconds per position of the permutation alone, of the interleaving, and of a source's rows."""
    some = np.arange(65_536, dtype=np.int64)
    permutation = Permutation(10**12, key_of("bench"))
    small = Permutation(200_000, key_of("bench"))
    source = SourceOrder(10**7, 512, seed=0, key="web")
    first = iter(range(1 << 30))

    def deal(count: int) -> None:
        start = next(first) * 16 * MIXING_BLOCK
        for _ in Plan([(0, weights_of(count))], [None] * count, seed=0).place(start, start + 16 * MIXING_BLOCK):
            pass

    def rows() -> None:
        for _ in source.runs(next(first) % 100 * 65_536 + some):
            pass

    return {
        "permutation of 10^12, ns": seconds(lambda: permutation(some), repeats) / len(some) * 1e9,
        "permutation of 200,000, ns": seconds(lambda: small(some), repeats) / len(some) * 1e9,
        "interleaving 8 sources, ns": seconds(lambda: deal(8), repeats) / (16 * MIXING_BLOCK) * 1e9,
        "interleaving 1,000 sources, ns": seconds(lambda: deal(1000), repeats) / (16 * MIXING_BLOCK) * 1e9,
        "rows of a source, ns": seconds(rows, repeats) / len(some) * 1e9,
    }


def deals(repeats: int) -> dict[str, float]:
    """Measures the milliseconds that it takes to compute a mixing block of the current size, and one sixteen times as
    large.
    """
    tree = Quotas(weights_of(64))
    return {
        f"a block of {slots:,} slots dealt to 64 sources, ms": seconds(lambda n=slots: dealt(tree.after(n), 7), repeats)
        * 1e3
        for slots in (MIXING_BLOCK, 16 * MIXING_BLOCK)
    }


def seeks(repeats: int) -> dict[str, float]:
    """Measures the milliseconds from a mix to its first position: making the plan and computing one mixing block."""
    out = {}
    for count in (1, 8, 64, 1000):
        weights = weights_of(count)
        at = iter(range(10**12, 1 << 60, 10**7))

        def seek(weights: list[int] = weights, at: object = at) -> None:
            start = next(at)  # type: ignore[call-overload]
            for _ in Plan([(0, weights)], [None] * len(weights), seed=0).place(start, start + 1):
                pass

        out[f"seek to 10^12, {count} sources, ms"] = seconds(seek, repeats) * 1e3
    caps = [random.Random(9).randint(100, 10**6) + n for n in range(1000)]
    out["plan of 1,000 sources that end, ms"] = (
        seconds(lambda: list(Plan([(0, weights_of(1000))], caps, seed=0).place(0, 1)), max(repeats // 10, 1)) * 1e3
    )
    for count in (256, 1000, 4000):
        chance = random.Random(9)
        ends = [chance.randint(100, 10**6) for _ in range(count)]
        seek = partial(plan_and_seek, weights_of(count), ends, sum(ends) // 2)
        out[f"{count:,} sources that end: seek to the middle, ms of CPU"] = cpu_seconds(seek) * 1e3
    out["4,000 sources that end: peak memory of the seek, MB"] = peak(seek) / 1e6
    out["its last position, ms"] = (
        seconds(lambda: list(Plan([(0, weights_of(1000))], caps, seed=0).place(sum(caps) - 1, sum(caps))), 1) * 1e3
    )
    return out


def quotas(blocks: int) -> dict[str, float]:
    """Measures the greatest distance of a quota from its ideal, at ends of mixing blocks near position 0 and near 10^12."""
    out = {}
    for count in (2, 8, 100, 1000):
        weights = weights_of(count)
        total = sum(weights)
        tree = Quotas(weights)
        worst = 0.0
        for first in (0, 10**12 // MIXING_BLOCK):
            for block in range(first, first + blocks):
                slots = block * MIXING_BLOCK
                worst = max(
                    worst,
                    *(
                        abs(q * total - slots * w) / total
                        for q, w in zip(tree.after(slots).tolist(), weights, strict=True)
                    ),
                )
        out[f"quota error, {count} sources, samples"] = worst
    return out


def quality() -> dict[str, float]:
    """Measures how well the order shuffles a source that is sorted by class."""
    rows, block_rows = 64_000, 64
    order = SourceOrder(rows, block_rows, seed=0, key="web").rows_of(0, rows)
    return {
        "mixedness of 10 sorted classes in 1,000 blocks, batches of 64": mixedness(
            (np.arange(rows) * 10 // rows)[order], 64
        ),
        "correlation of neighbours": adjacent_correlation(order),
    }


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    chosen = parser.parse_args()
    repeats = 5 if chosen.quick else 50
    figures = positions(repeats) | deals(repeats) | seeks(repeats) | quotas(20 if chosen.quick else 200) | quality()
    if chosen.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:66} {figure:12.3f}")


if __name__ == "__main__":
    main()
