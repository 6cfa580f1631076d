"""Media are decoded when they are asked for, bytes pass through otherwise; and the batch size that fits is found."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.conftest import Shelf

from choline_data.client import FirehoseDataset
from choline_data.errors import InvalidOptionError, SourceDamagedError


def png(value: int, size: int = 4) -> bytes:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (size, size), (value, 0, 0)).save(out, "PNG")
    return out.getvalue()


def wav(value: float) -> bytes:
    import soundfile

    out = io.BytesIO()
    soundfile.write(out, np.full(80, value, np.float32), 8000, format="WAV", subtype="FLOAT")
    return out.getvalue()


def medium(mime: str, data: bytes) -> list[dict[str, Any]]:
    return [{"mime": mime, "data": data, "uri": None, "width": None, "height": None, "rate": None}]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images (10 PNGs), sounds (3 WAVs) and broken (images of which number 1 is no image)."""
    folder = tmp_path_factory.mktemp("media") / "home"
    shelf = Shelf(folder)
    shelf.add("images", {"media": [medium("image/png", png(n)) for n in range(10)]}, kind="image")
    shelf.add("sounds", {"media": [medium("audio/wav", wav(n / 4)) for n in range(3)]}, kind="audio")
    broken = [png(0), b"not a picture", png(2)[:40]]
    shelf.add("broken", {"media": [medium("image/png", data) for data in broken]}, kind="image")
    return folder


def read(home: Path, name: str, **options: Any) -> list[Any]:
    return list(FirehoseDataset(name, home=home, repeat=False, shuffle=False, **options))


def test_undecoded_bytes_pass_through(pictures: Path):
    assert [s["media"][0]["data"] for s in read(pictures, "images")] == [png(n) for n in range(10)]


def test_pictures_become_images_or_tensors(pictures: Path):
    assert read(pictures, "images", decode="pil")[3]["media"][0]["decoded"].getpixel((0, 0)) == (3, 0, 0)
    pixels = read(pictures, "images", decode="torch")[3]["media"][0]["decoded"]
    assert (pixels.shape, pixels.dtype, pixels[0, 0, 0].item()) == ((3, 4, 4), torch.uint8, 3)


def test_sound_becomes_a_tensor_and_its_rate(pictures: Path):
    sound = read(pictures, "sounds", decode="torch")[2]["media"][0]
    assert (sound["decoded"].shape, sound["rate"], sound["decoded"][0, 5].item()) == ((1, 80), 8000, 0.5)


def test_a_broken_picture_is_an_error_or_skipped(pictures: Path):
    with pytest.raises(SourceDamagedError, match="on_error"):
        read(pictures, "broken", decode="torch")
    assert [s["position"] for s in read(pictures, "broken", decode="torch", on_error="skip")] == [0]


def test_a_transform_of_a_batch_stacks_equal_tensors(pictures: Path):
    def transform(sample: dict[str, Any]) -> dict[str, Any]:
        return {"image": sample["media"][0]["decoded"].float() / 255, "position": sample["position"]}

    batches = read(pictures, "images", decode="torch", transform=transform, batch_size=5)
    assert [b["image"].shape for b in batches] == [(5, 3, 4, 4)] * 2


@pytest.mark.parametrize("fitting", [1, 2, 3, 7, 8, 37, 64])
def test_the_largest_batch_that_fits_is_found(pictures: Path, fitting: int):
    dataset = FirehoseDataset("images", home=pictures)
    tried: list[int] = []

    def step(batch: Any) -> None:
        tried.append(len(batch["id"]))
        if len(batch["id"]) > fitting:
            raise torch.OutOfMemoryError("CUDA out of memory (simulated)")

    assert dataset.find_batch_size(step, most=64) == fitting
    assert tried[:2] == [1, 2]
    assert dataset.state_dict()["batch_size"] == fitting
    assert next(iter(dataset))["position"].tolist() == list(range(fitting))
    again = FirehoseDataset("images", home=pictures)
    again.load_state_dict(dataset.state_dict())
    assert again.batch_size == fitting


def test_an_error_that_is_not_about_memory_is_raised(pictures: Path):
    def step(batch: Any) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        FirehoseDataset("images", home=pictures).find_batch_size(step)


def test_not_even_one_sample_may_fit(pictures: Path):
    def step(batch: Any) -> None:
        raise MemoryError

    with pytest.raises(InvalidOptionError, match="Not even one"):
        FirehoseDataset("images", home=pictures).find_batch_size(step)
