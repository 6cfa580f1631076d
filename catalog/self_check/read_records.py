"""Reads a few records of text formats for the self-check: CoNLL, CoNLL-U, FASTA, FASTQ, fastText, LIBSVM, subtitles."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from choline_data.adapters.base import Shard
from choline_data.catalog.self_check.source_files import CELLS_BYTES, SourceFiles
from choline_data.catalog.self_check.source_row import ROWS, Reader, SourceRow, encoding_of

_CONLLU = ("ids", "tokens", "lemmas", "upos", "xpos", "feats", "heads", "deprels", "deps", "misc")


def _text(files: SourceFiles, adapter: Any, shard: Shard) -> tuple[str, bool]:
    """Returns the beginning of a file of UTF-8, and whether it is the whole file."""
    encoding = encoding_of(adapter, shard) if hasattr(adapter, "encoding") else "utf-8-sig"
    if encoding != "utf-8-sig":
        raise ValueError(f"this reader does not know the encoding {encoding}")
    data, whole = files.head(shard.path, CELLS_BYTES)
    return data.decode(encoding, "strict" if whole else "ignore").replace("\r\n", "\n"), whole


def _blocks(files: SourceFiles, adapter: Any, shard: Shard) -> list[list[str]]:
    """Returns the first groups of lines that blank lines separate."""
    text, whole = _text(files, adapter, shard)
    found: list[list[str]] = [[]]
    for line in text.split("\n"):
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [block for block in (found if whole else found[:-1]) if block][:ROWS]


def conllu(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    """Yields sentences with all ten columns."""
    for at, block in enumerate(_blocks(files, adapter, shard)):
        cells = [line.split("\t") for line in block if not line.startswith("#")]
        if not cells or any(len(row) != len(_CONLLU) for row in cells):
            return
        texts = [line.partition("=")[2].strip() for line in block if line.replace(" ", "").startswith("#text=")]
        words = " ".join(row[1] for row in cells if row[0].isdecimal())
        columns = {name: [row[n] for row in cells] for n, name in enumerate(_CONLLU)}
        yield SourceRow(at, at, {"text": texts[-1] if texts else words, **columns})


def tagged_tokens(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    """Yields sentences with their tokens, up to the first line with a special meaning."""
    for at, block in enumerate(_blocks(files, adapter, shard)):
        cells = [line.split("\t") if "\t" in line else line.split() for line in block]
        if any(line.startswith(("-DOCSTART-", "#")) for line in block) or len({len(row) for row in cells}) != 1:
            return
        if len(cells[0]) > 2 and cells[0][0] == "1":  # the first column may have the numbers of the words
            return
        yield SourceRow(at, at, {"tokens": [row[0] for row in cells]}, whole=False)


def subtitles(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    """Yields the texts of cues."""
    cues = [block for block in _blocks(files, adapter, shard) if not block[0].startswith(("WEBVTT", "NOTE", "STYLE"))]
    for at, block in enumerate(cues):
        times = [n for n, line in enumerate(block) if "-->" in line]
        if len(times) != 1:
            return
        yield SourceRow(at, at, {"text": "\n".join(block[times[0] + 1 :])}, named=False)


def fasta(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    """Yields sequences with their ids."""
    text, whole = _text(files, adapter, shard)
    records = ("\n" + text).split("\n>")[1:]
    for at, record in enumerate(records[: ROWS if whole else min(ROWS, len(records) - 1)]):
        head, _, body = record.partition("\n")
        if "\n;" in record:
            return
        yield SourceRow(at, at, {"id": head.split(" ")[0].strip(), "sequence": "".join(body.split())})


def fastq(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    """Yields reads of four lines each."""
    text, _ = _text(files, adapter, shard)
    lines = text.split("\n")
    for at in range(min(ROWS, len(lines) // 4)):
        head, sequence, plus, quality = (line.strip() for line in lines[4 * at : 4 * at + 4])
        if head[:1] != "@" or plus[:1] != "+" or len(sequence) != len(quality):
            return
        yield SourceRow(at, at, {"id": head[1:].split(" ")[0], "sequence": sequence, "quality": quality})


def _lines(read: Any) -> Reader:
    """Returns a reader of lines. `read` gives the values of a line."""

    def reader(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
        text, whole = _text(files, adapter, shard)
        lines = text.split("\n") if whole else text.split("\n")[:-1]
        kept = (line for line in lines if line.strip() and not (read is _example and line.lstrip()[0] == "#"))
        for at, line in enumerate(islice(kept, ROWS)):
            values, named = read(line)
            yield SourceRow(at, at, values, named)

    return reader


def _example(line: str) -> tuple[dict[str, Any], bool]:
    pairs = [word.split(":") for word in line.partition("#")[0].split() if ":" in word and word[:4] != "qid:"]
    return {"indices": [int(index) for index, _ in pairs], "values": [float(value) for _, value in pairs]}, True


def _labelled(line: str) -> tuple[dict[str, Any], bool]:
    words = line.split()
    first = next((n for n, word in enumerate(words) if not word.startswith("__label__")), len(words))
    text = line[line.index(words[first]) :].strip() if first < len(words) else ""
    return {"text": text if line.lstrip().startswith("__label__") else ""}, False


libsvm = _lines(_example)
fasttext = _lines(_labelled)
