"""Streams over gRPC: what is sent, how it is resumed, how it ends, and what is refused."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
from tests.served import Serve, Served

from choline_data.mix import resolve_mix
from choline_data.order.cursor import Cursor
from choline_data.places.home import Home
from choline_data.service.lane_requests import WHOLE, lane_of
from choline_data.store.windows import Store
from choline_data.v1 import firehose_pb2 as pb
from choline_data.views import open_stream

from ..conftest import Shelf  # noqa: TID252 - tests are no package
from .conftest import digest, kinds, read, refusal, resolve, rows_of

MIX = "web:0.7,code:0.3"


def test_a_stream_is_a_header_then_batches_then_an_end(standing: Served) -> None:
    stub = standing.stub()
    resolved = resolve(stub, MIX)
    frames = read(stub, resolved.recipe_json, target_message_bytes=65536)
    assert kinds(frames) == ["header", *["batch"] * (len(frames) - 2), "end"]
    assert resolved.position_count == 3700
    assert frames[-1].end.reason == pb.END_REASON_COMPLETE
    assert frames[-1].end.row_count == 3700 == len(rows_of(frames))
    assert [f.batch.sequence for f in frames[1:-1]] == list(range(len(frames) - 2))
    assert frames[-1].end.batch_count == len(frames) - 2
    assert Cursor.decode(frames[-1].end.cursor) == Cursor(resolved.recipe_digest, 3700)


def test_the_server_and_the_core_give_the_same_rows(serve: Serve, home: str) -> None:
    stub = serve(home).stub()
    recipe = resolve_mix(MIX, Home(home), repeat=False)
    resolved = resolve(stub, MIX)
    assert resolved.recipe_json == recipe.to_json()
    stream = open_stream(Store(Home(home)), recipe)
    theirs = rows_of(read(stub, resolved.recipe_json))
    ours = stream.read(0, 3700)
    assert [r["id"] for r in theirs] == ours["id"].to_pylist()
    assert [r["text"] for r in theirs] == ours["text"].to_pylist()


def test_any_server_goes_on_from_any_cursor(serve: Serve, home: str) -> None:
    first, second = serve(home).stub(), serve(home).stub()
    recipe = resolve(first, MIX).recipe_json
    whole = rows_of(read(first, recipe))
    part = read(first, recipe, max_row_count=1234, target_message_bytes=65536)
    rest = read(second, recipe, cursor=part[-1].end.cursor)
    assert digest(rows_of(part) + rows_of(rest)) == digest(whole)
    middle = part[2].batch
    assert rows_of(read(second, recipe, cursor=middle.cursor)) == whole[middle.first_position + middle.row_count :]


def test_ranks_share_the_stream_without_a_gap(standing: Served) -> None:
    stub = standing.stub()
    recipe = resolve(stub, MIX).recipe_json
    whole = [r["id"] for r in rows_of(read(stub, recipe))]
    dealt: dict[int, bytes] = {}
    for rank in range(3):
        frames = read(stub, recipe, rank=rank, world_size=3, batch_size=8)
        positions = lane_of(rank, 3, 8).positions(0, frames[-1].end.row_count).tolist()
        dealt |= dict(zip(positions, [r["id"] for r in rows_of(frames)], strict=True))
    assert [dealt[p] for p in sorted(dealt)] == whole


def test_a_rank_resumes_in_the_middle_of_its_batch(standing: Served) -> None:
    stub = standing.stub()
    recipe = resolve(stub, MIX).recipe_json
    deal = {"rank": 1, "world_size": 3, "batch_size": 8}
    whole = rows_of(read(stub, recipe, **deal))
    part = read(stub, recipe, max_row_count=101, **deal)
    assert rows_of(read(stub, recipe, cursor=part[-1].end.cursor, **deal)) == whole[101:]


def test_the_text_view_has_every_sample_as_text(standing: Served) -> None:
    stub = standing.stub()
    recipe = resolve(stub, "code", view="text").recipe_json
    rows = rows_of(read(stub, recipe))
    assert set(rows[0]) == {"id", "dataset", "text"}
    assert sorted(r["text"] for r in rows) == sorted(f"code {n}" for n in range(700))


def test_only_the_columns_that_were_asked_for_are_sent(standing: Served) -> None:
    stub = standing.stub()
    recipe = resolve(stub, MIX).recipe_json
    assert set(rows_of(read(stub, recipe, columns=["text"], max_row_count=3))[0]) == {"id", "dataset", "text"}
    assert refusal(lambda: read(stub, recipe, columns=["txet"]))[:2] == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "FIELD_UNKNOWN",
    )


def test_a_recipe_is_known_by_its_digest(standing: Served) -> None:
    stub = standing.stub()
    told = resolve(stub, MIX)
    frames = list(stub.ReadStream(pb.ReadStreamRequest(recipe_digest=told.recipe_digest, max_row_count=5), timeout=20))
    assert len(rows_of(frames)) == 5
    code, reason, _ = refusal(lambda: list(stub.ReadStream(pb.ReadStreamRequest(recipe_digest="0" * 64), timeout=20)))
    assert (code, reason) == (grpc.StatusCode.FAILED_PRECONDITION, "RECIPE_MISMATCH")


def test_samples_are_found_by_position_and_by_id(standing: Served) -> None:
    import pyarrow as pa

    stub = standing.stub()
    recipe = resolve(stub, MIX).recipe_json
    whole = rows_of(read(stub, recipe))
    asked = [3000, 7, 7, 0]
    told = stub.GetSamples(pb.GetSamplesRequest(recipe_json=recipe, positions=asked), timeout=20)
    got = pa.ipc.open_stream(told.serialized_stream).read_all().to_pylist()
    assert got == [whole[p] for p in asked]
    wanted = next(r for r in whole if r["dataset"] == "code")
    told = stub.GetSamples(pb.GetSamplesRequest(dataset="code", ids=[wanted["id"]]), timeout=20)
    assert [r["text"] for r in pa.ipc.open_stream(told.serialized_stream).read_all().to_pylist()] == [wanted["text"]]


def test_samples_far_apart_are_those_of_the_stream_and_cost_no_more(standing: Served) -> None:
    import pyarrow as pa

    stub = standing.stub()
    recipe = resolve(stub, MIX, repeat=True).recipe_json
    near = rows_of(read(stub, recipe, max_row_count=50))
    far = [3, 10**12, 49, 10**9 + 7, *(n * 10**14 for n in range(1, 40))]
    told = stub.GetSamples(pb.GetSamplesRequest(recipe_json=recipe, positions=far), timeout=60)
    got = pa.ipc.open_stream(told.serialized_stream).read_all().to_pylist()
    assert [got[0], got[2]] == [near[3], near[49]]
    for at in (1, 3, 20):
        alone = rows_of(read(stub, recipe, start_position=far[at], max_row_count=1))
        assert got[at : at + 1] == alone


def test_samples_that_have_no_room_in_a_message_are_refused_before_they_are_copied(standing: Served) -> None:
    stub = standing.stub()
    recipe = resolve(stub, "web").recipe_json
    for positions in ([0] * 10_000, [*range(2500)] * 4):
        request = pb.GetSamplesRequest(recipe_json=recipe, positions=positions)
        code, _, info = refusal(lambda request=request: stub.GetSamples(request, timeout=60))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert "Ask for fewer" in info["remedy"]


def test_one_reader_of_a_million_gets_its_own_positions(standing: Served) -> None:
    stub = standing.stub()
    recipe = resolve(stub, MIX, repeat=True).recipe_json
    lane = lane_of(777_777, 1 << 20, 0)
    frames = read(stub, recipe, rank=777_777, world_size=1 << 20, max_row_count=150)
    rows = rows_of(frames)
    assert len(rows) == 150
    for index in (0, 63, 149):
        alone = rows_of(read(stub, recipe, start_position=lane.position(index), max_row_count=1))
        assert rows[index : index + 1] == alone


def test_a_rank_of_many_that_reads_on_gets_its_own_positions(standing: Served, home: str) -> None:
    stub = standing.stub()
    recipe = resolve_mix(MIX, Home(home))
    lane = lane_of(5, 1024, 8)
    deal = {"rank": 5, "world_size": 1024, "batch_size": 8, "target_message_bytes": 65536}
    frames = read(stub, recipe.to_json(), max_row_count=3000, **deal)
    assert kinds(frames).count("batch") > 20
    wanted = open_stream(Store(Home(home)), recipe).read_at(lane.positions(0, 3000))
    assert [row["id"] for row in rows_of(frames)] == wanted["id"].to_pylist()
    assert [row["text"] for row in rows_of(frames)] == wanted["text"].to_pylist()


def test_a_sample_of_any_split_is_found_by_its_id_and_the_home_keeps_where(serve: Serve, shelf: Shelf) -> None:
    import pyarrow as pa

    shelf.add("poems", parts={("", s): {"text": [f"{s} {n}" for n in range(9)]} for s in ("test", "train")})
    served = serve(str(shelf.home.location))
    stub = served.stub()
    texts = {r["id"]: r["text"] for r in rows_of(read(stub, resolve(stub, "poems/all").recipe_json))}
    assert len(texts) == 18
    for _ in range(2):  # makes the index, then reads it
        told = stub.GetSamples(pb.GetSamplesRequest(dataset="poems", ids=[*texts, b"x" * 16]), timeout=20)
        rows = pa.ipc.open_stream(told.serialized_stream).read_all().to_pylist()
        assert {r["id"]: r["text"] for r in rows} == texts
        assert len(shelf.home.names("ids")) == 1


def test_datasets_are_listed_in_pages(standing: Served) -> None:
    stub = standing.stub()
    first = stub.ListDatasets(pb.ListDatasetsRequest(page_size=1), timeout=20)
    assert [d.name for d in first.datasets] == ["code"]
    second = stub.ListDatasets(pb.ListDatasetsRequest(page_size=1, page_token=first.next_page_token), timeout=20)
    assert [(d.name, d.row_count) for d in second.datasets] == [("web", 3000)]
    assert not second.next_page_token
    assert stub.GetDataset(pb.GetDatasetRequest(name="web"), timeout=20).dataset.splits[0].row_count == 3000


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        ({"rank": 3, "world_size": 2}, "INVALID_ARGUMENT", "OPTION_INVALID"),
        ({"batch_size": -1}, "INVALID_ARGUMENT", "OPTION_INVALID"),
        ({"target_message_bytes": 1}, "INVALID_ARGUMENT", "OPTION_INVALID"),
        ({"max_row_count": -5}, "INVALID_ARGUMENT", "OPTION_INVALID"),
        ({"start_position": 3701}, "OUT_OF_RANGE", "POSITION_OUT_OF_RANGE"),
        ({"start_position": -1}, "OUT_OF_RANGE", "POSITION_OUT_OF_RANGE"),
        ({"cursor": "x"}, "INVALID_ARGUMENT", "CURSOR_INVALID"),
        ({"cursor": Cursor("0" * 64, 5).encode()}, "FAILED_PRECONDITION", "RECIPE_MISMATCH"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused_with_its_reason(
    standing: Served, options: dict[str, Any], code: str, reason: str
) -> None:
    stub = standing.stub()
    recipe = resolve(stub, MIX).recipe_json
    told = refusal(lambda: read(stub, recipe, **options))
    assert (told[0].name, told[1]) == (code, reason)
    assert "Traceback" not in told[2]["message"]


def test_every_mutation_of_a_cursor_is_refused_or_means_the_same_place(
    serve: Serve, shelf: Shelf, shared_data: Path
) -> None:
    shelf.add("web", {"text": [f"web {n}" for n in range(300)]})
    shelf.add("code", {"text": [f"code {n}" for n in range(100)]})
    stub = serve(str(shelf.home.location)).stub()
    recipe = resolve(stub, MIX).recipe_json
    whole = rows_of(read(stub, recipe))
    good = read(stub, recipe, max_row_count=50)[-1].end.cursor

    def of(mix: str, **options: Any) -> list[str]:
        """The cursor of another stream."""
        return [read(stub, resolve(stub, mix, **options).recipe_json, max_row_count=50)[-1].end.cursor]

    shelf.add("web", {"text": [f"newer {n}" for n in range(300)]})
    damaged = {
        "truncate": [good[:-1]],
        "truncate_half": [good[: len(good) // 2]],
        "append": [good + "\0"],
        "flip_each_bit": [
            good[:i] + chr(ord(good[i]) ^ 1 << bit) + good[i + 1 :] for i in range(0, len(good), 3) for bit in range(7)
        ],
        "random": ["x" * 64, "x" * (1 << 20)],
        "position_negative": [good.replace(".50.", ".-50.")],
        "position_2^63": [good.replace(".50.", f".{1 << 63}.")],
        "future_format_version": [good.replace("chl1", "chl2")],
        "pickle": ["cbuiltins\nopen\n(VPICKLE_CANARY\nVw\ntR."],
        "unicode_digits": [good.replace(".50.", ".٥٠.")],
    }
    of_others = {
        "other_mix": of("web:0.5,code:0.5"),
        "other_seed": of(MIX, seed=1),
        "other_dataset_version": of(MIX),
        "swap_two_sources": of("web:0.3,code:0.7"),
    }
    beyond = {"position_past_end": [Cursor(good.split(".")[1], len(whole) + 1).encode()]}
    # A cursor is a place in a stream, whoever holds it and however the stream is dealt out.
    places = {"empty": ("", 0), "replay_old": (Cursor(good.split(".")[1], 7).encode(), 7)}
    places |= {"other_world_size": (good, 50), "other_user": (good, 50)}
    ops = {op["op"] for op in json.loads((shared_data / "hostile" / "config" / "cursor_mutations.json").read_text())}
    assert ops <= {*damaged, *of_others, *beyond, *places}
    for cursors, code, reason in (
        (damaged, "INVALID_ARGUMENT", "CURSOR_INVALID"),
        (of_others, "FAILED_PRECONDITION", "RECIPE_MISMATCH"),
        (beyond, "OUT_OF_RANGE", "POSITION_OUT_OF_RANGE"),
    ):
        for op, texts in cursors.items():
            for text in texts:
                told = refusal(lambda text=text: read(stub, recipe, cursor=text, max_row_count=1))  # type: ignore[misc]
                assert (told[0].name, told[1]) == (code, reason), (op, text[:80])
                assert len(told[2]["message"]) <= 500
    for op, (text, position) in places.items():
        assert rows_of(read(stub, recipe, cursor=text, max_row_count=3)) == whole[position : position + 3], op


def test_no_secret_and_no_exception_text_comes_back(standing: Served, shared_data: Path) -> None:
    stub = standing.stub()
    secrets = json.loads((shared_data / "hostile" / "config" / "credential_strings.json").read_text())
    for secret in secrets:
        for call in (
            lambda s=secret: resolve(stub, s + ":1"),
            lambda s=secret: resolve(stub, "web", where=s),
            lambda s=secret: stub.GetDataset(pb.GetDatasetRequest(name=s), timeout=20),
            lambda s=secret: read(stub, s.encode()),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call()
            shown = str(caught.value.details()) + str(caught.value.trailing_metadata())
            assert caught.value.code() not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), shown
            for word in (
                "hunter2",
                "wJalrXUtnFEMI",
                "deadbeef",
                "SECRETSIG",
                "hf_EXAMPLE",
                "SECRETPW",
                "SECRETPEM",
            ):
                assert word not in shown
            assert "Traceback" not in shown


def test_bytes_that_are_no_request_are_an_invalid_argument(standing: Served) -> None:
    with standing.channel() as channel:
        call = channel.unary_unary("/choline_data.v1.FirehoseService/ResolveMix")
        for raw in (b"\xff" * 512, b"\x0a" * 4000, b"\x0b" * 5000):
            assert refusal(lambda raw=raw: call(raw, timeout=20))[0] == grpc.StatusCode.INVALID_ARGUMENT


def test_a_fault_of_the_server_is_a_request_id_and_no_more(serve: Serve, home: str) -> None:
    served = serve(home)
    stub = served.stub()
    recipe = resolve(stub, MIX).recipe_json
    for path in Path(home).glob("data/*/*.blocks"):
        path.chmod(0o644)
        path.write_bytes(b"")
    code, reason, metadata = refusal(lambda: read(stub, recipe))
    assert (code, reason) == (grpc.StatusCode.DATA_LOSS, "STORE_DAMAGED")
    assert home not in str(metadata)


def test_an_idle_stream_shows_signs_of_life(serve: Serve, home: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    from choline_data.service.calls import Calls
    from choline_data.service.limits import Limits
    from choline_data.service.open_stream import Reading

    async def beats() -> list[object]:
        calls = Calls(Home(home), Limits(heartbeat=0.01))
        opened = calls.engine.open(resolve_mix(MIX, Home(home), repeat=False))
        slow = opened.stream.read_at

        def late(positions: Any) -> Any:
            time.sleep(0.05)  # stands for an object store that takes its time
            return slow(positions)

        monkeypatch.setattr(opened.stream, "read_at", late)
        reading = Reading(calls, opened, WHOLE, 0, target=65536, most=10)
        out = [message async for message in reading.batches_in_order()]
        calls.engine.close()
        return out

    told = asyncio.run(beats())
    assert told[0] is None
    assert sum(m.rows for m in told if m is not None) == 10  # type: ignore[attr-defined]
