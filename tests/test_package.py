"""The wheel: one top-level name, and everything that the package reads at run time."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel of this tree, built with what is installed."""
    out = tmp_path_factory.mktemp("wheel")
    copy = out / "tree"
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    for name in tracked.decode().split("\0"):
        source = ROOT / name
        if name and (source.is_symlink() or source.is_file()):
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_symlink():
                target.symlink_to(source.readlink())
            else:
                target.write_bytes(source.read_bytes())
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    return zipfile.ZipFile(next(out.glob("*.whl")))


@pytest.mark.slow
def test_the_wheel_has_one_top_level_name_and_all_that_is_read_at_run_time(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"choline_data"}
    cards = {f"choline_data/catalog/cards/{path.name}" for path in (ROOT / "catalog" / "cards").glob("*.yaml")}
    assert len(cards) > 120
    assert cards <= set(names)
    assert {"choline_data/py.typed", "choline_data/v1/firehose.proto", "choline_data/v1/firehose_pb2.pyi"} <= set(names)
    assert not any(name.startswith(("tests/", "bench/", "adapters/", "client/")) for name in names)
