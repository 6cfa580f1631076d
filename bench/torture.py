"""Adds damaged, hostile and odd files, each with the real `choline-data add` in its own child process, and counts the results.

    python bench/torture.py                                  # files of the test data, and damaged files of every format
    python bench/torture.py --corpus DIR --corpus DIR        # also every file in these folders
    python bench/torture.py --mutants 2000 --seed 7 --json

Good corpora are apache/arrow-testing, apache/parquet-testing, nst/JSONTestSuite, libarchive's test data, the PNG suite and
the YAML and CSV suites. They are not part of this repository: check them out and name their folders.

One server process imports everything once and forks a child for each file. A child has a limit of memory and of time. A
file may be added, or refused with one typed error on one line. Every other result is a fault, such as a traceback, a signal
or a hang. The exit code is 1 if there is a fault. The same seed makes the same damaged files.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from torture_seeds import mutants, seeds

ROOT = Path(__file__).resolve().parents[1]
TEST_DATA = Path(os.environ.get("CHOLINE_TEST_DATA") or ROOT.parent / "shared/data")
OURS = ("hostile", "nasty", "parquet_testing", "arrow_files", "croissant", "frictionless", "warc", "shapes_masks")
MAX_FILE_BYTES = 64 << 20
FAULTS = ("traceback", "signal", "hang", "odd")


@dataclass(frozen=True)
class End:
    """The result of `add` for one file. `end` is "added", "refused", or one of FAULTS; `why` has details."""

    file: str
    end: str
    reason: str
    why: str
    seconds: float


def preload() -> None:
    """Imports the modules of an `add`, so that forked children have them already."""
    import importlib

    from choline_data.adapters.registry import FORMATS

    modules = [
        "choline_data.cli.add_command",
        "choline_data.catalog.runners",
        "pandas",
        "pyarrow.parquet",
        "typer.main",
    ]
    for module in (*modules, *(form.module for form in FORMATS)):
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def child(path: str, folder: Path, memory: int, flags: list[str]) -> None:
    """Runs the real command line on one file in this process, then exits."""
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        file = os.open(folder / name, os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout = sys.__stdout__ = open(1, "w", closefd=False)  # noqa: SIM115 - for good
    sys.stderr = sys.__stderr__ = open(2, "w", closefd=False)  # noqa: SIM115
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    os.chdir(folder)
    sys.argv = ["choline-data", "add", path, "--yes", "--json", "--home", str(folder / "home"), *flags]
    code = 0
    try:
        from choline_data.cli import main

        main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1 if end.code else 0
    except BaseException:  # noqa: BLE001 - a traceback is what is looked for
        import traceback

        traceback.print_exc()
        code = 70
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def classify(file: str, status: int | None, folder: Path, seconds: float) -> End:
    """Classifies the end of a child by its status and its output."""
    raw = (folder / "err").read_bytes() if (folder / "err").is_file() else b""
    err = raw.decode("utf-8", "replace").strip()
    if status is None:
        return End(file, "hang", "", err[-300:], seconds)
    if os.WIFSIGNALED(status):
        return End(file, "signal", signal.Signals(os.WTERMSIG(status)).name, err[-300:], seconds)
    code = os.WEXITSTATUS(status)
    if "Traceback (most recent call last)" in err:
        return End(file, "traceback", err.splitlines()[-1][:200], err[-1500:], seconds)
    if code == 0:
        return End(file, "added", "", err[-300:], seconds)
    try:
        error = json.loads(err)["error"]
    except (ValueError, KeyError, TypeError):
        return End(file, "odd", f"exit code {code}", err[-600:], seconds)
    if code not in (1, 3) or not (error["reason"] and error["message"] and error["remedy"]):
        return End(file, "odd", f"exit code {code}", err[-600:], seconds)
    return End(file, "refused", error["reason"], error["message"], seconds)


def run(
    cases: Iterator[tuple[str, Path]], *, at_once: int, memory: int, seconds: float, flags: list[str]
) -> Iterator[End]:
    """Adds each file in a forked child. Up to `at_once` children run at the same time."""
    running: dict[int, tuple[str, Path, float]] = {}
    scratch = Path(tempfile.mkdtemp(prefix="torture-", dir="/dev/shm" if os.path.isdir("/dev/shm") else None))
    number = 0
    more = True
    try:
        while more or running:
            while more and len(running) < at_once:
                case = next(cases, None)
                if case is None:
                    more = False
                    break
                number += 1
                folder = scratch / str(number)
                folder.mkdir()
                pid = os.fork()
                if not pid:
                    child(str(case[1]), folder, memory, flags)
                running[pid] = (case[0], folder, time.monotonic())
            yield from _end_of(running, seconds)
    finally:
        for pid in running:
            _kill(pid)
        shutil.rmtree(scratch, ignore_errors=True)


def _end_of(running: dict[int, tuple[str, Path, float]], seconds: float) -> Iterator[End]:
    for pid, (file, folder, since) in list(running.items()):
        done, status = os.waitpid(pid, os.WNOHANG)
        took = time.monotonic() - since
        if not done and took < seconds:
            continue
        if not done:
            _kill(pid)
        end = classify(file, status if done else None, folder, round(took, 3))
        del running[pid]
        shutil.rmtree(folder, ignore_errors=True)
        yield end
        return
    time.sleep(0.005)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def corpus(folders: list[Path]) -> Iterator[tuple[str, Path]]:
    """Yields every regular file of at most MAX_FILE_BYTES below these folders, sorted by path."""
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and not path.is_symlink() and path.stat().st_size <= MAX_FILE_BYTES:
                yield str(path.relative_to(folder.parent)), path


def write_mutants(folder: Path, found: dict[str, bytes], count: int, seed: int) -> Iterator[tuple[str, Path]]:
    """Yields the damaged files. Each file is written to `folder` when the iterator reaches it."""
    for number, (name, content) in enumerate(mutants(found, count, seed)):
        path = folder / str(number % 64) / name
        path.parent.mkdir(exist_ok=True)
        for old in path.parent.iterdir():
            old.unlink()
        path.write_bytes(content)
        yield f"mutant {number}: {name}", path


def main() -> None:
    """Runs the bench, prints the counts and each fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", action="append", type=Path, default=[], help="folder of files to add; repeatable")
    parser.add_argument("--mutants", type=int, default=2000, help="number of damaged files to make")
    parser.add_argument("--seed", type=int, default=1, help="seed of the damage")
    parser.add_argument("--no-data", action="store_true", help="leave out the test data")
    parser.add_argument("--only", type=int, default=-1, help="run only the damaged file with this number")
    parser.add_argument("--keep", type=Path, help="keep each file that shows a fault in this folder")
    parser.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="number of children at once")
    parser.add_argument("--seconds", type=float, default=120, help="a child that takes longer counts as hanging")
    parser.add_argument("--memory", type=int, default=4 << 30, help="bytes of memory that a child may use")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object for each file, and one for the whole"
    )
    parser.add_argument("flags", nargs="*", help="more flags for `add`, after --")
    options = parser.parse_args()
    sys.exit(1 if torture(options) else 0)


