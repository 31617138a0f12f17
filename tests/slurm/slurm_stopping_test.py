#!/usr/bin/env python3
"""Signals, the time limit and restart chains of a real Slurm: slurm_stopping_test.py ROOT KOIOS

Runs inside with_slurm.sh 4. Whatever ends a start of the run, the starts together train what one
uninterrupted run trains, bit for bit.
"""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

from slurm_job import Job, output_of

ROOT, KOIOS = Path(sys.argv.pop(1)), sys.argv.pop(1)
CHAIN = ROOT / "jobs/slurm_chain.sbatch"
NODES = ROOT / "jobs/slurm_multinode.sbatch"
STEPS, FEW, ENDLESS = 80, 5, 100000
DECK = ["input/debug.ini", "training/warmup_steps=2",
        "training/batch_size=2", "training/seq_len=64", "model/n_layers=2", "model/dim=48",
        "model/n_heads=4", "metrics/log_freq=1", "checkpoint/folder=checkpoints",
        "checkpoint/interval=1000000", "checkpoint/save_first_step=false"]
LARGER = ["model/dim=512", "model/n_layers=4", "model/n_heads=8"]  # its start takes seconds
ONE_THREAD = {"OMP_NUM_THREADS": "1"}
ONE_RANK_A_NODE = ["--nodes=4", "--ntasks-per-node=1", "--cpus-per-task=1"]
FOUR_RANKS = ["--nodes=1", "--ntasks-per-node=4", "--cpus-per-task=1"]

for asset in ("tokenizer.model", "kjv.txt"):
    if not (ROOT / "build/assets" / asset).exists():
        print(f"SKIPPED: no build/assets/{asset}; tools/setup.sh brings it")
        sys.exit(77)


def curve(run_folder):
    """Step to what was trained; a step that two starts have trained must be the same in both."""
    values = {}
    for line in (run_folder / "metrics.jsonl").read_text().splitlines():
        row = json.loads(line)
        found = [row[key] for key in ("loss_metrics/global_avg_loss", "loss_metrics/global_max_loss",
                                      "grad_norm", "data/samples_hash")]
        if values.setdefault(row["step"], found) != found:
            raise AssertionError(f"step {row['step']}: {found} after {values[row['step']]}")
    return values


