"""The pure function from a position to (source, epoch, row). Integers only; no state, no index.

Any position is computed directly. `phases` divides a stream into parts with constant weights. `quotas` shares the slots of
a part among the sources, along the `trees` of their weights, and `interleave` deals them. `plan` combines these for a
recipe, and `runs` is the same for recipes whose batches have one source each. `source` orders each source's rows.
`permute` is the keyed bijection that both use. `lanes` says which positions a reader reads.
"""

from choline_data.order.plan import Placed, Plan
from choline_data.order.runs import RunPlan
from choline_data.order.source import Picks, SourceOrder, WindowRows

__all__ = ["Picks", "Placed", "Plan", "RunPlan", "SourceOrder", "WindowRows"]
