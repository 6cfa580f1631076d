"""A new write replaces a damaged file. Undamaged files stay unchanged."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.errors import DamagedStoreError
from choline_data.places.home import Home
from choline_data.store import Catalog, open_revision
from choline_data.store.manifest import read_manifest
from choline_data.store.object_names import manifest_name, rejects_name
from choline_data.upkeep.verify import verify


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of 20 texts."""
    path = tmp_path / "web.jsonl"
    path.write_text("".join(f'{{"text": "page {n} of the web"}}\n' for n in range(20)) + "{not json\n")
    return path


def add(home: Home, source: Path, **options: object):
    prepared = prepare(home, str(source), name="web", wishes=Wishes(as_kind="text", max_rejects=0.5))
    return ingest(home, prepared, **options).entry


def flip(home: Home, name: str, at: int) -> None:
    path = home.path(name)
    os.chmod(path, 0o644)
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1]))


def rows_of(home: Home, revision: str) -> list[dict[str, object]]:
    opened = open_revision(home, revision)
    return pa.Table.from_batches(opened.read(0, opened.rows)).to_pylist()


@pytest.mark.parametrize("kind", ["arrow", "blocks", "manifest", "rejects", "cut", "gone"])
@pytest.mark.parametrize("way", ["again", "replace", "rm"])
def test_adding_again_repairs_what_is_damaged(tmp_path, source, kind, way):
    home = Home(tmp_path / "home")
    entry = add(home, source)
    before = rows_of(home, entry.revision)
    data = next(name for name in home.names("data") if name.endswith(".arrow"))
    index = data.replace(".arrow", ".blocks")
    names = {"blocks": index, "manifest": manifest_name(entry.revision), "rejects": rejects_name(entry.revision)}
    name = names.get(kind, data)
    if kind == "gone":
        os.unlink(home.path(data))
    elif kind == "cut":
        os.truncate(home.path(data), 100)
    else:
        flip(home, name, home.size(name) // 2)
    if kind not in ("rejects",):
        with pytest.raises(DamagedStoreError):
            verify(home, entry)
    if way == "rm":
        Catalog(home).remove("web")
    again = add(home, source, replace_existing=way == "replace")
    assert again.revision == entry.revision
    verify(home, again)
    assert rows_of(home, again.revision) == before


def test_adopting_keeps_a_file_that_is_the_same_and_a_reader_of_a_damaged_one_keeps_its_own(tmp_path, source):
    home = Home(tmp_path / "home")
    add(home, source)
    data = next(name for name in home.names("data") if name.endswith(".arrow"))
    inode = os.stat(home.path(data)).st_ino
    add(home, source)
    assert os.stat(home.path(data)).st_ino == inode
    flip(home, data, 3)
    mapped = home.map(data, DamagedStoreError, lambda _: "").buffer
    damaged = mapped.to_pybytes()
    add(home, source)
    assert os.stat(home.path(data)).st_ino != inode
    assert mapped.to_pybytes() == damaged


def test_put_replaces_what_differs_and_create_does_not(tmp_path):
    for home in (Home(tmp_path / "home"), Home(f"memory://{tmp_path.name}/put")):
        home.put("a/b", b"one")
        home.put("a/b", b"two")
        assert home.read("a/b") == b"two"
        assert not home.create("a/b", b"three")
        assert home.read("a/b") == b"two"


def test_a_manifest_says_every_bit_that_is_flipped_in_it(tmp_path, source):
    home = Home(tmp_path / "home")
    revision = add(home, source).revision
    path = Path(home.path(manifest_name(revision)))
    good = path.read_bytes()
    for at in range(0, len(good), 5):
        path.write_bytes(good[:at] + bytes([good[at] ^ (1 << at % 8)]) + good[at + 1 :])
        with pytest.raises(DamagedStoreError, match="is damaged"):
            read_manifest(home, revision)


def test_a_manifest_under_the_name_of_another_one_is_refused(tmp_path, source):
    home = Home(tmp_path / "home")
    first = add(home, source).revision
    source.write_text('{"text": "another page"}\n')
    second = add(home, source, replace_existing=True).revision
    Path(home.path(manifest_name(first))).write_bytes(home.read(manifest_name(second)))
    with pytest.raises(DamagedStoreError, match="is damaged"):
        open_revision(home, first)
