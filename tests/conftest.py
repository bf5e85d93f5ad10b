"""What all tests share."""

from hypothesis import settings

# The same examples on every machine and in every run: a failure in CI is one that can be seen again.
settings.register_profile("reproducible", derandomize=True, deadline=None)
settings.load_profile("reproducible")
