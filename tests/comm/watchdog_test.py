#!/usr/bin/env python3
"""A job in which one rank stops ends by itself: watchdog_test.py PROBE MPIEXEC [TRANSPORT]. With a
transport (nccl, copy_engine) the calls are between GPUs."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import unittest

PROBE, MPIEXEC, *TRANSPORT = sys.argv[1:]
del sys.argv[1:]


def run(mode, folder):
    """Exit code, output and seconds of the probe on 2 ranks."""
    start = time.monotonic()
    done = subprocess.run([MPIEXEC, "--oversubscribe", "--bind-to", "none", "-n", "2", PROBE, mode,
                           str(folder), *TRANSPORT], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=60, check=False)
    return done.returncode, done.stdout, time.monotonic() - start


def verdict(output):
    """The launcher may write on behind it, and a rank that it ends may have a last word."""
    return re.split(r"\n|---", output.partition("error: verdict: ")[2])[0]


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
        self.assertRegex(output, r"\[koios rank 0\] error: no progress for 2 s; ")
        self.assertRegex(output, r"error: rank 0 on \S+: step 3, gathering, for [\d.]+ s; waits in "
                         r"all_gather 3 of shard_gather \(8000 bytes\) for [\d.]+ s")
        self.assertRegex(output, r"error: rank 1 on \S+: step 3, between, for [\d.]+ s\n")
        self.assertRegex(verdict(output), r"rank 1 on \S+ never entered all_gather 3 of "
                         r"shard_gather, where rank 0 waits \(step 3, gathering\); last sign of it "
                         r"[\d.]+ s ago: step 3, between$")
        traces = [json.loads((self.folder / "comm_trace" / f"rank_{r}").read_text())
                  for r in range(2)]
        calls = [[c for c in t["calls"] if c["communicator"] == "shard_gather"] for t in traces]
        self.assertEqual([len(c) for c in calls], [3, 2])  # rank 1 lacks the third
        self.assertIsNone(calls[0][-1]["completed_s"])
        self.assertIsNotNone(calls[1][-1]["completed_s"])

    def test_a_stopped_rank_is_named(self):
        code, output, seconds = run("stopped", self.folder)
        self.assertEqual(code, 75, output)
        self.assertLess(seconds, 40)
        self.assertRegex(verdict(output), r"rank 1 on \S+ is stopped \(SIGSTOP or a debugger\); it "
                         r"never entered all_gather 3 of shard_gather, where rank 0 waits "
                         r"\(step 3, gathering\); last sign of it [\d.]+ s ago: step 3, between$")

    def test_a_killed_rank_is_named(self):
        code, output, seconds = run("killed", self.folder)
        self.assertNotEqual(code, 0, output)
        self.assertLess(seconds, 40)
        self.assertIn("process rank 1", output)  # the launcher's words
        self.assertIn("signal 9", output)

    def test_different_calls_are_named(self):
        code, output, _ = run("mismatch", self.folder)
        self.assertEqual(code, 75, output)
        self.assertRegex(verdict(output), r"the ranks call different things: rank 0 on \S+ "
                         r"all_gather 3 of shard_gather of 8000 bytes \(step 3, gathering\), rank 1 "
                         r"on \S+ all_reduce 3 of shard_gather of 8 bytes \(step 3, between\)$")

    def test_calls_in_another_order_are_named(self):
        code, output, _ = run("order", self.folder)
        self.assertEqual(code, 75, output)
        self.assertRegex(verdict(output), r"the ranks call collectives in different orders: rank 0 "
                         r"on \S+ waits in all_gather 3 of shard_gather \(step 3, gathering\), "
                         r"rank 1 on \S+ in all_gather 3 of shard_reduce \(step 3, between\)$")

    def test_the_start_is_watched(self):
        code, output, seconds = run("start", self.folder)
        self.assertEqual(code, 75, output)
        self.assertLess(seconds, 40)
        self.assertRegex(verdict(output), r"at: making communicators, for 5\.")

    def test_what_a_library_reports_ends_the_job(self):
        code, output, seconds = run("report", self.folder)
        self.assertEqual(code, 75, output)
        self.assertLess(seconds, 40)
        self.assertRegex(verdict(output), r"tp: it is broken; rank 1 on \S+: step 3, between")


if __name__ == "__main__":
    unittest.main()
