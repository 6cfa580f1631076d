"""Layouts: hub folders, Croissant, Frictionless, DVC, LFS and exports, on small data and on the real ones."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from choline_data.adapters import (
    chatgpt,
    coco,
    croissant,
    dvc,
    frictionless,
    hub,
    hub_saved,
    label_studio,
    lance,
    lfs,
)
from choline_data.adapters.base import FormatClaim
from choline_data.adapters.reading.hub_patterns import glob_rule
from choline_data.catalog.locate import resolve
from choline_data.errors import (
    DataError,
    MissingDependencyError,
    SourceDamagedError,
    SourceNotFoundError,
)

GIF = b"GIF89a\x01\0\x01\0\0\0\0;"


def rows(claim: FormatClaim, start: int = 0) -> list[dict[str, Any]]:
    out: list[dict[str, Any]] = []
    for shard in claim.adapter.shards(claim.files):
        for chunk in claim.adapter.read(shard, start=start):
            chunk.batch.validate(full=True)
            assert len(chunk.rows) == chunk.batch.num_rows
            out += chunk.batch.to_pylist()
    return out


def counts(claims: list[FormatClaim]) -> dict[str, int]:
    return {"/".join(filter(None, (c.config, c.split))): len(rows(c)) for c in claims if c.files}


def write(folder: Path, **files: object) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in files.items():
        (folder / name.replace("__", ".")).write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def test_a_card_names_configs_splits_and_class_labels(tmp_path: Path) -> None:
    card = """---
configs:
- config_name: a
  data_files: [{split: dev, path: "*.csv"}]
dataset_info:
  config_name: a
  features: [{name: label, dtype: {class_label: {names: {'0': no, '1': 'yes'}}}}]
