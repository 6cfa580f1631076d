"""Reads a few rows of notebooks, pages and parallel texts for the self-check."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from choline_data.adapters.base import Shard
from choline_data.catalog.self_check.source_files import SourceFiles
from choline_data.catalog.self_check.source_row import ROWS, SourceRow, encoding_of, ends

DOCUMENT_BYTES = 16 << 20
SIDE_BYTES = 1 << 20
_SHIFTS = re.compile(rb"\x1b|~\{")


def notebooks(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    data, whole = files.head(shard.files[0].path, DOCUMENT_BYTES)
    cells = json.loads(data.decode("utf-8-sig"))["cells"] if whole else []
    for at in range(min(len(cells), ROWS)):
        yield SourceRow(at, at, {"text": "".join(cells[at]["source"]), "cell": cells[at]["cell_type"]})


def pages(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    for at in ends(len(shard.files), 2):
        data, whole = files.head(shard.files[at].path)
        if whole and data.isascii():
            yield SourceRow(at, at, {"source": data.decode()}, whole=False)  # The text is made from several elements.


def parallel_texts(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    sides = []
    for file in shard.files:
        data, whole = files.head(file.path, SIDE_BYTES)
        if _SHIFTS.search(data):
            return
        text = data.decode(encoding_of(adapter, shard), "strict" if whole else "ignore")
        sides.append([line.removesuffix("\r") for line in text.split("\n")[:-1]])
    names = [file.name for file in shard.files]
    for at, lines in enumerate(islice(zip(*sides, strict=False), ROWS)):
        yield SourceRow(at, at, dict(zip(names, lines, strict=True)), named=False)
