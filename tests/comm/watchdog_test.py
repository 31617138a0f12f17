#!/usr/bin/env python3
"""A job in which one rank stops ends by itself: watchdog_test.py PROBE MPIEXEC."""

import json
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

PROBE, MPIEXEC = sys.argv.pop(1), sys.argv.pop(1)


def run(mode, folder):
    """Exit code, output and seconds of the probe on 2 ranks."""
    start = time.monotonic()
    done = subprocess.run([MPIEXEC, "--oversubscribe", "--bind-to", "none", "-n", "2", PROBE, mode,
                           str(folder)], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60, check=False)
    return done.returncode, done.stdout, time.monotonic() - start


class Watchdog(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def test_a_healthy_job_ends_at_once(self):
        code, output, seconds = run("healthy", self.folder)
        self.assertEqual(code, 0, output)
        self.assertIn("five steps", output)
        self.assertLess(seconds, 40)
        self.assertFalse((self.folder / "comm_trace").exists())

    def test_time_that_was_allowed_is_no_standstill(self):
        code, output, _ = run("saving", self.folder)
        self.assertEqual(code, 0, output)

    def test_a_rank_that_stops_ends_the_job(self):
        code, output, seconds = run("stuck", self.folder)
        self.assertEqual(code, 75, output)
        self.assertLess(seconds, 40)
        self.assertRegex(output, r"\[koios rank 0\] error: no progress for 2 s; this rank is at: "
                         r"step 2, for [\d.]+ s; oldest unfinished communication: call 3 of "
                         r"shard_gather \(rank 0 of 2\): all_gather of 8000 bytes")
        self.assertRegex(output, r"\[koios rank 1\] error: no progress for 2 s; this rank is at: "
                         r"step 1, for [\d.]+ s; oldest unfinished communication: none")
        traces = [json.loads((self.folder / "comm_trace" / f"rank_{r}").read_text())
                  for r in range(2)]
        calls = [[c for c in t["calls"] if c["communicator"] == "shard_gather"] for t in traces]
        self.assertEqual([len(c) for c in calls], [3, 2])  # rank 1 lacks the third
        self.assertIsNone(calls[0][-1]["completed_s"])
        self.assertIsNotNone(calls[1][-1]["completed_s"])

    def test_the_start_is_watched(self):
        code, output, seconds = run("start", self.folder)
        self.assertEqual(code, 75, output)
        self.assertLess(seconds, 40)
        self.assertIn("this rank is at: making communicators, for 2.", output)

    def test_what_a_library_reports_ends_the_job(self):
        code, output, seconds = run("report", self.folder)
        self.assertEqual(code, 75, output)
        self.assertLess(seconds, 40)
        self.assertIn("[koios rank 1] error: tp: it is broken; this rank is at: step", output)


if __name__ == "__main__":
    unittest.main()
