"""Small valid files of many formats, and damaged copies of them. A seed determines the damage."""

from __future__ import annotations

import gzip
import io
import json
import random
import sqlite3
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.csv as csv
import pyarrow.parquet as pq

MAX_SEED_BYTES = 256 << 10
# Patterns of real files in the test data. Only a few small files of each kind are used.
REAL = ("*.parquet", "*.arrow", "*.feather", "*.warc*", "*.conllu", "*.tar", "*.zip", "*.png", "*.jpg", "*.wav", "*.mds",
        "*.bin", "*.json", "*.jsonl", "*.csv", "*.tsv", "*.txt", "*.gz", "*.sqlite", "*.db", "*.tfrecord")  # fmt: skip
EACH = 3


def _table() -> pa.Table:
    rows = 60
    return pa.table(
        {
            "text": [f"document {n} has some words" for n in range(rows)],
            "label": pa.array([["x", "y", None][n % 3] for n in range(rows)]).dictionary_encode(),
            "score": [n / 7 for n in range(rows)],
            "tags": [[str(n), None] for n in range(rows)],
            "more": [{"a": n, "b": [n, n]} for n in range(rows)],
            "day": pa.array(range(rows), pa.int32()).cast(pa.date32()),
        }
    )


def _written(table: pa.Table) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    for name, options in {
        "plain": {"compression": "none", "use_dictionary": False},
        "packed": {"compression": "zstd", "row_group_size": 20, "write_page_checksum": True},
        "old": {"compression": "snappy", "version": "1.0", "data_page_version": "2.0"},
    }.items():
        sink = io.BytesIO()
        pq.write_table(table, sink, **options)
        files[f"{name}.parquet"] = sink.getvalue()
    for name, codec in (("plain", None), ("packed", "zstd"), ("fast", "lz4")):
        for make, ending in ((pa.ipc.new_file, "arrow"), (pa.ipc.new_stream, "arrows")):
            sink = io.BytesIO()
            with make(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
                writer.write_table(table, 20)
            files[f"{name}.{ending}"] = sink.getvalue()
    return files


def seeds(data: Path) -> dict[str, bytes]:
    """Returns files by name: generated ones, and small files of the test data if these exist."""
    table = _table()
    files = _written(table)
    rows = table.drop_columns(["day"]).to_pylist()
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    files["rows.jsonl"], files["rows.jsonl.gz"] = lines, gzip.compress(lines, mtime=0)
    files["rows.json"] = json.dumps(rows).encode()
    sink = io.BytesIO()
    csv.write_csv(table.select(["text", "score", "day"]), sink)
    files["rows.csv"] = sink.getvalue()
    tar, zipped = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive, zipfile.ZipFile(zipped, "w", zipfile.ZIP_DEFLATED) as other:
        for name, content in (("a/rows.jsonl", lines), ("b.txt", b"Some text of a document.\n" * 40)):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
            other.writestr(zipfile.ZipInfo(name), content)
    files["all.tar"], files["all.zip"] = tar.getvalue(), zipped.getvalue()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.sqlite"
        base = sqlite3.connect(path)
        base.execute("create table docs (text text, score real)")
        base.executemany("insert into docs values (?, ?)", [(row["text"], row["score"]) for row in rows])
        base.commit()
        base.close()
        files["rows.sqlite"] = path.read_bytes()
    for pattern in REAL:
        fit = (p for p in sorted(data.rglob(pattern)) if p.is_file() and 0 < p.stat().st_size <= MAX_SEED_BYTES)
        kept = [p for p in fit if "hostile" not in p.parts][: 40 * EACH : 40]
        files.update({f"real-{path.name}": path.read_bytes() for path in kept})
    return files


def mutants(found: dict[str, bytes], count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yields `count` damaged copies. Takes the files in turn; the seed determines the damage."""
    names = sorted(found)
    for number in range(count):
        name = names[number % len(names)]
        yield name, _damaged(found[name], random.Random(f"{seed}:{number}"))


def _damaged(content: bytes, dice: random.Random) -> bytes:
    raw = bytearray(content)
    size = len(raw)
    way = dice.choice(("bits", "bits", "cut", "swap", "fill", "repeat", "edge", "join"))
    if way == "bits":
        for _ in range(dice.choice((1, 1, 4, 16))):
            raw[dice.randrange(size)] ^= 1 << dice.randrange(8)
    elif way == "edge":  # this damage is near the start or the end of the file, where its header and footer are
        for _ in range(dice.choice((1, 2, 4))):
            raw[dice.choice((dice.randrange(min(64, size)), size - 1 - dice.randrange(min(512, size))))] = (
                dice.randrange(256)
            )
    elif way == "cut":
        del raw[dice.randrange(size) :]
    else:
        length = dice.randrange(1, max(2, size // 8))
        a, b = dice.randrange(max(1, size - length)), dice.randrange(max(1, size - length))
        if way == "swap":
            raw[a : a + length], raw[b : b + length] = raw[b : b + length], raw[a : a + length]
        elif way == "fill":
            raw[a : a + length] = bytes([dice.choice((0, 0xFF, 0x7F, 0x20))]) * len(raw[a : a + length])
        elif way == "repeat":
            raw[a:a] = raw[a : a + length]
        else:
            raw += raw[a : a + length]
    return bytes(raw)
