"""Folders of texts, pictures and sounds, archives and shards: the row counts of real data, and the errors for hostile
files.
"""

from __future__ import annotations

import io
import json
import os
import struct
import tarfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pytest

from choline_data.adapters import registry
from choline_data.adapters.base import LEFT_OUT, FormatClaim, Source, SourceFile
from choline_data.adapters.reading.media import probe
from choline_data.adapters.reading.tar_stream import PieceStream, members
from choline_data.adapters.tfrecord import TfRecord, masked_crc32c
from choline_data.errors import CholineDataError, SourceDamagedError, SourceTooLargeError

REAL = Path(os.environ.get("CHOLINE_TEST_DATA") or Path(__file__).parents[3] / "shared/data")
real = pytest.mark.skipif(not REAL.is_dir(), reason="the shared test data are not here (CHOLINE_TEST_DATA)")


def source(path: Path) -> Source:
    found = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    root = path.parent if path.is_file() else path
    files = tuple(SourceFile(str(p), p.relative_to(root).as_posix(), p.stat().st_size) for p in found)
    return Source(str(path), files, folder=path.is_dir())


@pytest.fixture(autouse=True)
def _formats_that_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "FORMATS", tuple(f for f in registry.FORMATS if find_spec(f.module)))


def claims(path: Path) -> list[FormatClaim]:
    return registry.claims(source(path))[0]


def rows(claim: FormatClaim, start: int = 0) -> list[dict[str, object]]:
    found = []
    for shard in claim.adapter.shards(claim.files):
        for chunk in claim.adapter.read(shard, start=start):
            chunk.batch.validate(full=True)
            found += chunk.batch.to_pylist()
    return found


COUNTS = {
    "tinyshakespeare": 1, "gutenberg": 5, "wikitext-2": 5352, "peps": 191, "fortunes": 4125, "udhr_zip": 335,
    "code_itsdangerous": 26, "sklearn_images": 2, "omniglot": 2720, "omniglot_folder": 440, "shapes_masks": 7,
    "hf_imagefolder_greek": 288, "fashion_mnist": 10000, "fsdd": 300, "asterisk_en": 182, "esc10": 80,
    "hf_audiofolder_fsdd": 100, "wds_esc10": 40, "wds_omniglot_latin": 520, "mds_fashion": 400,
    "litdata_alice": 820, "ud_english_ewt": 2001, "warc": 6,
}  # fmt: skip


@real
@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_real_data_have_the_stated_count(name: str, count: int) -> None:
    assert [len(rows(claim)) for claim in claims(REAL / name)] == [count]


@real
def test_raw_and_compressed_mds_hold_the_same_rows() -> None:
    one, two = claims(REAL / "mds_wikitext")
    assert (one.config, two.config) == ("raw", "zstd")
    assert len(rows(one)) == 1841
    assert rows(one) == rows(two)


@real
@pytest.mark.parametrize("name", ["fortunes", "omniglot_folder", "wds_esc10", "mds_fashion", "litdata_alice"])
def test_a_shard_goes_on_from_any_row(name: str) -> None:
    (claim,) = claims(REAL / name)
    shard = claim.adapter.shards(claim.files)[0]
    whole = [r for c in claim.adapter.read(shard) for r in c.batch.to_pylist()]
    rest = [r for c in claim.adapter.read(shard, start=7) for r in c.batch.to_pylist()]
    assert rest == whole[7:]


@real
def test_a_cut_webdataset_gives_its_whole_samples_and_then_an_error_that_names_it() -> None:
    (claim,) = claims(REAL / "nasty/cut_in_member.tar")
    (shard,) = claim.adapter.shards(claim.files)
    got = 0
    with pytest.raises(SourceDamagedError, match=r"cut_in_member\.tar"):  # noqa: PT012 - counts up to the error
        for chunk in claim.adapter.read(shard):
            got += chunk.batch.num_rows
    assert got == 32