class UnderSlurm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        cls.scratch = Path(scratch.name)
        cls.straight = {}
        for steps in (FEW, STEPS):
            job = cls.submit(f"straight_{steps}", NODES, ONE_RANK_A_NODE, steps=steps)
            if job.wait(timeout_s=200) != "COMPLETED":
                raise AssertionError(job.log())
            cls.straight[steps] = curve(cls.scratch / f"straight_{steps}")
            assert sorted(cls.straight[steps]) == list(range(1, steps + 1)), cls.straight

    @classmethod
    def submit(cls, name, script, options, *arguments, steps=STEPS):
        """On emulated nodes, PMIx breaks one start of several nodes in 25 with a segmentation fault
        in MPI_Init, also of a program that does nothing else: such a start is made again."""
        for _ in range(4):
            job = cls.submit_once(name, script, options, *arguments, steps=steps)
            while job.field("JobState") in ("PENDING", "CONFIGURING", "RUNNING"):
                if "[koios] mesh" in job.log():
                    return job
                time.sleep(0.1)
            if "Signal: Segmentation fault" not in job.log() or "[koios] mesh" in job.log():
                return job
        return job

    @classmethod
    def submit_once(cls, name, script, options, *arguments, steps):
        return Job(script, [*DECK, f"training/steps={steps}", *arguments,
                            f"job/dump_folder={cls.scratch}/{name}"], options,
                   cls.scratch / f"{name}.log", ROOT, {**ONE_THREAD, "KOIOS": KOIOS})

    def wait_for(self, job, pattern, count=1, timeout_s=100):
        deadline = time.monotonic() + timeout_s
        while len(re.findall(pattern, job.log(), re.M)) < count:
            self.assertLess(time.monotonic(), deadline, job.log())
            time.sleep(0.1)

    def running(self, name, script, options, steps=ENDLESS):
        job = self.submit(name, script, options, steps=steps)
        self.wait_for(job, r"^step +3/")
        return job

    def follow_to_the_end(self, job, between=lambda start: None):
        """Starts the requeued job without Slurm's two minutes of pause; the number of starts."""
        deadline = time.monotonic() + 250
        starts = 1
        while (state := job.field("JobState")) != "COMPLETED":
            self.assertLess(time.monotonic(), deadline, f"{state}: {job.log()}")
            self.assertIn(state, ("PENDING", "CONFIGURING", "RUNNING", "COMPLETING", "REQUEUED"),
                          job.log())
            if state == "PENDING" and int(job.field("Restarts")) >= starts:
                between(starts)
                starts += 1
                time.sleep(3)  # what is left of the last start ends
                subprocess.run(["scontrol", "update", f"jobid={job.id}", "StartTime=now"],
                               check=False)
            time.sleep(0.2)
        return starts

    def assert_as_straight(self, name, steps=STEPS):
        self.assertEqual(curve(self.scratch / name), self.straight[steps])

    def test_a_chain_goes_on_until_the_last_step(self):
        """Each start has time for one step; a node is drained on the way."""
        def drain(start):
            if start == 2:
                output_of(["scontrol", "update", "nodename=n1", "state=drain", "reason=test"])
                self.addCleanup(output_of, ["scontrol", "update", "nodename=n1", "state=resume"])

        job = self.submit("chain", CHAIN, FOUR_RANKS, "-t", "0:01", steps=FEW)
        starts = self.follow_to_the_end(job, drain)
        self.assertEqual(starts, FEW, job.log())
        self.assertEqual(len(re.findall(r"stopped by job/walltime after step", job.log())), starts - 1)
        self.assertIn(f"Slurm job {job.id}, start {starts}\n", job.log())
        self.assert_as_straight("chain", FEW)
        hosts = [list(start["ranks_by_host"]) for start in
                 json.loads((self.scratch / "chain/provenance.json").read_text())]
        self.assertEqual((hosts[0], "n1" in hosts[-1]), (["n1"], False))

    def test_a_requeued_job_goes_on(self):
        """scontrol requeue, which preemption does too: the ranks get SIGTERM and some seconds."""
        job = self.running("requeue", CHAIN, FOUR_RANKS, steps=STEPS)
        output_of(["scontrol", "requeue", job.id])
        self.assertEqual(self.follow_to_the_end(job), 2, job.log())
        self.assertIn("SIGTERM: saves step", job.log())
        self.assert_as_straight("requeue")

    def test_usr1_saves_and_goes_on(self):
        job = self.running("usr1", NODES, ONE_RANK_A_NODE)
        output_of(["scancel", "--signal=USR1", job.id])
        self.wait_for(job, "saved .*step_")
        step = len(re.findall("^step ", job.log(), re.M))
        self.wait_for(job, rf"^step +{step + 2}/")
        output_of(["scancel", "--signal=USR2", job.id])
        self.assertEqual(job.wait(timeout_s=60), "FAILED")
        self.assertEqual(job.field("ExitCode"), "99:0", job.log())

    def test_each_signal_that_stops(self):
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            with self.subTest(number.name):
                name = number.name
                job = self.running(name, NODES, FOUR_RANKS)
                output_of(["scancel", f"--signal={name[3:]}", job.id])
                self.assertEqual(job.wait(timeout_s=60), "FAILED")
                self.assertEqual(job.field("ExitCode"), "99:0", job.log())
                self.assertRegex(job.log(), rf"stopped by {name} after step \d+ of 100000")

    def test_before_the_first_step_a_stop_of_all_ranks_is_one_line(self):
        job = self.submit("start", NODES, ONE_RANK_A_NODE, *LARGER, steps=ENDLESS)
        self.wait_for(job, "memory plan")
        output_of(["scancel", "--signal=TERM", job.id])
        self.assertEqual(job.wait(timeout_s=60), "FAILED")
        self.assertEqual(job.field("ExitCode"), "99:0", job.log())
        self.assertEqual(re.findall(r"\[koios.*SIG.*", job.log()),
                         ["[koios] SIGTERM from the launcher: stopped; nothing is lost, and the same "
                          "command goes on unless a rank reports an error"])

    def test_scancel_leaves_a_checkpoint(self):
        job = self.running("scancel", NODES, ONE_RANK_A_NODE)
        output_of(["scancel", job.id])
        self.assertEqual(job.wait(timeout_s=60), "CANCELLED")
        self.wait_for(job, "stopped by SIGTERM after step")
        self.assertEqual(len(list((self.scratch / "scancel/checkpoints").glob("step_*.h5"))), 1)

    def test_the_time_limit_is_read_from_slurm(self):
        """One minute is the shortest; Slurm's own warning comes before."""
        job = self.submit("limit", NODES, [*FOUR_RANKS, "--time=1", "--signal=USR1@50"],
                          steps=ENDLESS)
        self.assertEqual(job.wait(timeout_s=100), "FAILED", job.log())
        self.assertEqual(job.field("ExitCode"), "99:0", job.log())
        self.assertEqual(len(re.findall("saved .*step_", job.log())), 2, job.log())
        self.assertIn("stopped by SLURM_JOB_END_TIME after step", job.log())

    def test_max_starts(self):
        self.addCleanup(os.environ.pop, "MAX_STARTS")
        os.environ["MAX_STARTS"] = "1"
        job = self.submit("max", CHAIN, FOUR_RANKS, "-t", "0:01")
        self.assertEqual(job.wait(timeout_s=60), "FAILED")
        self.assertEqual(job.field("ExitCode"), "99:0", job.log())
        self.assertIn("stops after 1 starts (MAX_STARTS)", job.log())


if __name__ == "__main__":
    unittest.main(verbosity=2)
