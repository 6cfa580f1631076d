"""Every public dataset of the shared data, added by the command line: its count, its kind, no lost column.

No flag is given, but for folders of several datasets, about which `add` asks.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson
import pytest

from choline_data.adapters.mapping import forms
from choline_data.catalog.add import prepare
from choline_data.catalog.planning import IngestPart, Wishes, guarded_chunks
from choline_data.errors import ChoiceNeededError
from choline_data.places.home import Home

# name: (samples, kinds). The manifest's counts; what is counted is said where it gives more than one.
ADDED: dict[str, tuple[int, str]] = {
    "tinyshakespeare": (1, "text"),
    "gutenberg": (5, "text"),
    "wikitext-2": (2461 + 2891, "text"),  # the lines that are not empty
    "peps": (191, "text"),
    "peps_jsonl": (68 + 68 + 69, "text"),
    "fortunes": (4125, "text"),
    "udhr_zip": (335, "text"),
    "ud_english_ewt": (2001, "text"),  # sentences
    "warc": (6, "text"),  # records
    "gsm8k": (7473 + 1319 + 1319, "chat"),
    "humaneval": (164, "text"),
    "mbpp": (974, "text"),
    "bbh": (1761, "chat"),
    "self_instruct": (175 + 252, "chat"),
    "sharegpt_fastchat": (500, "chat"),
    "mt_bench": (80 + 30, "chat"),
    "glaive_toolcall": (300, "chat"),
    "preference": (300 + 300, "preference"),
    "oasst_sample": (100 + 100, "chat"),
    "openai_messages": (10, "chat"),
    "tau_bench": (200, "chat"),
    "mlx_prompt_completion": (1800 + 144, "chat"),
    "code_itsdangerous": (26, "text"),
    "palmerpenguins": (344 + 344, "tabular"),
    "sklearn_tables": (150 + 178 + 569 + 1797 + 442, "tabular"),
    "sklearn_images": (2, "image"),
    "vega": (3218 + 344 + 200_000 + 1707 + 10_000 + 237, "tabular"),
    # The two rows of over 1 GiB are rejected, and the INT96 time of year 11 million.
    "parquet_testing": (1865 - 3, "tabular"),
    "arrow_files": (1319 + 1319, "chat"),
    "fashion_mnist": (10_000, "image"),
    "omniglot": (2720, "image"),
    "omniglot_folder": (440, "image"),
    "shapes_masks": (2 + 5, "image"),  # the manifest counts pictures and masks; each is a sample with its path
    "coco_results": (1000 + 734 + 734 + 125, "annotation"),
    "fsdd": (300, "audio"),
    "asterisk_en": (182, "audio"),
    "esc10": (80, "audio"),
    "label_studio": (12, "annotation"),
    # The manifest's 1360, 2 more of simple-split/data (its key is the split train alone; the record set has 3 + 2), 6 of
    # record sets that it does not count (split_enums, items_recordset), and 62 of the recipes.
    "croissant": (1360 + 2 + 6 + 62, "annotation audio image tabular"),
    "frictionless": (13_979 + 230 + 249, "tabular"),
    "corpora_cc0": (154 + 118 + 78 + 66 + 14, "tabular"),
    "hf_gsm8k": (7473 + 1319, "chat"),  # the default config
    "hf_fashion_mnist": (1000, "image"),
    "hf_imagefolder_greek": (216 + 72, "image"),
    "hf_audiofolder_fsdd": (60 + 40, "audio"),
    "wds_esc10": (40, "audio"),
    "wds_omniglot_latin": (520, "image"),
    "mds_wikitext": (1841 + 1841, "text"),
    "mds_fashion": (400, "image"),
    "litdata_alice": (820, "text"),
    "lance_gsm8k.lance": (1319, "chat"),
}
# name: (reason, what the message or the remedy says). A tokenizer.json is no dataset, and is refused as what it is.
REFUSED = {
    "hf_bbh": ("CHOICE_NEEDED", "has 3 configs: causal_judgement, object_counting, snarks"),
    "dvc_layout": ("SOURCE_NOT_FOUND", "0123456789abcdef0123456789abcdef"),
    "lfs_pointers": ("SOURCE_NOT_FOUND", "LFS pointer, not pulled"),
    "nasty": ("SOURCE_DAMAGED", "cut_in_member.tar"),
    "tokenizers": ("SOURCE_FORMAT", "is a tokenizer, not a dataset"),
}
REJECTED = {"parquet_testing": 3}
HAS_LANCE = importlib.util.find_spec("lance") is not None


def _generator() -> ModuleType:
    path = Path(__file__).resolve().parents[1] / "docs" / "generate_formats.py"
    spec = importlib.util.spec_from_file_location("generate_formats", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    import sys

    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


GENERATOR = _generator()


@pytest.fixture(scope="module")
def found(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """How each dataset's `add` ended."""
    return GENERATOR.outcomes(shared_data, tmp_path_factory.mktemp("home"))


