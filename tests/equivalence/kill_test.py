"""kill -9 of one rank or of the whole job, at random moments of a run that is saving nearly all of
the time: every start must find the newest checkpoint that was said to be saved, or a later one, and
train the same steps to the same bits again."""

import os
import random
import time
import unittest

from koios_run import Job, Retrained, Workplace

TRIES = 52
SEED = int(os.environ.get("KOIOS_KILL_SEED", "1"))
SETTINGS = {"model/dim": 8, "model/n_layers": 1, "model/n_heads": 2, "model/n_kv_heads": 1,
            "model/ffn_dim": 8, "training/seq_len": 16, "training/batch_size": 2,
            "training/warmup_steps": 1, "training/steps": 100000,
            "checkpoint/folder": "checkpoints", "checkpoint/interval": 1,
            "checkpoint/keep_latest_k": 2}


class Kill(unittest.TestCase):
    def test_kills_at_random_moments(self):
        random.seed(SEED)
        with Workplace() as workplace:
            saved, retrained = 0, Retrained()
            for number in range(TRIES):
                asynchronous = number % 2 == 1
                io = "parallel_hdf5" if number % 3 == 1 else "direct"
                job = Job(workplace.command(2, {**SETTINGS, "checkpoint/io": io,
                                                "checkpoint/async": str(asynchronous).lower()}),
                          workplace.path)
                reached = job.wait_for("saved ")
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
            self.assertGreater(retrained.again, TRIES / 4)  # else the kills came at the wrong moments


if __name__ == "__main__":
    unittest.main(verbosity=2)
