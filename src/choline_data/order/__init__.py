"""The pure function: position → (source, epoch, row). Integers only, no state, no index; any position at once.

`interleave` shares the slots of the stream among the sources, `source` orders each source's rows, `permute` is the
keyed bijection under both, `plan` puts them together for a recipe, `runs` does so where whole batches have one source,
and `quality` measures how well an order is mixed.
"""

from choline_data.order.plan import Placed, Plan
from choline_data.order.runs import RunPlan
from choline_data.order.source import Picks, SourceOrder, WindowRows

__all__ = ["Picks", "Placed", "Plan", "RunPlan", "SourceOrder", "WindowRows"]