---"""
    claims = hub.detect(resolve(str(write(tmp_path, README__md=card, x__csv="text,label\na,0\nb,1\n"))))
    assert [(c.config, c.split) for c in claims] == [("a", "dev")]
    assert [(r["label"], r["label_id"]) for r in rows(claims[0])] == [("no", 0), ("yes", 1)]


def test_a_pattern_without_files_names_config_and_split(tmp_path: Path) -> None:
    card = "---\nconfigs:\n- config_name: a\n  data_files: [{split: test, path: t/*.csv}]\n---"
    with pytest.raises(SourceNotFoundError, match=r"t/\*\.csv \(config a, split test\)"):
        hub.detect(resolve(str(write(tmp_path, README__md=card, x__csv="a\n1\n"))))


def test_patterns_match_as_in_a_shell() -> None:
    assert glob_rule("**/*.csv").match("a/b/c.csv")
    assert glob_rule("**/*.csv").match("c.csv")
    assert not glob_rule("*.csv").match("a/c.csv")
    assert glob_rule("{a,b}-[0-9]?.x").match("b-12.x")


def test_the_real_hub_folders_have_their_counts(shared_data: Path) -> None:
    assert counts(hub.detect(resolve(str(shared_data / "hf_gsm8k")))) == {
        "main/train": 7473,
        "main/test": 1319,
    }
    assert counts(hub.detect(resolve(str(shared_data / "hf_gsm8k"), options={"config": "socratic"}))) == {
        "socratic/test": 1319
    }
    snarks = resolve(str(shared_data / "hf_bbh"), options={"config": "snarks"})
    assert counts(hub.detect(snarks)) == {"snarks/test": 178}


def test_a_saved_dataset_is_read_with_its_class_names(tmp_path: Path) -> None:
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, -1]})
    with (
        pa.OSFile(str(tmp_path / "data-00000-of-00001.arrow"), "wb") as sink,
        pa.ipc.new_stream(sink, table.schema) as out,
    ):
        out.write_table(table)
    features = {"text": {"_type": "Value"}, "label": {"_type": "ClassLabel", "names": ["no", "yes"]}}
    write(
        tmp_path,
        dataset_info__json={"features": features},
        state__json={"_data_files": [{"filename": "data-00000-of-00001.arrow"}], "_split": "train"},
    )
    claim = hub_saved.detect(resolve(str(tmp_path)))[0]
    assert claim.split == "train"
    assert [r["label"] for r in rows(claim)] == ["yes", "no", None]
    assert [r["text"] for r in rows(claim, start=2)] == ["c"]


def test_a_croissant_join_follows_references(tmp_path: Path) -> None:
    def field(name: str, source: object, **more: object) -> dict[str, object]:
        return {"@id": name, "dataType": "sc:Text", "source": source, **more}

    def column(file: str, name: str) -> dict[str, object]:
        return {"fileObject": {"@id": file}, "extract": {"column": name}}

    people = {
        "@id": "people",
        "field": [field("people/id", column("p", "id")), field("people/name", column("p", "name"))],
    }
    notes = {
        "@id": "notes",
        "field": [
            field("notes/by", column("n", "by"), references={"field": {"@id": "people/id"}}),
            field("notes/who", {"field": {"@id": "people/name"}}),
            field("notes/year", {**column("n", "at"), "transform": {"regex": r"^(\d{4})-"}}),
        ],
    }
    files = [{"@id": i, "contentUrl": f"{i}.csv", "encodingFormat": "text/csv"} for i in "pn"]
    write(
        tmp_path,
        p__csv="id,name\n1,Ann\n",
        n__csv="by,at\n1,2020-01\n2,2021-02\n",
        metadata__json={
            "@context": {},
            "conformsTo": "http://mlcommons.org/croissant/1.1",
            "distribution": files,
            "recordSet": [people, notes],
            "license": "cc-by-4.0",
        },
    )
    claims = croissant.detect(resolve(str(tmp_path)))
    assert [(c.config, c.license) for c in claims] == [("people", "CC-BY-4.0"), ("notes", "CC-BY-4.0")]
    assert rows(claims[1]) == [
        {"by": "1", "who": "Ann", "year": "2020"},
        {"by": "2", "who": None, "year": "2021"},
    ]


def _same(got: Any, want: Any) -> bool:
    if isinstance(want, str) and ("PIL." in want or "array(" in want):
        return isinstance(got, dict) and bool(got["bytes"])
    if isinstance(want, dict):
        return all(_same(got[k.rsplit("/", 1)[-1]], v) for k, v in want.items())
    return str(got) == str(want)


def test_every_croissant_record_set_has_the_rows_of_the_answer_key(shared_data: Path) -> None:
    folder = shared_data / "croissant"
    seen = 0
    for claim in croissant.detect(resolve(str(folder))):
        adapter = claim.adapter
        assert isinstance(adapter, croissant.Croissant)
        key = folder / Path(adapter.descriptor.name).parent / "output" / f"{adapter.record_set}.jsonl"
        got = rows(claim)
        if not key.exists():
            continue
        seen += 1
        left = list(got)
        want = [json.loads(line) for line in key.read_text().splitlines()]
        if claim.config == "simple-split/data":  # its key was made with the filter {"data/split": "train"}
            assert len(got) == 5
            got = [row for row in got if row["split"] == "train"]
        assert len(got) == len(want), claim.config
        for row in want:
            found = next((r for r in left if _same(r, row)), None)
            assert found is not None, (claim.config, row)
            left.remove(found)
    assert seen >= 18


def test_a_croissant_file_of_another_checksum_is_damaged(tmp_path: Path) -> None:
    field = {"@id": "r/a", "source": {"fileObject": {"@id": "f"}, "extract": {"column": "a"}}}
    write(
        tmp_path,
        f__csv="a\n1\n",
        metadata__json={
            "@context": {},
            "conformsTo": "http://mlcommons.org/croissant/1.0",
            "recordSet": [{"@id": "r", "field": [field]}],
            "distribution": [{"@id": "f", "contentUrl": "f.csv", "sha256": "0" * 64}],
        },
    )
    with pytest.raises(SourceDamagedError, match="SHA-256"):
        rows(croissant.detect(resolve(str(tmp_path)))[0])


def test_a_package_says_the_dialect_and_a_wrong_value_rejects_its_row(tmp_path: Path) -> None:
    fields = [{"name": "code", "type": "string"}, {"name": "n", "type": "integer"}]
    resource = {
        "name": "t",
        "path": "t.csv",
        "dialect": {"delimiter": ";"},
        "schema": {"fields": fields, "missingValues": ["-"]},
    }
    write(
        tmp_path,
        t__csv="code;n\n007;1\n1.10;x\n-;-\n",
        datapackage__json={"name": "p", "resources": [resource]},
    )
    claim = frictionless.detect(resolve(str(tmp_path)))[0]
    (shard,) = claim.adapter.shards(claim.files)
    (chunk,) = claim.adapter.read(shard)
    assert chunk.batch.to_pylist() == [{"code": "007", "n": 1}, {"code": None, "n": None}]
    assert list(chunk.rows) == [0, 2]
    assert chunk.rejects[0].row == 1
    assert "'x' is no integer" in chunk.rejects[0].reason


def test_a_package_may_not_name_a_file_outside(tmp_path: Path) -> None:
    write(tmp_path, datapackage__json={"resources": [{"name": "t", "path": "../../etc/passwd"}]})
    with pytest.raises(DataError, match="outside the package"):
        frictionless.detect(resolve(str(tmp_path)))


def test_the_real_packages_have_their_counts(shared_data: Path) -> None:
    assert counts(frictionless.detect(resolve(str(shared_data / "frictionless")))) == {
        "gdp/gdp": 13979,
        "gdp/top-economies": 230,
        "country-codes/country-codes": 249,
    }


def test_annotation_exports_have_their_counts(shared_data: Path) -> None:
    (results,) = coco.detect(resolve(str(shared_data / "coco_results")))
    assert results.kind == "annotation"
    assert len(rows(results)) == 1000 + 734 + 734 + 125
    (tasks,) = label_studio.detect(resolve(str(shared_data / "label_studio")))
    assert tasks.kind == "annotation"
    assert len(rows(tasks)) == 12
    assert len(tasks.described) == 5


def test_coco_annotations_are_joined_to_their_images(tmp_path: Path) -> None:
    (tmp_path / "a.gif").write_bytes(GIF)
    write(
        tmp_path,
        instances__json={
            "images": [{"id": 1, "file_name": "a.gif"}, {"id": 2, "file_name": "b.gif"}],
            "annotations": [
                {"image_id": 1, "category_id": 5, "bbox": [0, 0, 1, 1]},
                {"image_id": 9, "caption": "c"},
            ],
            "categories": [{"id": 5, "name": "cat"}],
        },
    )
    (claim,) = coco.detect(resolve(str(tmp_path)))
    (shard,) = claim.adapter.shards(claim.files)
    (chunk,) = claim.adapter.read(shard)
    (row,) = chunk.batch.to_pylist()
    assert row["image"] == {"bytes": GIF, "path": "a.gif"}
    assert (row["labels"], [n["category"] for n in row["annotations"]]) == (["cat"], ["cat"])
    assert [(r.row, r.reason) for r in chunk.rejects] == [
        (1, "'b.gif' is not there, or is there several times"),
        (2, "its image is not listed"),
    ]
    assert [(c.rows.tolist(), len(c.rejects)) for c in claim.adapter.read(shard, start=1)] == [([], 2)]


def test_a_conversation_is_the_path_to_its_current_node(tmp_path: Path) -> None:
    def node(parent: str | None, role: str, text: str) -> dict[str, object]:
        return {
            "parent": parent,
            "children": [],
            "message": {"author": {"role": role}, "content": {"parts": [text]}},
        }

    tree = {
        "r": {"parent": None, "children": ["a"], "message": None},
        "a": node("r", "user", "hi"),
        "b": node("a", "assistant", "old"),
        "c": node("a", "assistant", "new"),
    }
    write(tmp_path, conversations__json=[{"title": "t", "mapping": tree, "current_node": "c"}])
    (claim,) = chatgpt.detect(resolve(str(tmp_path)))
    (row,) = rows(claim)
    assert row["messages"] == [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "new"}]
    assert row["title"] == "t"
    assert json.loads(row["branches"])["b"]["parent"] == "a"


def test_dvc_targets_are_read_from_the_remote_and_checked(shared_data: Path, tmp_path: Path) -> None:
    data = shared_data / "dvc_layout" / "data"
    claims = dvc.detect(resolve(f"{data}/{{unemployment.tsv,fortunes}}.dvc"))
    assert sum(len(rows(c)) for c in claims if any(f.name == "unemployment.tsv" for f in c.files)) == 3218
    assert sum(f.name.startswith("fortunes/") for c in claims for f in c.files) == 3
    with pytest.raises(SourceNotFoundError, match=r"missing_audio.*md5 0123456789abcdef0123456789abcdef"):
        dvc.detect(resolve(str(shared_data / "dvc_layout")))
    md5 = hashlib.md5(b"a\n1\n").hexdigest()
    store = write(tmp_path / ".dvc" / "cache" / "files" / "md5" / md5[:2], **{md5[2:]: "other"})
    write(tmp_path, x__csv__dvc=f"outs:\n- md5: {md5}\n  path: x.csv\n")
    with pytest.raises(SourceDamagedError, match=md5):
        dvc.detect(resolve(str(tmp_path)))
    (store / md5[2:]).write_text("a\n1\n")
    assert [rows(c) for c in dvc.detect(resolve(str(tmp_path))) if c.files] == [[{"a": 1}]]


def test_lfs_pointers_say_so_or_are_read_from_the_objects(shared_data: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceNotFoundError, match=r"LFS pointer, not pulled .6 of 9.*Run git lfs pull"):
        lfs.detect(resolve(str(shared_data / "lfs_pointers")))
    content = "a\n1\n"
    oid = hashlib.sha256(content.encode()).hexdigest()
    write(tmp_path / ".git" / "lfs" / "objects" / oid[:2] / oid[2:4], **{oid: content})
    write(tmp_path, x__csv=f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 4\n")
    (claim,) = lfs.detect(resolve(str(tmp_path)))
    assert rows(claim) == [{"a": 1}]


def test_lance_names_the_extra_where_pylance_is_missing(shared_data: Path) -> None:
    source = resolve(str(shared_data / "lance_gsm8k.lance"))
    if importlib.util.find_spec("lance"):
        assert sum(len(rows(c)) for c in lance.detect(source)) == 1319
        return
    with pytest.raises(MissingDependencyError, match=r"choline-data\[lance\]"):
        lance.detect(source)
