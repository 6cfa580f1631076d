"""Readers whose streams the last release recorded. The same code runs with the release and with today's client."""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

MIX = {"web": 5, "chat": 3}
TOKENS = {"view": "tokens", "tokenizer": "bytes", "seq_len": 16}
# The options of each dataset. `mix` is the first argument.
READERS: dict[str, dict[str, Any]] = {
    "samples": {"mix": MIX, "batch_size": 4, "rank": 1, "world_size": 2, "repeat": False},
    "one by one": {"mix": "web", "view": "text", "repeat": False},
    "without an end": {"mix": MIX, "max_samples": 150},
    "source order": {"mix": MIX, "shuffle": False, "repeat": False, "batch_size": 8},
    "filter": {"mix": {"web": {"weight": 1, "where": "len(text) > 17"}, "chat": 1}, "repeat": False},
    "ends": {"mix": {"web": {"weight": 3, "max_epochs": 2}, "chat": 1}, "on_exhausted": "stop"},
    "columns": {"mix": "web", "columns": ["text"], "repeat": False},
    "tokens": {"mix": MIX, **TOKENS, "batch_size": 2, "max_samples": 90},
    "packed tokens": {"mix": "web", **TOKENS, "packing": "bfd", "repeat": False},
    "named run": {"mix": MIX, "run": "recorded", "batch_size": 4, "rank": 0, "world_size": 2, "max_samples": 120},
}
ROWS = 30


def write_sources(folder: Path) -> None:
    """The source files of the two datasets."""
    pages = [{"text": f"page {n} of the web", "url": f"https://e.org/{n}", "score": n} for n in range(60)]
    chats = [
        {"messages": [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": f"a{n}"}]}
        for n in range(40)
    ]
    for name, rows in (("web", pages), ("chat", chats)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def dataset_of(options: Mapping[str, Any], **place: Any) -> Any:
    """A FirehoseDataset with these options, of a home or a server."""
    from choline_data.client import FirehoseDataset

    rest = {key: value for key, value in options.items() if key != "mix"}
    return FirehoseDataset(options["mix"], seed=7, **rest, **place)


def first_items(dataset: Any, count: int = ROWS) -> list[str]:
    """The next items of a dataset as text."""
    items = iter(dataset)
    out = [str(item) for item in itertools.islice(items, count)]
    if hasattr(items, "close"):
        items.close()
    return out
