"""What a run knows of Slurm: which of a job's tasks it is, whether its time is up, and how to be queued again."""

import os
import signal
import subprocess
import sys
import time

FIRST_PORT, PORTS = 20_000, 10_000  # where the processes of a job meet: one of these, by the job's number
GRACE = 300  # seconds before the end of a job's time in which a SIGTERM is taken for that end


def as_torchrun() -> None:
    """Set what `torchrun` would have set for the processes that `srun` started, unless it has.

    Raises:
        RuntimeError: Slurm does not say on which machine the first of them is.
    """
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "1")  # of this srun; a shell inside an allocation has none
    if "RANK" in os.environ or tasks == "1":
        return
    os.environ.update(
        RANK=os.environ["SLURM_PROCID"],
        LOCAL_RANK=os.environ["SLURM_LOCALID"],
        WORLD_SIZE=tasks,
        MASTER_ADDR=_first_machine(),
        MASTER_PORT=str(FIRST_PORT + _step_number() % PORTS),
    )


def _step_number() -> int:
    """One that neighbouring jobs, and the steps of one job, do not share."""
    return int(os.environ["SLURM_JOB_ID"]) + 1009 * int(os.environ.get("SLURM_STEP_ID", "0"))


def _first_machine() -> str:
    if os.environ.get("SLURM_STEP_NUM_NODES") == "1":
        return "127.0.0.1"
    command = ["scontrol", "show", "hostnames", os.environ["SLURM_STEP_NODELIST"]]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        raise RuntimeError(f"several machines, and scontrol does not tell which is the first: {error}") from error


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
