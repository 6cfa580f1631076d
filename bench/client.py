"""What the client delivers, beside a bare Arrow ceiling and the loaders of others, in one run on one corpus.

    python bench/client.py                          # ours and the ceiling
    python bench/client.py --peers datasets,webdataset --json

Every case reads the same documents; the figure is the best of `--rounds` rounds, which take turns. The ceiling gathers
random rows of the Arrow table in memory and calls `to_pylist`.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from choline_data import schema as one
from choline_data.home import Home
from choline_data.identity import sample_ids
from choline_data.store import BlockWriter, Catalog, Entry, Manifest, StoredFile
from choline_data.store.blocks import block_rows_for
from choline_data.store.revision import manifest_name

COLUMNS = ["text"]
CHUNK = 512


def texts(rows: int, mean: int, seed: int) -> list[str]:
    """Documents of about `mean` bytes."""
    turn = random.Random(seed)
    base = "".join(turn.choices("abcdefghijklmnopqrstuvwxyz     ", k=1 << 16))
    sizes = [max(16, int(turn.expovariate(1 / mean))) for _ in range(rows)]
    return [base[(at := turn.randrange(1 << 15)) : at + min(size, 1 << 15)] for size in sizes]


def stored(home: Home, name: str, documents: list[str], mean: int) -> None:
    """Puts documents into a home as a dataset."""
    schema = one.stored_schema(["text"])
    rows = block_rows_for(mean)
    writer = BlockWriter(home, schema, rows)
    for start in range(0, len(documents), 4096):
        text = pa.array(documents[start : start + 4096], pa.large_string())
        ids = sample_ids(pa.record_batch([text], names=["text"]))
        origin = pa.array([{"file": name, "row": start + n} for n in range(len(text))], one.ORIGIN)
        columns = {"id": ids, "text": text, "origin": origin}
        writer.write(pa.record_batch([columns[f.name] for f in schema], schema=schema))
    written = writer.close()
    assert written is not None
    manifest = Manifest(
        (StoredFile(written.sha256, written.rows, written.bytes, name),), ("text",), rows, {"kind": "text"}
    )
    home.create(manifest_name(manifest.revision), manifest.encode())
    Catalog(home).publish(Entry(name, manifest.revision, "text", manifest.rows, manifest.bytes))


Case = Callable[[], Iterator[int]]  # yields the documents of each item that the trainer would get


def ceiling(table: pa.Table) -> Iterator[int]:
    """Gathers random rows of a table in memory, a chunk at a time, and makes Python of them."""
    order = np.random.default_rng(0).permutation(table.num_rows)
    for start in range(0, len(order), CHUNK):
        for _ in table.take(pa.array(order[start : start + CHUNK])).to_pylist():
            yield 1


def ours(batch: int | None, **options: Any) -> Iterator[int]:
    """Our dataset, one by one or in batches whose texts are looked at."""
    from choline_data import FirehoseDataset

    dataset = FirehoseDataset(options.pop("mix"), columns=COLUMNS, batch_size=batch, **options)
    for item in dataset:
        yield 1 if batch is None else len(item["position"])


def ours_looked_at(batch: int, **options: Any) -> Iterator[int]:
    """Batches of which every text becomes a Python string."""
    from choline_data import FirehoseDataset

    for item in FirehoseDataset(options.pop("mix"), columns=COLUMNS, batch_size=batch, **options):
        yield len(item["text"])


def datasets_streaming(parquet: list[str]) -> Iterator[int]:
    """`datasets` streaming with shuffle, interleaved, as its guide shows."""
    import datasets

    datasets.disable_progress_bars()
    parts = [datasets.load_dataset("parquet", data_files=p, split="train", streaming=True) for p in parquet]
    mixed = datasets.interleave_datasets([p.shuffle(seed=0, buffer_size=1000) for p in parts], seed=0)
    for _ in mixed:
        yield 1


def webdataset_tar(tars: list[str]) -> Iterator[int]:
    """webdataset over local tar files with shuffle and RandomMix."""
    import webdataset as wds

    parts = [wds.WebDataset(t, shardshuffle=False).shuffle(1000).decode() for t in tars]
    for _ in wds.RandomMix(parts, longest=True):
        yield 1


def tarred(path: Path, documents: list[str]) -> None:
    """The documents as a webdataset shard."""
    import io
    import tarfile

    with tarfile.open(path, "w") as tar:
        for number, text in enumerate(documents):
            raw = text.encode()
            info = tarfile.TarInfo(f"{number:08d}.txt")
            info.size = len(raw)
            tar.addfile(info, io.BytesIO(raw))


def measured(case: Case, seconds: float) -> float:
    """Documents a second into this process, over at most `seconds`, after a start that is not counted."""
    items = case()
    next(items)
    count, began = 0, time.perf_counter()
    deadline = began + seconds
    for got in items:
        count += got
        if time.perf_counter() > deadline:
            break
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=60_000)
    parser.add_argument("--bytes", type=int, default=2400)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--peers", default="", help="datasets, webdataset")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    peers = set(filter(None, args.peers.split(",")))

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        home = Home(root / "home")
        documents = {name: texts(args.rows // 2, args.bytes, seed) for seed, name in enumerate(("web", "code"))}
        for name, held in documents.items():
            stored(home, name, held, args.bytes)
        table = pa.table({"text": pa.array([text for held in documents.values() for text in held], pa.large_string())})
        mix = {"web": 1, "code": 1}
        here = {"mix": mix, "home": str(root / "home")}
        command = [sys.executable, "-m", "choline_data.service", "--home", str(root / "home"), "--json"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        there = {"mix": mix, "server": json.loads(server.stdout.readline())["address"]}
        cases: dict[str, Case] = {
            "ceiling": lambda: ceiling(table),
            "ours, embedded": lambda: ours(None, **here),
            "ours, embedded, batches": lambda: ours(args.batch, **here),
            "ours, embedded, batches as lists": lambda: ours_looked_at(args.batch, **here),
            "ours, server": lambda: ours(None, **there),
            "ours, server, batches": lambda: ours(args.batch, **there),
        }
        if "datasets" in peers:
            import pyarrow.parquet as pq

            files = [str(root / f"{name}.parquet") for name in documents]
            for file, held in zip(files, documents.values(), strict=True):
                pq.write_table(pa.table({"text": held}), file)
            cases["datasets, streaming"] = lambda: datasets_streaming(files)
        if "webdataset" in peers:
            tars = [root / f"{name}.tar" for name in documents]
            for tar, held in zip(tars, documents.values(), strict=True):
                tarred(tar, held)
            cases["webdataset"] = lambda: webdataset_tar([str(t) for t in tars])
        best = dict.fromkeys(cases, 0.0)
        try:
            for _ in range(args.rounds):
                for name, case in cases.items():
                    best[name] = max(best[name], measured(case, args.seconds))
        finally:
            server.terminate()
            server.wait(timeout=20)

    if args.json:
        facts = {
            "machine": platform.processor() or platform.machine(),
            "rows": args.rows,
            "mean_bytes": args.bytes,
        }
        print(json.dumps({**facts, "documents_per_second": best}))
        return
    top = best["ceiling"]
    print(f"{'documents a second into the trainer':40}{'':>12}  of the ceiling")
    for name, speed in best.items():
        print(f"{name:40}{speed:>12,.0f}  {speed / top:.2f}")


if __name__ == "__main__":
    main()
