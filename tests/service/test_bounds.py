"""The work of a request is limited before it begins. Each refusal names its setting, and other requests continue."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import orjson
import pytest
from tests.served import Serve, Served

from choline_data.errors import LimitError, RequestTooLargeError, UnavailableError
from choline_data.mix import resolve_mix
from choline_data.places.home import Home
from choline_data.process.memory import Sweeper
from choline_data.process.work import Work, allow, pause
from choline_data.service.calls import Calls
from choline_data.service.engine import COLUMNS
from choline_data.service.lane_requests import MOST_BLOCKS, WHOLE, is_far, lane_of, most_rows
from choline_data.service.limits import Limits, bounds
from choline_data.service.opening import Openings
from choline_data.store.windows import Store
from choline_data.v1 import firehose_pb2 as pb
from choline_data.v1.firehose_pb2_grpc import FirehoseServiceStub
from choline_data.views import open_stream, read_positions

from ..conftest import Shelf  # noqa: TID252 - tests are no package
from .conftest import kinds, read, refusal, resolve, rows_of
from .test_limits import FOR_NOW, MIX, limited


def with_segments(recipe: bytes, count: int) -> bytes:
    """The recipe with so many segments, each the first one again."""
    body = orjson.loads(recipe)
    weights = body["segments"][0]["weights"]
    body["segments"] = [{"start": 100 * n, "weights": weights} for n in range(count)]
    return orjson.dumps(body)


def test_the_weights_of_a_plan_are_limited(serve: Serve, home: str) -> None:
    stub = serve(home, "--limit", "recipe_weights=20").stub()
    recipe = resolve(stub, MIX).recipe_json
    assert kinds(read(stub, with_segments(recipe, 10), max_row_count=5))[-1] == "end"
    assert limited(lambda: read(stub, with_segments(recipe, 11))) == ("recipe_weights", "20")


def test_the_work_of_a_where_is_limited_and_what_is_kept_already_costs_nothing(serve: Serve, home: str) -> None:
    narrow = serve(home, "--limit", "where_work=1000").stub()
    where = "text like '%9%' and len(text) > 3"
    assert limited(lambda: resolve(narrow, "web", where=where)) == ("where_work", "1000")
    whole = resolve(serve(home).stub(), "web", where=where)
    assert resolve(narrow, "web", where=where).recipe_digest == whole.recipe_digest


def test_the_pieces_of_an_index_of_packing_are_limited(serve: Serve, home: str) -> None:
    stub = serve(home, "--limit", "packed_pieces=5000").stub()

    def packed(packing: str) -> Any:
        options = {"tokenizer": "bytes", "seq_len": "1", "packing": packing, "boundary": "eos"}
        return resolve(stub, "web", view="tokens", view_options=options)

    assert packed("concat").position_count > 5000
    assert limited(lambda: packed("bfd")) == ("packed_pieces", "5000")


def test_a_request_is_measured_before_it_is_read(serve: Serve, home: str) -> None:
    stub = serve(home, "--limit", "request_bytes=1000", "--limit", "recipe_bytes=1000").stub()
    assert limited(lambda: resolve(stub, "web" + " " * 2000)) == ("request_bytes", "1000")
    assert limited(lambda: read(stub, b" " * 2000)) == ("request_bytes", "1000")
    assert resolve(stub, "web" + " " * 500).position_count == 3000


def test_the_columns_of_a_request_are_limited(standing: Served) -> None:
    stub = standing.stub()
    recipe = resolve(stub, MIX).recipe_json
    assert len(rows_of(read(stub, recipe, columns=["text"] * COLUMNS, max_row_count=3))) == 3
    for call in (
        lambda: read(stub, recipe, columns=["text"] * (COLUMNS + 1)),
        lambda: resolve(stub, MIX, columns=[""] * 10_000),
    ):
        code, _, info = refusal(call)
        assert (code, info["option"]) == (grpc.StatusCode.INVALID_ARGUMENT, "columns")


def test_a_request_above_the_limit_of_held_bytes_is_refused_and_an_open_stream_holds_no_request(
    serve: Serve, home: str
) -> None:
    stub = serve(home, "--limit", "held_bytes=150000").stub()
    recipe = resolve(stub, MIX, repeat=True).recipe_json
    large = with_segments(recipe, 1) + b" " * 100_000
    stream = stub.ReadStream(pb.ReadStreamRequest(recipe_json=large), timeout=60)
    next(stream)
    assert kinds(read(stub, large + b" ", max_row_count=5))[-1] == "end"
    assert limited(lambda: read(stub, large + b" " * 100_000)) == ("held_bytes", "150000")
    assert len(stub.ListDatasets(pb.ListDatasetsRequest(), timeout=20).datasets) == 2
    stream.cancel()


def test_large_requests_that_are_held_at_once_are_limited_and_small_ones_pass(home: str) -> None:
    calls = Calls(Home(home), Limits.of({"held_bytes": 150_000}))
    with calls.holding(100_000):
        with pytest.raises(LimitError, match="as many bytes of requests"), calls.holding(100_000):
            pass
        with calls.holding(1000):
            pass
    with calls.holding(100_000):
        pass


def test_requests_that_do_not_arrive_are_ended_and_delay_only_their_own_connection(serve: Serve, home: str) -> None:
    served = serve(home, "--limit", "stall=2")
    over = threading.Event()

    def never() -> Iterator[bytes]:
        over.wait(60)
        yield from ()

    path = "/choline_data.v1.FirehoseService/ListDatasets"
    with grpc.insecure_channel(served.address) as slow:
        try:
            waiting = [slow.stream_stream(path)(never()) for _ in range(3)]
            with grpc.insecure_channel(served.address, [("grpc.use_local_subchannel_pool", 1)]) as other:
                assert FirehoseServiceStub(other).ListDatasets(pb.ListDatasetsRequest(), timeout=20).datasets
            assert not any(call.done() for call in waiting)
            for call in waiting[:2]:
                assert limited(lambda call=call: next(call), FOR_NOW) == ("stall", "2.0")
        finally:
            over.set()


def test_streams_that_hold_too_much_are_refused_and_those_that_hold_little_are_not(serve: Serve, shelf: Shelf) -> None:
    shelf.add("web", {"text": [f"web {n}" for n in range(20_000)]}, block_rows=64)
    stub = serve(str(shelf.home.location), "--limit", "opened_bytes=400000").stub()
    streams = []
    for number in range(2):  # a selection has 8 bytes a row
        recipe = resolve(stub, "web", where=f"origin.row >= {number}", repeat=True).recipe_json
        streams.append(stub.ReadStream(pb.ReadStreamRequest(recipe_json=recipe), timeout=60))
        next(streams[-1])
    third = "origin.row >= 7"
    assert limited(lambda: resolve(stub, "web", where=third), FOR_NOW) == ("opened_bytes", "400000")
    for stream in streams:
        stream.cancel()
    for _ in range(100):  # what was cancelled is let go soon
        try:
            assert resolve(stub, "web", where=third).position_count == 19_993
            return
        except grpc.RpcError:
            threading.Event().wait(0.1)
    raise AssertionError("what ended streams held was not let go")


def test_a_message_is_planned_from_few_mixing_blocks_however_many_readers_there_are() -> None:
    for world in (1, 2, 100, 1024, 4096, 1 << 20):
        for batch in (1, 8, 1000, 1 << 24):
            lane = lane_of(world - 1, world, batch)
            rows = min(most_rows(lane), 1 << 14)
            blocks = {int(p) // 4096 for p in lane.positions(0, rows)}
            assert 1 <= len(blocks) <= 2 * MOST_BLOCKS + 2
            assert world < 100 or batch > 1 or is_far(lane, 0, rows)
    assert not is_far(WHOLE, 0, 1 << 16)


def test_requests_for_the_same_samples_have_equal_lanes() -> None:
    assert lane_of(0, 0, 0) == lane_of(0, 1, 8, 77) == WHOLE
    assert lane_of(2, 3, 0) == lane_of(2, 3, 1, 3)
    assert lane_of(1, 2, 8, 16 * 5 + 3) == lane_of(1, 2, 8, 3)
    assert lane_of(1, 2, 8, 3) != lane_of(1, 2, 8)


def test_a_request_for_far_positions_holds_up_no_stream_of_its_recipe_wherever_it_rests(shelf: Shelf) -> None:
    for name in ("web", "code"):
        shelf.add(name, {"text": [f"{name} {n}" for n in range(3000)]}, block_rows=16)
    stream = open_stream(Store(shelf.home), resolve_mix("web,code", Store(shelf.home), repeat=True))
    near = stream.read(0, 50)
    resting, go, over = threading.Semaphore(0), threading.Semaphore(0), threading.Event()

    def crowded() -> bool:
        resting.release()
        go.acquire()
        return False

    def far() -> None:
        with Work({}, crowded).under_way():
            read_positions(stream, [number * 10**7 for number in range(4000)])
        over.set()
        resting.release()

    thread = threading.Thread(target=far)
    thread.start()
    rests = 0
    while resting.acquire(timeout=60) and not over.is_set():
        assert stream.read(rests, rests + 50).num_rows == 50
        rests += 1
        go.release()
    thread.join()
    assert rests > 3
    assert stream.read(0, 50).equals(near)


def openings(threads: int = 1, a_caller: int = 1, seconds: float = 60.0) -> Openings:
    """Opening threads whose work never pauses."""
    return Openings("test", threads, a_caller, seconds, bounds(Limits()), lambda: False, Sweeper(lambda sweep: None))


def test_a_caller_that_asks_for_much_waits_for_itself() -> None:
    async def story() -> list[str]:
        turns, order, go = openings(), [], threading.Event()

        def work(name: str) -> None:
            go.wait(30)
            order.append(name)

        jobs = [asyncio.ensure_future(turns.run("many", lambda n=n: work(f"many {n}"))) for n in range(20)]
        await asyncio.sleep(0)
        jobs += [asyncio.ensure_future(turns.run(name, lambda name=name: work(name))) for name in ("one", "other")]
        await asyncio.sleep(0)
        go.set()
        await asyncio.gather(*jobs)
        turns.close()
        return order

    order = asyncio.run(story())
    assert order[0] == "many 0"
    assert set(order[1:4]) == {"one", "other", "many 1"}
    assert [name for name in order if name.startswith("many")] == [f"many {n}" for n in range(20)]


def test_a_thread_stays_with_a_caller_that_has_left_until_its_work_ends() -> None:
    async def story() -> None:
        turns, go, begun = openings(threads=2), threading.Event(), threading.Event()

        def slow() -> None:
            begun.set()
            go.wait(30)

        left = asyncio.ensure_future(turns.run("many", slow))
        await asyncio.to_thread(begun.wait, 30)
        left.cancel()
        with pytest.raises(asyncio.CancelledError):
            await left
        later = asyncio.ensure_future(turns.run("many", lambda: "late"))
        assert await turns.run("other", lambda: "now") == "now"
        assert not later.done()
        go.set()
        assert await later == "late"
        turns.close()

    asyncio.run(story())


def test_work_that_nobody_waits_for_ends_at_its_next_pause() -> None:
    ended = threading.Event()

    def endless() -> None:
        try:
            while True:
                pause()
                threading.Event().wait(0.001)
        except UnavailableError:
            ended.set()
            raise

    async def story() -> None:
        turns = openings(seconds=0.05)
        with pytest.raises(LimitError, match="open_timeout"):
            await turns.run("", endless)
        assert await asyncio.to_thread(ended.wait, 30)
        turns.close()

    asyncio.run(story())


def test_work_is_bounded_where_somebody_waits_for_it_and_not_in_a_process_of_its_own() -> None:
    allow("where_work", 1e30, "A where")
    pause()
    with Work({"where_work": 10}, lambda: False).under_way():
        allow("where_work", 10, "A where")
        allow("packed_pieces", 1e30, "An index")
        with pytest.raises(RequestTooLargeError, match=r"A where: 11, but the limit is 10") as caught:
            allow("where_work", 11, "A where")
    assert caught.value.metadata["setting"] == "where_work"
    allow("where_work", 11, "A where")


def test_work_rests_while_others_are_served(monkeypatch: pytest.MonkeyPatch) -> None:
    now, slept = [0.0], []
    monkeypatch.setattr("choline_data.process.work.time.monotonic", lambda: now[0])
    monkeypatch.setattr("choline_data.process.work.time.sleep", slept.append)
    for crowded, rests in ((True, [0.02, 0.05]), (False, [])):
        with Work({}, lambda crowded=crowded: crowded).under_way():
            for busy in (0.001, 0.009, 0.4):
                now[0] += busy
                pause()
        assert slept == pytest.approx(rests)
        slept.clear()


def test_the_fields_of_a_request_are_limited_before_it_is_parsed(standing: Served) -> None:
    stub = standing.stub()
    code, reason, info = refusal(lambda: resolve(stub, MIX, columns=[""] * 100_000))
    assert (code, reason, info["setting"]) == (grpc.StatusCode.INVALID_ARGUMENT, "REQUEST_TOO_LARGE", "request_fields")


def test_a_client_does_not_repeat_a_request_that_is_too_large(serve: Serve, home: str) -> None:
    pytest.importorskip("torch")
    from choline_data.client import FirehoseDataset

    served = serve(home, "--limit", "where_work=1000")
    with pytest.raises(RequestTooLargeError, match="where_work") as caught:
        FirehoseDataset("web", where="text like '%9%'", server=served.address, retry_seconds=1e6).recipe
    assert caught.value.metadata["limit"] == "1000"
