#!/usr/bin/env python3
"""Is standard output a terminal? terminal_test.py PROBE MPIEXEC: each way in which one runs koios.

mpirun gives its ranks a pseudo-terminal even when its own output goes into a pipe or a file.
"""

import os
import pty
import subprocess
import sys
import unittest

PROBE, MPIEXEC = sys.argv.pop(1), sys.argv.pop(1)
MPIRUN = [MPIEXEC, "-n", "1", PROBE]
# A wrapper script between mpirun and the program.
WRAPPED = [MPIEXEC, "-n", "1", "sh", "-c", f"{PROBE}; true"]


def probe(command, terminal, **environment):
    """What the probe says with its (or mpirun's) standard output on a terminal or in a pipe."""
    ours, theirs = pty.openpty() if terminal else os.pipe()
    env = {**os.environ, "TERM": "xterm", **environment}
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.PIPE,
                          env=env, text=True, timeout=60, check=True)
    os.close(theirs)
    os.close(ours)
    return done.stderr.split()[-1]


class Terminal(unittest.TestCase):
    def test_alone(self):
        self.assertEqual(probe([PROBE], terminal=True), "1")
        self.assertEqual(probe([PROBE], terminal=False), "0")

    def test_under_mpirun(self):
        self.assertEqual(probe(MPIRUN, terminal=True), "1")
        self.assertEqual(probe(MPIRUN, terminal=False), "0")

    def test_under_mpirun_and_a_script(self):
        self.assertEqual(probe(WRAPPED, terminal=True), "1")
        self.assertEqual(probe(WRAPPED, terminal=False), "0")

    def test_terminal_that_can_do_nothing(self):
        self.assertEqual(probe([PROBE], terminal=True, TERM="dumb"), "0")


if __name__ == "__main__":
    unittest.main()
