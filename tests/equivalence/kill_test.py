"""kill -9 of one rank or of the whole job, at random moments of a run that is saving nearly all of
the time: every start must find the newest checkpoint that was said to be saved, or a later one, and
train the same steps to the same bits again. The last start leaves nothing of Open MPI's that belonged
to the killed ones."""

import os
import pathlib
import random
import tempfile
import time
import unittest

from koios_run import Job, Retrained, Workplace

TRIES = 24
SEED = int(os.environ.get("KOIOS_KILL_SEED", "1"))
SETTINGS = {"model/dim": 8, "model/n_layers": 1, "model/n_heads": 2, "model/n_kv_heads": 1,
            "model/ffn_dim": 8, "training/seq_len": 16, "training/batch_size": 2,
            "training/warmup_steps": 1, "training/steps": 100000,
            "checkpoint/folder": "checkpoints", "checkpoint/interval": 1,
            "checkpoint/keep_latest_k": 2}


def mpi_files():
    """What Open MPI has on this node of jobs of this user: segments and launchers' folders."""
    node, user = os.uname().nodename.split(".")[0], os.geteuid()
    base = os.environ.get("OMPI_MCA_orte_tmpdir_base", tempfile.gettempdir())
    return {*pathlib.Path("/dev/shm").glob(f"vader_segment.{node}.{user}.*"),
            *pathlib.Path(base, f"ompi.{node}.{user}").glob("pid.*")}


def mpi_job(launcher):
    """The parts of these files' names that belong to the job of this launcher."""
    session = next(path for path in mpi_files() if path.name == f"pid.{launcher}")
    family = int((session / "contact.txt").read_text().split(".")[0]) >> 16
    return session.name, f".{family:x}0001."


class Kill(unittest.TestCase):
    def test_kills_at_random_moments(self):
        random.seed(SEED)
        with Workplace() as workplace:
            saved, retrained, jobs = 0, Retrained(), []
            for number in range(TRIES):
                asynchronous = number % 2 == 1
                io = "parallel_hdf5" if number % 3 == 1 else "direct"
                job = Job(workplace.command(2, {**SETTINGS, "checkpoint/io": io,
                                                "checkpoint/async": str(asynchronous).lower()}),
                          workplace.path)
                reached = job.wait_for("saved ")
                jobs.append(mpi_job(job.process.pid))
                time.sleep(random.uniform(0, 0.3))
                job.kill(whole=number % 4 < 2)
                self.assertTrue(reached, job.output)
                start = (job.numbers(r"continues from .*step_(\d+)\.h5") or [0])[-1]
                self.assertGreaterEqual(start, saved, f"try {number}: {job.output}")
                self.assertNotIn("passed over", job.output)
                saved = max(job.numbers(r"saved .*step_(\d+)\.h5"))
                retrained.check(workplace.path / "run/metrics.jsonl")
            print(f"{TRIES} kills, step {saved} reached, {retrained.again} steps trained twice, all "
                  "alike")
            self.check_leftovers(workplace, jobs)
            self.assertGreater(retrained.again, TRIES / 4)  # else the kills came at the wrong moments

    def check_leftovers(self, workplace, jobs):
        """Of this test's jobs alone: other tests may run, and kill, beside this one."""
        if os.readlink("/proc/self/ns/pid") != "pid:[4026531836]":
            return  # a container, in which koios removes none
        last = Job(workplace.command(2, {**SETTINGS, "training/steps": 1}, folder="last"),
                   workplace.path)
        self.assertEqual(last.end(), 0, last.output)
        left = [path for path in mpi_files() for session, segment in jobs
                if path.name == session or segment in path.name]
        self.assertEqual(left, [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
