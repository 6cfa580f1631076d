"""Finds the lane that a request asks for, and which of the lane's messages are cheap to make."""

from __future__ import annotations

from choline_data.errors import InvalidOptionError
from choline_data.order.interleave import MIXING_BLOCK
from choline_data.order.lanes import Lane

FAR_BLOCKS = 4  # If the few rows of a message lie in more mixing blocks than this, the message is made in a thread.
MOST_BLOCKS = 64  # a message may take its rows from at most this many mixing blocks
WHOLE = Lane(0)  # the lane that contains all positions of a stream


def lane_of(rank: int, world: int, batch: int, base: int = 0) -> Lane:
    """Returns the lane of a request. A field of 0 stands for its default. Raises InvalidOptionError if there is no such lane.
    Requests that read the same positions from the same index on have equal lanes, so they share messages.
    """
    world = world or 1
    if not 1 <= world <= 1 << 20 or not 0 <= rank < world:
        raise InvalidOptionError(
            f"rank {rank} of world_size {world} is not valid.",
            remedy="world_size is 1 to 1048576, rank is 0 to world_size - 1.",
            option="rank",
        )
    if not 0 <= batch <= 1 << 24:
        raise InvalidOptionError(
            f"batch_size {batch} is not valid.", remedy="batch_size is 0 to 16777216.", option="batch_size"
        )
    if base < 0:
        raise InvalidOptionError(
            f"base_position {base} is not valid.", remedy="It is 0 or more.", option="base_position"
        )
    batch = batch or 1
    return WHOLE if world == 1 else Lane.of(base % (world * batch), rank=rank, world=world, batch=batch)


def is_far(lane: Lane, start: int, stop: int) -> bool:
    """Returns whether the positions of the lane's samples start … stop-1 are spread over many mixing blocks, with few
    positions in each.
    """
    span = lane.position(stop - 1) - lane.position(start)
    return span > FAR_BLOCKS * MIXING_BLOCK and span > 8 * (stop - start)


def most_rows(lane: Lane) -> int:
    """Returns the largest number of rows, a power of two, for which a message is planned from at most MOST_BLOCKS mixing blocks."""
    readers = lane.period // lane.block
    in_block = max(MIXING_BLOCK // readers, min(lane.block, MIXING_BLOCK), 1)
    return 1 << (MOST_BLOCKS * in_block).bit_length() - 1
