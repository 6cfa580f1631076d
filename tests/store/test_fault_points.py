"""A command that is killed at any named point leaves a home that is whole, and the same command again completes it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import pytest

from choline_data.catalog import planning
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.places.home import Home
from choline_data.process.fault_points import FaultPoint
from choline_data.store import Catalog
from choline_data.tokens.token_store import tokenize
from choline_data.tokens.tokenizers import Tokenizer
from choline_data.upkeep.check import check
from choline_data.upkeep.garbage import collect

LEASE = {"lease.staged": 1, "lease.created": 1, "lease.released": 1}
SNAPSHOT = {
    "snapshot.ready": 1,
    "snapshot.created": 1,
    "snapshot.copied": 1,
    "hint.replaced": 1,
    "snapshot.complete": 1,
    "object.named": 1,
}
TOKENS = {"tokens.encoded": 1, "file.synced": 2, "file.named": 2, "tokens.stored": 2, "tokens.summed": 1}
# For each command, the points that it reaches, and how many times.
POINTS: dict[str, dict[str, int]] = {
    "add": {
        **LEASE,
        "store-file.begun": 2,
        "unit.read": 2,
        "store-file.indexed": 2,
        "file.synced": 2,
        "file.named": 2,
        "unit.stored": 2,
        "rejects.stored": 1,
        "account.stored": 1,
        "manifest.stored": 1,
        **SNAPSHOT,
        "object.synced": 8,  # two block indexes, rejects, account, manifest, snapshot, copy, HEAD
    },
    "rm": {**SNAPSHOT, "object.synced": 3},
    "gc": {**LEASE, "gc.chosen": 1, "gc.deleting": 7, "gc.done": 1},
    "tokenize": {**LEASE, **TOKENS, "object.synced": 2, "tokens.complete": 1},
    "request": {**LEASE, "tokens.marked": 1, **TOKENS, "object.synced": 3, "tokens.complete": 1},
}
CASES = [
    (command, point, time + 1) for command, points in POINTS.items() for point, n in points.items() for time in range(n)
]


def lines(path: Path, word: str, count: int) -> None:
    texts = (f"{word} {number} is a text of its own" for number in range(count))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts) + "{not json\n")


def add(home: Home, folder: Path, name: str) -> None:
    ingest(home, prepare(home, str(folder / name), name=name, wishes=Wishes(max_rejects=0.5)))


def remove(home: Home) -> None:
    if "a" in Catalog(home).entries():
        Catalog(home).remove("a")


def tokens_on_request(home: Home) -> None:
    """What a stream of tokens does before its first row."""
    tokenize(home, Catalog(home).entry("a").revision, Tokenizer("bytes"), on_request=True)


# The same work as the command, in this process.
AGAIN: dict[str, Callable[[Home, Path], object]] = {
    "add": lambda home, folder: add(home, folder, "b"),
    "rm": lambda home, folder: remove(home),
    "gc": lambda home, folder: collect(home, keep_days=0),
    "tokenize": lambda home, folder: tokenize(home, Catalog(home).entry("a").revision, Tokenizer("bytes")),
    "request": lambda home, folder: tokens_on_request(home),
}
CLI = (
    "-c",
    "from choline_data.catalog import planning; planning.UNIT_BYTES = 1; from choline_data.cli import main; main()",
)
REQUEST = """
import sys
from choline_data.places.home import Home
from tests.store.test_fault_points import tokens_on_request
tokens_on_request(Home(sys.argv[-1]))
"""
COMMANDS = {
    "add": (*CLI, "add", "{}/b", "--yes", "--name", "b", "--max-rejects", "0.5", "--workers", "1"),
    "rm": (*CLI, "rm", "a"),
    "gc": (*CLI, "gc", "--keep-days", "0"),
    "tokenize": (*CLI, "tokenize", "a", "--tokenizer", "bytes"),
    "request": ("-c", REQUEST),
}


def content(home: Home) -> dict[str, bytes]:
    """Every object that lasts."""
    return {n: home.read(n) for n in home.names("") if not n.startswith(("catalog/", "copies/", "read/", "claims/"))}


def revisions(home: Home) -> dict[str, str]:
    return {name: entry.revision for name, entry in Catalog(home).entries().items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Two sources, a home for each command to begin with, and a home in which each command has run undisturbed."""
    folder = tmp_path_factory.mktemp("points")
    for name in "ab":
        (folder / name).mkdir()
        for number in range(2):
            lines(folder / name / f"{number}.jsonl", f"{name} {number}", 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "UNIT_BYTES", 1)  # each file is a unit
        for command in POINTS:
            home = Home(folder / command)
            add(home, folder, "a")
            if command == "gc":
                Catalog(home).remove("a")
            shutil.copytree(folder / command, folder / f"{command} done")
            AGAIN[command](Home(folder / f"{command} done"), folder)
            collect(Home(folder / f"{command} done"), keep_days=0)
        yield folder


@pytest.mark.parametrize(("command", "point", "time"), CASES)
def test_a_home_is_whole_after_a_kill_at(folder: Path, tmp_path: Path, command: str, point: str, time: int):
    shutil.copytree(folder / command, tmp_path / "home")
    before, done = Home(folder / command), Home(folder / f"{command} done")
    words = [sys.executable, *(word.replace("{}", str(folder)) for word in COMMANDS[command])]
    killed = subprocess.run(
        [*words, "--home", str(tmp_path / "home")],
        env={**os.environ, "CHOLINE_FAULT_POINT": f"{point}:{time}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    home = Home(tmp_path / "home")
    assert revisions(home) in (revisions(before), revisions(done))
    assert check(home).faults == []
    AGAIN[command](home, folder)
    assert revisions(home) == revisions(done)
    assert check(home).faults == []
    for staged in home.names("staging"):
        os.utime(home.path(staged), (0, 0))  # a staged file without a lease is kept for an hour
    collect(home, keep_days=0)
    assert content(home) == content(done)


def test_every_point_is_tested():
    assert {point for points in POINTS.values() for point in points} == set(get_args(FaultPoint))
