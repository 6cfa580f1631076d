"""Shared code of the client benches: corpora, measurement of cases in rounds, and comparison with targets.

A case is a script of `bench/peers` in its own process: our loader, a bare ceiling, or another project's loader in its own
environment. All read the same documents. Each round measures every case once; the result is the median of the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent / "peers"
sys.path.insert(0, str(HERE))

from common import SOURCES, write_records  # noqa: E402 - what the scripts share lies beside them

PEERS = ("datasets", "grain", "litdata", "mosaicml", "webdataset")


@dataclass(frozen=True)
class Case:
    """One line of the table: a script, its environment, the corpus that it reads, and its options."""

    name: str
    script: str
    corpus: str
    options: tuple[str, ...] = ()
    peer: str | None = None  # the other loader whose environment the script needs; None for this environment
    served: bool = False
    first: bool = False  # whether the figure is the time to the first item, in seconds


@dataclass(frozen=True)
class Target:
    """A ratio to reach, or a number of seconds not to exceed."""

    what: str
    least: float
    of: str | Sequence[str]
    to: Sequence[str] = ()
    seconds: bool = False
    rank: int = 0  # which of the cases in `to` to compare with, ordered by speed; 0 is the fastest

    def value_of_run(self, figures: dict[str, float]) -> dict[str, Any] | None:
        """Returns the measured value, and whether the target is met. Returns None if a case that it needs did not run."""
        own = figures.get(self.of) if isinstance(self.of, str) else None
        if own is None:
            return None
        if self.seconds:
            return {"target": self.what, "wanted": self.least, "measured": round(own, 3), "met": own <= self.least}
        there = sorted((figures[name] for name in self.to if name in figures), reverse=True)
        if len(there) <= self.rank:
            return None
        ratio = own / there[self.rank]
        return {"target": self.what, "wanted": self.least, "measured": round(ratio, 2), "met": ratio >= self.least}


@dataclass
class Bench:
    """A run: its folder, the environments of the peers, and the duration of each measurement."""

    work: Path
    peers: Path | None
    seconds: float
    rounds: int
    quiet: bool = False
    _servers: dict[str, tuple[subprocess.Popen[str], str]] = field(default_factory=dict)

    def python(self, peer: str | None) -> str | None:
        """Returns the interpreter of a peer's environment, or None if the environment is not installed."""
        if peer is None:
            return sys.executable
        interpreter = None if self.peers is None else self.peers / peer / "bin" / "python"
        return str(interpreter) if interpreter is not None and interpreter.exists() else None

    def prepared(self, case: Case) -> Path:
        """Returns the folder that the case reads. Makes it at the first call."""
        folder = self.work / f"{case.script}-{case.corpus}"
        done = folder / "prepared"
        if not done.exists():
            self.say(f"preparing {case.corpus} for {case.script.removeprefix('with_')}")
            self._run(case, "prepare", kind_of(case.corpus), str(self.work / "corpus" / case.corpus), str(folder))
            done.touch()
        return folder

    def say(self, text: str) -> None:
        """Prints a line about the progress."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def _run(self, case: Case, *words: str) -> str:
        python = self.python(case.peer)
        assert python is not None
        environment = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "") if case.peer is None else ""}
        command = [python, str(HERE / f"{case.script}.py"), *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)
        if done.returncode:
            raise SystemExit(f"{case.name}: {' '.join(words[:2])} failed.\n{done.stderr[-2000:]}")
        return done.stdout

    def measured(self, case: Case) -> float:
        """Runs the case once. Returns units per second, or the seconds until the first item."""
        words = ["read", kind_of(case.corpus), str(self.prepared(case)), *case.options]
        words += ["--docs", "1"] if case.first else ["--seconds", str(self.seconds)]
        if case.served:
            words += ["--server", self._served(self.prepared(case) / "home")]
        output = self._run(case, *words).strip().splitlines()
        printed = json.loads(output[-1]) if output else {}
        if not case.first and not (printed.get("docs") and printed.get("seconds")):
            raise SystemExit(f"{case.name}: nothing was measured; it printed {printed}. Give more with --seconds.")
        return float(printed["first_seconds"] if case.first else printed["docs"] / printed["seconds"])

    def _served(self, home: Path) -> str:
        held = self._servers.get(str(home))
        if held is None:
            command = [sys.executable, "-m", "choline_data.service", "--home", str(home), "--port", "0", "--json"]
            server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
            assert server.stdout is not None
            held = self._servers[str(home)] = (server, json.loads(server.stdout.readline())["address"])
        return held[1]

    def run(self, cases: Sequence[Case]) -> dict[str, float]:
        """Measures every case that can run here once per round. Returns the median of each case."""
        able = [case for case in cases if self.python(case.peer) is not None]
        for case in able:
            self.prepared(case)
        figures: dict[str, list[float]] = {case.name: [] for case in able}
        try:
            for number in range(self.rounds):
                self.say(f"round {number + 1} of {self.rounds}, {time.strftime('%H:%M:%S')}")
                for case in able:
                    figures[case.name].append(self.measured(case))
        finally:
            for server, _ in self._servers.values():
                server.terminate()
                server.wait(30)
        return {name: statistics.median(values) for name, values in figures.items() if values}


def kind_of(corpus: str) -> str:
    """Returns the kind of items in a corpus."""
    return "texts" if corpus == "resume" else corpus


def documents(rows: int, mean: int, seed: int) -> Iterator[bytes]:
    """Yields random documents of about `mean` bytes. Their sizes are distributed exponentially, up to 64 KiB."""
    turn = random.Random(seed)
    letters = "".join(turn.choices("abcdefghijklmnopqrstuvwxyz     ", k=1 << 17)).encode()
    for _ in range(rows):
        size = max(16, min(int(turn.expovariate(1 / mean)), 1 << 16))
        at = turn.randrange(1 << 16)
        yield letters[at : at + size]


def write_texts(folder: Path, rows: int, mean: int) -> None:
    """Writes the two sources of the mix, with sizes in proportion to their weights."""
    for seed, (name, share) in enumerate(SOURCES.items()):
        write_records(folder / f"{name}.records", documents(int(rows * share), mean, seed))


@contextlib.contextmanager
def folder_of(kept: Path | None) -> Iterator[Path]:
    """Provides the working folder: `kept`, or a temporary folder that is deleted afterwards."""
    if kept is not None:
        kept.mkdir(parents=True, exist_ok=True)
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="choline-bench-") as folder:
        yield Path(folder)


def groups_of(
    parser: argparse.ArgumentParser, arguments: argparse.Namespace, cases: Mapping[str, Sequence[Case]]
) -> list[str]:
    """Returns the groups of cases that `--only` names."""
    groups = [name.strip() for name in arguments.only.split(",")]
    if unknown := set(groups) - set(cases):
        parser.error(f"--only: {', '.join(sorted(unknown))} is none of {', '.join(cases)}")
    return groups


def options(parser: argparse.ArgumentParser, cases: Mapping[str, Sequence[Case]] | None = None) -> None:
    """Adds the options that all these benches share, and `--only` for benches with several groups of cases."""
    if cases is not None:
        parser.add_argument("--only", default=",".join(cases), help="some of: " + ",".join(cases))
    parser.add_argument("--peers", type=Path, help="folder of environments that bench/peers/setup.py --into made")
    parser.add_argument(
        "--keep", type=Path, help="keep the prepared data in this folder, and use what is already there"
    )
    parser.add_argument("--seconds", type=float, default=1.0, help="length of each case in a round")
    parser.add_argument("--rounds", type=int, default=3, help="number of rounds; the median counts")
    parser.add_argument("--json", action="store_true", help="print JSON")


def corpus(work: Path, name: str, write: Callable[[Path], None]) -> None:
    """Writes a corpus if it does not exist yet."""
    place = work / "corpus" / name
    if not place.exists():
        write(place)


def report(
    unit: str, figures: dict[str, float], targets: Sequence[Target], *, top: str | None, as_json: bool, seconds: str
) -> None:
    """Prints the figures, and compares them with the targets."""
    held = [measured_target for target in targets if (measured_target := target.value_of_run(figures)) is not None]
    if as_json:
        print(json.dumps({"unit": unit, "figures": {k: round(v, 4) for k, v in figures.items()}, "targets": held}))
        return
    ceiling = figures.get(top) if top else None
    speeds = {name: value for name, value in figures.items() if not name.endswith(seconds)}
    if speeds:
        print(f"{unit:52}{'':>14}{'of the ceiling' if ceiling else '':>16}")
    for name, value in speeds.items():
        print(f"{name:52}{value:>14,.0f}" + (f"{value / ceiling:>16.3f}" if ceiling else ""))
    firsts = {name: value for name, value in figures.items() if name.endswith(seconds)}
    for name, value in firsts.items():
        print(f"{name:52}{value:>12.3f} s")
    if held:
        print(f"\n{'target':68}{'wanted':>8}{'measured':>10}")
    for row in held:
        sign = "≤" if row["target"].endswith(seconds) else "≥"
        print(
            f"{row['target']:68}{sign:>3}{row['wanted']:>5g}{row['measured']:>10g}  {'met' if row['met'] else 'MISSED'}"
        )
