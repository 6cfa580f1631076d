"""Measures how fast `add` is, beside a ceiling and other tools, on a generated corpus of web documents.

    python bench/ingest.py                      # makes 300,000 documents (over 1 GB of text) in a temporary folder
    python bench/ingest.py --corpus /data/c     # keeps the documents there, and uses them the next time
    python bench/ingest.py --peers-python /tmp/mds/bin/python --json

MosaicML's MDSWriter needs other versions of many packages, so it runs in an environment of its own:

    python -m venv /tmp/mds && /tmp/mds/bin/pip install -r bench/peers/mosaicml.txt pyarrow

Every contender is a process of its own. It starts cold and reads files that are in the page cache. Its time includes its
start, and its memory is the peak of its largest process. `copy` is the ceiling: it copies the same columns from Parquet to
Arrow IPC files with pyarrow alone, without ids, mapping, checksums and fsync. `copy` in two processes shows how much a
second core of this machine adds to work that moves memory.
"""

from __future__ import annotations

import argparse
import compileall
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TEST_DATA = Path(os.environ.get("CHOLINE_TEST_DATA") or ROOT.parent / "shared/data")

COPY = """
import glob, os, sys
processes = int(sys.argv[3])
first = next((n for n in range(1, processes) if not os.fork()), 0)
import pyarrow as pa, pyarrow.parquet as pq
for number, path in list(enumerate(sorted(glob.glob(sys.argv[1] + "/*.parquet"))))[first::processes]:
    with pq.ParquetFile(path) as file, pa.OSFile(f"{sys.argv[2]}/{number}.arrow", "wb") as out:
        with pa.ipc.new_file(out, file.schema_arrow) as writer:
            for batch in file.iter_batches(4096, use_threads=False):
                writer.write_batch(batch)
if not first:
    for _ in range(1, processes):
        assert os.wait()[1] == 0
"""
OURS = """
import sys
from choline_data.cli import main
sys.exit(main())
"""
CHECKED = """
import sys, time
from choline_data.catalog.self_check import against_source
check_stored = against_source.check_stored
def timed(*arguments):
    started = time.process_time()
    check_stored(*arguments)
    print("self-check", time.process_time() - started, file=sys.stderr)
against_source.check_stored = timed
from choline_data.cli import main
sys.exit(main())
"""
DATASETS = """
import glob, sys, datasets
kind = sys.argv[3]
datasets.disable_progress_bars()
files = sorted(glob.glob(f"{sys.argv[1]}/*.{kind}*"))
made = datasets.load_dataset({"jsonl": "json"}.get(kind, kind), data_files=files, cache_dir=sys.argv[2], split="train")
assert len(made)
"""
MDS = """
import glob, sys, pyarrow.parquet as pq, torch
# It imports torchvision, whose wheels miss two operators beside a CPU torch; nothing here calls it.
library = torch.library.Library("torchvision", "DEF")
library.define("nms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
library.define("qnms(Tensor boxes, Tensor scores, float threshold) -> Tensor")
from streaming import MDSWriter
names = {"string": "str", "double": "float64", "int64": "int64"}
files = sorted(glob.glob(sys.argv[1] + "/*.parquet"))
columns = {f.name: names[str(f.type)] for f in pq.read_schema(files[0])}
with MDSWriter(out=sys.argv[2] + "/mds", columns=columns) as out:
    for path in files:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(4096):
                for row in batch.to_pylist():
                    out.write(row)
"""
WEBDATASET = """
import glob, json, sys, pyarrow.parquet as pq, webdataset as wds
number = 0
with wds.ShardWriter(sys.argv[2] + "/%06d.tar", maxsize=256 << 20, maxcount=10**9, verbose=0, encoder=False) as out:
    for path in sorted(glob.glob(sys.argv[1] + "/*.parquet")):
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(4096):
                for row in batch.to_pylist():
                    text = row.pop("text")
                    out.write({"__key__": f"{number:09d}", "txt": text.encode(), "json": json.dumps(row).encode()})
                    number += 1
"""


def corpus(folder: Path, docs: int, shards: int) -> dict[str, Path]:
    """Returns the corpus as Parquet and as JSON Lines. Makes it if it does not exist yet."""
    maker = TEST_DATA / "make_corpus.py"
    forms = {}
    for form in ("parquet", "jsonl"):
        forms[form] = folder / form
        if (forms[form] / "manifest.json").is_file():
            continue
        if not maker.is_file():
            raise SystemExit(f"no {maker}: set CHOLINE_TEST_DATA to the folder with make_corpus.py")
        print(f"making {docs:,} documents as {form} …", file=sys.stderr)
        command = [sys.executable, maker, "--docs", docs, "--out", forms[form], "--format", form, "--shards", shards]
        subprocess.run([*map(str, command), "--workers", "2", "--source", str(TEST_DATA)], check=True)
    return forms


TICKS = os.sysconf("SC_CLK_TCK")