def test_the_table_has_every_dataset_of_the_manifest(shared_data: Path) -> None:
    entries = json.loads((shared_data / "manifest.json").read_text())["datasets"]
    assert {e["name"] for e in entries} == ADDED.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", ADDED)
def test_a_dataset_is_added_with_its_count_and_its_kind(found: dict[str, Any], name: str) -> None:
    end = found[name]
    if name.endswith(".lance") and not HAS_LANCE:
        assert (end.code, end.error["reason"]) == (1, "DEPENDENCY_MISSING")
        assert "choline-data[lance]" in end.error["remedy"]
        return
    assert end.code == 0, end.error
    kinds = " ".join(sorted({part["kind"] for part in end.told["parts"]}))
    assert (end.told["rows"], kinds) == ADDED[name]
    assert end.told["rejected"] == REJECTED.get(name, 0)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_whole_dataset_says_why(found: dict[str, Any], name: str) -> None:
    reason, says = REFUSED[name]
    assert (found[name].code, found[name].error["reason"]) == (3 if reason == "CHOICE_NEEDED" else 1, reason)
    assert says in found[name].error["message"]
    assert found[name].error["remedy"]


@pytest.mark.parametrize("name", [n for n in ADDED if HAS_LANCE or not n.endswith(".lance")])
def test_a_dataset_loses_no_column(shared_data: Path, tmp_path: Path, name: str) -> None:
    prepared = prepare(Home(tmp_path), str(shared_data / name), wishes=Wishes(ask=False))
    for part in prepared.plan.parts:
        assert not _lost(part), (name, part.shards[0].origin)


@pytest.mark.parametrize("name", GENERATOR.ANSWERS)
def test_a_folder_of_several_datasets_is_asked_about(shared_data: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(ChoiceNeededError) as asked:
        prepare(Home(tmp_path), str(shared_data / name))
    assert all(option in asked.value.remedy for option in GENERATOR.ANSWERS[name][::2])


def _lost(part: IngestPart) -> set[str]:
    """The columns of the part's first rows that are neither in a field of the schema nor in `extra`."""
    shard = part.shards[0]
    chunk = next((c for c in guarded_chunks(part.adapter, shard) if c.batch.num_rows), None)
    if chunk is None:
        return set()
    made = forms.apply(part.mapping, chunk, shard).batch
    held = {c for c, a in zip(chunk.batch.schema.names, chunk.batch.columns, strict=True) if a.null_count < len(a)}
    extra = {key for row in made["extra"].to_pylist() if row for key in orjson.loads(row)}
    return held - extra - {column for _, column in part.mapping.fields}


def test_the_whole_parts_of_a_dvc_project_are_read(shared_data: Path, tmp_path: Path) -> None:
    one = GENERATOR.added(shared_data / "dvc_layout" / "data" / "unemployment.tsv.dvc", tmp_path)
    assert (one.told["rows"], one.told["kind"]) == (3218, "tabular")
    folder = GENERATOR.added(shared_data / "dvc_layout" / "data" / "fortunes.dvc", tmp_path)
    assert (folder.code, folder.told.get("kind")) == (0, "text"), folder.error


@pytest.mark.parametrize(
    ("file", "ends"),
    [
        ("truncated.jsonl.gz", "SOURCE_DAMAGED"),
        ("broken_lines.jsonl", "TOO_MANY_REJECTS"),
        ("ragged.csv", "TOO_MANY_REJECTS"),
        ("empty.jsonl", "0"),
        ("parquet_named.json", "1319"),
        ("cut_in_member.tar", "SOURCE_DAMAGED"),
    ],
)
def test_a_damaged_file_ends_as_the_readme_says(shared_data: Path, tmp_path: Path, file: str, ends: str) -> None:
    end = GENERATOR.added(shared_data / "nasty" / file, tmp_path)
    assert (end.error["reason"] if end.code else str(end.told["rows"])) == ends
    assert not end.code or file in end.error["message"]


@pytest.mark.parametrize(("file", "rows"), [("broken_lines.jsonl", 18), ("ragged.csv", 27)])
def test_a_damaged_file_is_read_leniently_on_request(shared_data: Path, tmp_path: Path, file: str, rows: int) -> None:
    end = GENERATOR.added(shared_data / "nasty" / file, tmp_path, "--max-rejects", "0.2")
    assert (end.code, end.told.get("rows")) == (0, rows), end.error


def test_a_broken_descriptor_alone_is_a_typed_error(tmp_path: Path, shared_data: Path) -> None:
    shutil.copy(shared_data / "croissant" / "titanic" / "metadata.json", tmp_path / "metadata.json")
    end = GENERATOR.added(tmp_path / "metadata.json", tmp_path / "home")
    assert (end.code, end.error["reason"]) == (1, "SOURCE_NOT_FOUND")


def test_the_page_of_formats_is_of_this_run(shared_data: Path, found: dict[str, Any]) -> None:
    if HAS_LANCE:
        pytest.skip("docs/formats.md is made without pylance")
    page = Path(GENERATOR.__file__).with_name("formats.md").read_text()
    assert GENERATOR.page(shared_data, found) == page
