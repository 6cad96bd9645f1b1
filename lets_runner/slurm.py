"""What a run knows of Slurm: whether its time is up, and how to be queued again."""

import os
import signal
import subprocess
import sys
import time

GRACE = 300  # seconds before the end of a job's time in which a SIGTERM is taken for that end


def time_is_up(number: int) -> bool:
    """Whether signal `number` says that this job's time limit is near, rather than that somebody cancelled it.

    SIGUSR1 and SIGUSR2 are what jobs ask for (`#SBATCH --signal=USR1@120`); SIGTERM is both what Slurm sends at the
    limit and what `scancel` sends.
    """
    if "SLURM_JOB_ID" not in os.environ or number == signal.SIGINT:
        return False
    if number in (signal.SIGUSR1, signal.SIGUSR2):
        return True
    end = os.environ.get("SLURM_JOB_END_TIME", "")
    return end.isdigit() and time.time() > int(end) - GRACE


def requeue() -> None:
    """Queue this job again, from its first process; it goes on from the checkpoint."""
    if os.environ.get("SLURM_PROCID", "0") != "0" or os.environ.get("RANK", "0") != "0":
        return
    job = os.environ["SLURM_JOB_ID"]
    if "SLURM_ARRAY_JOB_ID" in os.environ:
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        print(f"lets-train: the job could not be queued again ({error}); the same command goes on", file=sys.stderr)
