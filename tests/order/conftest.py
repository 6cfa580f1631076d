"""Property tests that say the same on a busy machine as on an idle one, and the metrics of `bench/mixing_quality.py`."""

import importlib.util
from pathlib import Path

from hypothesis import settings

_spec = importlib.util.spec_from_file_location(
    "bench_mixing_quality", Path(__file__).parents[2] / "bench" / "mixing_quality.py"
)
assert _spec is not None and _spec.loader is not None
_quality = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_quality)
adjacent_correlation, mixedness = _quality.adjacent_correlation, _quality.mixedness

settings.register_profile("order", deadline=None, derandomize=True)
settings.load_profile("order")
