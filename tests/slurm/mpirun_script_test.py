#!/usr/bin/env python3
"""jobs/mpirun_workstation.sh starts the ranks it is asked for: mpirun_script_test.py ROOT HELLO"""

import os
import re
import subprocess
import sys
import unittest
from pathlib import Path

ROOT, HELLO = Path(sys.argv.pop(1)), sys.argv.pop(1)


def run(*arguments, folder=ROOT, **environment):
    inherited = {key: value for key, value in os.environ.items() if key != "OMP_NUM_THREADS"}
    return subprocess.run([ROOT / "jobs/mpirun_workstation.sh", *arguments], cwd=folder, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60,
                          env={**inherited, "KOIOS": HELLO, **environment})


class MpirunScript(unittest.TestCase):
    def test_ranks_share_the_cores(self):
        done = run("input/debug.ini", "training/steps=3", RANKS="2")
        self.assertEqual(done.returncode, 0, done.stdout)
        threads = max(1, len(os.sched_getaffinity(0)) // 2)
        ranks = re.findall(rf"(?m)^rank (\d)/2 of 2 on \S+ threads={threads} input/debug.ini "
                           r"training/steps=3\r?$", done.stdout)
        self.assertEqual(sorted(ranks), ["0", "1"], done.stdout)
        self.assertIn("[job] command  mpirun --bind-to none -n 2 ", done.stdout)

    def test_threads_as_set(self):
        self.assertIn("of 1 on", run(RANKS="1").stdout)
        self.assertIn("threads=5", run(RANKS="1", OMP_NUM_THREADS="5").stdout)

    def test_a_rank_that_fails_ends_the_job(self):
        self.assertEqual(run("fail", RANKS="2").returncode, 3)

    def test_elsewhere(self):
        done = run(folder="/")
        self.assertEqual(done.returncode, 2)
        self.assertIn("run this in the repository's top folder", done.stdout)


if __name__ == "__main__":
    unittest.main()
