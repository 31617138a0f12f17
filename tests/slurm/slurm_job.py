"""Submits a batch script to the Slurm of with_slurm.sh and waits for its end."""

import os
import re
import subprocess
import time
from pathlib import Path

ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}


def output_of(command, **options):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          timeout=60, **options)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, command))}: {done.stdout}")
    return done.stdout


class Job:
    """options: of sbatch, stronger than the script's own; environment: beside this process'."""

    def __init__(self, script, arguments, options, log, folder, environment):
        self.log_path = Path(log)
        submitted = output_of(
            ["sbatch", "--parsable", f"--output={log}", *options, script, *map(str, arguments)],
            cwd=folder, env={**os.environ, **environment})
        self.id = submitted.strip().split("\n")[-1]

    def field(self, name):
        return re.search(rf"\b{name}=(\S+)", output_of(["scontrol", "show", "job", self.id]))[1]

    def wait(self, timeout_s):
        """The state in which the job ended."""
        deadline = time.monotonic() + timeout_s
        while (state := self.field("JobState")) not in ENDED:
            if time.monotonic() > deadline:
                subprocess.run(["scancel", self.id], check=False)
                raise AssertionError(f"job {state} after {timeout_s} s; its log:\n{self.log()}")
            time.sleep(0.2)
        return state

    def log(self):
        return self.log_path.read_text() if self.log_path.exists() else ""
