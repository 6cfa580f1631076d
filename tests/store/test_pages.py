"""Pages of mapped files: their memory is limited, and released pages are read again with the same content."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CHILD = """
import json, sys
import numpy as np
from choline_data.process.pages import PAGES

import pyarrow as pa
path, bound = sys.argv[1], int(sys.argv[2])
with pa.memory_map(path) as file:
    mapped = PAGES.watch(file.read_buffer())
numbers = np.frombuffer(mapped, np.int64)
PAGES.bound(1 << 40, 0)
first, files = PAGES.resident()
PAGES.bound(first + bound if bound else 1 << 40, 0)
total = most = 0
for start in range(0, len(numbers), 1 << 17):
    total += int(numbers[start : start + (1 << 17)].sum())
    PAGES.look()
    most = max(most, PAGES.resident()[1] - files)
total += int(numbers[:: 1 << 9].sum())
print(json.dumps([total, most]))
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="Linux alone lets pages go")
def test_pages_of_mapped_files_stay_within_their_bound_and_are_read_again(tmp_path: Path) -> None:
    import numpy as np

    numbers = np.arange(8 << 20, dtype=np.int64)
    path = tmp_path / "numbers"
    path.write_bytes(numbers.tobytes())

    def read(bound: int) -> tuple[int, int]:
        argv = [sys.executable, "-c", CHILD, str(path), str(bound)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=120, env={"PYTHONPATH": str(ROOT / "src")})
        assert done.returncode == 0, done.stderr
        total, most = json.loads(done.stdout)
        return total, most

    total, most = read(0)
    assert total == int(numbers.sum()) + int(numbers[:: 1 << 9].sum())
    assert most > 60 << 20
    again, most = read(16 << 20)
    assert again == total
    assert most <= 32 << 20