def look(pid: int, peaks: dict[int, int], cpu: dict[int, float]) -> None:
    """Updates the peak of resident bytes and the CPU seconds of the process `pid` and all its descendants."""
    todo = [pid]
    while todo:
        process = todo.pop()
        try:
            for line in Path(f"/proc/{process}/status").read_text().splitlines():
                if line.startswith("VmHWM:"):
                    peaks[process] = max(peaks.get(process, 0), int(line.split()[1]) << 10)
            stat = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
            cpu[process] = (int(stat[11]) + int(stat[12])) / TICKS
            for thread in os.listdir(f"/proc/{process}/task"):
                todo += map(int, Path(f"/proc/{process}/task/{thread}/children").read_text().split())
        except (OSError, ValueError):
            continue


def measure(python: str, code: str, *arguments: object, env: dict[str, str] | None = None) -> dict[str, float]:
    """Runs a program. Returns its seconds, CPU seconds and peak memory. `rss` is the peak of its largest process, `rss_all` the
    sum over its processes.

    On a busy machine, CPU seconds are more reliable than seconds. CPU seconds lack up to the last tenth of a second.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [python, "-c", code, *map(str, arguments)],
        env={**os.environ, **(env or {})},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    peaks: dict[int, int] = {}
    cpu: dict[int, float] = {}
    while process.poll() is None:
        look(process.pid, peaks, cpu)
        try:
            process.wait(timeout=0.1)
        except subprocess.TimeoutExpired:
            continue
    seconds = time.perf_counter() - started
    assert process.stderr is not None
    output = process.stderr.read().decode()
    if process.returncode:
        raise RuntimeError(output.strip().splitlines()[-1] if output.strip() else f"exit code {process.returncode}")
    checks = [float(line.split()[1]) for line in output.splitlines() if line.startswith("self-check ")]
    return {
        **({"check_cpu": sum(checks)} if checks else {}),
        "seconds": seconds,
        "cpu": sum(cpu.values()),
        "rss": max(peaks.values(), default=0),
        "rss_all": sum(peaks.values()),
    }


def warm(folder: Path) -> None:
    """Reads the files once, so that they are in the page cache for every contender."""
    for path in folder.iterdir():
        with open(path, "rb") as file:
            while file.read(16 << 20):
                pass


def touch(scratch: Path, size: int) -> None:
    """Writes and deletes `size` bytes, so that no contender is the first to touch its memory.

    On a virtual machine, the first touch of a page that the host has not allocated yet costs about ten times as much as a
    later one. Without this, the first contender would pay for all.
    """
    piece = os.urandom(1 << 20)
    path = scratch / "touched"
    with open(path, "wb", buffering=0) as file:
        for _ in range(size >> 20):
            file.write(piece)
    path.unlink()


def compile_ours() -> None:
    """Compiles our modules to bytecode. The peers are installed by pip, which does the same."""
    for folder in ("src/choline_data", "adapters", "catalog", "client", "service", "proto"):
        compileall.compile_dir(ROOT / folder, quiet=2)


def contenders(
    forms: dict[str, Path], peers_python: str, self_check: bool
) -> list[tuple[str, str, str, str, list[object]]]:
    """Returns all contenders: (name, form, python, code, arguments). OUT in the arguments stands for a fresh folder."""
    here = sys.executable
    parquet, jsonl = forms["parquet"], forms["jsonl"]

    def add(folder: Path, *more: str) -> list[object]:
        files = f"{folder}/corpus-*.{folder.name}"
        return ["add", files, "--home", "OUT", "--name", "corpus", "--yes", "--json", *more]

    contenders: list[tuple[str, str, str, str, list[object]]] = [
        ("copy", "parquet", here, COPY, [parquet, "OUT", 1]),
        ("copy, 2 processes", "parquet", here, COPY, [parquet, "OUT", 2]),
        ("ours", "parquet", here, OURS, add(parquet)),
        ("ours, 2 workers", "parquet", here, OURS, add(parquet, "--workers", "2")),
        ("ours, Beam local", "parquet", here, OURS, add(parquet, "--runner", "local")),
        ("datasets", "parquet", here, DATASETS, [parquet, "OUT", "parquet"]),
        ("webdataset", "parquet", here, WEBDATASET, [parquet, "OUT"]),
        ("ours", "jsonl", here, OURS, add(jsonl)),
        ("ours, 2 workers", "jsonl", here, OURS, add(jsonl, "--workers", "2")),
        ("datasets", "jsonl", here, DATASETS, [jsonl, "OUT", "jsonl"]),
    ]
    if self_check:
        contenders += [("ours, check timed", form, here, CHECKED, add(folder)) for form, folder in forms.items()]
    if peers_python:
        contenders.append(("MDSWriter", "parquet", peers_python, MDS, [parquet, "OUT"]))
    return contenders


def check_peers(parser: argparse.ArgumentParser, python: str) -> None:
    """Exits with an error that lists missing packages if this Python lacks any."""
    needed = {"streaming": "mosaicml-streaming", "pyarrow": "pyarrow"}
    look = "import importlib.util, sys; print(*[n for n in sys.argv[1:] if importlib.util.find_spec(n) is None])"
    try:
        done = subprocess.run([python, "-c", look, *needed], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        parser.error(f"--peers-python {python}: {error}")
    if missing := done.stdout.split():
        names = ", ".join(needed[name] for name in missing)
        install = f"{python} -m pip install -r bench/peers/mosaicml.txt pyarrow"
        parser.error(f"--peers-python {python} has no {names}. Run: {install}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--docs", type=int, default=300_000, help="number of documents")
    parser.add_argument("--shards", type=int, default=8, help="number of files")
    parser.add_argument("--corpus", type=Path, help="folder of the documents; it is filled if it is empty")
    parser.add_argument(
        "--peers-python", default="", help="a Python that has what bench/peers/mosaicml.txt lists, and pyarrow"
    )
    parser.add_argument(
        "--only", default="", help="run only contenders whose `name form` contains one of these, separated by commas"
    )
    parser.add_argument(
        "--self-check", action="store_true", help="also print the share of the self-check in the CPU seconds of `add`"
    )
    parser.add_argument("--repeat", type=int, default=1, help="number of runs; the best one counts")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object for each contender, and one for the ratios"
    )
    options = parser.parse_args()
    if options.peers_python:
        check_peers(parser, options.peers_python)
    with tempfile.TemporaryDirectory() as scratch:
        forms = corpus(options.corpus or Path(scratch), options.docs, options.shards)
        manifest = json.loads((forms["parquet"] / "manifest.json").read_text())
        rows, raw = manifest["rows"], manifest["text_bytes"]
        for folder in forms.values():
            warm(folder)
        compile_ours()
        chosen = [
            contender
            for contender in contenders(forms, options.peers_python, options.self_check)
            if any(wanted in f"{contender[0]} {contender[1]}" for wanted in options.only.split(","))
        ]
        results: dict[tuple[str, str], dict[str, float]] = {}
        # The contenders run in turns, so that other load on the machine affects all of them.
        for _ in range(options.repeat):
            for name, form, python, code, arguments in chosen:
                touch(Path(scratch), 4 * raw)
                out = Path(tempfile.mkdtemp(dir=scratch))
                try:
                    figures = measure(python, code, *[out if a == "OUT" else a for a in arguments])
                except RuntimeError as error:
                    print(f"{name} ({form}): {error}", file=sys.stderr)
                    continue
                finally:
                    shutil.rmtree(out)
                best = results.setdefault((name, form), figures)
                if figures["seconds"] < best["seconds"]:
                    results[name, form] = figures
        for (name, form), best in results.items():
            best |= {"docs_a_second": rows / best["seconds"], "mb_a_second": raw / 1e6 / best["seconds"]}
            report(name, form, best, as_json=options.json)
        ratios = ratios_of(results)
        print(json.dumps({"ratios": ratios}) if options.json else "\n".join(f"{k}: {v}" for k, v in ratios.items()))


def report(name: str, form: str, figures: dict[str, float], *, as_json: bool) -> None:
    """Prints the line of a contender."""
    if as_json:
        print(json.dumps({"name": name, "form": form, **figures}), flush=True)
        return
    print(
        f"{name:18} {form:8} {figures['docs_a_second']:10,.0f} docs/s {figures['mb_a_second']:8,.0f} MB/s "
        f"{figures['seconds']:7.1f} s {figures['cpu']:7.1f} cpu-s  peak {figures['rss'] / 1e6:6,.0f} MB",
        flush=True,
    )


def ratios_of(results: dict[tuple[str, str], dict[str, float]]) -> dict[str, str]:
    """Returns the ratios that have a target, together with the target."""
    wanted = [
        ("ours / copy", ("ours", "parquet"), ("copy", "parquet"), 0.5),
        ("ours / MDSWriter", ("ours", "parquet"), ("MDSWriter", "parquet"), 1.5),
        ("ours / datasets", ("ours", "parquet"), ("datasets", "parquet"), 0.7),
        ("two workers / one", ("ours, 2 workers", "parquet"), ("ours", "parquet"), 1.6),
        ("ours / datasets, JSON Lines", ("ours", "jsonl"), ("datasets", "jsonl"), 0.7),
        ("two workers / one, JSON Lines", ("ours, 2 workers", "jsonl"), ("ours", "jsonl"), 1.6),
    ]
    out = {
        name: f"{results[mine]['docs_a_second'] / results[other]['docs_a_second']:.2f} (wanted: {target})"
        for name, mine, other, target in wanted
        if mine in results and other in results
    }
    for (_, form), figures in results.items():
        if "check_cpu" in figures:
            out[f"self-check / add, {form}"] = f"{figures['check_cpu'] / figures['cpu']:.3f} (wanted: at most 0.05)"
    copies = [results.get((name, "parquet")) for name in ("copy", "copy, 2 processes")]
    if copies[0] and copies[1]:
        out["two processes / one, of copy"] = f"{copies[0]['seconds'] / copies[1]['seconds']:.2f}"
    ours = [figures["rss"] for (name, _), figures in results.items() if name.startswith("ours")]
    if ours:
        out["peak memory of ours"] = f"{max(ours) / 1e9:.2f} GB (wanted: at most 1.5)"
    return out


if __name__ == "__main__":
    main()
