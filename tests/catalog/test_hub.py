"""Datasets of the hub are pinned and complete, and each fault gets its own error. The hub is a small server that
answers as the real one.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.locate import resolve
from choline_data.catalog.planning import Wishes
from choline_data.errors import (
    ChoiceNeededError,
    PermissionDeniedError,
    SourceDamagedError,
    SourceFormatError,
    SourceNotFoundError,
    UnavailableError,
)
from choline_data.places import downloads
from choline_data.places.home import Home
from choline_data.places.pins import without_pin
from choline_data.store import open_revision

pytest.importorskip("huggingface_hub")
pytest.importorskip("requests")

CSV = b"text,label\nhello there,1\nhello again,2\n"
README = b"---\nlicense: mit\n---\n# Words\n"


def parquet(*texts: str) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table({"text": list(texts)}), out)
    return out.getvalue()


def readme(**card: Any) -> bytes:
    return b"---\n" + json.dumps(card).encode() + b"\n---\n"


OLD, NEW = "2024-01-01T00:00:00.000Z", "2025-06-01T00:00:00.000Z"
CONVERSION = {"default/train/0000.parquet": parquet("a converted row", "another converted row")}
TWO = {"en/train/0000.parquet": parquet("an English row"), "de/train/0000.parquet": parquet("a German row")}
CONFIGS = [{"config_name": name, "data_files": f"{name}.jsonl"} for name in ("en", "de")]
LINES = {f"{name}.jsonl": b'{"text": "A row of %s"}\n' % name.encode() * 3 for name in ("en", "de")}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    from fake_hub import FakeRepo, serving_hub

    plain = {"data.csv": CSV, "README.md": README}
    script = {"script.py": b"print()", "README.md": README}
    mit = {"license": "mit"}
    repos = {
        "o/plain": FakeRepo(plain, mit),
        "o/converted": FakeRepo(plain, mit, converted=CONVERSION),
        "o/stale": FakeRepo(plain, mit, modified=NEW, converted=CONVERSION, converted_at=OLD),
        "o/empty": FakeRepo({"README.md": README}),
        "o/script": FakeRepo(script),
        "o/stale-script": FakeRepo(
            {"stale-script.py": b"print()"}, modified=NEW, converted=CONVERSION, converted_at=OLD
        ),
        "o/gated": FakeRepo(plain, gated="manual", closed=True),
        "o/disabled": FakeRepo(plain, disabled=True),
        "o/old-name": FakeRepo({}, renamed_to="o/plain"),
        "o/two": FakeRepo({**LINES, "README.md": readme(configs=CONFIGS)}, {"configs": CONFIGS}),
        "o/two-converted": FakeRepo(plain, {"configs": CONFIGS}, converted=TWO),
        "o/with-default": FakeRepo(plain, {"configs": [CONFIGS[0], {**CONFIGS[1], "default": True}]}, converted=TWO),
        "o/parts": FakeRepo({f"data/train-0000{n}.parquet": parquet(f"row {n}") for n in range(4)}),
    }
    with serving_hub(repos) as server:
        monkeypatch.setattr(downloads, "WAITS", (0.0, 0.0))
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("CHOLINE_DATA_CACHE", str(tmp_path / "cache"))
        monkeypatch.chdir(tmp_path)
        yield server


def texts(tmp_path: Path, place: str, **options: str) -> list[str]:
    home = Home(tmp_path / "home")
    done = ingest(home, prepare(home, place, wishes=Wishes(**options)), replace_existing=True)
    opened = open_revision(home, done.entry.revision)
    return [text for batch in opened.read(0, opened.rows, ["text"]) for text in batch["text"].to_pylist()]


def kept(tmp_path: Path) -> list[Path]:
    return [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


# --- The fake answers the hub's own client


def test_the_client_library_downloads_a_repository_from_the_fake(hub, tmp_path):
    from huggingface_hub import HfApi

    api = HfApi(endpoint=hub.url)
    folder = Path(api.snapshot_download("o/parts", repo_type="dataset", cache_dir=tmp_path / "hf"))
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == hub.repos["o/parts"].files
    assert folder.name == api.dataset_info("o/parts").sha


def test_the_client_library_names_the_faults_of_the_fake(hub, tmp_path):
    from huggingface_hub import HfApi, errors

    api = HfApi(endpoint=hub.url)
    with pytest.raises(errors.RepositoryNotFoundError):
        api.dataset_info("o/none")
    with pytest.raises(errors.RevisionNotFoundError):
        api.dataset_info("o/plain", revision="v9")
    for name, file, kind in (("gated", "data.csv", errors.GatedRepoError), ("plain", "x", errors.EntryNotFoundError)):
        with pytest.raises(kind):
            api.hf_hub_download(f"o/{name}", file, repo_type="dataset", cache_dir=tmp_path / "hf")
    assert api.dataset_info("o/old-name").id == "o/plain"
    assert [c.created_at.year for c in api.list_repo_commits("o/stale", repo_type="dataset")] == [2025]


# --- What is read


def test_a_hub_id_is_pinned_and_read_from_its_parquet_conversion(hub, tmp_path):
    source = resolve("o/converted", options={"split": "train"})
    commit = source.revision
    assert (source.license, source.name, len(commit)) == ("MIT", "converted", 40)
    place, pin = without_pin(source.files[0].path)
    assert place == f"hf://datasets/o/converted@{commit}/default/train/0000.parquet"
    assert pin.checksum.startswith("sha256:")
    assert texts(tmp_path, "o/converted") == ["a converted row", "another converted row"]


@pytest.mark.parametrize("place", ["o/plain", "hf://datasets/o/plain", "hf://datasets/o/plain@main", "o/plain@main"])
def test_a_dataset_without_conversion_is_read_from_its_own_files(hub, tmp_path, place):
    home = Home(tmp_path / "home")
    done = ingest(home, prepare(home, place))
    assert (done.entry.kind, done.rows, done.entry.license) == ("classification", 2, "MIT")
    commit = resolve("o/plain").revision
    assert open_revision(home, done.entry.revision).about["source_revision"] == commit
    assert kept(tmp_path) == []  # the downloads are removed after the revision is published


@pytest.mark.parametrize("path", ["data.csv", "*.csv", "data.csv/"])
def test_files_of_a_dataset_are_pinned_to_a_commit(hub, path):
    commit = resolve("o/plain").revision
    for place in (f"hf://datasets/o/plain/{path}", f"hf://datasets/o/plain@{commit}/{path}"):
        source = resolve(place)
        assert [f.name for f in source.files] == ["data.csv"]
        assert without_pin(source.files[0].path)[0] == f"hf://datasets/o/plain@{commit}/data.csv"
        assert source.revision == commit


def test_a_dataset_that_changes_after_its_listing_is_read_at_the_listed_commit_or_not_at_all(hub, tmp_path):
    home = Home(tmp_path / "home")
    prepared = prepare(home, "o/plain")
    hub.repos["o/plain"].files["data.csv"] = b"text,label\nsomething else,1\n"
    with pytest.raises(SourceNotFoundError, match=r"hf://datasets/o/plain@[0-9a-f]{40}/"):
        ingest(home, prepared)


def test_a_conversion_that_is_older_than_main_loses_to_main(hub, tmp_path):
    assert [f.name for f in resolve("o/stale").files] == ["README.md", "data.csv"]
    assert [f.name for f in resolve("o/stale@refs/convert/parquet").files] == ["default/train/0000.parquet"]


@pytest.mark.parametrize("name", ["o/two", "o/two-converted"])
def test_configs_are_never_merged(hub, tmp_path, name):
    with pytest.raises(ChoiceNeededError, match=r"has 2 configs: (en, de|de, en)"):
        texts(tmp_path, name)
    assert set(texts(tmp_path, name, config="de")) <= {"a German row", "A row of de"}


def test_the_default_config_of_the_readme_decides_for_a_conversion(hub, tmp_path):
    assert texts(tmp_path, "o/with-default") == ["a German row"]


def test_ten_thousand_images_are_listed_in_batches_and_downloaded_in_parallel(hub, tmp_path):
    from fake_hub import FakeRepo

    image = b"\x89PNG\r\n\x1a\n" + bytes(100)
    hub.repos["o/images"] = FakeRepo({f"{n % 10}/{n:05}.png": image + b"%d" % n for n in range(10_000)})
    source = resolve("o/images")
    assert len(source.files) == 10_000
    assert hub.listing <= 50

    from choline_data.places.fetching import fetch
    from choline_data.places.kept_files import kept_copy

    hub.pause = 0.2  # longer than a busy machine takes to start a thread
    some = [f.path for f in source.files[:100]]
    fetch(some)
    assert 8 <= hub.most_at_once <= 16
    assert [kept_copy(place).read_bytes() for place in some] == [
        hub.repos["o/images"].files[f.name] for f in source.files[:100]
    ]


def test_the_files_of_a_folder_of_images_are_each_downloaded_once(hub, tmp_path):
    pil = pytest.importorskip("PIL.Image")
    from fake_hub import FakeRepo

    files = {}
    for n in range(40):
        out = io.BytesIO()
        pil.new("RGB", (2, 2), (n, n, n)).save(out, "PNG")
        files[f"train/{'cat' if n % 2 else 'dog'}/{n}.png"] = out.getvalue()
    hub.repos["o/pets"] = FakeRepo(files)
    home = Home(tmp_path / "home")
    done = ingest(home, prepare(home, "o/pets"))
    assert (done.entry.kind, done.rows, hub.asked["cdn"], kept(tmp_path)) == ("image", 40, 40, [])


# --- Faults


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("o/none", SourceNotFoundError, "neither a local path nor a dataset of the hub"),
        ("o/plain@v9", SourceNotFoundError, "o/plain has no revision 'v9'"),
        ("hf://datasets/o/plain/none/*.csv", SourceNotFoundError, r"o/plain has no files at none/\*\.csv"),
        ("o/empty", SourceNotFoundError, "o/empty has no data files any more"),
        ("o/script", SourceFormatError, "ships a loading script, script.py, which is never run; no parquet conversion"),
        ("o/stale-script", SourceFormatError, "its parquet conversion is older than its newest commit"),
        ("o/disabled", PermissionDeniedError, "o/disabled has been disabled on the hub"),
    ],
)
def test_what_the_hub_refuses_is_said_in_one_line(hub, name, kind, words):
    with pytest.raises(kind, match=words) as caught:
        resolve(name)
    assert caught.value.remedy


def test_a_gated_dataset_says_so(hub, tmp_path):
    with pytest.raises(PermissionDeniedError, match=r"o/gated@.* is gated: you must accept the terms of its owner"):
        prepare(Home(tmp_path / "home"), "o/gated")


def test_a_renamed_dataset_is_read_under_its_new_name_and_says_so(hub, caplog):
    assert resolve("o/old-name").location == "hf://datasets/o/plain"
    assert "o/old-name has been renamed on the hub; its name is o/plain now." in caplog.text


def test_a_link_that_has_expired_says_so_if_the_hub_gives_no_new_one(hub, tmp_path):
    hub.fault = lambda handler, kind: kind == "cdn" and handler.send(403, b"<Code>AccessDenied</Code>") is None
    with pytest.raises(PermissionDeniedError, match="the link has expired") as caught:
        texts(tmp_path, "o/parts")
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("kind", ["info", "refs", "tree", "resolve", "cdn"])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(hub, tmp_path, monkeypatch, kind, status):
    waits: list[float] = []
    sleep = downloads.time.sleep
    monkeypatch.setattr(downloads.time, "sleep", lambda s: waits.append(s) if s >= 2 else sleep(s))
    left = [3]

    def fault(handler: Any, asked: str) -> bool:
        if asked != kind or not left[0]:
            return False
        left[0] -= 1
        handler.send(status, b"later", {"Retry-After": "2"})
        return True

    hub.fault = fault
    assert sorted(texts(tmp_path, "o/parts")) == [f"row {n}" for n in range(4)]
    assert len([wait for wait in waits if wait >= 2]) == 3


def test_a_hub_that_fails_is_unavailable(hub):
    hub.fault = lambda handler, kind: handler.send(500, b"no") is None
    with pytest.raises(UnavailableError, match="o/plain: the hub answered 500"):
        resolve("o/plain")


def _wrong(handler: Any, kind: str, files: dict[str, bytes], change: Callable[[bytes], bytes], name: str) -> bool:
    if kind != "resolve" or not handler.path.endswith(name):
        return False
    handler.send_range(change(files[name]), {"ETag": '"x"'})
    return True


@pytest.mark.parametrize("place", ["o/plain", "o/converted"])
def test_a_file_without_its_checksum_is_not_published(hub, tmp_path, place):
    """The content is valid and has the right size, but it is another one."""
    repo = hub.repos[place]
    files, name = (repo.converted, "default/train/0000.parquet") if repo.converted else (repo.files, "data.csv")
    hub.fault = lambda handler, kind: _wrong(handler, kind, files, lambda data: data.replace(b"a", b"o"), name)
    with pytest.raises(SourceDamagedError, match=r"checksum|can't be read"):
        texts(tmp_path, place)
    assert not list((tmp_path / "home").rglob("*.arrow"))


def test_an_interrupted_download_continues_where_it_stopped(hub, tmp_path):
    from fake_hub import FakeRepo

    from choline_data.places.fetching import fetch
    from choline_data.places.kept_files import kept_copy

    data = os.urandom(300_000)
    hub.repos["o/big"] = FakeRepo({"a.tar": data})
    (place,) = [f.path for f in resolve("o/big").files]
    ranges: list[str] = []

    def cut(handler: Any, kind: str) -> bool:
        if kind != "cdn":
            return False
        ranges.append(handler.headers.get("Range", ""))
        handler.send_range(data, {}, cut=200_000 if len(ranges) < 4 else 0)
        return True

    hub.fault = cut
    with pytest.raises(UnavailableError, match="can't be downloaded"):
        fetch([place])
    assert kept_copy(place) is None
    fetch([place])
    assert kept_copy(place).read_bytes() == data
    assert ranges == ["", "bytes=100000-", "bytes=200000-", "bytes=200000-"] or (ranges[0] == "" and ranges[1] != "")


def test_a_part_with_wrong_bytes_is_downloaded_again(hub, tmp_path):
    from choline_data.places.fetching import fetch
    from choline_data.places.kept_files import kept_copy, kept_name

    place = next(f.path for f in resolve("o/plain").files if f.name == "data.csv")
    part = kept_name(place).with_suffix(".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"wrong")
    fetch([place])
    assert kept_copy(place).read_bytes() == CSV
    assert not part.exists()


def test_a_hub_that_is_not_there_is_unavailable(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(downloads, "WAITS", (0.0,))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match="can't be reached"):
        resolve("o/plain")


def test_a_card_without_a_licence_takes_the_one_that_the_hub_states(hub, tmp_path):
    card = "name: words\nsource: hf://datasets/o/plain\n"
    for text, licence in ((card, "MIT"), (card + "license: CC-BY-4.0\n", "CC-BY-4.0")):
        (tmp_path / "words.yaml").write_text(text)
        assert prepare(Home(tmp_path / "home"), str(tmp_path / "words.yaml")).plan.constants["license"] == licence
