"""Finds the rank of this process.

How positions are divided: with batch size b and `world` ranks, G = world · b, and step j has the positions [j·G,
(j+1)·G). Rank r reads the r-th part of each step. DataLoader worker w of W reads the steps w, w + W … of its rank.
These are the positions of rank `w·world + r` of `world·W` ranks without workers. So the same arithmetic serves ranks
and workers, on clients and servers.
"""

from __future__ import annotations

import sys

from choline_data.client.ranks.launchers import rank_of_launcher
from choline_data.errors import InvalidOptionError


def find_rank(rank: int | None = None, world_size: int | None = None) -> tuple[int, int]:
    """Returns the rank and the world size: from the arguments, else from the process group, else from the launcher, else (0, 1)."""
    if (rank is None) != (world_size is None):
        raise InvalidOptionError(
            "rank and world_size must be set together.",
            remedy="Set both, or leave both out: then they are detected.",
            option="rank",
        )
    if rank is None or world_size is None:
        rank, world_size = _group() or rank_of_launcher() or (0, 1)
    if not 0 <= rank < world_size:
        raise InvalidOptionError(
            f"rank {rank} of world size {world_size} is not valid.",
            remedy="Ranks go from 0 to world_size - 1.",
            option="rank",
        )
    return rank, world_size


def _group() -> tuple[int, int] | None:
    distributed = sys.modules.get("torch.distributed")
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return None
    return distributed.get_rank(), distributed.get_world_size()
