"""The pure function from a position to (source, epoch, row). Integers only; no state, no index.

Any position is computed directly. `interleave` shares the slots of the stream among the sources. `source` orders each
source's rows. `permute` is the keyed bijection that both use. `plan` combines them for a recipe. `runs` is the same for
recipes whose batches have one source each. `quality` measures how well an order is mixed.
"""

from choline_data.order.plan import Placed, Plan
from choline_data.order.runs import RunPlan
from choline_data.order.source import Picks, SourceOrder, WindowRows

__all__ = ["Picks", "Placed", "Plan", "RunPlan", "SourceOrder", "WindowRows"]
