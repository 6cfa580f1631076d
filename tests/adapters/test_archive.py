"""Archives: members are read without unpacking, and refused members are counted, with their place and the reason."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from choline_data.adapters.reading import plain_files
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.ingest import Ingested
from choline_data.catalog.planning import Wishes
from choline_data.errors import SourceDamagedError, TooManyRejectsError
from choline_data.places.home import Home

TEXTS = {f"doc/{name}.txt": f"The text of {name} is here." for name in "abcd"}
LINK = 0o120777 << 16


def add(home: Path, source: Path, **wishes) -> tuple[Ingested, dict[str, str]]:
    prepared = prepare(Home(home), str(source), wishes=Wishes(**wishes))
    return ingest(Home(home), prepared), dict(prepared.plan.passed_over)


def zip_of(path: Path, links: dict[str, str], more: dict[str, str] | None = None) -> Path:
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in {**TEXTS, **(more or {})}.items():
            packed.writestr(name, text)
        for name, target in links.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = LINK
            packed.writestr(info, target)
    return path


def tar_of(path: Path, links: dict[str, str], more: dict[str, str] | None = None) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as packed:
        for name, text in {**TEXTS, **(more or {})}.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            packed.addfile(info, io.BytesIO(text.encode()))
        for name, target in links.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            packed.addfile(info)
    return path


@pytest.fixture(params=[zip_of, tar_of], ids=["zip", "tar"])
def packed(request, tmp_path):
    """Makes an archive of the texts, links and other members."""
    kind = request.param.__name__.removesuffix("_of")
    return lambda *args: request.param(tmp_path / f"texts.{kind}", *args)


def test_a_member_that_leads_out_is_a_reject_with_its_number_and_reason(tmp_path, packed):
    source = packed({"doc/link.txt": "../../etc/passwd"}, {"../out.txt": "no"})
    done, passed = add(tmp_path / "home", source, max_rejects=0.5)
    assert (done.rows, done.rejected) == (4, 2)
    assert [(r.file, r.row, r.reason) for r in done.rejects] == [
        (f"{source.name}!/../out.txt", 4, "its name leads out of the archive"),
        (f"{source.name}!/doc/link.txt", 5, "it is a symbolic link"),
    ]
    assert passed.keys() == {r.file for r in done.rejects}


def test_refused_members_count_against_the_budget(tmp_path, packed):
    with pytest.raises(TooManyRejectsError, match=r"1 of 5 .*out\.txt, row 4: its name leads out"):
        add(tmp_path / "home", packed({}, {"../out.txt": "no"}))


def test_a_link_to_another_member_is_passed_over(tmp_path, packed):
    source = packed({"doc/again.txt": "a.txt", "all": "doc", "doc/up.txt": "../doc/b.txt"})
    done, passed = add(tmp_path / "home", source)
    assert (done.rows, done.rejected) == (4, 0)
    assert passed == {
        f"{source.name}!/doc/again.txt": "it is a symbolic link to doc/a.txt",
        f"{source.name}!/all": "it is a symbolic link to doc",
        f"{source.name}!/doc/up.txt": "it is a symbolic link to doc/b.txt",
    }


def test_a_link_to_nothing_is_a_reject(tmp_path, packed):
    done, _ = add(tmp_path / "home", packed({"doc/e.txt": "f.txt"}), max_rejects=0.5)
    assert (done.rows, done.rejected) == (4, 1)


def test_a_compressed_tar_is_not_inflated_again_for_each_member(tmp_path, monkeypatch):
    source = tar_of(tmp_path / "texts.tar.gz", {}, {f"doc/{n}.txt": f"Text number {n}." for n in range(200)})
    walks: list[str] = []
    pieces = plain_files.pieces_of
    monkeypatch.setattr(
        plain_files, "pieces_of", lambda file, name, *rest: walks.append(name) or pieces(file, name, *rest)
    )
    prepared = prepare(Home(tmp_path / "home"), str(source))
    assert prepared.plan.kind == "text"
    assert 0 < len(walks) < 50  # of 204 members


def test_members_of_one_word_are_text(tmp_path):
    done, _ = add(tmp_path / "home", zip_of(tmp_path / "words.zip", {}, {f"doc/{n}.txt": "ok" for n in "abcdefgh"}))
    assert (done.entry.kind, done.rows) == ("text", 8)


def test_a_damaged_tar_names_itself_and_the_byte(tmp_path):
    whole = tar_of(tmp_path / "texts.tar", {}).read_bytes()
    damaged = bytearray(whole)
    damaged[1024] ^= 1
    (tmp_path / "flipped.tar").write_bytes(damaged)
    with pytest.raises(SourceDamagedError, match=r"flipped\.tar: the header checksum is wrong .*byte 1024"):
        add(tmp_path / "home", tmp_path / "flipped.tar")
    (tmp_path / "cut.tar").write_bytes(whole[:1540])
    with pytest.raises(SourceDamagedError, match=r"cut\.tar: .* is truncated .*byte 1024"):
        add(tmp_path / "home", tmp_path / "cut.tar")


def test_a_cut_compressed_tar_names_itself_and_the_byte(tmp_path):
    whole = tar_of(tmp_path / "texts.tar.gz", {}).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[:-20])
    with pytest.raises(SourceDamagedError, match=rf"cut\.tar\.gz: .* at byte {len(whole) - 20}"):
        add(tmp_path / "home", tmp_path / "cut.tar.gz")


@pytest.mark.parametrize("pack", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_tables_within_archives_are_read(tmp_path: Path, pack: str, kind: str) -> None:
    table = pa.table({"title": ["a", "b", "c"], "n": [1, 2, 3]})
    content = io.BytesIO()
    if kind == "parquet":
        pq.write_table(table, content)
    else:
        with pa.ipc.new_file(content, table.schema) as out:
            out.write_table(table)
    archive = tmp_path / f"rows.{pack}"
    if pack == "zip":
        with zipfile.ZipFile(archive, "w") as packed:
            packed.writestr(f"rows.{kind}", content.getvalue())
    else:
        with tarfile.open(archive, "w:gz" if pack == "tar.gz" else "w") as packed:
            info = tarfile.TarInfo(f"rows.{kind}")
            info.size = len(content.getvalue())
            packed.addfile(info, io.BytesIO(content.getvalue()))
    done, _ = add(tmp_path / "home", archive)
    assert (done.rows, done.rejected) == (3, 0)
