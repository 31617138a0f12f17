#!/usr/bin/env python3
"""The job scripts start every rank where it belongs: job_scripts_test.py ROOT HELLO

Runs inside with_slurm.sh 2, with hello_mpi.cpp in the place of koios.
"""

import re
import sys
import tempfile
import time
import unittest
from collections import Counter
from pathlib import Path

from slurm_job import Job

ROOT, HELLO = Path(sys.argv.pop(1)), sys.argv.pop(1)
ONE_NODE = ROOT / "jobs/slurm_1node.sbatch"
NODES = ROOT / "jobs/slurm_multinode.sbatch"


class JobScripts(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.log = Path(scratch.name) / "log"

    def submit(self, script, *arguments, options=(), folder=ROOT):
        return Job(script, arguments, options, self.log, folder, {"KOIOS": HELLO})

    def run_to_end(self, script, *arguments, options=()):
        job = self.submit(script, *arguments, options=options)
        self.assertEqual(job.wait(timeout_s=60), "COMPLETED", job.log())
        return job.log()

    def test_one_node_as_shipped(self):
        log = self.run_to_end(ONE_NODE, "input/debug.ini", "job/description=two words")
        for rank in (0, 1):
            self.assertRegex(
                log, rf"(?m)^rank {rank}/2 of 2 on n[12] threads=1 input/debug.ini "
                     r"job/description=two words$")
        self.assertIn("sum 1\n", log)

    def test_says_source_hosts_threads_and_command(self):
        log = self.run_to_end(NODES, "a=b c", options=["--nodes=2", "--ntasks-per-node=1",
                                                       "--cpus-per-task=2"])
        self.assertRegex(log, r"(?m)^\[job\] started  \d{4}-\d\d-\d\dT[0-9:]+Z, Slurm job \d+, start 1$")
        self.assertRegex(log, r"(?m)^\[job\] source   ([0-9a-f]{12}(-dirty)?|unknown)$")
        self.assertRegex(log, r"(?m)^\[job\] hosts    n1 n2$")
        self.assertRegex(log, r"(?m)^\[job\] threads  2 a rank$")
        self.assertRegex(log, r"(?m)^\[job\] command  srun .*--cpus-per-task=2 .* a=b\\ c$")
        self.assertRegex(log, r"(?m)^\[job\] ended    \d{4}-\d\d-\d\dT[0-9:]+Z, exit code 0$")

    def test_two_nodes_with_two_ranks_of_two_threads(self):
        log = self.run_to_end(NODES, options=["--nodes=2", "--ntasks-per-node=2",
                                              "--cpus-per-task=2"])
        places = re.findall(r"(?m)^rank \d/4 of 2 on (n\d) threads=2$", log)
        self.assertEqual(Counter(places), {"n1": 2, "n2": 2}, log)
        self.assertIn("sum 6\n", log)

    def test_a_rank_that_fails_ends_the_job(self):
        started = time.monotonic()
        job = self.submit(NODES, "fail", options=["--nodes=2", "--ntasks-per-node=2",
                                                  "--cpus-per-task=1"])
        self.assertEqual(job.wait(timeout_s=60), "FAILED", job.log())
        self.assertNotEqual(job.field("ExitCode"), "0:0")
        self.assertLess(time.monotonic() - started, 30)

    def test_submitted_from_elsewhere(self):
        job = self.submit(ONE_NODE, folder="/")
        self.assertEqual(job.wait(timeout_s=60), "FAILED")
        self.assertIn("submit from the repository's top folder", job.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
