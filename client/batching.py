"""Finds the largest batch size for which memory suffices: doubles it until memory runs out, then bisects."""

from __future__ import annotations

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from choline_data.errors import InvalidOptionError

if TYPE_CHECKING:
    from choline_data.client.dataset import FirehoseDataset


def out_of_memory(error: BaseException) -> bool:
    """Returns whether the error means that an accelerator or this machine is out of memory."""
    import torch

    kinds = tuple(
        kind
        for kind in (
            getattr(torch, "OutOfMemoryError", None),
            getattr(torch.cuda, "OutOfMemoryError", None),
            MemoryError,
        )
        if kind is not None
    )
    return isinstance(error, kinds) or (isinstance(error, RuntimeError) and "out of memory" in str(error).lower())


def _recover() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def find_batch_size(
    dataset: FirehoseDataset, step: Callable[[Any], object], *, start: int = 1, most: int = 1 << 16
) -> int:
    """Finds the largest batch that `step` can process without running out of memory, and sets it on the dataset.

    `step` receives a batch. It should do what training does: forward, backward and the optimizer's step. Each try reads
    the samples at the dataset's position again, and the position does not change. The dataset's state contains the
    batch size that was found.
    """
    if not 1 <= start <= most:
        raise InvalidOptionError(f"start {start} and most {most} are not a range.", remedy="Give 1 <= start <= most.")

    def fits(size: int) -> bool:
        batch = dataset.peek(size)
        try:
            step(batch)
        except Exception as error:
            if not out_of_memory(error):
                raise
            fit = False
        else:
            fit = True
        del batch
        if not fit:
            # Free the memory outside the `except` block: inside, the error's traceback keeps the tensors of the step
            # alive.
            _recover()
        return fit

    size = start
    if not fits(size):
        if size == 1:
            raise InvalidOptionError(
                "Not even one sample fits into memory.", remedy="Use a smaller model or shorter samples."
            )
        low, high = 0, size
    else:
        while size < most and fits(min(size * 2, most)):
            size = min(size * 2, most)
        low, high = size, min(size * 2, most + 1)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    if not low:
        raise InvalidOptionError(
            "Not even one sample fits into memory.", remedy="Use a smaller model or shorter samples."
        )
    dataset.batch_size = dataset.found_batch_size = low
    return low
