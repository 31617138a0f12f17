"""A rank of the real program that is stopped, killed or slowed down: it is named, with the place where
it was, and where the job cannot go on all of its processes are gone in time. KOIOS_TEST_RANKS: of how
many (3)."""

import os
import re
import signal
import subprocess
import time
import unittest

from koios_run import Job, Workplace

HOST = re.escape(os.uname().nodename)
SETTINGS = {"training/steps": 100000, "training/batch_size": 2, "metrics/log_freq": 5,
            "comm/train_timeout_seconds": 4}
RANKS = int(os.environ.get("KOIOS_TEST_RANKS", "3"))
PLACE = r"step \d+, [a-z]"  # "step 12, forward layers.1, micro-batch 0"


class Standstill(unittest.TestCase):
    def start(self, ranks, **more):
        workplace = Workplace().__enter__()
        self.addCleanup(workplace.__exit__)
        job = Job(workplace.command(ranks, SETTINGS | more), workplace.path)
        self.addCleanup(job.process.kill)
        self.assertTrue(job.wait_for(r"step +10/"), job.output)
        return job, job.process_of_rank()

    def verdict(self, job):
        lines = re.findall(r"error: verdict: (.*)", job.output)
        self.assertEqual(len(lines), 1, job.output)
        return lines[0]

    def test_a_stopped_rank(self):
        job, ranks = self.start(RANKS)
        began = time.monotonic()
        os.kill(ranks[1], signal.SIGSTOP)
        code = job.end(timeout=60)  # waits for every process of the job, the stopped one too
        took = time.monotonic() - began
        print(f"ended {took:.1f} s after SIGSTOP")
        self.assertEqual(code, 75, job.output)
        self.assertLess(took, 4 + 20)
        self.assertRegex(self.verdict(job),
                         rf"^rank 1 on {HOST} is stopped \(SIGSTOP or a debugger\)"
                         # Not where it had started its part of what the others wait for.
                         rf"(; it never entered \w+ \d+ of \w+, where ranks? [\d, ]+ waits? "
                         rf"\({PLACE}.*\))?; last sign of it [\d.]+ s ago: {PLACE}")

    def test_a_start_with_a_stopped_rank(self):
        """Before there is a watchdog: MPI waits for whoever is not there."""
        for stopped in (0, 1):
            with self.subTest(stopped=stopped), Workplace() as workplace:
                stop = f'[ "$OMPI_COMM_WORLD_RANK" = {stopped} ] && kill -STOP $$; exec "$@"'
                job = Job(workplace.command(2, {"comm/init_timeout_seconds": 3},
                                            below=("sh", "-c", stop, "sh")), workplace.path)
                self.addCleanup(job.process.kill)
                self.assertEqual(job.end(timeout=60), 75, job.output)
                # The launcher wakes the stopped one to end it: rank 0 may say that, too.
                (said,) = (line for line in job.said() if "SIGTERM from the launcher" not in line)
                self.assertTrue(said.startswith(f"[koios rank {1 - stopped}] error: no progress for 3 s: "
                                                "MPI's start and the reading of the deck"), said)

    def test_a_deck_that_nobody_writes(self):
        for program in ("KOIOS_BINARY", "KOIOS_TOKENIZE"):
            with self.subTest(program=program), Workplace() as workplace:
                os.mkfifo(workplace.path / "deck")
                done = subprocess.run(
                    [os.environ[program], "deck", "comm/init_timeout_seconds=2"]
                    + ["--output=out.tokens"] * (program == "KOIOS_TOKENIZE"),
                    capture_output=True, text=True, timeout=60, cwd=workplace.path, check=False)
                self.assertEqual(done.returncode, 75, done.stderr)
                self.assertIn("error: no progress for 2 s: MPI's start", done.stderr)

    def test_a_stopped_stage(self):
        job, ranks = self.start(2, **{"training/pipeline_parallel_degree": 2,
                                      "training/gradient_accumulation_steps": 4,
                                      "parallel/pipeline_schedule": "zero_bubble_v",
                                      "activation_checkpoint/mode": "none", "model/n_layers": 4})
        os.kill(ranks[1], signal.SIGSTOP)
        self.assertEqual(job.end(timeout=60), 75, job.output)
        # Rank 1 is stopped wherever it happens to be: in a pass, at an update, waiting for data; in
        # an update also where it had started its part of what the other waits for.
        link = r"(send|recv) \d+ of (activations|gradients) of stage (0 to 1|1 to 0)"
        in_pass = r"step \d+, [a-z -]+( [\w.]+)?, micro-batch \d on stage 0"
        self.assertRegex(self.verdict(job),
                         rf"^rank 1 on {HOST} is stopped \(SIGSTOP or a debugger\)"
                         rf"(; it never entered ({link}, where rank 0 waits \({in_pass}\)"
                         rf"|\w+ \d+ of \w+, where rank 0 waits \(step \d+, update on stage 0\)))?"
                         rf"; last sign of it [\d.]+ s ago: step \d+, \S+")

    def test_a_killed_rank(self):
        job, ranks = self.start(RANKS)
        began = time.monotonic()
        os.kill(ranks[RANKS - 1], signal.SIGKILL)
        code = job.end(timeout=60)
        took = time.monotonic() - began
        print(f"ended {took:.1f} s after SIGKILL")
        self.assertNotEqual(code, 0)
        self.assertLess(took, 20)
        self.assertIn("signal 9", job.output)  # the launcher's words
        verdicts = re.findall(r"error: verdict: (.*)", job.output)
        self.assertLessEqual(len(verdicts), 1)
        for line in verdicts:  # where the launcher was not faster
            self.assertRegex(line, rf"^rank {RANKS - 1} on {HOST} has died.*; last sign of it [\d.]+ s ago: "
                                   rf"{PLACE}")

    def test_a_slow_rank(self):
        job, ranks = self.start(2)
        deadline = time.monotonic() + 60
        named = r"warning: rank (\d) on \S+ works ([\d.]+) times as long as the other ranks"
        while not re.search(named, job.output) and time.monotonic() < deadline:
            self.assertIsNone(job.process.poll(), job.output)
            for signal_number, seconds in ((signal.SIGSTOP, 0.1), (signal.SIGCONT, 0.1)):
                os.kill(ranks[1], signal_number)
                time.sleep(seconds)
        job.kill(whole=True)
        found = re.search(named, job.output)
        self.assertTrue(found, job.output)
        print(found[0])
        self.assertEqual(found[1], "1")


if __name__ == "__main__":
    unittest.main(verbosity=2)
