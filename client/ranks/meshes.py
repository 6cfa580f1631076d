"""The data-parallel rank of this process in a DeviceMesh. Its tensor-, pipeline- and context-parallel peers share it."""

from __future__ import annotations

import re
from typing import Any

from choline_data.client.ranks.found import find_rank
from choline_data.errors import InvalidOptionError

_SHARE = frozenset({"dp", "ddp", "data", "batch", "replicate", "shard"})
_ALIKE = frozenset({"tp", "pp", "cp", "sp", "tensor", "pipeline", "context", "sequence", "model"})
_SILENT = frozenset({"parallel", "dim", "mesh"})


def rank_in_mesh(rank: int | None, world_size: int | None, mesh: Any) -> tuple[tuple[int, int] | None, int]:
    """Returns (rank, world size) from the arguments or the mesh, or None; and the number of this process among the
    processes that read the same samples.
    """
    of_arguments = None if rank is None and world_size is None else find_rank(rank, world_size)
    if mesh is None:
        return of_arguments, 0
    of_mesh, peer = _of_mesh(mesh)
    if of_arguments is not None and of_arguments != of_mesh:
        raise InvalidOptionError(
            f"rank {of_arguments[0]} of world_size {of_arguments[1]} is set, but the mesh has rank {of_mesh[0]} of {of_mesh[1]}.",
            remedy="Give the mesh, or rank and world_size.",
            option="mesh",
        )
    return of_mesh, peer


def _of_mesh(mesh: Any) -> tuple[tuple[int, int], int]:
    import torch.distributed as dist

    if not dist.is_available() or not isinstance(mesh, dist.device_mesh.DeviceMesh):
        raise _wrong(f"mesh is of type {type(mesh).__name__}.", 'Give a DeviceMesh, such as mesh["dp"].')
    everyone = dist.get_world_size() if dist.is_initialized() else mesh.size()
    place = mesh.get_coordinate()
    if place is None:
        raise _wrong("This process is not in the mesh.", "Give each process a mesh that contains it.")
    rank, world = 0, 1
    for dim in _data_dimensions(mesh, everyone):
        rank, world = rank * mesh.size(dim) + place[dim], world * mesh.size(dim)
    return (rank, world), dist.get_rank() if everyone > world else 0


def _data_dimensions(mesh: Any, everyone: int) -> list[int]:
    """Returns the dimensions along which processes read different samples."""
    names = mesh.mesh_dim_names
    if names is None:
        if mesh.ndim == 1:
            return [0]
        raise _wrong(
            f"The mesh has {mesh.ndim} dimensions without names.",
            'Name them, as mesh_dim_names=("dp", "tp"), or give rank and world_size.',
        )
    kinds = [_kind(name) for name in names]
    if mesh.ndim == 1 and kinds == [""]:
        return [0]
    for dim, kind in enumerate(kinds):
        if kind == "" and mesh.size(dim) > 1:
            raise _wrong(
                f"Whether dimension {names[dim]!r} of the mesh splits the samples is not clear from its name.",
                'Give the part of the mesh that splits the samples, such as mesh["dp"], or rank and world_size.',
            )
    sharing = [dim for dim, kind in enumerate(kinds) if kind == "share"]
    if not sharing and mesh.size() < everyone:
        raise _wrong(
            f"The mesh of {', '.join(names)} does not split the samples, and has only {mesh.size()} of {everyone} processes.",
            'Give the part that splits the samples, such as mesh["dp"], or the whole mesh.',
        )
    return sharing


def _kind(name: str) -> str:
    """Returns "share" if processes along a dimension with this name read different samples, "alike" if they read the
    same samples.

    Returns "" if the name does not tell, or, like dp_cp, stands for both.
    """
    words = set(re.split(r"[^a-z0-9]+", name.lower())) - _SILENT
    return "share" if words and words <= _SHARE else "alike" if words and words <= _ALIKE else ""


def _wrong(what: str, remedy: str) -> InvalidOptionError:
    return InvalidOptionError(what, remedy=remedy, option="mesh")
