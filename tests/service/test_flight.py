"""An unmodified Flight client reads the same rows from the same port."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.flight as flight
import pytest
from tests.served import Served

from .conftest import read, resolve, rows_of

MIX = "web:0.7,code:0.3"


def connected(served: Served) -> flight.FlightClient:
    return flight.connect(f"grpc://{served.address}")


def test_a_flight_client_reads_what_our_client_reads(standing: Served) -> None:
    recipe = resolve(standing.stub(), MIX).recipe_json
    ours = rows_of(read(standing.stub(), recipe))
    with connected(standing) as client:
        info = client.get_flight_info(flight.FlightDescriptor.for_command(MIX))
        assert info.total_records == 3700
        assert info.ordered
        table = client.do_get(info.endpoints[0].ticket).read_all()
    table.validate(full=True)
    assert table.schema == info.schema
    assert table.to_pylist() == ours


def test_every_flight_batch_has_its_cursor(standing: Served) -> None:
    recipe = resolve(standing.stub(), MIX).recipe_json
    ours = rows_of(read(standing.stub(), recipe))
    with connected(standing) as client:
        ticket = flight.Ticket(json.dumps({"recipe": json.loads(recipe), "start": 10, "stop": 3000}))
        chunks = list(client.do_get(ticket))
    assert sum(c.data.num_rows for c in chunks) == 2990
    cursor = chunks[0].app_metadata.to_pybytes().decode()
    after = 10 + chunks[0].data.num_rows
    assert rows_of(read(standing.stub(), recipe, cursor=cursor)) == ours[after:]


def test_a_dataset_is_a_flight_by_its_path(standing: Served) -> None:
    with connected(standing) as client:
        assert [f.descriptor.path for f in client.list_flights()] == [[b"code"], [b"web"]]
        descriptor = flight.FlightDescriptor.for_path("code")
        assert "text" in client.get_schema(descriptor).schema.names
        table = client.do_get(client.get_flight_info(descriptor).endpoints[0].ticket).read_all()
    assert table["text"].to_pylist() == [f"code {n}" for n in range(700)]
    assert table.schema.field("dataset").type == pa.dictionary(pa.int16(), pa.string())


@pytest.mark.parametrize(
    "ticket", [b"", b"{}", b"[1]", b'{"digest": 5}', b'{"recipe": {}, "start": "x"}', b"\xff" * 50]
)
def test_a_ticket_that_is_none_is_refused(standing: Served, ticket: bytes) -> None:
    with connected(standing) as client, pytest.raises((pa.ArrowInvalid, flight.FlightError)) as caught:
        client.do_get(flight.Ticket(ticket)).read_all()
    assert "Traceback" not in str(caught.value)


def test_a_dataset_that_is_not_there_is_a_key_error(standing: Served) -> None:
    with connected(standing) as client, pytest.raises(KeyError, match="No dataset 'wab'"):
        client.get_flight_info(flight.FlightDescriptor.for_path("wab"))
