"""Property tests that say the same on a busy machine as on an idle one."""

from hypothesis import settings

settings.register_profile("order", deadline=None, derandomize=True)
settings.load_profile("order")
