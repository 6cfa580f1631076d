"""Streams never change: digests of whole streams, committed once and the same on every platform and release.

A digest that differs means that every cursor, receipt and checkpoint out there points at other samples. There is no
reason to write these anew but a new version of the recipe: `python tests/order/test_golden.py > golden.json` beside it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from choline_data.order import Plan, SourceOrder
from choline_data.order.permute import Permutation, key_of

FILE = Path(__file__).with_name("golden.json")


def sources(**rows: int) -> list[dict[str, Any]]:
    return [{"key": name, "rows": count, "block_rows": 16} for name, count in rows.items()]


STREAMS: dict[str, dict[str, Any]] = {
    "one source of one row": {"sources": sources(a=1), "weights": [[0, [1]]], "at": [0, 3]},
    "one source, three epochs": {"sources": sources(a=1000), "weights": [[0, [1]]], "at": [0, 3000]},
    "one source in its own order": {
        "sources": sources(a=100),
        "weights": [[0, [1]]],
        "at": [0, 250],
        "shuffle": False,
    },
    "three sources": {
        "sources": sources(a=5000, b=77, c=3000),
        "weights": [[0, [7, 2, 1]]],
        "at": [0, 20_000],
    },
    "three sources, seed -1": {
        "sources": sources(a=5000, b=77, c=9),
        "weights": [[0, [7, 2, 1]]],
        "at": [0, 9000],
        "seed": -1,
    },
    "far away": {"sources": sources(a=10**9, b=77), "weights": [[0, [3, 1]]], "at": [10**12, 10**12 + 9000]},
    "64 sources": {
        "sources": sources(**{f"s{n}": 50 + n * n for n in range(64)}),
        "weights": [[0, [1 + n % 7 for n in range(64)]]],
        "at": [0, 10_000],
    },
    "to the end": {
        "sources": sources(a=500, b=900),
        "weights": [[0, [1, 1]]],
        "caps": [750, 900],
        "at": [0, 1650],
    },
    "a mix change": {
        "sources": sources(a=500, b=900),
        "weights": [[0, [1, 1]], [5000, [1, 9]], [9000, [1, 0]]],
        "at": [0, 12_000],
    },
}


def digest(stream: dict[str, Any]) -> str:
    """sha256 of (source, row) of every position, as little-endian 64-bit integers."""
    seed, shuffle = stream.get("seed", 0), stream.get("shuffle", True)
    orders = [
        SourceOrder(s["rows"], s["block_rows"], seed=seed, key=s["key"], shuffle=shuffle) for s in stream["sources"]
    ]
    plan = Plan([tuple(w) for w in stream["weights"]], stream.get("caps") or [None] * len(orders), seed=seed)
    told = hashlib.sha256()
    for piece in plan.place(*stream["at"]):
        rows = np.empty(len(piece.source), dtype="<i8")
        for number, order in enumerate(orders):
            mine = np.flatnonzero(piece.source == number)
            for run in order.runs(piece.rank[mine]):
                ranges = order.ranges(run.epoch, run.window)
                sizes = np.cumsum([0, *(b - a for a, b in ranges)])
                at = np.searchsorted(sizes, run.rows, side="right") - 1
                rows[mine[run.at]] = np.array([a for a, _ in ranges])[at] + run.rows - sizes[at]
        told.update(piece.source.astype("<i8").tobytes() + rows.tobytes())
    return told.hexdigest()


@pytest.mark.parametrize("name", STREAMS)
def test_the_stream_is_the_one_of_the_first_release(name: str) -> None:
    assert digest(STREAMS[name]) == json.loads(FILE.read_text())["streams"][name]


def test_keys_and_permutations_are_those_of_the_first_release() -> None:
    golden = json.loads(FILE.read_text())
    assert primitives() == golden["primitives"]


def primitives() -> dict[str, list[int]]:
    return {
        "key_of": [key_of("blocks", 0, "web", 1), key_of(), key_of(-1, "", (1 << 64) - 1)],
        "of 10": Permutation(10, 1)(np.arange(10)).tolist(),
        "of 1025": Permutation(1025, 1)(np.arange(5)).tolist(),
        "of 2^40": Permutation(1 << 40, 1)(np.arange(5)).tolist(),
        "of 2^60 - 1": Permutation((1 << 60) - 1, (1 << 64) - 1)(np.array([0, 5, (1 << 60) - 2])).tolist(),
    }


if __name__ == "__main__":
    print(json.dumps({"primitives": primitives(), "streams": {n: digest(s) for n, s in STREAMS.items()}}, indent=1))
