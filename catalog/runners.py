"""Runs an ingestion's units in this process, in other processes on this machine, or on a Beam runner.

One Beam pipeline serves every adapter. An element is a unit. The result of a unit is written as one small object under
`jobs/`, so no row and no manifest crosses a shuffle, and every runner works. Beam's default local runner tries to download
a binary, so the SDK's in-memory runner is always chosen explicitly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

from choline_data.adapters.base import Reject
from choline_data.catalog.account import RowCount
from choline_data.catalog.ingest import Progress, UnitResult, run_here, run_unit
from choline_data.catalog.planning import IngestPlan, Unit
from choline_data.errors import DamagedStoreError, InvalidOptionError, MissingDependencyError
from choline_data.places.home import Home
from choline_data.store import StoredFile
from choline_data.store import sealed as sealing


def run(
    plan: IngestPlan,
    home: Home,
    *,
    runner: str = "",
    workers: int = 1,
    scheduler: str = "",
    flags: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[UnitResult]:
    """Runs all units of the plan on this Beam runner. With runner "", in this process or in `workers` processes."""
    units = plan.units()
    plan = replace(plan, previews=(), account=())  # The workers do not need these attributes of the plan.
    if not runner:
        # If a column decides the splits, the first rows are in several store files. So with a limit, the units must run
        # in order and in this process.
        in_order = plan.limit and any(part.by_row for part in plan.parts)
        if workers <= 1 or len(units) <= 1 or in_order:
            return list(run_here(plan, home, units, progress))
        from choline_data.catalog.crew import run_beside

        return list(run_beside(plan, home, units, workers, progress))
    return _beam(plan, home, units, runner, workers, scheduler, flags)


def job_name(plan: IngestPlan, units: Sequence[Unit]) -> str:
    """Returns the name under which a plan's results are stored. Equal work has an equal name."""
    return hashlib.sha256(repr((plan, tuple(units))).encode()).hexdigest()[:32]


def encode_result(name: str, result: UnitResult) -> bytes:
    """Returns a unit's result as JSON with a seal, for the object `name`."""
    return sealing.seal_json(name, asdict(result))


def decode_result(name: str, raw: bytes) -> UnitResult:
    """Decodes the result that `encode_result` wrote. Raises DamagedStoreError if its seal is broken."""
    try:
        body = sealing.unseal_json(name, raw, before=b'{"number":')
    except sealing.BrokenSealError as error:
        raise DamagedStoreError(f"The result {name} is damaged.", remedy="Run the command again.") from error
    return UnitResult(
        body["number"],
        tuple(StoredFile(**f) for f in body["files"]),
        body["rows"],
        tuple(Reject(**r) for r in body["rejects"]),
        body["rejected"],
        tuple(RowCount(**c) for c in body["counts"]),
    )


def _to_home(unit: Unit, plan: IngestPlan, home: Home, job: str) -> int:
    name = f"jobs/{job}/{unit.number:06d}.json"
    home.remove(name)
    home.create(name, encode_result(name, run_unit(plan, home, unit)))
    return unit.number


def _beam(
    plan: IngestPlan, home: Home, units: list[Unit], runner: str, workers: int, scheduler: str, flags: Sequence[str]
) -> list[UnitResult]:
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ModuleNotFoundError as error:
        raise MissingDependencyError("ingest", "Running on Beam") from error
    job = job_name(plan, units)
    home.remove(f"jobs/{job}")
    options, engine = _engine(runner, workers, scheduler, flags)
    with beam.Pipeline(runner=engine, options=PipelineOptions(options)) as pipeline:
        # Only the descriptions of units are sent to the workers; rows stay on the worker that reads them.
        apart = pipeline | "Units" >> beam.Create(units) | "Apart" >> beam.Reshuffle()
        _ = apart | "Ingest" >> beam.Map(_to_home, plan, home, job)
    names = [f"jobs/{job}/{unit.number:06d}.json" for unit in units]
    results = [decode_result(name, home.read(name)) for name in names]
    home.remove(f"jobs/{job}")
    return results


def _engine(runner: str, workers: int, scheduler: str, flags: Sequence[str]) -> tuple[list[str], Any]:
    options = list(flags)
    if runner in ("local", "direct"):
        from apache_beam.runners.portability.fn_api_runner import FnApiRunner

        if workers > 1:
            options += ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
        return options, FnApiRunner()
    if runner == "dask":
        from apache_beam.runners.dask.dask_runner import DaskRunner

        if scheduler:
            options.append(f"--dask_client_address={scheduler}")
        return options, DaskRunner()
    names = {"flink": "FlinkRunner", "spark": "SparkRunner", "dataflow": "DataflowRunner", "portable": "PortableRunner"}
    if runner not in names:
        raise InvalidOptionError(
            f"No runner {runner!r}.", remedy=f"There are: local, dask, {', '.join(names)}; or none, for this process."
        )
    return options, names[runner]
