"""`verify` lists every fault, and `repair` puts back the same revision or says why it can't."""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

pytest.importorskip("torch")

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.catalog.register_in_place import register
from choline_data.catalog.repair import repair
from choline_data.cli.app import app
from choline_data.errors import DamagedStoreError, UnknownDatasetError
from choline_data.mix import resolve_mix
from choline_data.places.home import Home
from choline_data.store import Catalog, Entry
from choline_data.store.object_names import manifest_name, rejects_name
from choline_data.store.snapshots import encode_snapshot
from choline_data.store.windows import Store
from choline_data.tokens.token_stream import token_options, token_rows
from choline_data.tokens.tokenizers import Tokenizer
from choline_data.upkeep.check import check
from choline_data.views import open_stream

from .flips import run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of 20 texts and a line that is none."""
    path = tmp_path / "web.jsonl"
    path.write_text("".join(f'{{"body": "page {n} of the web"}}\n' for n in range(20)) + "{not json\n")
    return path


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


def add(home: Home, source: Path, name: str = "web", **options: object) -> Entry:
    wishes = Wishes(as_kind="text", fields={"text": "body"}, max_rejects=0.5, language="en")
    return ingest(home, prepare(home, str(source), name=name, wishes=wishes), **options).entry


def spoil(home: Home, name: str) -> None:
    raw = home.read(name)
    path = Path(home.path(name))
    path.unlink()
    path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 4]))


def data_of(home: Home, ending: str = ".arrow") -> list[str]:
    return [name for name in home.names("data") if name.endswith(ending)]


def test_verify_lists_every_fault_with_its_file_its_dataset_and_a_remedy(home, source, tmp_path):
    entry = add(home, source)
    (tmp_path / "talk.jsonl").write_text('{"body": "another text of another source"}\n')
    other = add(home, tmp_path / "talk.jsonl", "talk")
    spoil(home, manifest_name(other.revision))
    spoil(home, rejects_name(entry.revision))
    os.unlink(home.path(data_of(home, ".blocks")[0]))
    spoil(home, "copies/00000002.json")
    home.hint("catalog/HEAD", b"7")
    report = check(home)
    assert {(f.kind, f.dataset) for f in report.faults} >= {
        ("manifest", "talk"),
        ("rejects", "web"),
        ("copy", ""),
        ("hint", ""),
    }
    assert {d["name"]: d["ok"] for d in report.datasets} == {"talk": False, "web": False}
    assert all("`choline-data repair" in f.remedy for f in report.faults)
    assert not repair(home).left
    assert check(home).faults == []


def test_files_that_are_not_of_a_home_are_named_and_are_no_fault(home, source):
    add(home, source)
    Path(home.path("data/notes.txt")).write_text("mine")
    report = check(home)
    assert report.faults == []
    assert any("data/notes.txt" in note for note in report.notes)


@pytest.mark.parametrize("dedup", ["", "exact"])
def test_a_dataset_comes_back_from_its_source_with_its_options(home, source, dedup, tmp_path, monkeypatch):
    source.write_text(source.read_text() + '{"body": "page 3 of the web"}\n')
    entry = add(home, source, dedup=dedup)
    files = {name: home.read(name) for name in home.names("")}
    for damaged in (
        *data_of(home),
        *data_of(home, ".blocks"),
        manifest_name(entry.revision),
        rejects_name(entry.revision),
    ):
        spoil(home, damaged)
    monkeypatch.chdir(tmp_path / "..")
    done = repair(home, "web")
    assert (done.left, done.failed, done.lost) == ([], [], [])
    assert Catalog(home).entry("web") == entry
    kept = [name for name in files if name.startswith(("data", "revisions"))]
    assert [home.read(name) for name in kept] == [files[name] for name in kept]


def test_a_block_index_is_made_again_without_the_source(home, source):
    add(home, source)
    (name,) = data_of(home, ".blocks")
    before = home.read(name)
    os.unlink(source)
    for harm in (spoil, lambda home, name: os.unlink(home.path(name))):
        harm(home, name)
        assert not repair(home, "web").left
        assert home.read(name) == before


def test_a_source_that_changed_is_one_clear_error_and_changes_nothing(home, source):
    entry = add(home, source)
    spoil(home, data_of(home)[0])
    source.write_text('{"body": "something else altogether"}\n')
    done = repair(home, "web")
    assert [f.kind for f in done.left] == ["data"]
    (error,) = done.failed
    assert "does not give revision" in error.message and "--replace" in error.remedy
    assert Catalog(home).entry("web") == entry


def test_a_source_that_is_gone_says_so(home, source):
    add(home, source)
    spoil(home, data_of(home)[0])
    os.unlink(source)
    (error,) = repair(home).failed
    assert "can't be read again" in error.message and str(source) in error.message


def test_an_entry_that_kept_no_options_is_tried_with_the_defaults(home, tmp_path):
    source = tmp_path / "plain.jsonl"
    source.write_text("".join(f'{{"text": "page {n} of the web"}}\n' for n in range(9)))
    entry = ingest(home, prepare(home, str(source), name="web")).entry
    old = Entry(**{**vars(entry), "added": {}})
    Path(home.path("catalog/00000001.json")).unlink()
    home.put("catalog/00000001.json", encode_snapshot(1, {"web": old}))
    home.put("copies/00000001.json", encode_snapshot(1, {"web": old}))
    spoil(home, data_of(home)[0])
    assert not repair(home).left
    source.write_text('{"text": "changed"}\n')
    spoil(home, data_of(home)[0])
    home.put("catalog/00000002.json", encode_snapshot(2, {"web": old}))
    home.put("copies/00000002.json", encode_snapshot(2, {"web": old}))
    (error,) = repair(home).failed
    assert "kept no options" in error.message


def test_a_snapshot_without_a_sound_copy_falls_back_and_says_what_is_lost(home, source, tmp_path):
    add(home, source)
    other = tmp_path / "other.jsonl"
    other.write_text('{"body": "the text of another source"}\n')
    lost = add(home, other, "other")
    for name in ("catalog/00000002.json", "copies/00000002.json"):
        spoil(home, name)
    done = repair(home)
    assert list(Catalog(home).entries()) == ["web"]
    assert not done.left
    said = " ".join(done.lost)
    assert "snapshot 2 is lost" in said and lost.revision[:12] in said and str(other) in said
    assert add(home, other, "other").revision == lost.revision
    assert check(home).faults == []


def test_a_damaged_revision_that_no_dataset_has_is_removed_and_named(home, source):
    first = add(home, source)
    source.write_text('{"body": "the next version of it"}\n')
    add(home, source, replace_existing=True)
    spoil(home, manifest_name(first.revision))
    done = repair(home)
    assert not done.left and first.revision[:12] in done.lost[0]
    assert not home.exists(manifest_name(first.revision))


def test_a_lost_rejects_file_of_such_a_revision_costs_no_rows(home, source):
    first = add(home, source)
    source.write_text('{"body": "the next version of it"}\n')
    add(home, source, replace_existing=True)
    spoil(home, rejects_name(first.revision))
    assert not repair(home).left
    assert home.exists(manifest_name(first.revision))


def test_an_unknown_name_is_an_error(home, source):
    add(home, source)
    for call in (check, repair):
        with pytest.raises(UnknownDatasetError):
            call(home, "wep")


def test_a_home_with_damage_of_any_kind_gives_the_same_rows_or_an_error_and_the_remedy_repairs(tmp_path):
    damages = int(os.environ.get("CHOLINE_FLIPS", "10"))
    assert run(tmp_path, damages, damages // 2, seed=int(os.environ.get("CHOLINE_SEED", "7"))) == []


@pytest.mark.parametrize("kind", ["data", "index", "manifest", "selection", "tokens", "packing"])
def test_what_a_stream_says_of_damage_names_the_dataset_and_the_command(home, source, kind):
    entry = add(home, source)
    where = "len(text) > 16"
    mix = {"web": {"weight": 1.0, "where": where}}
    options = token_options("bytes", 16, "bfd")

    def read(view: str) -> None:
        store = Store(home)
        more = {"options": options, "rows_of": token_rows(Tokenizer("bytes"))} if view == "tokens" else {}
        recipe = resolve_mix(mix if view == "samples" else "web", store, view=view, **more)
        open_stream(store, recipe, None).read_at(np.arange(20))

    read("samples")
    read("tokens")
    tokens = home.names("tokens")
    name = {
        "data": data_of(home)[0],
        "index": data_of(home, ".blocks")[0],
        "manifest": manifest_name(entry.revision),
        "selection": home.names("selections")[0],
        "tokens": next(n for n in tokens if n.endswith("tokens.bin")),
        "packing": next(n for n in tokens if "bfd-" in n and n.endswith(".bin")),
    }[kind]
    raw = home.read(name)
    Path(home.path(name)).unlink()
    half = len(raw) // 2
    Path(home.path(name)).write_bytes(raw[:half] + bytes([raw[half] ^ 1]) + raw[half + 1 :])
    with pytest.raises(DamagedStoreError, match=r"^web: ") as caught:
        read("tokens" if kind in ("tokens", "packing") else "samples")
    assert "`choline-data repair web`" in caught.value.remedy
    assert not repair(home, "web").left
    read("samples")
    read("tokens")


def test_the_remedy_of_a_file_in_place_that_changed_takes_what_it_holds_now(home, tmp_path):
    path = tmp_path / "pages.parquet"
    pq.write_table(pa.table({"text": [f"page {n}" for n in range(8)]}), path)
    register(home, prepare(home, str(path), name="mine"))
    pq.write_table(pa.table({"text": [f"another page {n}" for n in range(5)]}), path)
    (fault,) = check(home).faults
    assert (fault.kind, fault.dataset) == ("source", "mine")
    found = re.search(r"`choline-data (add [^`]*)`", fault.remedy)
    assert found is not None
    app([*shlex.split(found[1]), "--yes", "--json", "--home", home.location], standalone_mode=False)
    assert Catalog(home).entry("mine").rows == 5
    assert check(home).faults == []
