"""Pictures and sounds that other libraries write."""

from __future__ import annotations

import io
import json
import wave
from pathlib import Path

from tests.formats_by_others.written import Row, writer


def _picture(number: int, form: str) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    Image.new("RGB", (8, 6), (number * 20, 7, 99)).save(sink, form)
    return sink.getvalue()


def _tone(number: int) -> bytes:
    sink = io.BytesIO()
    with wave.open(sink, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(range(number, number + 100)) * 4)
    return sink.getvalue()


def _pictures(form: str) -> list[Row]:
    try:
        return [{"label": ("cat", "dog")[n // 3], "bytes": _picture(n, form)} for n in range(6)]
    except ImportError:
        return []


def _in_classes(folder: Path, rows: list[Row], extension: str) -> None:
    for number, row in enumerate(rows):
        (folder / row["label"]).mkdir(exist_ok=True)
        (folder / row["label"] / f"{number}.{extension}").write_bytes(row["bytes"])


TONES: list[Row] = [{"label": ("high", "low")[n // 3], "bytes": _tone(n)} for n in range(6)]


@writer("PNG of Pillow in class folders", "PIL", _pictures("PNG"), kind="image", part=True)
def _(folder: Path) -> None:
    _in_classes(folder, _pictures("PNG"), "png")


@writer("JPEG of Pillow in class folders", "PIL", _pictures("JPEG"), kind="image", part=True)
def _(folder: Path) -> None:
    _in_classes(folder, _pictures("JPEG"), "jpg")


@writer("WebP of Pillow in class folders", "PIL", _pictures("WEBP"), kind="image", part=True)
def _(folder: Path) -> None:
    _in_classes(folder, _pictures("WEBP"), "webp")


@writer("TIFF of Pillow in class folders", "PIL", _pictures("TIFF"), kind="image", part=True)
def _(folder: Path) -> None:
    _in_classes(folder, _pictures("TIFF"), "tiff")


@writer(
    "PNG with metadata.jsonl",
    "PIL",
    [{"text": f"grey {n}", **row} for n, row in enumerate(_pictures("PNG"))],
    kind="image",
    part=True,
)
def _(folder: Path) -> None:
    rows = _pictures("PNG")
    for number, row in enumerate(rows):
        (folder / f"{number}.png").write_bytes(row["bytes"])
    lines = [{"file_name": f"{n}.png", "text": f"grey {n}", "label": row["label"]} for n, row in enumerate(rows)]
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


@writer("WAV of wave in class folders", "wave", TONES, kind="audio", part=True)
def _(folder: Path) -> None:
    _in_classes(folder, TONES, "wav")


def _sound(form: str) -> list[Row]:
    try:
        import numpy as np
        import soundfile
    except (ImportError, OSError):
        return []
    found = []
    for number in range(6):
        sink = io.BytesIO()
        soundfile.write(sink, np.sin(np.arange(800) * (number + 1) / 9) / 2, 8000, format=form)
        found.append({"label": ("high", "low")[number // 3], "bytes": sink.getvalue()})
    return found


@writer("FLAC of soundfile in class folders", "soundfile", _sound("FLAC"), kind="audio", part=True)
def _(folder: Path) -> None:
    _in_classes(folder, _sound("FLAC"), "flac")


# The bytes of an Ogg stream have a random number, so that the rows have only labels.
@writer(
    "Ogg of soundfile in class folders",
    "soundfile",
    [{"label": row["label"]} for row in TONES],
    kind="audio",
    part=True,
)
def _(folder: Path) -> None:
    _in_classes(folder, _sound("OGG"), "ogg")
