"""Simulation of a full disk, for any user on any machine: the system refuses to let files grow."""

import resource
from contextlib import contextmanager

REASON = "File too large"


@contextmanager
def full_disk(size=4000):
    """Prevent files of this process from growing beyond a size in bytes. Existing data stay."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