def _hostile() -> list[dict[str, str]]:
    if not REAL.is_dir():
        return []
    listed = json.loads((REAL / "hostile/manifest.json").read_text())
    elsewhere = "tar/many_members.tar.gz"  # in tests/test_hostile.py, once is enough for 100,000 members
    ours = [entry for entry in listed if entry["file"].split("/")[0] in ("tar", "zip", "image")]
    return [entry for entry in ours if entry["file"] != elsewhere]


@real
@pytest.mark.parametrize("entry", _hostile(), ids=lambda e: e["file"])
def test_a_hostile_file_ends_as_its_manifest_expects(entry: dict[str, str]) -> None:
    stored, rejected, error = 0, 0, ""
    try:
        for claim in claims(REAL / "hostile" / entry["file"]):
            rejected += sum(member.role == LEFT_OUT for member in claim.members)
            for shard in claim.adapter.shards(claim.files):
                for chunk in claim.adapter.read(shard):
                    stored += chunk.batch.num_rows
                    rejected += len(chunk.rejects)
                    assert b"root:" not in str(chunk.batch.to_pylist()).encode()
    except CholineDataError as raised:
        error = str(raised)
        assert Path(entry["file"]).name in error
    if entry["expect"] in ("accept", "serve-as-download"):
        assert stored
        assert not error
    elif entry["expect"] == "reject":
        assert not stored or error
        assert rejected or error
    elif entry["expect"] == "reject-member-or-file":
        assert rejected or error
    assert not Path("PICKLE_CANARY").exists()


