#!/usr/bin/env python3
"""Whatever is thrown ends the job with one line and no wait: failure_test.py PROBE MPIEXEC."""

import subprocess
import sys
import time
import unittest

PROBE, MPIEXEC = sys.argv.pop(1), sys.argv.pop(1)


class Failure(unittest.TestCase):
    def check(self, mode, line, code=1):
        start = time.monotonic()
        done = subprocess.run([MPIEXEC, "--oversubscribe", "--bind-to", "none", "-n", "1", PROBE,
                               mode], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=60, check=False)
        errors = [text for text in done.stdout.splitlines() if "error: " in text]
        self.assertEqual(errors, [f"[koios rank 0] error: {line}"], done.stdout)
        self.assertEqual(done.returncode, code, done.stdout)
        self.assertLess(time.monotonic() - start, 15)

    def test_a_thread_that_hangs_in_a_file_system_is_not_waited_for(self):
        self.check("stuck reader", "the disk is full")

    def test_what_a_thread_throws(self):
        self.check("thread", "in a thread")

    def test_what_a_destructor_throws(self):
        self.check("destructor", "inside of the scope")

    def test_what_is_no_error_of_ours(self):
        self.check("number", "internal error: nobody took an exception of an unknown type")

    def test_an_abort_that_waits_is_ended(self):
        self.check("stuck abort", "with an abort that waits")

    def test_a_wrong_command_line(self):
        self.check("command line", "--nonsense is not an option", 2)


if __name__ == "__main__":
    unittest.main()
