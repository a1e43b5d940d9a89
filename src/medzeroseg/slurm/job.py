"""The Slurm job that this process is part of."""

import os
import subprocess
import time

from medzeroseg.errors import StoppedError

_LONGEST_GRACE_S = 600.0


def in_job() -> bool:
    """Whether `srun` has started this process."""
    return "SLURM_JOB_ID" in os.environ and "SLURM_PROCID" in os.environ


def was_requeued() -> bool:
    """Whether Slurm has started this job again, after a preemption, a time limit or a node's failure."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0


def requeue_job() -> None:
    """Put this job back in the queue: Slurm ends it, and starts it again when there is room.

    Raises:
        StoppedError: Slurm refuses.
    """
    command = ["scontrol", "requeue", os.environ["SLURM_JOB_ID"]]
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        fault = result.stderr.strip() if result.returncode else ""
    except (FileNotFoundError, subprocess.TimeoutExpired) as error:
        fault = str(error)
    if fault:
        raise StoppedError(f"The checkpoint is written, but `{' '.join(command)}` failed: {fault}. Submit it again.")


def wait_for_the_end(longest_s: float = _LONGEST_GRACE_S) -> None:
    """Wait until Slurm ends this process, which it announces with SIGTERM.

    It says alike that the job is cancelled and that it is preempted. A job that ended by itself would not come back
    after a preemption; one that is ended by Slurm does.

    Args:
        longest_s: Give up waiting after so many seconds: the signal was not Slurm's.
    """
    time.sleep(longest_s)
