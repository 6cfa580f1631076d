"""Resolves locations, as users type them, to a `Source`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from choline_data.catalog.locate import expand_braces, resolve
from choline_data.errors import (
    ForbiddenLocationError,
    SourceNotFoundError,
)


def names(place: object) -> list[str]:
    return [f.name for f in resolve(str(place)).files]


def put(folder: Path, *files: str) -> Path:
    for name in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return folder


def test_a_folder_lists_its_files_in_order_without_caches_and_hidden_ones(tmp_path: Path) -> None:
    put(
        tmp_path,
        "b/1.txt",
        "a.txt",
        ".hidden",
        ".git/config",
        "__pycache__/m.pyc",
        ".DS_Store",
        ".gitattributes",
        ".dvc/config",
        ".dvc/cache/x",
    )
    assert names(tmp_path) == [".dvc/config", ".gitattributes", "a.txt", "b/1.txt"]


def test_a_file_a_glob_a_set_and_a_url_name_the_same_files(tmp_path: Path) -> None:
    put(tmp_path, "p-000.csv", "p-001.csv", "q.csv")
    assert names(tmp_path / "q.csv") == ["q.csv"]
    assert names(tmp_path / "p-*.csv") == ["p-000.csv", "p-001.csv"]
    assert names(tmp_path / "p-{000..001}.csv") == ["p-000.csv", "p-001.csv"]
    assert names(f"file://{tmp_path}/{{q,p-000}}.csv") == ["q.csv", "p-000.csv"]
    assert expand_braces("a-{008..010}-{x,y}")[:3] == ["a-008-x", "a-008-y", "a-009-x"]


def test_a_set_with_a_missing_file_names_it(tmp_path: Path) -> None:
    put(tmp_path, "p-0.csv")
    with pytest.raises(SourceNotFoundError, match=r"p-1\.csv"):
        resolve(f"{tmp_path}/p-{{0..1}}.csv")


def test_a_link_out_of_the_folder_is_refused_and_one_within_is_a_file(tmp_path: Path) -> None:
    inside = put(tmp_path / "in", "a.txt")
    (inside / "b.txt").symlink_to(inside / "a.txt")
    assert names(inside) == ["a.txt", "b.txt"]
    (inside / "c.txt").symlink_to("/etc/hostname")
    with pytest.raises(ForbiddenLocationError, match=r"c\.txt is a link that leads out"):
        resolve(str(inside))


def test_a_snapshot_of_the_hub_cache_may_link_to_its_blobs(tmp_path: Path) -> None:
    put(tmp_path, "datasets--o--n/blobs/abc", "datasets--o--n/snapshots/1/README.md")
    snapshot = tmp_path / "datasets--o--n/snapshots/1"
    (snapshot / "a.csv").symlink_to("../../blobs/abc")
    assert names(snapshot) == ["README.md", "a.csv"]


def test_a_fifo_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SourceNotFoundError, match="holds no files"):
        resolve(str(tmp_path))
    with pytest.raises(ForbiddenLocationError):
        resolve(str(tmp_path / "pipe"))


@pytest.mark.parametrize("place", ["simplecache::file:///etc/hostname", "ftp://h/x", "a\x00b", "file://host/x"])
def test_forms_that_are_not_allowed_are_refused(place: str) -> None:
    with pytest.raises(ForbiddenLocationError):
        resolve(place)


def test_a_missing_path_says_so(tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match="no such file"):
        resolve(str(tmp_path / "nothing.csv"))


def test_a_remote_folder_is_listed_with_sizes() -> None:
    import fsspec

    fs = fsspec.filesystem("memory")
    fs.pipe({"/box/b.csv": b"123", "/box/sub/a.csv": b"1", "/box/.hidden": b"1"})
    try:
        source = resolve("memory://box")
        assert [(f.name, f.size) for f in source.files] == [("b.csv", 3), ("sub/a.csv", 1)]
    finally:
        fs.rm("/box", recursive=True)


@pytest.mark.parametrize(
    ("name", "text", "spdx"),
    [
        ("README.md", "---\nlicense: cc-by-sa-4.0\n---\n", "CC-BY-SA-4.0"),
        ("LICENSE", "Apache License\n   Version 2.0, January 2004", "Apache-2.0"),
        ("datapackage.json", '{"licenses": [{"name": "CC0-1.0"}]}', "CC0-1.0"),
        ("croissant.json", '{"license": "https://creativecommons.org/licenses/by/4.0/"}', "CC-BY-4.0"),
        ("LICENSE", "All rights are mine", "NOASSERTION"),
    ],
)
def test_the_licence_comes_from_what_the_source_states(tmp_path: Path, name: str, text: str, spdx: str) -> None:
    (tmp_path / name).write_text(text)
    assert resolve(str(tmp_path)).license == spdx