def torture(options: argparse.Namespace) -> int:
    """Runs all cases. Returns the number of faults."""
    preload()
    folders = [] if options.no_data else [TEST_DATA / name for name in OURS if (TEST_DATA / name).is_dir()]
    counts: collections.Counter[str] = collections.Counter()
    reasons: collections.Counter[str] = collections.Counter()
    slowest = End("", "", "", "", 0)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="torture-") as folder:

        def cases() -> Iterator[tuple[str, Path]]:
            yield from corpus([*folders, *options.corpus])
            for number, case in enumerate(write_mutants(Path(folder), seeds(TEST_DATA), options.mutants, options.seed)):
                if options.only in (-1, number):
                    yield case

        places: dict[str, Path] = {}

        def watched() -> Iterator[tuple[str, Path]]:
            for name, path in cases():
                places[name] = path
                yield name, path

        for end in run(
            watched(), at_once=options.at_once, memory=options.memory, seconds=options.seconds, flags=options.flags
        ):
            counts[end.end] += 1
            if end.end == "refused":
                reasons[end.reason + (" (contained crash)" if " crashed (" in end.why else "")] += 1
            slowest = max(slowest, end, key=lambda e: e.seconds)
            if end.end in FAULTS and options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                shutil.copy(places[end.file], options.keep / end.file.replace("/", "_").replace(" ", "_"))
            if options.json:
                print(json.dumps(asdict(end)), flush=True)
            elif end.end in FAULTS:
                print(f"{end.end.upper()}  {end.file}: {end.reason}\n    {end.why}", flush=True)
            places.pop(end.file, None)
    faults = sum(counts[name] for name in FAULTS)
    summary = {
        "files": sum(counts.values()),
        **{name: counts[name] for name in ("added", "refused", *FAULTS)},
        "reasons": dict(reasons.most_common()),
        "slowest": [slowest.file, slowest.seconds],
        "seconds": round(time.monotonic() - began, 1),
        "seed": options.seed,
    }
    print(json.dumps(summary) if options.json else "\n".join(f"{key:>10}  {value}" for key, value in summary.items()))
    return faults


if __name__ == "__main__":
    main()
