"""Commands on a home whose disk is full or read-only: one typed error, nothing lost, and the same command works afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

pytest.importorskip("torch")  # `stream` needs it

SIZE = 4 << 20


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "none", str(place)]
    if not hasattr(os, "geteuid") or os.geteuid() or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source.jsonl"
    file.write_text("".join(json.dumps({"text": f"the document {n} " * 40}) + "\n" for n in range(1500)))
    return file


def run(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "choline_data", *arguments, "--home", str(home)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def fill(disk: Path) -> None:
    with open(disk / "filler", "wb", buffering=0) as file, suppress(OSError):
        while file.write(bytes(1 << 16)):
            pass
    assert os.statvfs(disk).f_bavail == 0


def remount(disk: Path, mode: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{mode}", str(disk)], check=True)


WRITES = {
    "add": ("add", "SOURCE", "--name", "more", "--yes"),
    "replace": ("add", "SOURCE", "--name", "docs", "--replace", "--yes", "--limit", "900"),
    "rm": ("rm", "docs"),
    "tokenize": ("tokenize", "docs", "--tokenizer", "bytes"),
}
READS = {
    "list": ("list",),
    "head": ("head", "docs"),
    "verify": ("verify",),
    "stream": ("stream", "docs", "-n", "3"),
    "sql": ("sql", "select count(*) from docs"),
}


def arguments(command: tuple[str, ...], source: Path) -> list[str]:
    return [str(source) if word == "SOURCE" else word for word in command]


def check_refusal(done: subprocess.CompletedProcess[str], home: Path) -> None:
    said = done.stdout + done.stderr
    assert done.returncode != 0, said
    assert "Traceback" not in said
    assert str(home) in said and ("No space left" in said or "Read-only" in said), said


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_write_is_refused_and_works_when_there_is_room(disk: Path, source: Path, how: str, name: str) -> None:
    home = disk / "home"
    assert run(home, "add", str(source), "--name", "docs", "--yes", "--limit", "1000").returncode == 0
    if how == "full":
        fill(disk)
    else:
        remount(disk, "ro")
    check_refusal(run(home, *arguments(WRITES[name], source)), home)
    for command in ("verify", "stream"):
        assert run(home, *READS[command]).returncode == 0
    if how == "full":
        (disk / "filler").unlink()
    else:
        remount(disk, "rw")
    assert run(home, *arguments(WRITES[name], source)).returncode == 0
    assert run(home, "verify").returncode == 0


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_reading_needs_no_room(disk: Path, source: Path, how: str) -> None:
    home = disk / "home"
    assert run(home, "add", str(source), "--name", "docs", "--yes", "--limit", "1000").returncode == 0
    if how == "full":
        fill(disk)
    else:
        remount(disk, "ro")
    for name, command in READS.items():
        done = run(home, *command)
        assert done.returncode == 0, (name, done.stderr)
        assert "Traceback" not in done.stderr


def test_gc_frees_a_full_disk(disk: Path, source: Path) -> None:
    home = disk / "home"
    for name in ("docs", "old"):
        assert (
            run(
                home, "add", str(source), "--name", name, "--yes", "--limit", "700" if name == "old" else "800"
            ).returncode
            == 0
        )
    assert run(home, "rm", "old").returncode == 0
    fill(disk)
    done = run(home, "gc", "--keep-days", "0")
    assert done.returncode == 0, done.stdout + done.stderr
    assert run(home, "verify").returncode == 0
    assert os.statvfs(disk).f_bavail > 0
