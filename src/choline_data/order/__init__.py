"""The order of a stream: a pure function from a position to the source, epoch and row of its sample.

It uses integers only, and any position is computed directly. A slot is a position of the stream that a source fills.
`phases` divides a stream into parts with constant weights. `quotas` computes how many slots of a part each source gets,
along the `trees` of their weights, and `interleave` decides which slots. `plan` does these steps for a recipe, and
`runs` does them for a recipe in which each batch has a single source. `source` orders the rows of each source.
`permute` is the shuffle that `interleave` and `source` use. `lanes` says which positions a reader reads.
"""

from choline_data.order.plan import Placement, Plan
from choline_data.order.runs import RunPlan
from choline_data.order.source import RowOrders, SourceOrder, WindowRows

__all__ = ["Placement", "Plan", "RowOrders", "RunPlan", "SourceOrder", "WindowRows"]
