"""The wheel: one top-level name, and everything that the package reads at run time."""

from __future__ import annotations

import subprocess
import sys
import tomllib
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


def test_the_extra_all_is_what_its_extras_are_and_dask_has_ingest() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    parts = set(extras) - {"all", "dask", "lance"}  # dask is another runner, and lance is large
    assert set(extras["all"]) == {asked for part in parts for asked in extras[part]}
    assert set(extras["ingest"]) <= set(extras["dask"])


def test_lock_files_have_a_hash_for_every_package_and_name_no_index() -> None:
    for path in (ROOT / "locks").glob("*.txt"):
        text = path.read_text()
        entries = text.replace(" \\\n", " ").splitlines()[1:]
        assert entries and all("==" in entry and "--hash=sha256:" in entry for entry in entries), path.name
        assert "://" not in text and "index" not in text, path.name
