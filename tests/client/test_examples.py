"""The examples run as printed, on a home of their own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import Shelf

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """web (200 texts) and pictures (40 red or green images)."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("examples") / "home"
    shelf = Shelf(folder)
    shelf.add("web", {"text": [f"the number {n} follows the number {n - 1}" for n in range(200)]})
    media, label = [], []
    for number in range(40):
        out = io.BytesIO()
        Image.new("RGB", (8, 8), [(200, number, 0), (0, 200, number)][number % 2]).save(out, "PNG")
        media.append([{"mime": "image/png", "data": out.getvalue()}])
        label.append([{"name": ["red", "green"][number % 2]}])
    shelf.add("pictures", {"media": media, "label": label}, kind="image")
    return folder


def run(*command: str) -> str:
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, cwd=ROOT, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def losses(text: str) -> list[float]:
    return [float(line.rpartition(" ")[2]) for line in text.splitlines() if ": loss" in line]


def test_nanogpt_style(examples: Path, tmp_path: Path):
    command = [sys.executable, "examples/nanogpt_style.py", "--home", str(examples), "--mix", "web"]
    whole = run(*command, "--steps", "20")
    assert losses(whole)[-1] < losses(whole)[0]
    checkpoint = ["--checkpoint", str(tmp_path / "at-10.pt")]
    first = run(*command, "--steps", "10", *checkpoint)
    second = run(*command, "--steps", "20", *checkpoint)
    assert first + second == whole  # killed half-way and resumed: the same losses


def test_torchtitan_style(examples: Path):
    told = losses(run(sys.executable, "examples/torchtitan_style.py", "--home", str(examples), "--mix", "web"))
    assert told[-1] < told[0]


def test_vision(examples: Path):
    command = ["examples/vision.py", "--home", str(examples), "--mix", "pictures", "--labels", "red,green"]
    told = losses(run(sys.executable, *command))
    assert told[-1] < 0.1


def test_ddp(examples: Path):
    command = ["examples/ddp.py", "--home", str(examples), "--mix", "web"]
    told = run(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command)
    assert "rank 0: next position 160" in told
    assert "rank 1: next position 160" in told


def test_hf_trainer(examples: Path, tmp_path: Path):
    command = ["examples/hf_trainer.py", "--home", str(examples), "--mix", "web", "--output", str(tmp_path)]
    assert "step 10: loss" in run(sys.executable, *command)
