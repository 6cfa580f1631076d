"""SQLite: tables, order, types, and names that contain SQL."""

import sqlite3
from contextlib import closing

import pytest

from choline_data.adapters import sqlite
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.sqlite import Sqlite
from choline_data.errors import SourceDamagedError


def made(path, script):
    with closing(sqlite3.connect(path)) as base:
        base.executescript(script)
    return path


class TestContract(AdapterContract):
    @pytest.fixture
    def adapter(self):
        return Sqlite()

    @pytest.fixture
    def files(self, tmp_path, source_file):
        rows = ",".join(f"({n},'row {n}')" for n in range(700))
        script = f"create table t (n int, text text); insert into t values {rows};"
        return [source_file(made(tmp_path / "a.db", script))]


def test_each_table_is_a_shard_and_views_are_not_run(tmp_path, source_file):
    script = """
        create table b (x); insert into b values (1);
        create table a (k text primary key, v int) without rowid; insert into a values ('z', 1), ('y', 2);
        create view v as select 1/0;
        create table "o""; drop table b; --" (x); insert into "o""; drop table b; --" values (7);
    """
    file = source_file(made(tmp_path / "a.db", script))
    found = {s.member: [r for c in Sqlite().read(s) for r in c.batch.to_pylist()] for s in Sqlite().shards([file])}
    assert found == {
        "a": [{"k": "y", "v": 2}, {"k": "z", "v": 1}],
        "b": [{"x": 1}],
        'o"; drop table b; --': [{"x": 7}],
    }


def test_a_column_of_differing_types_becomes_json(read, tmp_path):
    script = "create table t (x); insert into t values (1), ('a'), (x'00ff'), (null);"
    found = read(Sqlite(), made(tmp_path / "a.db", script))
    assert found.rows == [{"x": "1"}, {"x": '"a"'}, {"x": '{"$binary":"AP8="}'}, {}]


def test_a_damaged_base_says_so(read, tmp_path):
    path = made(tmp_path / "a.db", "create table t (x); insert into t values (1);")
    path.write_bytes(path.read_bytes()[:4096] + b"\xff" * 4096)
    found = read(Sqlite(), path)
    assert isinstance(found.error, SourceDamagedError)


def test_it_is_known_by_content(tmp_path, source, write):
    base = made(tmp_path / "a.bin", "create table t (x);")
    (claim,) = sqlite.detect(source(base, write("b.db", "no")))
    assert [f.name for f in claim.files] == ["a.bin"]


def test_the_system_tables_of_a_geopackage_are_no_samples(tmp_path, read):
    path = tmp_path / "places.gpkg"
    with closing(sqlite3.connect(path)) as base:
        base.executescript(
            """CREATE TABLE gpkg_contents (table_name TEXT, data_type TEXT);
            INSERT INTO gpkg_contents VALUES ('places', 'features');
            CREATE TABLE gpkg_spatial_ref_sys (srs_id INTEGER, definition TEXT);
            INSERT INTO gpkg_spatial_ref_sys VALUES (4326, 'GEOGCS');
            CREATE TABLE places (fid INTEGER PRIMARY KEY, geom BLOB, name TEXT);
            INSERT INTO places VALUES (1, x'4750', 'Rome'), (2, x'4750', 'Oslo');
            CREATE VIRTUAL TABLE rtree_places_geom USING rtree(id, minx, maxx, miny, maxy);
            INSERT INTO rtree_places_geom VALUES (1, 0, 1, 0, 1);"""
        )
    assert [row["name"] for row in read(Sqlite(), path).rows] == ["Rome", "Oslo"]


def test_the_tables_of_a_search_index_are_no_samples(tmp_path, read):
    path = tmp_path / "pages.db"
    with closing(sqlite3.connect(path)) as base:
        base.executescript(
            """CREATE TABLE pages (body TEXT);
            INSERT INTO pages VALUES ('one'), ('two');
            CREATE VIRTUAL TABLE found USING fts5(body);
            INSERT INTO found VALUES ('one');"""
        )
    assert [row["body"] for row in read(Sqlite(), path).rows] == ["one", "two"]
