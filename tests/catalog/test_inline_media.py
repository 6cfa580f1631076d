"""Media that a source writes as text come back as bytes: `data:` URIs of chats, and base64 in our own exports."""

import base64
import io
import json
import wave
from pathlib import Path

import pytest
from PIL import Image

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.export import export
from choline_data.places.home import Home
from choline_data.store import Catalog, open_revision


def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (9, 7), (200, 10, 10)).save(file, kind)
    return file.getvalue()


def sound() -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((1, 2, 8000, 0, "NONE", ""))
        writer.writeframes(b"\1\2" * 400)
    return file.getvalue()


def added(home: Home, source: Path, name: str) -> list[dict]:
    """The samples of the source, in a dataset of this name. Their media are pairs of type and bytes."""
    plan = prepare(home, str(source), name=name)
    revision = open_revision(home, ingest(home, plan).entry.revision)
    rows = [row for batch in revision.read(0, revision.rows) for row in batch.to_pylist()]
    for row in rows:
        row["media"] = [(medium["mime"], medium["data"]) for medium in row.get("media") or ()]
    return rows


def uri(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


CHAT = [{"role": "user", "content": "What is shown here?"}, {"role": "assistant", "content": "A red field."}]
PARTS = {
    "chat completions": {"type": "image_url", "image_url": {"url": uri("png", picture("PNG"))}},
    "responses": {"type": "input_image", "image_url": uri("png", picture("PNG"))},
    "messages": {
        "type": "image",
        "source": {
            "type": "base64",
            "media_type": "image/png",
            "data": base64.b64encode(picture("PNG")).decode(),
        },
    },
}


@pytest.mark.parametrize("part", PARTS.values(), ids=PARTS)
def test_pictures_in_the_turns_of_a_chat_are_media(tmp_path, part):
    asked = [{"role": "user", "content": [{"type": "text", "text": "What is shown here?"}, part]}, CHAT[1]]
    rows = added(
        Home(tmp_path / "home"), lines(tmp_path / "a.jsonl", [{"messages": asked}, {"messages": CHAT}] * 3), "x"
    )
    assert [row["media"] for row in rows] == [[("image/png", picture("PNG"))], []] * 3
    assert [row["turns"] for row in rows] == [CHAT] * 6


def test_data_uris_in_a_column_are_media(tmp_path):
    values = [uri("jpeg", picture("JPEG")), uri("png", picture("PNG"))] * 2
    source = lines(tmp_path / "a.jsonl", [{"image": value, "caption": "a red field"} for value in values])
    rows = added(Home(tmp_path / "home"), source, "x")
    assert [row["media"][0][1] for row in rows] == [picture("JPEG"), picture("PNG")] * 2


@pytest.mark.parametrize("to", ["jsonl", "parquet"])
@pytest.mark.parametrize(
    "kind", ["text", "chat", "pictures in a chat", "label", "image", "picture with a label", "audio"]
)
def test_an_export_can_be_added_again(tmp_path, kind, to):
    source = tmp_path / kind
    source.mkdir()
    if kind == "text":
        lines(source / "a.jsonl", [{"text": f"A sentence of prose, number {n}.", "score": n / 2} for n in range(4)])
    elif kind == "chat":
        lines(source / "a.jsonl", [{"messages": CHAT, "source": "us"}] * 4)
    elif kind == "pictures in a chat":
        shown = base64.b64encode(picture("PNG")).decode()
        url = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{shown}"}}
        asked = [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, url]}]
        lines(source / "a.jsonl", [{"messages": [*asked, {"role": "assistant", "content": "A square."}]}] * 4)
    elif kind == "label":
        rows = [{"text": f"A sentence of prose, number {n}.", "label": ["dog", "cat"][n % 2]} for n in range(8)]
        lines(source / "a.jsonl", rows)
    elif kind == "picture with a label":
        for name in ("dog", "cat"):
            (source / name).mkdir()
            (source / name / "a.png").write_bytes(picture("PNG"))
            (source / name / "b.jpg").write_bytes(picture("JPEG"))
    elif kind == "image":
        (source / "a.png").write_bytes(picture("PNG"))
        (source / "b.jpg").write_bytes(picture("JPEG"))
    else:
        (source / "a.wav").write_bytes(sound())
        (source / "b.wav").write_bytes(sound())
    home = Home(tmp_path / "home")
    before = added(home, source, "before")
    export(home, Catalog(home).entry("before"), to, str(tmp_path / "out"))
    after = added(home, tmp_path / "out", "after")
    assert kind in ("text", "chat", "label") or all(row["media"][0][1] for row in before)
    assert "label" not in kind or all(row["label"] for row in before)
    columns = ("text", "turns", "media", "label")
    assert [[row.get(k) for k in columns] for row in after] == [[row.get(k) for k in columns] for row in before]
