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
from choline_data.errors import DataError, InvalidOptionError, SourceDamagedError


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


def frames_of(data: bytes, mime: str) -> list[float]:
    import soundfile

    assert mime == "audio/wav"
    return [float(value) for value in soundfile.read(io.BytesIO(data))[0][:2]]


def grey_of(data: bytes, mime: str) -> Any:
    from PIL import Image

    return Image.open(io.BytesIO(data)).convert("L")


def test_a_function_of_the_user_decodes_sound_and_pictures(pictures: Path):
    sounds = read(pictures, "sounds", decode=frames_of)
    assert [s["media"][0]["decoded"] for s in sounds] == [[0, 0], [0.25, 0.25], [0.5, 0.5]]
    assert read(pictures, "images", decode=grey_of)[3]["media"][0]["decoded"].mode == "L"
    assert [s["position"] for s in read(pictures, "broken", decode=grey_of, on_error="skip")] == [0]


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


def tone(rate: int, seconds: float = 0.5, channels: int = 1) -> bytes:
    import soundfile

    out = io.BytesIO()
    wave = np.sin(2 * np.pi * 440 * np.arange(int(rate * seconds)) / rate).astype(np.float32)
    soundfile.write(out, np.tile(wave[:, None], (1, channels)), rate, format="WAV", subtype="FLOAT")
    return out.getvalue()


@pytest.fixture(scope="module")
def mixed_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """photos (6 of differing shapes, number 5 no picture) and speech (3 of differing rates and lengths)."""
    from PIL import Image

    def stripes(width: int, height: int) -> bytes:
        out = io.BytesIO()
        image = Image.new("RGB", (width, height), (255, 0, 0))
        image.paste((0, 0, 255), (0, 0, width // 4, height))  # what the middle leaves out of a wide one
        image.save(out, "PNG")
        return out.getvalue()

    folder = tmp_path_factory.mktemp("mixed") / "home"
    shelf = Shelf(folder)
    photos = [stripes(80, 40), stripes(200, 100), stripes(64, 32), stripes(16, 8), stripes(400, 200), b"no picture"]
    label = [[{"name": "stripes"}]] * 6
    shelf.add("photos", {"media": [medium("image/png", p) for p in photos], "label": label}, kind="image")
    speech = [tone(8000), tone(44100, channels=2), tone(16000, 0.25)]
    shelf.add("speech", {"media": [medium("audio/wav", s) for s in speech], "text": ["a", "b", "c"]}, kind="audio")
    return folder


def test_images_become_one_tensor_of_the_asked_size(mixed_media: Path):
    options = {"format": "tensor", "size": 20, "batch_size": 5}
    batch = read(mixed_media, "photos", **options, max_samples=5)[0]
    assert (batch["image"].shape, batch["image"].dtype) == ((5, 3, 20, 20), torch.float32)
    assert batch["image"][:, 0, :, 2:].min() > 0.99  # the middle is red, whatever the image's own size
    assert batch["label"][0][0]["name"] == "stripes"
    assert "media" not in batch
    wide = read(mixed_media, "photos", format="tensor", size=(10, 20), max_samples=1)[0]["image"]
    assert wide.shape == (3, 10, 20)
    assert (wide[2, 5, 0].item(), wide[2, 5, 19].item()) == (1, 0)  # all of it: blue on the left


def test_what_is_no_image_is_an_error_or_left_out(mixed_media: Path):
    with pytest.raises(SourceDamagedError, match="on_error"):
        read(mixed_media, "photos", format="tensor", size=20)
    batches = read(mixed_media, "photos", format="tensor", size=20, on_error="skip", batch_size=3)
    assert [b["position"].tolist() for b in batches] == [[0, 1, 2], [3, 4]]
    with pytest.raises(DataError, match="position 0 of speech has no image".capitalize()):
        read(mixed_media, "speech", format="tensor", size=20)


def test_sound_becomes_one_tensor_of_the_asked_rate_padded_at_the_end(mixed_media: Path):
    batch = read(mixed_media, "speech", format="tensor", rate=16000, batch_size=3)[0]
    assert (batch["audio"].shape, batch["audio"].dtype) == ((3, 8000), torch.float32)
    assert batch["audio_length"].tolist() == [8000, 8000, 4000]
    assert batch["text"] == ["a", "b", "c"]
    wanted = torch.sin(2 * torch.pi * 440 * torch.arange(8000) / 16000)
    for number, stop in enumerate((7900, 7900, 3900)):  # a filter knows nothing of what is past the ends
        assert (batch["audio"][number, 100:stop] - wanted[100:stop]).abs().max() < 2e-3
    assert batch["audio"][2, 4000:].abs().max() == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"format": "tensor"}, "size=224"),
        ({"format": "tensor", "size": 0}, "size is 0"),
        ({"format": "tensor", "size": (1, 2, 3)}, "size is"),
        ({"format": "tensor", "rate": 16e3}, "rate is"),
        ({"format": "tensor", "size": 8, "decode": "pil"}, "decode"),
        ({"format": "tensor", "size": 8, "view": "text"}, "view"),
        ({"size": 8}, "format"),
    ],
)
def test_options_of_tensors_are_checked(mixed_media: Path, options: dict[str, Any], told: str):
    with pytest.raises(InvalidOptionError, match=told):
        FirehoseDataset("photos", home=mixed_media, **options)


def test_a_transform_gets_the_tensors_and_workers_make_them(mixed_media: Path):
    dataset = FirehoseDataset(
        "photos",
        home=mixed_media,
        repeat=False,
        shuffle=False,
        max_samples=4,
        format="tensor",
        size=4,
        batch_size=2,
        transform=mean,
    )
    for workers in (0, 2):
        assert [b["mean"].shape for b in dataset.loader(num_workers=workers)] == [(2,), (2,)]


def mean(sample: dict[str, Any]) -> dict[str, Any]:
    return {"mean": sample["image"].mean(), "position": sample["position"]}
