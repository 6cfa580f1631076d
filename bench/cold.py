"""Measures how fast windows are read that are not in the page cache, and how many bytes the disk delivers for each byte used.

    python bench/cold.py
    python bench/cold.py --beside ../release    # in turns with another checkout that has its own .venv

Two stores: rows of 1.5 KB and rows of 35 KB. Before each measurement, the store's files are dropped from the page cache. A
measurement reads several windows in the shuffled order, as batches of Arrow strings.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

ROWS = {"1.5 KB": 1_500, "35 KB": 35_000}  # bytes of a row
READ = 96 << 20  # bytes of text that a measurement reads: about four windows
BATCH = 1 << 20  # bytes of text in a batch
LEAST = 4.0  # target: the rate of this checkout, divided by the rate of the other one


def python_of(checkout: Path | None) -> str:
    """Returns the interpreter of a checkout. For None, returns the interpreter of this process."""
    return sys.executable if checkout is None else str(checkout / ".venv" / "bin" / "python")


def fill(home: Path, row_bytes: int, size: int, checkout: Path | None) -> None:
    """Adds `size` bytes of random text in rows of `row_bytes`.

    The other checkout writes the home, because new releases read old homes.
    """
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    count, draw = size // row_bytes, np.random.default_rng(row_bytes)
    letters = (draw.integers(0, 64, count * row_bytes, np.uint8) + 48).tobytes()
    ends = pa.py_buffer(np.arange(count + 1, dtype=np.int64) * row_bytes)
    texts = pa.Array.from_buffers(pa.large_string(), count, [None, ends, pa.py_buffer(letters)])
    source = home.with_suffix(".parquet")
    pq.write_table(pa.table({"text": texts}), source, use_dictionary=False, compression="none")
    command = [python_of(checkout), "-m", "choline_data", "add", str(source), "--name", "rows", "--yes", "--json"]
    subprocess.run([*command, "--home", str(home)], check=True, stdout=subprocess.DEVNULL)
    source.unlink()


def drop(home: Path) -> None:
    """Drops the files of the home from the page cache."""
    for path in home.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.fsync(file)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def read_from_disk() -> int:
    """Returns how many bytes the system has read from a disk for this process."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["read_bytes"])


def measure(home: Path, row_bytes: int) -> dict[str, float]:
    """Reads READ bytes of text with a cold page cache."""
    import torch  # noqa: F401 - its import is not part of the measurement

    from choline_data.client.dataset import FirehoseDataset

    rows = BATCH // row_bytes
    dataset = FirehoseDataset("rows", columns=["text"], batch_size=rows, home=str(home))
    for _ in range(3):  # the kernel keeps pages that were written or read a moment ago, so wait and try again
        drop(home)
        time.sleep(0.1)
    before, began, size = read_from_disk(), time.perf_counter(), 0
    for batch in islice(dataset, READ // row_bytes // rows):
        size += batch.arrow("text").nbytes
    spent = time.perf_counter() - began
    return {"rate": size / spent / 1e6, "read": (read_from_disk() - before) / size}


def measure_apart(checkout: Path | None, home: Path, row_bytes: int) -> dict[str, float]:
    """Measures in another process: this checkout, or another one with its own .venv."""
    command = [python_of(checkout), __file__, "--measure", str(home), "--row-bytes", str(row_bytes)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beside", type=Path, help="another checkout to measure in turns with this one")
    parser.add_argument("--bytes", type=int, default=700 << 20, help="size of each store")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds; the median counts")
    parser.add_argument("--folder", type=Path, help="where the stores are made, on the disk to measure")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--row-bytes", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure is not None:
        print(json.dumps(measure(options.measure, options.row_bytes)))
        return
    sides = {"here": None} | ({"beside": options.beside.resolve()} if options.beside else {})
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="choline-bench-", dir=options.folder) as folder:
        for name, row_bytes in ROWS.items():
            home = Path(folder) / f"rows-{row_bytes}"
            fill(home, row_bytes, options.bytes, options.beside)
            rates: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
            for number in range(options.rounds):
                for side, checkout in [*sides.items()][:: 1 if number % 2 else -1]:
                    rates[side].append(measure_apart(checkout, home, row_bytes))
            for side, runs in rates.items():
                for figure in ("rate", "read"):
                    figures[f"{name}, {figure}, {side}"] = statistics.median(run[figure] for run in runs)
            if options.beside:
                figures[f"{name}, ratio"] = figures[f"{name}, rate, here"] / figures[f"{name}, rate, beside"]
    if options.json:
        print(json.dumps({"figures": figures, "wanted": LEAST}))
        return
    for key, value in figures.items():
        unit = {"rate": "MB/s", "read": "bytes read for each used"}.get(key.split(", ")[1], f"times, wanted {LEAST:g}")
        print(f"{key:24}{value:>10,.1f} {unit}")


if __name__ == "__main__":
    main()
