"""A home of an older version, whose files have no seals, is read as before; what is added today is the same revision."""

from __future__ import annotations

import itertools
import tarfile
from pathlib import Path

import orjson
import pyarrow as pa
import pytest

pytest.importorskip("torch")

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.client.dataset import FirehoseDataset
from choline_data.errors import DamagedStoreError
from choline_data.places.home import Home
from choline_data.store import Catalog, open_revision
from choline_data.store.id_index import IdIndex
from choline_data.store.manifest import read_manifest
from choline_data.store.object_names import manifest_name
from choline_data.upkeep.verify import verify

TEXTS = "".join(f'{{"text": "page {n} of the web", "score": {n}}}\n' for n in range(20)) + "{not json\n"
WHERE = "len(text) > 16"


@pytest.fixture
def old(tmp_path: Path) -> Home:
    with tarfile.open(Path(__file__).with_name("old_home.tar.gz")) as tar:
        tar.extractall(tmp_path / "old", filter="data")
    return Home(tmp_path / "old" / "home")


def streams(home: Home) -> list[list[object]]:
    views = [
        {"view": "samples"},
        {"view": "text"},
        {"view": "samples", "mix": {"web": {"weight": 1.0, "where": WHERE}}},
        *({"view": "tokens", "tokenizer": "bytes", "seq_len": 16, "packing": p} for p in ("concat", "bfd")),
    ]
    out = []
    for view in views:
        dataset = FirehoseDataset(view.pop("mix", "web"), home=home.location, seed=3, **view)
        out.append([str(row) for row in itertools.islice(dataset, 30)])
    return out


def test_an_old_home_gives_the_rows_that_a_new_one_of_the_same_source_gives(old, tmp_path):
    (tmp_path / "web.jsonl").write_text(TEXTS)
    new = Home(tmp_path / "new")
    wishes = Wishes(as_kind="text", max_rejects=0.5)
    entry = ingest(new, prepare(new, str(tmp_path / "web.jsonl"), name="web", wishes=wishes)).entry
    assert Catalog(old).entry("web").revision == entry.revision
    before = {name: old.read(name) for name in old.names("")}
    assert streams(old) == streams(new)
    revision = open_revision(old, entry.revision)
    ids = [i for batch in revision.read(0, 20, ["id"]) for i in batch["id"].to_pylist()]
    assert IdIndex(old, revision).rows_of(ids).tolist() == list(range(20))
    verify(old, Catalog(old).entry("web"))
    assert {name: old.read(name) for name in before} == before


def test_a_change_to_an_old_catalog_is_sealed_and_has_a_copy(old):
    Catalog(old).remove("web")
    assert Catalog(old).entries() == {}
    raw = old.read("catalog/00000002.json")
    assert b"xxh3" in raw
    assert old.read("copies/00000002.json") == raw
    assert list(Catalog(old).entries(1)) == ["web"]


def test_a_manifest_without_a_seal_is_held_to_its_digest(old):
    revision = Catalog(old).entry("web").revision
    table = read_manifest(old, revision)
    changed = table.set_column(1, table.schema.field("rows"), pa.array([19], pa.int64()))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, changed.schema) as writer:
        writer.write_table(changed)
    Path(old.path(manifest_name(revision))).write_bytes(sink.getvalue().to_pybytes())
    with pytest.raises(DamagedStoreError, match="repair"):
        open_revision(old, revision)


def test_an_in_place_manifest_without_a_seal_is_held_to_its_digest(tmp_path):
    import pyarrow.parquet as pq

    from choline_data.catalog.register_in_place import register
    from choline_data.store.object_names import IN_PLACE

    pq.write_table(pa.table({"text": [f"page {n}" for n in range(8)]}), tmp_path / "web.parquet")
    home = Home(tmp_path / "home")
    revision = register(home, prepare(home, str(tmp_path / "web.parquet"), name="web")).entry.revision
    table = read_manifest(home, revision)
    head = orjson.loads(table.schema.metadata[IN_PLACE])
    del head["xxh3"]

    def store(columns: pa.Table) -> None:
        sink = pa.BufferOutputStream()
        schema = columns.schema.with_metadata({IN_PLACE: orjson.dumps(head)})
        with pa.ipc.new_file(sink, schema) as writer:
            writer.write_table(columns.replace_schema_metadata(schema.metadata))
        Path(home.path(manifest_name(revision))).write_bytes(sink.getvalue().to_pybytes())

    store(table)
    assert open_revision(home, revision).rows == 8
    at = table.schema.get_field_index("rows")
    store(table.set_column(at, table.schema.field(at), pa.array([7], pa.int64())))
    with pytest.raises(DamagedStoreError, match="repair"):
        open_revision(home, revision)
