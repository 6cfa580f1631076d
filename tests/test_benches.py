"""The benches give figures on any machine, and with any small amount of data."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

BENCH = Path(__file__).parents[1] / "bench"


@pytest.fixture(scope="module")
def common() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_peers_common", BENCH / "peers" / "common.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_a_loader_that_ends_inside_its_warm_up_is_measured_all_the_same(common: ModuleType) -> None:
    told = common.timed(lambda: iter(range(3)), 1, 1 << 40, 0.01)
    assert told["docs"] > 3 and told["seconds"] >= 0.01


def test_a_loader_without_an_item_is_named_not_divided_by(common: ModuleType) -> None:
    with pytest.raises(SystemExit, match="without an item"):
        common.timed(lambda: iter(()), 1, 1 << 40, 0.01)


def test_the_ingest_bench_names_the_packages_that_its_peers_need(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec "{sys.executable}" -I -S "$@"\n')
    bare.chmod(0o755)
    command = [sys.executable, str(BENCH / "ingest.py"), "--peers-python", str(bare)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and "mosaicml-streaming, pyarrow" in done.stderr and "Traceback" not in done.stderr
