"""What the package says on systems that lack a part of what it uses: simulated in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

WITHOUT = """
import os, sys, torch, grpc, pyarrow, fsspec, pathlib, subprocess, multiprocessing, asyncio, ctypes, importlib.util
for name in ("register_at_fork", "fork", "getuid", "geteuid", "fchmod", "pread"):
    delattr(os, name)
sys.modules["fcntl"] = None
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "fcntl" else found(name, *more)
import warnings
"""


def ran(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


@pytest.mark.parametrize(("system", "says"), [("win32", "on Windows"), ("darwin", "on macOS")])
def test_importing_says_once_what_does_not_work_there(system: str, says: str) -> None:
    done = ran(f"import sys, pathlib; sys.platform = {system!r}; import choline_data, choline_data.errors")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("PlatformWarning") == 1 and says in done.stderr


def test_linux_says_nothing() -> None:
    assert ran("import sys; sys.platform = 'linux'; import choline_data").stderr == ""


def test_a_system_without_forks_and_file_locks_adds_and_reads_a_home_and_refuses_runs(tmp_path) -> None:
    (tmp_path / "rivers.jsonl").write_text('{"text": "one"}\n{"text": "two"}\n')
    done = ran(
        WITHOUT
        + f"""
from choline_data import FirehoseDataset
from choline_data.catalog.add import ingest, prepare
from choline_data.errors import InvalidOptionError
from choline_data.places.home import Home
home = Home({str(tmp_path / "home")!r})
ingest(home, prepare(home, {str(tmp_path / "rivers.jsonl")!r}, name="rivers"))
print(sorted(s["text"] for s in FirehoseDataset("rivers", home={str(tmp_path / "home")!r}, repeat=False)))
try:
    next(iter(FirehoseDataset("rivers", home={str(tmp_path / "home")!r}, run="mine")))
except InvalidOptionError as error:
    print(error)
try:
    import choline_data.service
except InvalidOptionError as error:
    print(error)
"""
    )
    assert done.returncode == 0, done.stderr[-2000:]
    data, runs, server = done.stdout.splitlines()
    assert data == "['one', 'two']"
    assert "run= needs locks" in runs and "The server does not run" in server
