"""Submits a batch script to the Slurm of with_slurm.sh and waits for its end."""

import os
import re
import subprocess
import time
from pathlib import Path

ENDED = {"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"}

# Debian 12's Slurm and Open MPI, started over several nodes of a loaded machine, lose some starts (8
# of 1,068): the ranks of one node leave MPI_Init while those of another have not got behind its first
# fence, and a message then arrives for which Open MPI has no receiver yet (a call of address 0 out
# of mca_btl_tcp). No line of the program has run by then.
CRASH_IN_MPI_INIT = "Failing at address: (nil)"
A_LINE_OF_THE_PROGRAM = r"(?m)^(\[koios\]|rank \d)"


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
        self.command = ["sbatch", "--parsable", f"--output={log}", *options, script,
                        *map(str, arguments)]
        self.place = {"cwd": folder, "env": {**os.environ, **environment}}
        self.starts = 0
        self.submit()

    def submit(self):
        self.id = output_of(self.command, **self.place).strip().split("\n")[-1]
        self.starts += 1

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
        if state == "FAILED" and self.starts == 1 and self.has_crashed_in_mpi_init():
            print(f"a start that crashed in MPI_Init, made once more:\n{self.log()}", flush=True)
            self.log_path.unlink()
            self.submit()
            return self.wait(timeout_s)
        return state

    def has_crashed_in_mpi_init(self):
        return CRASH_IN_MPI_INIT in self.log() and not re.search(A_LINE_OF_THE_PROGRAM, self.log())

    def log(self):
        return self.log_path.read_text() if self.log_path.exists() else ""
