"""Settings of all tests."""

from hypothesis import settings

# The same examples on every machine and in every run; slow machines are no failures.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")
