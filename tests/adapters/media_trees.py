"""Small trees of media, and the rows that `add` makes of them."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from pathlib import Path
from typing import Any

from choline_data.adapters.base import USED
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.places.home import Home
from choline_data.store import open_revision

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de0000000c4944415408d763f8cfc0000003010100c9fe92ef"
    "0000000049454e44ae426082"
)


def picture(width: int) -> bytes:
    """A PNG of this width and one row, so that each picture can be told from the others."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, 1, 8, 0, 0, 0, 0)
    pixels = zlib.compress(b"\0" * (width + 1))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def wav(level: int = 0) -> bytes:
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(level.to_bytes(2, "little") * 80)
    return out.getvalue()


def put(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return folder


def added(place: Path, home: Path, **wishes: Any) -> list[dict[str, Any]]:
    where = Home(home)
    done = ingest(where, prepare(where, str(place), name="x", wishes=Wishes(**wishes)))
    revision = open_revision(where, done.entry.revision)
    rows: list[dict[str, Any]] = []
    for batch in revision.read(0, revision.rows):
        rows += batch.to_pylist()
    assert done.read == done.rows
    return rows


def texts(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The text of each sample by the name of its medium."""
    return {row["media"][0]["uri"].rpartition("/")[2].partition(".")[0]: row["text"] for row in rows}


def labels(rows: list[dict[str, Any]]) -> list[str]:
    return [row["label"][0]["name"] for row in rows]


def roles(place: Path) -> dict[str, str]:
    return {f.name: f.role for f in prepare(Home("/nowhere"), str(place), name="x").plan.account if f.role != USED}
