"""The shared data: the true row counts of real files, and the required result for each hostile file. Memory in a child
process.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from choline_data.adapters import registry
from choline_data.errors import DataError, SourceDamagedError

COUNTS = {
    "parquet": {
        "hf_gsm8k/main/train-00000-of-00001.parquet": 7473,
        "hf_fashion_mnist/data/test-00000-of-00002.parquet": 500,
        "nasty/parquet_named.json": 1319,
        "parquet_testing/alltypes_plain.parquet": 8,
        "parquet_testing/alltypes_dictionary.parquet": 2,
        "parquet_testing/nested_lists.snappy.parquet": 3,
        "parquet_testing/nested_maps.snappy.parquet": 6,
        "parquet_testing/nulls.snappy.parquet": 8,
        "parquet_testing/null_list.parquet": 1,
        "parquet_testing/list_columns.parquet": 3,
        "parquet_testing/nullable.impala.parquet": 7,
        "parquet_testing/nonnullable.impala.parquet": 1,
        "parquet_testing/delta_byte_array.parquet": 1000,
        "parquet_testing/byte_stream_split.zstd.parquet": 300,
        "parquet_testing/datapage_v2.snappy.parquet": 5,
        "parquet_testing/concatenated_gzip_members.parquet": 513,
    },
    "arrow": {
        "arrow_files/gsm8k-test.stream.arrow": 1319,
        "arrow_files/gsm8k-test.feather": 1319,
        "vega/flights-200k.arrow": 200_000,
    },
    "jsonl": {
        "gsm8k/train.jsonl": 7473,
        "gsm8k/test.jsonl": 1319,
        "humaneval/HumanEval.jsonl.gz": 164,
        "mbpp/mbpp.jsonl": 974,
        "peps_jsonl/documents/peps-0000.jsonl.gz": 68,
        "peps_jsonl/documents/peps-0001.jsonl.zst": 68,
        "peps_jsonl/documents/peps-0002.json.gz": 69,
        "self_instruct/seed_tasks.jsonl": 175,
        "mt_bench/question.jsonl": 80,
        "mt_bench/reference_answer/gpt-4.jsonl": 30,
        "oasst_sample/en_100_tree.jsonl": 100,
        "oasst_sample/en_100_message.jsonl": 100,
        "openai_messages/toy_chat_fine_tuning.jsonl": 10,
        "mlx_prompt_completion/train.jsonl": 1800,
        "nasty/empty.jsonl": 0,
    },
    "json": {
        "bbh/boolean_expressions.json": 250,
        "bbh/penguins_in_a_table.json": 146,
        "corpora_cc0/shakespeare_sonnets.json": 154,
        "corpora_cc0/elements.json": 118,
        "corpora_cc0/tarot_interpretations.json": 78,
        "corpora_cc0/us_presidents.json": 66,
        "corpora_cc0/proverbs.json": 14,
        "coco_results/captions_val2014_fakecap_results.json": 1000,
        "coco_results/instances_val2014_fakesegm100_results.json": 734,
        "coco_results/person_keypoints_val2014_fakekeypoints100_results.json": 125,
        "preference/dpo_en_demo.json": 300,
        "preference/kto_en_demo.json": 300,
        "sharegpt_fastchat/dummy_conversation.json": 500,
        "glaive_toolcall/glaive_toolcall_en_demo.json": 300,
        "vega/penguins.json": 344,
        "vega/earthquakes.json": 1707,
        "vega/budget.json": 237,
        "tau_bench/gpt-4o-airline.json": 200,
    },
    "csv": {
        "palmerpenguins/penguins.csv": 344,
        "palmerpenguins/penguins_raw.csv": 344,
        "sklearn_tables/iris.csv": 150,
        "sklearn_tables/wine_data.csv": 178,
        "sklearn_tables/breast_cancer.csv": 569,
        "sklearn_tables/digits.csv.gz": 1797,
        "sklearn_tables/diabetes_data_raw.csv.gz": 442,
        "vega/unemployment.tsv": 3218,
        "vega/birdstrikes.csv": 10_000,
        "frictionless/gdp/data/gdp.csv": 13_979,
        "frictionless/country-codes/data/country-codes.csv": 249,
        "croissant/titanic/data/titanic.csv": 1309,
    },
}

# (adapter, file): what it ends in. "rows N", "rows N rejects M", or the class of the error.
HOSTILE = {
    ("jsonl", "compress/bad_crc.jsonl.gz"): "SourceDamagedError",
    ("jsonl", "compress/bomb_256MiB.jsonl.gz"): "rows 0 rejects 1",
    ("jsonl", "compress/bomb_4GiB.jsonl.zst"): "SourceTooLargeError",
    ("jsonl", "compress/empty.jsonl.gz"): "rows 0",
    ("jsonl", "compress/multi_member.jsonl.gz"): "rows 4",
    ("jsonl", "compress/plain_named.gz"): "rows 1",
    ("jsonl", "compress/trailing_garbage.jsonl.gz"): "SourceDamagedError",
    ("jsonl", "compress/truncated.jsonl.gz"): "SourceDamagedError",
    ("jsonl", "compress/zstd_content_size_lie.zst"): "SourceDamagedError",
    ("jsonl", "compress/zstd_window_2GiB.zst"): "SourceDamagedError",
    ("jsonl", "jsonl/blank_lines.jsonl"): "rows 1",
    ("jsonl", "jsonl/bom.jsonl"): "rows 1",
    ("jsonl", "jsonl/cr_inside.jsonl"): "rows 0 rejects 1",
    ("jsonl", "jsonl/crlf.jsonl"): "rows 2",
    ("jsonl", "jsonl/deep_100k.jsonl"): "rows 0 rejects 1",
    ("jsonl", "jsonl/dup_keys.jsonl"): "rows 1",
    ("jsonl", "jsonl/good.jsonl"): "rows 2",
    ("jsonl", "jsonl/huge_int.jsonl"): "rows 0 rejects 1",
    ("jsonl", "jsonl/late_type_change.jsonl"): "rows 2001",
    ("jsonl", "jsonl/latin1.jsonl"): "rows 0 rejects 1",
    ("jsonl", "jsonl/line_64KiB.jsonl"): "rows 2",
    ("jsonl", "jsonl/lone_surrogate.jsonl"): "rows 0 rejects 1",
    ("jsonl", "jsonl/many_keys.jsonl"): "rows 0 rejects 1",
    ("jsonl", "jsonl/mixed_types.jsonl"): "rows 4 rejects 3",
    ("jsonl", "jsonl/nan_inf.jsonl"): "rows 0 rejects 3",
    ("jsonl", "jsonl/no_final_newline.jsonl"): "rows 2",
    ("jsonl", "jsonl/nul_char.jsonl"): "rows 1",
    ("jsonl", "jsonl/truncated_last.jsonl"): "SourceDamagedError",
    ("jsonl", "jsonl/u2028.jsonl"): "rows 1",
    ("jsonl", "jsonl/utf16.jsonl"): "rows 1",
    ("jsonl", "text/log_injection.jsonl"): "rows 9",
    ("jsonl", "text/terminal_escapes.jsonl"): "rows 13",
    ("jsonl", "text/xss_samples.jsonl"): "rows 30",
    ("json", "config/deep.json"): "SourceDamagedError",
    ("csv", "csv/bom_semicolon.csv"): "rows 1",
    ("csv", "csv/dup_header.csv"): "SourceFormatError",
    ("csv", "csv/formula.csv"): "rows 2",
    ("csv", "csv/header_20000.csv"): "SourceTooLargeError",
    ("csv", "csv/no_header.csv"): "SourceFormatError",
    ("csv", "csv/nul.csv"): "rows 1",
    ("csv", "csv/ragged.csv"): "rows 1 rejects 2",
    ("csv", "csv/unclosed_quote.csv"): "SourceDamagedError",
    ("arrow", "ipc/bomb_zstd_480MB.arrows"): "SourceTooLargeError",
    ("arrow", "ipc/dict_index_oob.arrows"): "SourceDamagedError",
    ("arrow", "ipc/good.arrows"): "rows 300",
    ("arrow", "ipc/many_empty_batches.arrows"): "rows 0",
    ("arrow", "ipc/meta_len_2GiB.arrows"): "SourceDamagedError",
    ("arrow", "ipc/meta_len_neg.arrows"): "SourceDamagedError",
    ("arrow", "ipc/py_extension_pickle.arrows"): "rows 1",
    ("arrow", "ipc/schema_mismatch.arrows"): "rows 2",
    ("arrow", "ipc/string_bad_utf8.arrows"): "SourceDamagedError",
    ("arrow", "ipc/string_offsets_decreasing.arrows"): "SourceDamagedError",
    ("arrow", "ipc/string_offsets_negative.arrows"): "SourceDamagedError",
    ("arrow", "ipc/string_offsets_oob.arrows"): "SourceDamagedError",
    ("arrow", "ipc/trailing_garbage.arrows"): "rows 300",
    ("arrow", "ipc/truncated.arrows"): "SourceDamagedError",
    ("arrow", "ipc/zstd_len_4EiB.arrows"): "SourceTooLargeError",
    ("arrow", "ipc/zstd_len_negative.arrows"): "SourceDamagedError",
    ("parquet", "parquet/bad_arrow_schema_meta.parquet"): "rows 300",
    ("parquet", "parquet/bitflip_0.parquet"): "SourceDamagedError",
    ("parquet", "parquet/bitflip_1.parquet"): "SourceDamagedError",
    ("parquet", "parquet/bitflip_2.parquet"): "SourceDamagedError",
    ("parquet", "parquet/bitflip_3.parquet"): "SourceDamagedError",
    ("parquet", "parquet/bomb_100M_rows.parquet"): "rows 100000000",
    ("parquet", "parquet/bomb_dict_200GB.parquet"): "SourceTooLargeError",
    ("parquet", "parquet/columns_2000.parquet"): "rows 1",
    ("parquet", "parquet/empty.parquet"): "SourceDamagedError",
    ("parquet", "parquet/footer_len_max.parquet"): "SourceDamagedError",
    ("parquet", "parquet/footer_len_neg.parquet"): "SourceDamagedError",
    ("parquet", "parquet/good.parquet"): "rows 300",
    ("parquet", "parquet/hostile_column_names.parquet"): "SourceFormatError",
    ("parquet", "parquet/magic_only.parquet"): "SourceDamagedError",
    ("parquet", "parquet/nested_list_300.parquet"): "SourceDamagedError",
    ("parquet", "parquet/py_extension_pickle.parquet"): "rows 1",
    ("parquet", "parquet/silent_bitflip.parquet"): "SourceDamagedError",
    ("parquet", "parquet/truncated_1.parquet"): "SourceDamagedError",
    ("parquet", "parquet/truncated_half.parquet"): "SourceDamagedError",
    ("parquet", "parquet/zero_rows.parquet"): "rows 0",
    ("parquet", "../parquet_testing/large_string_map.brotli.parquet"): "rows 0 rejects 2",
}
HEAVY = {f for _, f in HOSTILE if "bomb" in f or "len_" in f or "lie" in f or "window" in f or "large" in f}

CHILD = """
import os, resource, sys
from choline_data.adapters.base import SourceFile
from choline_data.adapters.registry import adapter_named
from choline_data.errors import CholineDataError
name, path = sys.argv[1:]
adapter, rows, rejects, ended = adapter_named(name), 0, 0, ""
try:
    for shard in adapter.shards([SourceFile(path, os.path.basename(path), os.path.getsize(path))]):
        for chunk in adapter.read(shard):
            rows, rejects = rows + len(chunk.rows), rejects + len(chunk.rejects)
