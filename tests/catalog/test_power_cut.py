"""After a power cut at any moment of a command the home is whole: as before the command, or as after it."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from choline_data.places.home import Home
from choline_data.store import Catalog
from choline_data.upkeep.check import check

_SPEC = importlib.util.spec_from_file_location("power_cut", Path(__file__).with_name("power_cut.py"))
assert _SPEC is not None and _SPEC.loader is not None
power_cut = importlib.util.module_from_spec(_SPEC)
sys.modules["power_cut"] = power_cut
_SPEC.loader.exec_module(power_cut)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not power_cut.works(), reason="strace is not here, or may not trace"),
]


def lines(path: Path, word: str, count: int) -> Path:
    texts = (f"{word} {number} is a text of its own" for number in range(count))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def run(*arguments: object) -> None:
    command = [sys.executable, "-m", "choline_data", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def revisions(home: Path) -> dict[str, str]:
    return {name: entry.revision for name, entry in Catalog(Home(home)).entries().items()}


# What is there before, the command, and how many different disks its power cuts leave at the least.
ADD_A, ADD_B = ("add", "a.jsonl", "--yes", "--name", "a"), ("add", "b.jsonl", "--yes", "--name", "b")
COMMANDS: dict[str, tuple[list[tuple[str, ...]], tuple[str, ...], int]] = {
    "the first add": ([], ADD_A, 10),
    "another add": ([ADD_A], ADD_B, 10),
    "an add that replaces": ([ADD_A], ("add", "b.jsonl", "--yes", "--name", "a", "--replace"), 10),
    "rm": ([ADD_A, ADD_B], ("rm", "a"), 4),
    "gc": ([ADD_A, ADD_B, ("rm", "a")], ("gc",), 1),
    "tokenize": ([ADD_A], ("tokenize", "a"), 4),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_home_is_whole_after_a_power_cut_at_any_moment_of(tmp_path, name):
    before, command, least = COMMANDS[name]
    sources = {"a.jsonl": lines(tmp_path / "a.jsonl", "first", 40), "b.jsonl": lines(tmp_path / "b.jsonl", "other", 30)}
    top = tmp_path / "disk"
    top.mkdir()
    home = top / "deep" / "home"

    def full(words: tuple[str, ...]) -> list[str]:
        return [*(str(sources.get(word, word)) for word in words), "--home", str(home)]

    for words in before:
        run(*full(words))
    old = revisions(home)
    found = 0
    for left, state in power_cut.cuts(top, full(command), tmp_path / "calls"):
        after = tmp_path / "after"
        after.mkdir()
        power_cut.lay_out(state, after)
        there = after / "deep" / "home"
        now, new = revisions(there), revisions(home)
        assert now in (old, new)
        assert left or now == new, "the command has ended: what it did must stay"
        report = check(Home(there))
        assert not report.faults
        shutil.rmtree(after)
        found += 1
    assert found >= least
