"""The rank that a launcher gave this process: torchrun, Open MPI, MPICH, Intel MPI or Slurm."""

from __future__ import annotations

import logging
import os
import sys
from functools import cache

from choline_data.errors import InvalidOptionError

log = logging.getLogger("choline_data")
_TORCH = "RANK", "WORLD_SIZE"
_MPI = ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"), ("PMI_RANK", "PMI_SIZE")
_REMEDY = "Set RANK and WORLD_SIZE, or the keywords rank and world_size."


def rank_of_launcher() -> tuple[int, int] | None:
    """Returns the rank and the number of ranks from the environment: from `RANK` and `WORLD_SIZE`, else from the variables of MPI,
    else from those of Slurm.

    Raises InvalidOptionError if the variables contradict each other.
    """
    world = _number("WORLD_SIZE")
    if world is not None and _number("RANK") is not None:
        return _pair(*_TORCH)
    if world is None and os.environ.get("RANK"):
        raise InvalidOptionError("RANK is set and WORLD_SIZE is not.", remedy=_REMEDY, option="rank")
    pairs = {pair: names for names in _MPI if (pair := _pair(*names)) is not None}
    if len(pairs) > 1:
        raise InvalidOptionError(f"The variables of MPI contradict each other: {pairs}.", remedy=_REMEDY, option="rank")
    own = next(iter(pairs), None) or _slurm()
    if own is not None and world not in (None, own[1]):
        raise InvalidOptionError(
            f"WORLD_SIZE is {world}, and the launcher started {own[1]} processes.", remedy=_REMEDY, option="rank"
        )
    if own is not None and own[1] > 1:
        _log_once(own, "Slurm" if not pairs else pairs[own][0])
    return own


@cache
def _log_once(own: tuple[int, int], of: str) -> None:
    log.warning(
        "This process reads as rank %d of %d, because the variables of its launcher (%s) say so. If it is to read all "
        "samples, set rank=0 and world_size=1.",
        *own,
        of,
    )


def _slurm() -> tuple[int, int] | None:
    """Returns the number of this Slurm task and the number of tasks of its job step.

    A batch script, the shell of an allocation and a shell of `srun --pty` are rank 0 of 1. They are single processes,
    even if their job has several tasks.
    """
    own = _number("SLURM_PROCID")
    in_step = any(os.environ.get(name) for name in ("SLURM_STEP_ID", "SLURM_STEPID", "SLURM_STEP_NUM_TASKS"))
    at_terminal = bool(os.environ.get("SLURM_PTY_PORT")) and sys.stdin is not None and sys.stdin.isatty()
    if own is None or at_terminal or not (own or in_step):
        return None
    return _pair("SLURM_PROCID", "SLURM_STEP_NUM_TASKS" if os.environ.get("SLURM_STEP_NUM_TASKS") else "SLURM_NTASKS")


def _pair(rank: str, size: str) -> tuple[int, int] | None:
    own, world = _number(rank), _number(size)
    if own is None and world is None:
        return None
    if own is None or world is None or not 0 <= own < world:
        raise InvalidOptionError(
            f"{rank} is {os.environ.get(rank)!r} and {size} is {os.environ.get(size)!r}.", remedy=_REMEDY, option="rank"
        )
    return own, world


def _number(name: str) -> int | None:
    value = os.environ.get(name)
    try:
        return int(value) if value else None
    except ValueError as error:
        raise InvalidOptionError(f"{name} is {value!r}, and not a number.", remedy=_REMEDY, option="rank") from error