except CholineDataError as error:
    ended = type(error).__name__
print(ended or f"rows {rows}" + (f" rejects {rejects}" if rejects else ""))
try:  # ru_maxrss of a child begins with what its parent had
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1]
except OSError:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(int(peak) // 1024)
"""


@pytest.mark.parametrize(("adapter", "file"), [(a, f) for a, files in COUNTS.items() for f in files])
def test_a_real_file_has_its_true_count(shared_data, read, source, adapter, file):
    path = shared_data / file
    found = read(registry.adapter_named(adapter), path)
    assert found.error is None
    assert (found.count, found.rejects) == (COUNTS[adapter][file], [])
    (claim,) = registry.format_named(adapter).load().detect(source(path))
    assert claim.files


@pytest.mark.parametrize(("adapter", "file"), [case for case in HOSTILE if case[1] not in HEAVY])
def test_a_hostile_file_ends_as_stated(shared_data, read, adapter, file):
    found = read(registry.adapter_named(adapter), shared_data / "hostile" / file)
    rejects = f" rejects {len(found.rejects)}" if found.rejects else ""
    ended = type(found.error).__name__ if found.error else f"rows {found.count}{rejects}"
    assert ended == HOSTILE[adapter, file]
    if found.error:
        assert isinstance(found.error, DataError)
        assert Path(file).name in str(found.error)
        assert "\n" not in str(found.error)


@pytest.mark.parametrize(("adapter", "file"), [case for case in HOSTILE if case[1] in HEAVY])
def test_a_file_that_wants_the_memory_does_not_get_it(shared_data, adapter, file):
    path = (shared_data / "hostile" / file).resolve()
    cases = {case["file"]: case for case in json.loads((shared_data / "hostile" / "manifest.json").read_text())}
    out = subprocess.run(
        [sys.executable, "-c", CHILD, adapter, str(path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    ended, peak = out.stdout.splitlines()
    assert ended == HOSTILE[adapter, file]
    assert int(peak) <= cases.get(file, {}).get("max_rss_mb", 300)


def test_no_hostile_table_is_left_out(shared_data):
    cases = json.loads((shared_data / "hostile" / "manifest.json").read_text())
    ours = {c["file"] for c in cases if c["file"].split("/")[0] in ("jsonl", "csv", "ipc", "parquet")}
    assert not ours - {file for _, file in HOSTILE}


def test_the_extension_that_unpickles_is_read_as_its_storage(shared_data, read, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for adapter, file in (
        ("arrow", "ipc/py_extension_pickle.arrows"),
        ("parquet", "parquet/py_extension_pickle.parquet"),
    ):
        assert read(registry.adapter_named(adapter), shared_data / "hostile" / file).count == 1
    assert not list(tmp_path.glob("*CANARY*"))


def test_the_damaged_files_give_what_is_whole_and_say_the_rest(shared_data, read):
    cut = read(registry.adapter_named("jsonl"), shared_data / "nasty" / "truncated.jsonl.gz")
    assert cut.count == 798
    assert isinstance(cut.error, SourceDamagedError)
    assert "truncated.jsonl.gz" in str(cut.error)
    broken = read(registry.adapter_named("jsonl"), shared_data / "nasty" / "broken_lines.jsonl")
    assert (broken.count, [r.reason[:7] for r in broken.rejects]) == (18, ["line 7:", "line 13"])
    ragged = read(registry.adapter_named("csv"), shared_data / "nasty" / "ragged.csv")
    assert (ragged.count, [r.reason.split(":")[0] for r in ragged.rejects]) == (
        27,
        ["line 6", "line 11", "line 21"],
    )
    assert set(ragged.types.values()) == {"string", "double", "int64"}
