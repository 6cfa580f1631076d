"""Measures the time from a resume to the first batch: after a cold start and at row 10^9, without and with a server.
Can also measure memory over many rows.

    python bench/resume.py                    # each figure is the best of --rounds fresh processes
    python bench/resume.py --rows 10000000    # also the memory of a process that reads this many rows

The dataset of 10^9 rows is one store file of a million rows, which a manifest names 1,100 times.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from choline_data import schema as one
from choline_data.places.home import Home
from choline_data.store import BlockWriter, Catalog, Entry, Manifest, StoredFile
from choline_data.store.revision import manifest_name
from choline_data.store.sample_ids import sample_ids

MILLION = 1_000_000
FILES = 1_100
BLOCK_ROWS = 4096

# The program that a new process runs. It starts the clock after importing choline_data, and prints seconds.
FIRST = """
import json, resource, sys, time
import choline_data, choline_data.client
facts = json.loads(sys.argv[1])
began = time.perf_counter()
dataset = choline_data.FirehoseDataset({"large": 3, "small": 1}, batch_size=64, columns=["text"], **facts["at"])
state = dataset.state_dict() | {"position": facts["position"]}
dataset.load_state_dict(state)
batch = next(iter(dataset))
text = batch["text"][0]
took = time.perf_counter() - began
assert batch["position"][0] == facts["position"]
calls = time.perf_counter()
for _ in range(1000):
    dataset.state_dict()
calls = (time.perf_counter() - calls) / 1000
explained = time.perf_counter()
dataset.explain(facts["position"] // 64)
explained = time.perf_counter() - explained
print(json.dumps([took, calls, explained]))
"""

MEMORY = """
import json, sys
from choline_data import FirehoseDataset
facts = json.loads(sys.argv[1])
def resident():  # MB of memory of its own, and of mapped files: page cache, which the kernel takes back
    with open("/proc/self/status") as file:
        held = dict(line.split(":") for line in file)
    return [int(held[kind].split()[0]) / 1e3 for kind in ("RssAnon", "RssFile")]
dataset = FirehoseDataset({"small": 1}, batch_size=4096, columns=["text"], **facts["at"])
seen, marks = 0, []
for batch in dataset:
    seen += len(batch["text"])
    if seen >= (len(marks) + 1) * facts["rows"] // 10:
        marks.append(resident())
        if len(marks) == 10:
            break
print(json.dumps(marks))
"""


def store_dataset(home: Home, name: str, rows: int, files: int = 1) -> None:
    """Makes a dataset of short texts. Its manifest refers to one store file of `rows` rows `files` times."""
    schema = one.stored_schema(["text"])
    writer = BlockWriter(home, schema, BLOCK_ROWS)
    for start in range(0, rows, 1 << 16):
        numbers = pa.array(range(start, min(start + (1 << 16), rows)), pa.int64())
        text = pc.binary_join_element_wise(pa.scalar(name), pc.cast(numbers, pa.string()), " ").cast(pa.large_string())
        origin = pa.StructArray.from_arrays([pa.repeat(name, len(numbers)), numbers], fields=list(one.ORIGIN))
        columns = {"id": sample_ids(pa.record_batch([text], names=["text"])), "text": text, "origin": origin}
        writer.write(pa.record_batch([columns[field.name] for field in schema], schema=schema))
    written = writer.close()
    assert written is not None
    file = StoredFile(written.sha256, written.rows, written.bytes, name)
    manifest = Manifest((file,) * files, ("text",), BLOCK_ROWS, {"kind": "text"})
    home.create(manifest_name(manifest.revision), manifest.encode())
    Catalog(home).publish(Entry(name, manifest.revision, "text", manifest.rows, manifest.bytes))


def fresh(program: str, **facts: Any) -> Any:
    """Runs the program in a new process. Returns its output, parsed as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", program, json.dumps(facts)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="number of fresh processes; the best one counts")
    parser.add_argument("--rows", type=int, default=0, help="read this many rows and print the memory")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder) / "home")
        store_dataset(home, "large", MILLION, FILES)
        store_dataset(home, "small", 10_000)
        command = [sys.executable, "-m", "choline_data.service", "--home", str(home.location), "--json"]
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert server.stdout is not None
        places = {
            "embedded": {"home": str(home.location)},
            "server": {"server": json.loads(server.stdout.readline())["address"]},
        }
        figures: dict[str, float] = {}
        marks: dict[str, Any] = {}
        try:
            for place, at in places.items():
                for name, position in (("cold", 0), ("at row 10^9", 10**9)):
                    runs = [fresh(FIRST, at=at, position=position) for _ in range(args.rounds)]
                    figures[f"{place}: first batch {name}, s"] = min(run[0] for run in runs)
                figures[f"{place}: ratio"] = (
                    figures[f"{place}: first batch at row 10^9, s"] / figures[f"{place}: first batch cold, s"]
                )
            figures["state_dict, us"] = min(run[1] for run in runs) * 1e6
            figures["explain(step) at row 10^9, s"] = min(run[2] for run in runs)
            if args.rows:
                marks = {place: fresh(MEMORY, at=at, rows=args.rows) for place, at in places.items()}
        finally:
            server.terminate()
            server.wait(timeout=20)

    for place, held in marks.items():
        for kind, first, last in zip(("of its own", "of mapped files"), held[0], held[-1], strict=True):
            figures[f"{place}: MB {kind} after a tenth"] = first
            figures[f"{place}: MB {kind} more a million rows"] = (last - first) / (args.rows * 0.9 / 1e6)
    if args.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:54}{figure:>12,.3f}")


if __name__ == "__main__":
    main()
