"""The rank of a process that mpirun or srun started. The variables are those that the launchers' manuals list."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pytest
from tests.client.conftest import positions

from choline_data.client.ranks.found import find_rank
from choline_data.errors import InvalidOptionError

STEP = {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "4",
    "SLURM_STEP_ID": "0",
    "SLURM_STEPID": "0",
    "SLURM_STEP_NUM_TASKS": "4",
}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
OPEN_MPI = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "8"}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "PMI_")) or name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("variables", "rank"),
    [
        ({}, (0, 1)),
        ({**STEP, "SLURM_PROCID": "3"}, (3, 4)),
        ({**STEP, "SLURM_PROCID": "0"}, (0, 4)),
        ({**STEP, "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"}, (1, 2)),  # srun -n 2 in a job of 4 tasks
        ({**STEP, "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, (0, 1)),  # an interactive step
        (BATCH, (0, 1)),  # python in a batch script, without srun
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4"}, (0, 1)),  # the shell of salloc
        (OPEN_MPI, (2, 8)),
        ({**OPEN_MPI, **STEP, "SLURM_PROCID": "1"}, (2, 8)),  # mpirun starts its daemons as a job step
        ({"PMI_RANK": "1", "PMI_SIZE": "2"}, (1, 2)),
        ({"RANK": "5", "WORLD_SIZE": "16", **STEP, "SLURM_PROCID": "1"}, (5, 16)),  # a torchrun for each node
        ({"WORLD_SIZE": "4", **STEP, "SLURM_PROCID": "1"}, (1, 4)),
    ],
)
def test_the_launcher_gives_the_rank(
    variables: dict[str, str], rank: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert find_rank() == rank


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "1"},
        {"RANK": "2", "WORLD_SIZE": "2"},
        {"RANK": "one", "WORLD_SIZE": "2"},
        {"OMPI_COMM_WORLD_RANK": "2"},
        {**OPEN_MPI, "PMI_RANK": "1", "PMI_SIZE": "8"},
        {"WORLD_SIZE": "8", **STEP, "SLURM_PROCID": "1"},
        {"SLURM_PROCID": "3", "SLURM_NTASKS": "2"},
    ],
)
def test_contradictions_are_refused(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidOptionError, match="world_size"):
        find_rank()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pseudo-terminals")
def test_a_shell_that_srun_started_at_a_terminal_is_one_process() -> None:
    import pty

    ours, theirs = pty.openpty()
    code = "from choline_data.client.ranks.found import find_rank; print(find_rank())"
    environ = {**os.environ, **STEP, "SLURM_PROCID": "0", "SLURM_PTY_PORT": "40000"}
    for stdin, rank in ((theirs, "(0, 1)"), (subprocess.DEVNULL, "(0, 4)")):
        run = subprocess.run(
            [sys.executable, "-c", code], stdin=stdin, env=environ, capture_output=True, text=True, check=True
        )
        assert run.stdout.strip() == rank
    os.close(ours)
    os.close(theirs)


def test_the_ranks_of_srun_share_the_stream(firehose: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    got: list[int] = []
    for rank in range(4):
        for name, value in {**STEP, "SLURM_PROCID": str(rank)}.items():
            monkeypatch.setenv(name, value)
        got += positions(firehose(batch_size=8))
    assert sorted(got) == list(range(450))
    assert positions(firehose(rank=0, world_size=1)) == list(range(450))
