"""Names and addresses that are odd: a password in a descriptor's URL, and a dataset that has the name of the SQL view
`catalog`.
"""

from __future__ import annotations

import json

import pytest

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.sql import query_home
from choline_data.errors import SourceNotFoundError
from choline_data.places.home import Home


def test_a_croissant_error_shows_no_password_of_a_url(tmp_path):
    url = "https://someone:hunter2@example.org/a.csv?token=hunter2"
    source = {"fileObject": {"@id": "f"}, "extract": {"column": "a"}}
    field = {"@type": "cr:Field", "@id": "r/a", "name": "a", "dataType": "sc:Text", "source": source}
    described = {
        "@context": {"cr": "http://mlcommons.org/croissant/"},
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": "x",
        "distribution": [{"@type": "cr:FileObject", "@id": "f", "contentUrl": url, "encodingFormat": "text/csv"}],
        "recordSet": [{"@type": "cr:RecordSet", "@id": "r", "name": "r", "field": [field]}],
    }
    (tmp_path / "croissant.json").write_text(json.dumps(described))
    with pytest.raises(SourceNotFoundError, match=r"example\.org/a\.csv") as error:
        prepare(Home(tmp_path / "home"), str(tmp_path / "croissant.json"))
    assert "hunter2" not in str(error.value)


def test_a_dataset_named_catalog_does_not_hide_the_listing(tmp_path):
    pytest.importorskip("duckdb")
    source = tmp_path / "a.jsonl"
    source.write_text('{"text": "some words of mine"}\n')
    home = Home(tmp_path / "home")
    ingest(home, prepare(home, str(source), name="catalog"))
    assert query_home(home, "select name, rows from catalog").to_pylist() == [{"name": "catalog", "rows": 1}]
    told = query_home(home, 'select text from "dataset:catalog"').to_pylist()
    assert told == [{"text": "some words of mine"}]
