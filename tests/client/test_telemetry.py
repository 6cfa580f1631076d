"""Statistics of a reader: each figure is right, in `stats()`, over Prometheus and in a progress bar, and costs nothing
per row.
"""

from __future__ import annotations

import gc
import io
import time
import urllib.request
import weakref
from collections import Counter
from typing import Any

import pytest
from tests.client.conftest import MIX

from choline_data.client import telemetry
from choline_data.errors import InvalidOptionError


def scraped(port: int) -> dict[str, float]:
    """What Prometheus gets from this port."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")}


@pytest.mark.parametrize("where", ["firehose", "remote"])
def test_stats_have_every_figure(request: pytest.FixtureRequest, where: str):
    dataset = request.getfixturevalue(where)(MIX, repeat=True, batch_size=10)
    seen = Counter(name for _, batch in zip(range(90), dataset, strict=False) for name in batch["dataset"])
    stats = dataset.stats()
    assert stats["position"] == 900
    assert stats["rows"] >= 900 and stats["rows_per_second"] > 0
    assert stats["bytes"] > 10 * stats["rows"] and stats["bytes_per_second"] > stats["rows_per_second"]
    assert 0 < stats["wait_share"] <= 1 and 0 <= stats["queue_fill"] <= 1
    assert stats["served"] == seen
    assert stats["epochs"] == {"chat": seen["chat"] / 60, "code": seen["code"] / 90, "web": seen["web"] / 300}
    assert "tokens" not in stats


def test_stats_count_tokens_where_rows_are_packed(firehose: Any):
    dataset = firehose({"web": 1, "code": 1}, view="tokens", seq_len=16, batch_size=4, repeat=True)
    seen = Counter(name for _, batch in zip(range(8), dataset, strict=False) for name in batch["dataset"])
    assert dataset.stats()["tokens"] == {name: count * 16 for name, count in seen.items()}


def test_what_was_read_ahead_is_in_the_queue(remote: Any):
    dataset = remote(repeat=True, batch_size=1, prefetch_bytes=1 << 20)
    reading = iter(dataset)
    next(reading)
    until = time.monotonic() + 20
    while not dataset.stats()["queue_fill"] > 0.5 and time.monotonic() < until:
        time.sleep(0.01)
    assert 0.5 < dataset.stats()["queue_fill"] <= 1


@pytest.mark.parametrize("last", ["short", "drop", "wrap"])
def test_stats_are_there_before_the_first_and_after_the_last_step(firehose: Any, last: str):
    dataset = firehose(batch_size=100, last_batch=last, rank=1, world_size=3)
    assert dataset.stats()["rows"] == 0
    for _ in dataset:
        assert sum(dataset.stats()["served"].values()) == min(dataset.stats()["position"], 450)
    assert dataset.stats()["epoch"] == 1


def test_a_loader_with_workers_counts_what_comes_out_of_them(firehose: Any):
    loader = firehose(batch_size=10).loader(num_workers=2)
    seen = [loader.stats() for _ in loader]
    assert [s["rows"] for s in seen] == list(range(10, 451, 10))
    assert seen[-1]["position"] == 450 and seen[-1]["bytes"] > 4500


def test_prometheus_scrapes_the_stats_of_a_stream_that_is_being_read(firehose: Any):
    dataset = firehose(repeat=True, batch_size=10, run="night", rank=0, world_size=1)
    metrics = dataset.metrics(port=0)
    try:
        reading = iter(dataset)
        batch = next(reading)
        dataset.report(batch["id"], [2.0] * 10)
        first = scraped(metrics.port)
        assert first['choline_client_position{rank="0",run="night"}'] == 10
        served = first['choline_client_served_rows{rank="0",run="night",source="web"}']
        assert served == batch["dataset"].count("web") > 0
        assert first['choline_client_loss_median{dataset="web",rank="0",run="night"}'] == 2.0
        assert first['choline_client_rows_per_second{rank="0",run="night"}'] > 0
        next(reading)
        assert scraped(metrics.port)['choline_client_position{rank="0",run="night"}'] == 20
    finally:
        metrics.close()
    with pytest.raises(OSError):
        scraped(metrics.port)


def test_metrics_do_not_keep_a_dataset(firehose: Any):
    dataset = firehose()
    metrics = dataset.metrics()
    gone = weakref.ref(dataset)
    assert list(metrics.collect())
    del dataset
    gc.collect()
    assert gone() is None
    assert list(metrics.collect()) == []


def test_a_port_that_is_taken_says_so(firehose: Any):
    dataset = firehose()
    metrics = dataset.metrics(port=0)
    try:
        with pytest.raises(InvalidOptionError, match="each rank needs a separate port"):
            dataset.metrics(port=metrics.port)
    finally:
        metrics.close()


@pytest.mark.parametrize(
    ("number", "short"),
    [(0, "0"), (0.25, "0.25"), (999, "999"), (999.7, "1k"), (999_999, "1M"), (12_345, "12.3k"), (4e14, "400T")],
)
def test_figures_are_short_at_any_size(number: float, short: str):
    assert telemetry.short_figure(number) == short


def test_a_progress_bar_has_its_figures_in_short(firehose: Any):
    tqdm = pytest.importorskip("tqdm")
    dataset = firehose(batch_size=10)
    with tqdm.tqdm(dataset, total=len(dataset), disable=False, file=io.StringIO()) as bar:
        for _ in bar:
            bar.set_postfix(dataset.progress())
        assert bar.n == 45
        assert "rows/s=" in bar.postfix and "wait=" in bar.postfix
