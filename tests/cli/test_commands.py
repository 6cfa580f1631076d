"""The command line as a person or a program meets it: real processes on a real home."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROWS = "".join(
    json.dumps({"text": f"a page about rivers, number {n}", "url": f"https://e.org/{n}"}) + "\n" for n in range(20)
)
CHAT = "".join(
    json.dumps({"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": "yes"}]})
    + "\n"
    for n in range(10)
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two sources, and a home in which both are added."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "rivers.jsonl").write_text(ROWS)
    (folder / "talk.jsonl").write_text(CHAT)
    for name in ("rivers", "talk"):
        done = run(folder, "add", str(folder / f"{name}.jsonl"), "--yes", "--json", "--license", "MIT")
        assert done.returncode == 0, done.stderr
    return folder


def run(folder: Path, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "choline_data", *words],
        env={**os.environ, "CHOLINE_DATA_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        input=stdin,
        timeout=120,
    )


def lines(done: subprocess.CompletedProcess[str]) -> list[dict]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_list_has_the_stated_keys_one_object_a_line(place):
    listed = lines(run(place, "list", "--json"))
    assert [(d["name"], d["kind"], d["rows"], d["rejected"]) for d in listed] == [
        ("rivers", "text", 20, 0),
        ("talk", "chat", 10, 0),
    ]
    assert all(d["bytes"] > 0 and len(d["revision"]) == 64 for d in listed)


def test_head_shows_schema_columns_with_bytes_as_base64(place):
    sample = lines(run(place, "head", "rivers", "-n", "1", "--json"))[0]
    assert sample["text"] == "a page about rivers, number 0" and sample["url"] == "https://e.org/0"
    assert sample["dataset"] == "rivers" and sample["kind"] == "text" and sample["license"] == "MIT"
    assert sample["origin"] == {"file": "rivers.jsonl", "row": 0} and len(sample["id"]) == 24


def test_the_same_source_again_is_the_same_revision_and_no_error(place):
    before = lines(run(place, "list", "--json"))
    again = lines(run(place, "add", str(place / "rivers.jsonl"), "--yes", "--json", "--license", "MIT"))[0]
    assert again["revision"] == before[0]["revision"]
    assert lines(run(place, "list", "--json")) == before


def test_a_mix_of_a_tool_that_mixes_by_size_takes_the_sizes_from_the_catalog(place):
    text = "torchrun pretrain.py" + " " * 300 + "--data-path rivers_text_document talk_text_document"
    done = run(place, "mix", "import", text)
    assert done.returncode == 0, done.stderr
    assert "weight: 20\n" in done.stdout
    assert "weight: 10\n" in done.stdout


def test_other_content_under_the_same_name_is_refused(place):
    done = run(place, "add", str(place / "talk.jsonl"), "--name", "rivers", "--yes", "--json")
    error = json.loads(done.stderr)["error"]
    assert done.returncode == 1 and error["reason"] == "DATASET_EXISTS" and "--name" in error["remedy"]


def test_a_dry_run_writes_nothing(tmp_path, place):
    done = run(tmp_path, "add", str(place / "rivers.jsonl"), "--dry-run")
    assert done.returncode == 0 and "raw" in done.stderr and "sample" in done.stderr
    assert not (tmp_path / "home").exists()


def test_add_ends_with_the_line_that_streams_it(tmp_path, place):
    done = run(tmp_path, "add", str(place / "rivers.jsonl"), "--yes")
    assert done.stdout.splitlines()[-1].startswith("Stream it:  FirehoseDataset('rivers')")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("head", "rivrs", "--json"), "DATASET_UNKNOWN"),
        (("add", "nowhere.jsonl", "--json"), "SOURCE_NOT_FOUND"),
        (("add", "ftp://e.org/x", "--json"), "LOCATION_FORBIDDEN"),
        (("sql", "SELECT nothing FROM nowhere", "--json"), "OPTION_INVALID"),
        (("export", "rivers", "--to", "paper", "--json"), "OPTION_INVALID"),
    ],
)
def test_an_error_is_one_json_line_on_standard_error_with_exit_code_1(place, words, reason):
    done = run(place, *words)
    assert done.returncode == 1 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    error = json.loads(done.stderr)["error"]
    assert error["reason"] == reason and error["message"]


def test_wrong_usage_exits_with_2(place):
    assert run(place, "add").returncode == 2
    assert run(place, "list", "--nonsense").returncode == 2


def test_sql_sees_the_catalog_and_every_dataset(place):
    got = lines(run(place, "sql", "SELECT count(*) AS n, max(length(text)) AS longest FROM rivers", "--json"))
    assert got == [{"n": 20, "longest": 30}]
    got = lines(run(place, "sql", "SELECT name FROM catalog WHERE kind = 'chat'", "--json"))
    assert got == [{"name": "talk"}]


def test_a_query_that_is_wrong_is_told_on_one_line(place):
    (told,) = run(place, "sql", "SELEC 1").stderr.splitlines()
    assert told.startswith('The query failed: Parser Error: syntax error at or near "SELEC" LINE 1: SELEC 1.')


def test_sql_may_name_a_dataset_twice(place):
    twice = "SELECT count(*) AS n FROM rivers a JOIN rivers b ON a.id = b.id"
    assert lines(run(place, "sql", twice, "--json")) == [{"n": 20}]


def test_an_error_of_sql_says_what_to_do_about_this_query(tmp_path, place):
    assert "SELECT * FROM catalog" in run(place, "sql", "SELEC 1").stderr
    run(tmp_path, "add", str(place / "rivers.jsonl"), "--yes", "--name", "big-rivers")
    assert 'SELECT * FROM "big-rivers"' in run(tmp_path, "sql", "SELECT * FROM big-rivers").stderr
    assert run(tmp_path, "sql", 'SELECT count(*) FROM "big-rivers"').returncode == 0


def test_the_version_and_the_formats_are_told(place):
    from importlib.metadata import version

    assert run(place, "--version").stdout == f"choline-data {version('choline-data')}\n"
    names = [row["name"] for row in lines(run(place, "formats", "--json"))]
    assert {"parquet", "jsonl", "csv", "text"} <= set(names)


def test_the_shell_can_complete_commands(place):
    program = "import sys; sys.argv = ['choline-data']; from choline_data.cli import main; main()"
    words = {"_CHOLINE_DATA_COMPLETE": "complete_bash", "COMP_WORDS": "choline-data ex", "COMP_CWORD": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **words}, capture_output=True, text=True, timeout=120
    )
    assert done.stdout.split() == ["export"]
    assert "--install-completion" in run(place, "--help").stdout


def test_a_search_without_a_result_says_so(place):
    done = run(place, "search", "xyzzyplugh")
    assert done.stdout.startswith("No card fits 'xyzzyplugh'.")


def test_a_terminal_that_shows_ascii_only_gets_escapes(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "Łódź and Zürich"}\n' * 3)
    ascii_only = {"CHOLINE_DATA_HOME": str(tmp_path / "home"), "PYTHONIOENCODING": "ascii", "LANG": "C"}
    for words in (("add", str(tmp_path / "a.jsonl"), "--yes"), ("head", "a"), ("head", "a", "--json")):
        done = subprocess.run(
            [sys.executable, "-m", "choline_data", *words],
            env={**os.environ, **ascii_only},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    assert "\\u0141" in done.stdout


def test_a_changed_source_is_replaced_as_the_error_says(tmp_path):
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "one"}\n')
    assert run(tmp_path, "add", str(source), "--yes").returncode == 0
    source.write_text('{"text": "two"}\n')
    done = run(tmp_path, "add", str(source), "--yes")
    assert done.returncode == 1
    assert "--replace" in done.stderr
    assert run(tmp_path, "add", str(source), "--yes", "--replace").returncode == 0


def test_sql_opens_no_file(place):
    done = run(place, "sql", "SELECT * FROM read_text('/etc/hostname')", "--json")
    assert done.returncode == 1 and json.loads(done.stderr)["error"]["reason"] == "OPTION_INVALID"


@pytest.mark.parametrize("to", ["parquet", "jsonl", "webdataset", "croissant"])
def test_an_export_added_again_has_every_sample(place, tmp_path, to):
    if to == "webdataset":
        pytest.importorskip("webdataset")
    out = tmp_path / "out"
    done = lines(run(place, "export", "rivers", "--to", to, "--out", str(out), "--json"))[0]
    assert done["rows"] == 20
    again = lines(run(tmp_path, "add", str(out), "--yes", "--json"))[0]
    assert again["rows"] == 20 and again["kind"] == "text"
    texts = {s["text"] for s in lines(run(tmp_path, "head", again["name"], "-n", "20", "--json"))}
    assert texts == {f"a page about rivers, number {n}" for n in range(20)}


def test_ids_are_hexadecimal_in_the_stream_as_over_http(place):
    pytest.importorskip("torch")
    streamed = {s["text"]: s["id"] for s in lines(run(place, "stream", "rivers"))}
    assert all(len(i) == 32 and set(i) <= set("0123456789abcdef") for i in streamed.values())
    known = {s["text"]: base64.b64decode(s["id"]) for s in lines(run(place, "head", "rivers", "-n", "20", "--json"))}
    assert {text: bytes.fromhex(i) for text, i in streamed.items()} == known


def test_verify_rm_and_gc_tell_what_they_did(tmp_path, place):
    assert run(tmp_path, "add", str(place / "rivers.jsonl"), "--yes").returncode == 0
    assert lines(run(tmp_path, "verify", "--json"))[0]["ok"] is True
    assert lines(run(tmp_path, "rm", "rivers", "--json"))[0]["name"] == "rivers"
    assert lines(run(tmp_path, "gc", "--json"))[0]["files"] == 0
    assert lines(run(tmp_path, "gc", "--keep-days", "0", "--json"))[0]["files"] >= 3
    assert lines(run(tmp_path, "list", "--json")) == []


def test_verify_names_each_fault_and_repair_mends_them(tmp_path, place):
    assert run(tmp_path, "add", str(place / "rivers.jsonl"), "--yes").returncode == 0
    for path in (tmp_path / "home" / "data").rglob("*.*"):
        path.chmod(0o644)
        path.write_bytes(path.read_bytes()[:-3])
    shown = run(tmp_path, "verify")
    assert shown.returncode == 1 and shown.stderr == ""
    assert "damaged: rivers: data/" in shown.stdout and "Run `choline-data repair rivers`." in shown.stdout
    told = run(tmp_path, "verify", "--json")
    faults = [json.loads(line) for line in told.stdout.splitlines() if "remedy" in line]
    assert told.returncode == 1 and faults[0]["dataset"] == "rivers" and faults[0]["kind"] == "data"
    assert run(tmp_path, "repair", "rivers").returncode == 0
    assert run(tmp_path, "verify").returncode == 0
    assert run(tmp_path, "repair").stdout == "Nothing was damaged.\n"


def test_gc_says_what_it_keeps_and_why_and_rm_says_what_gc_will_do(tmp_path, place):
    assert run(tmp_path, "add", str(place / "rivers.jsonl"), "--yes").returncode == 0
    (revision,) = [entry["revision"] for entry in lines(run(tmp_path, "list", "--json"))]
    assert f"rivers@{revision[:12]} is pinned" in run(tmp_path, "pin", "rivers").stdout
    assert lines(run(tmp_path, "pin", "--json")) == [{"name": "rivers", "revision": revision}]
    assert "`choline-data gc --keep-days 0` now" in run(tmp_path, "rm", "rivers").stdout
    kept = run(tmp_path, "gc", "--keep-days", "0").stdout
    assert f"pinned: rivers@{revision[:12]}" in kept and "0 files deleted" in kept
    assert run(tmp_path, "unpin", f"rivers@{revision[:8]}").returncode == 0
    kept = run(tmp_path, "gc").stdout
    assert "removed or replaced in the last 30 days: rivers@" in kept and "0 files deleted" in kept
    assert "would be deleted" in run(tmp_path, "gc", "--keep-days", "0", "--dry-run").stdout
    assert lines(run(tmp_path, "gc", "--keep-days", "0", "--json"))[0]["revisions"] == 1
    refused = json.loads(run(tmp_path, "unpin", "rivers", "--json").stderr)["error"]
    assert refused["reason"] == "OPTION_INVALID" and "lists the pins" in refused["remedy"]


def test_search_finds_cards_by_words_and_licence(place):
    found = lines(run(place, "search", "code", "license:mit", "--json"))
    assert found and all(card["license"] == "MIT" for card in found)


def test_a_map_that_names_no_column_says_which_there_are(place, tmp_path):
    done = run(tmp_path, "add", str(place / "rivers.jsonl"), "--map", "text=body", "--yes", "--json")
    error = json.loads(done.stderr)["error"]
    assert done.returncode == 1 and error["reason"] in ("FIELD_MISSING", "FIELD_UNKNOWN")
    assert "text" in error["message"] + error["remedy"]


def test_hostile_text_reaches_the_terminal_escaped(tmp_path):
    (tmp_path / "bad.jsonl").write_text(json.dumps({"text": "\x1b[31mred\x07 and a long enough text\u202e"}) + "\n")
    shown = run(tmp_path, "add", str(tmp_path / "bad.jsonl"), "--yes")
    headed = run(tmp_path, "head", "bad")
    for out in (shown.stderr, shown.stdout, headed.stdout):
        assert "\x1b" not in out and "\x07" not in out and "\u202e" not in out
    assert "\\x1b[31mred" in headed.stdout


def test_a_stream_without_torch_names_the_extra_to_install(place):
    hidden = "import sys; sys.modules['torch'] = None; import choline_data.cli; choline_data.cli.main()"
    done = subprocess.run(
        [sys.executable, "-c", hidden, "stream", "rivers", "--home", str(place / "home")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and "choline-data[torch]" in done.stderr and "Traceback" not in done.stderr


def test_an_export_that_meets_the_limit_on_files_is_one_line_and_no_traceback(tmp_path: Path):
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(f'{{"text": "{"x" * 200} {n}"}}\n' for n in range(2000)))
    home = str(tmp_path / "home")
    command = [sys.executable, "-m", "choline_data"]
    subprocess.run([*command, "add", str(lines), "--name", "web", "--yes", "--home", home], check=True, timeout=120)
    small = f"import resource, signal, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({1 << 15}, {1 << 15})); "
    small += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); from choline_data.cli import main; main()"
    out = str(tmp_path / "out")
    export = [sys.executable, "-c", small, "export", "web", "--to", "jsonl", "--out", out, "--home", home]
    done = subprocess.run(export, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr
    assert "ulimit -f" in done.stderr


def test_a_stream_refuses_a_home_and_a_server(tmp_path: Path, place: Path) -> None:
    pytest.importorskip("torch")
    done = run(place, "stream", "rivers", "--server", "localhost:9", "--home", str(tmp_path))
    assert done.returncode == 1 and "Give one of them" in done.stderr
