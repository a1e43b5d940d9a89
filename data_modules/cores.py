"""How many processes or threads are worth starting."""

import os


def usable_cores() -> int:
    """Count the cores that this process may use."""
    # The affinity mask is what a container or a batch system leaves us; macOS has none.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
