"""The hostile gRPC requests of `abuse.py`. The caller repeats each of them, from one or more threads.

`abuse_http.py` has the hostile requests that are not gRPC calls, and adds them to the same table CASES.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import grpc
import orjson

from choline_data.v1 import firehose_pb2 as pb
from choline_data.v1 import firehose_pb2_grpc

WAIT = 20.0  # how many seconds a case waits for an answer
_FLIGHT = "/arrow.flight.protocol.FlightService/"


@dataclass
class Caller:
    """The hostile caller: the addresses of the server, and a valid recipe."""

    address: str
    http: str
    recipe: bytes
    stop: threading.Event = field(default_factory=threading.Event)
    number: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def channel(self) -> grpc.Channel:
        """Opens a new connection that is not shared."""
        return grpc.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)])

    def next(self) -> int:
        """Returns a number that is unique among all threads."""
        with self._lock:
            self.number += 1
            return self.number

    def body(self) -> dict[str, Any]:
        """Returns the recipe as a JSON object that a case may change."""
        body: dict[str, Any] = orjson.loads(self.recipe)
        return body


Step = Callable[[], object]
Case = Callable[[Caller], Step]
CASES: dict[str, tuple[Case, int]] = {}


def case(threads: int = 1) -> Callable[[Case], Case]:
    """Returns a decorator that adds a case to CASES.

    The name of the case is the function's name with spaces. `threads` threads send the requests.
    """

    def add(function: Case) -> Case:
        CASES[function.__name__.strip("_").replace("_", " ")] = (function, threads)
        return function

    return add


def firehose(caller: Caller) -> Any:
    """Returns a stub of the service on a new connection."""
    return firehose_pb2_grpc.FirehoseServiceStub(caller.channel())


def reads(caller: Caller, stub: Any, messages: int = 1 << 30, **options: Any) -> None:
    """Reads a stream until about `messages` messages have arrived, or the case is over. `options` are fields of the
    request.
    """
    request = pb.ReadStreamRequest(**{"recipe_json": caller.recipe, **options})
    stream = stub.ReadStream(request, timeout=60)
    for number, _ in enumerate(stream):
        if number >= messages or caller.stop.is_set():
            break
    stream.cancel()


def many(caller: Caller, sources: int, segments: int, **options: Any) -> bytes:
    """Returns a recipe with this number of sources and segments, in as few bytes as possible."""
    body = caller.body()
    first = body["sources"][0]
    names = [f"{n:x}" for n in range(sources)]
    body["sources"] = [{**first, "name": name} for name in names]
    weights = [{name: 1 + (n * 7 + s) % 9 for n, name in enumerate(names)} for s in range(min(segments, 9))]
    body["segments"] = [{"start": 5000 * s, "weights": weights[s % len(weights)]} for s in range(segments)]
    return orjson.dumps({**body, **options})


# Cases: streams


@case()
def one_reader_of_2_to_the_20(caller: Caller) -> Step:
    stub = firehose(caller)
    return lambda: reads(caller, stub, rank=caller.next(), world_size=1 << 20)


@case(16)
def sixteen_readers_of_2_to_the_20(caller: Caller) -> Step:
    stub = firehose(caller)
    return lambda: reads(caller, stub, rank=caller.next(), world_size=1 << 20, start_position=10**12)


@case(8)
def eight_readers_of_1024_in_batches_of_8(caller: Caller) -> Step:
    stub = firehose(caller)
    return lambda: reads(caller, stub, rank=caller.next() % 1024, world_size=1024, batch_size=8)


@case(8)
def streams_opened_and_cancelled(caller: Caller) -> Step:
    stub = firehose(caller)
    return lambda: reads(caller, stub, messages=1)


@case()
def two_hundred_streams_that_nobody_reads(caller: Caller) -> Step:
    stub = firehose(caller)

    def step() -> None:
        request = pb.ReadStreamRequest(recipe_json=caller.recipe, target_message_bytes=4 << 20)
        streams = [stub.ReadStream(request, timeout=60) for _ in range(200)]
        caller.stop.wait(60)
        for stream in streams:
            stream.cancel()

    return step


@case(4)
def messages_of_4_mib_of_few_bytes_a_row(caller: Caller) -> Step:
    stub = firehose(caller)
    small = stub.ResolveMix(pb.ResolveMixRequest(mix="small", repeat=True), timeout=WAIT).recipe_json

    def step() -> None:
        reads(caller, stub, recipe_json=small, columns=["kind"], target_message_bytes=4 << 20, messages=20)
        caller.stop.wait(0.2)

    return step


@case(30)
def recipes_of_1_mib_held_by_30_streams(caller: Caller) -> Step:
    stub, recipe = firehose(caller), many(caller, 250, 250)[:-1]

    def step() -> None:
        padded = recipe + b" " * ((1 << 20) - len(recipe) - 1 - caller.next() % 1000) + b"}"
        reads(caller, stub, recipe_json=padded, messages=3)

    return step


@case(4)
def a_plan_of_256_sources_and_1000_segments(caller: Caller) -> Step:
    stub, recipe = firehose(caller), many(caller, 140, 1000)
    return lambda: reads(caller, stub, recipe_json=recipe, messages=3)


@case(4)
def a_plan_of_256_sources_and_250_segments_that_repeats(caller: Caller) -> Step:
    stub = firehose(caller)

    def step() -> None:
        recipe = many(caller, 256, 250, on_exhausted="repeat", seed=caller.next())
        reads(caller, stub, recipe_json=recipe, messages=3)

    return step


@case(4)
def streams_of_256_sources(caller: Caller) -> Step:
    stub, recipe = firehose(caller), many(caller, 256, 1)
    return lambda: reads(caller, stub, recipe_json=recipe)


@case(4)
def cursors_of_other_recipes(caller: Caller) -> Step:
    from choline_data.order.cursor import Cursor

    stub, recipe = firehose(caller), many(caller, 60, 1000)
    cursor = Cursor("0" * 64, 0).encode()
    return lambda: reads(caller, stub, recipe_json=recipe, cursor=cursor)


@case(8)
def each_stream_with_a_seed_of_its_own(caller: Caller) -> Step:
    stub = firehose(caller)

    def step() -> None:
        recipe = orjson.dumps({**caller.body(), "seed": caller.next()})
        reads(caller, stub, recipe_json=recipe, messages=2, max_row_count=200)

    return step


@case(8)
def texts(caller: Caller) -> Step:
    stub = firehose(caller)
    recipe = stub.ResolveMix(pb.ResolveMixRequest(mix="web", view="text", repeat=True), timeout=WAIT).recipe_json

    def step() -> None:
        reads(caller, stub, recipe_json=recipe, messages=5)

    return step


# Cases: single samples


def samples(caller: Caller, positions: Callable[[], list[int]]) -> Step:
    """Returns a step that requests the samples at these positions."""
    stub = firehose(caller)
    return lambda: stub.GetSamples(pb.GetSamplesRequest(recipe_json=caller.recipe, positions=positions()), timeout=WAIT)


@case()
def ten_thousand_positions_over_10_to_the_12(caller: Caller) -> Step:
    return samples(caller, lambda: [n * 10**8 + caller.next() for n in range(10_000)])


@case(8)
def sixty_four_positions_a_million_apart(caller: Caller) -> Step:
    return samples(caller, lambda: [n << 20 for n in range(64)])


@case(4)
def one_position_ten_thousand_times(caller: Caller) -> Step:
    return samples(caller, lambda: [7] * 10_000)


@case(4)
def ids_that_nobody_has(caller: Caller) -> Step:
    stub = firehose(caller)
    return lambda: stub.GetSamples(
        pb.GetSamplesRequest(dataset="web", ids=[os.urandom(16) for _ in range(1000)]), timeout=WAIT
    )


@case(4)
def positions_beyond_every_stream(caller: Caller) -> Step:
    return samples(caller, lambda: [(1 << 62) - n for n in range(10_000)])


# Cases: mixes and filters


def resolves(caller: Caller, request: Callable[[int], pb.ResolveMixRequest]) -> Step:
    """Returns a step that resolves a mix. Each request contains a number that was not used before, so that the server
    cannot answer from a cache.
    """
    stub = firehose(caller)
    return lambda: stub.ResolveMix(request(caller.next()), timeout=WAIT)


def filtered(where: str) -> Callable[[int], pb.ResolveMixRequest]:
    """Returns a function that makes requests for the web dataset with this filter. A second condition, with the number,
    makes each filter unique.
    """
    return lambda number: pb.ResolveMixRequest(mix="web", where=f"({where}) and origin.row != {number + 10**9}")


@case(4)
def a_where_of_300_parts(caller: Caller) -> Step:
    return resolves(caller, filtered(" or ".join(f"len(text) = {n}" for n in range(300))))


@case(4)
def a_where_with_a_slow_pattern(caller: Caller) -> Step:
    return resolves(caller, filtered(f"text like '%a{'_' * 500}b%'"))


@case(4)
def a_where_with_500_wildcards(caller: Caller) -> Step:
    return resolves(caller, filtered("text like '%" + "%".join("abcdefgh"[n % 8] for n in range(490)) + "%'"))


@case(4)
def a_where_with_900_values(caller: Caller) -> Step:
    return resolves(caller, filtered("text in (" + ", ".join(f"'{n}'" for n in range(900)) + ")"))


@case(4)
def a_where_over_json(caller: Caller) -> Step:
    return resolves(caller, filtered(" or ".join(f"extra.k{n} = {n}" for n in range(100)) + " or extra.n > 3"))


@case(4)
def a_where_each_time(caller: Caller) -> Step:
    return resolves(caller, filtered("len(text) > 100"))


@case(4)
def a_mix_with_200_filters(caller: Caller) -> Step:
    def request(number: int) -> pb.ResolveMixRequest:
        parts = {f"s{n}": {"dataset": "web", "where": f"len(text) != {n + 200 * number}"} for n in range(200)}
        return pb.ResolveMixRequest(mix=json.dumps(parts))

    return resolves(caller, request)


@case(4)
def every_dataset_by_tokens_with_a_temperature(caller: Caller) -> Step:
    return resolves(caller, lambda n: pb.ResolveMixRequest(mix="*^0.7", unit="tokens", seed=n))


@case(4)
def a_mix_of_60_kib(caller: Caller) -> Step:
    return resolves(caller, lambda n: pb.ResolveMixRequest(mix=",".join(f"web{k}:0.{n:09}" for k in range(3000))))


@case(2)
def tokens_packed_one_by_one(caller: Caller) -> Step:
    options = {"tokenizer": "bytes", "seq_len": "1", "packing": "bfd", "boundary": "eos"}
    return resolves(caller, lambda n: pb.ResolveMixRequest(mix="web", view="tokens", view_options=options, seed=n))


@case(2)
def tokens_in_rows_of_2_to_the_20(caller: Caller) -> Step:
    options = {"tokenizer": "bytes", "seq_len": str(1 << 20), "packing": "bfd", "boundary": "eos"}
    return resolves(caller, lambda n: pb.ResolveMixRequest(mix="web", view="tokens", view_options=options, seed=n))


# Cases: large requests, and many requests at once


@case(4)
def half_a_million_columns(caller: Caller) -> Step:
    stub = firehose(caller)
    return lambda: reads(caller, stub, columns=[""] * 500_000)


@case(4)
def requests_of_4_mib(caller: Caller) -> Step:
    call = caller.channel().unary_unary("/choline_data.v1.FirehoseService/ResolveMix")
    raw = b"\x52\x00" * ((4 << 20) // 2 - 64)
    return lambda: call(raw, timeout=WAIT)


@case(16)
def lists_of_5000(caller: Caller) -> Step:
    stub = firehose(caller)
    return lambda: stub.ListDatasets(pb.ListDatasetsRequest(page_size=5000), timeout=WAIT)


@case(8)
def deadlines_of_a_millisecond(caller: Caller) -> Step:
    stub = firehose(caller)
    request = pb.ResolveMixRequest(mix="*^0.7", unit="bytes")
    return lambda: stub.ResolveMix(request, timeout=0.001)


@case(2)
def flights_listed(caller: Caller) -> Step:
    call = caller.channel().unary_stream(_FLIGHT + "ListFlights")
    return lambda: list(call(b"", timeout=WAIT))


@case(4)
def flight_tickets_nested_without_end(caller: Caller) -> Step:
    call = caller.channel().unary_stream(_FLIGHT + "DoGet")
    ticket = b"[" * (1 << 20)
    size = len(ticket)
    raw = b"\x0a" + bytes([size & 127 | 128, size >> 7 & 127 | 128, size >> 14]) + ticket
    return lambda: list(call(raw, timeout=WAIT))
