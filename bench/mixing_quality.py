"""Metrics of how well an order is mixed, for any sequence of labels or rows."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from choline_data.order.permute import Ints


def mixedness(labels: npt.ArrayLike, batch: int) -> float:
    """Returns how similar the batches of a label sequence are to the whole sequence: 1 for random batches, 0 if each
    batch has only one label.

    The measure is the mean chi-square distance between the label shares of a batch and those of the sequence. The result
    is 1 - (found - expected) / (worst - expected), clipped to 0 … 1, where `found` is the distance of this sequence,
    `expected` that of random batches, and `worst` that of batches with one label each. A sequence with one label, or
    with fewer than two batches, gives 1.
    """
    codes = np.unique(np.asarray(labels), return_inverse=True)[1].astype(np.int64)
    kinds = int(codes.max()) + 1 if len(codes) else 0
    batches = len(codes) // batch
    if kinds < 2 or batches < 2:
        return 1.0
    codes = codes[: batches * batch]
    shares = np.bincount(codes, minlength=kinds) / len(codes)
    cells = np.arange(len(codes)) // batch * kinds + codes
    counts = np.bincount(cells, minlength=batches * kinds).reshape(batches, kinds)[:, shares > 0] / batch
    shares = shares[shares > 0]
    distance = float((((counts - shares) ** 2) / shares).sum(axis=1).mean())
    worst = float(len(shares) - 1)
    expected = worst / batch * (len(codes) - batch) / max(len(codes) - 1, 1)
    return float(np.clip(1 - (distance - expected) / (worst - expected), 0.0, 1.0)) if worst > expected else 1.0


def adjacent_correlation(rows: Ints) -> float:
    """Returns Pearson's r between each row number and the next one: about 0 in a shuffled order, 1 in source order."""
    return float(np.corrcoef(rows[:-1], rows[1:])[0, 1])
