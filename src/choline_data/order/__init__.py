"""The pure function from a position to (source, epoch, row). Integers only; no state, no index.

Any position is computed directly. `phases` divides a stream into parts with constant weights. `quotas` shares the slots
of a part among the sources, along the `trees` of their weights, and `interleave` deals them. `plan` combines these for
a recipe. `runs` does the same for recipes in which each batch has a single source. `source` orders each source's rows.
`permute` is the keyed permutation that `interleave` and `source` use. `lanes` says which positions a reader reads.
"""

from choline_data.order.plan import Placement, Plan
from choline_data.order.runs import RunPlan
from choline_data.order.source import RowOrders, SourceOrder, WindowRows

__all__ = ["Placement", "Plan", "RowOrders", "RunPlan", "SourceOrder", "WindowRows"]