def _tar(entries: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in entries.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_every_cut_of_a_tar_within_a_member_is_damage() -> None:
    whole = _tar({"a.txt": b"x" * 700, "b.txt": b"y"})
    for end in (1, 511, 513, 1000, 1535, 1537, 2050):
        with pytest.raises(SourceDamagedError, match=r"t\.tar"):
            list(members(PieceStream(iter([whole[:end]])), "t.tar"))


def test_a_flipped_bit_in_a_header_is_damage() -> None:
    damaged = bytearray(_tar({"a.txt": b"1", "b.txt": b"2"}))
    damaged[1024] ^= 1
    with pytest.raises(SourceDamagedError, match="checksum"):
        list(members(PieceStream(iter([bytes(damaged)])), "t.tar"))


# The library leaves the shard that it has read open.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_webdataset_of_the_library_reads_as_the_library_reads_it(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset")
    path = tmp_path / "t.tar"
    with wds.TarWriter(str(path)) as sink:
        for n in range(5):
            sink.write({"__key__": f"s/{n:03}", "txt": f"text {n}", "cls": n, "json": {"n": n}})
    (claim,) = claims(path)
    theirs = list(wds.WebDataset(str(path), shardshuffle=False))
    ours = rows(claim)
    assert [r["__key__"] for r in ours] == [s["__key__"] for s in theirs]
    assert [r["text"] for r in ours] == [s["txt"].decode() for s in theirs]
    assert [r["label"] for r in ours] == ["0", "1", "2", "3", "4"]
    assert [r["n"] for r in ours] == [0, 1, 2, 3, 4]


def test_a_document_above_the_limit_names_the_setting(tmp_path: Path) -> None:
    (tmp_path / "big.txt").write_text("word\n" * (4 << 20))
    (claim,) = claims(tmp_path)
    with pytest.raises(SourceTooLargeError, match=r"max_bytes.*unit"):
        rows(claim)


def test_a_stale_fortune_index_is_told(tmp_path: Path) -> None:
    (tmp_path / "jokes").write_text("a\n%\nb\n%\nc\n%\n")
    (tmp_path / "jokes.dat").write_bytes(struct.pack(">II", 2, 9))
    (claim,) = claims(tmp_path)
    with pytest.raises(SourceDamagedError, match=r"3 parts.*says 9"):
        rows(claim)


def test_html_named_png_is_no_picture() -> None:
    assert probe(b"<html><script>alert(1)</script>", "image").fault


def test_tfrecords_are_read_and_a_flipped_bit_is_damage(tmp_path: Path) -> None:
    example = bytes.fromhex("0a0e0a0c0a016e12071a050a03010203")
    length = struct.pack("<Q", len(example))
    record = length + struct.pack("<I", masked_crc32c(length)) + example + struct.pack("<I", masked_crc32c(example))
    path = tmp_path / "t.tfrecord"
    path.write_bytes(record * 3)
    (claim,) = claims(path)
    assert rows(claim) == [{"n": [1, 2, 3]}] * 3
    path.write_bytes(record + record[:-6] + b"\x00" + record[-5:])
    (shard,) = TfRecord().shards(claim.files)
    with pytest.raises(SourceDamagedError, match="corrupt"):
        list(TfRecord().read(shard))


def _field(number: int, data: bytes) -> bytes:
    size = [len(data)] if len(data) < 128 else [len(data) & 127 | 128, len(data) >> 7]
    return bytes([number << 3 | 2, *size]) + data


def _framed(record: bytes) -> bytes:
    head = len(record).to_bytes(8, "little")
    sums = [masked_crc32c(part).to_bytes(4, "little") for part in (head, record)]
    return head + sums[0] + record + sums[1]


def _sequence(video: str, steps: Sequence[float]) -> bytes:
    context = _field(1, _field(1, b"id") + _field(2, _field(1, _field(1, video.encode()))))
    features = b"".join(_field(1, _field(2, _field(1, struct.pack("<f", step)))) for step in steps)
    return _field(1, context) + _field(2, _field(1, _field(1, b"score") + _field(2, features)))


def _episode(first: Sequence[int], action: Sequence[float]) -> bytes:
    flags = _field(1, b"steps/is_first") + _field(2, _field(3, _field(1, bytes(first))))
    floats = _field(2, _field(1, struct.pack(f"<{len(action)}f", *action)))
    actions = _field(1, b"steps/action") + _field(2, floats)
    texts = _field(1, b"".join(_field(1, b"pick %d" % n) for n in range(len(first))))
    said = _field(1, b"steps/language") + _field(2, texts)
    name = _field(1, b"episode") + _field(2, _field(1, _field(1, b"e1")))
    return _field(1, b"".join(_field(1, entry) for entry in (flags, actions, said, name)))


@pytest.mark.parametrize("count", [3, 1])
def test_the_features_of_an_episode_have_an_item_for_each_step(tmp_path: Path, count: int) -> None:
    path = tmp_path / "a.tfrecord"
    action = [float(n) for n in range(2 * count)]
    path.write_bytes(_framed(_episode([1, 0, 0][:count], action)))
    (claim,) = claims(path)
    (row,) = rows(claim)
    assert row["steps/action"] == [action[2 * n : 2 * n + 2] for n in range(count)]
    assert row["steps/language"] == [f"pick {n}" for n in range(count)]
    assert (row["steps/is_first"], row["episode"]) == ([1, 0, 0][:count], "e1")


def test_features_without_an_equal_part_for_each_step_stay_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "a.tfrecord"
    path.write_bytes(_framed(_episode([1, 0, 0], [0.0, 1.0, 2.0, 3.0])))
    (claim,) = claims(path)
    assert rows(claim)[0]["steps/action"] == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize(
    "name", ["a.tfrecord", "a.tfr", "a.record", "train-00000-of-00001", "a.tfrecord-00000-of-00002"]
)
def test_sequence_examples_are_rows_with_a_list_of_steps(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(b"".join(_framed(_sequence(f"v{n}", [n, n + 0.5])) for n in range(3)))
    (claim,) = claims(path)
    rows = [
        row for s in claim.adapter.shards(claim.files) for c in claim.adapter.read(s) for row in c.batch.to_pylist()
    ]
    assert rows == [{"id": f"v{n}", "score": [n, n + 0.5]} for n in range(3)]
