#!/usr/bin/env python3
"""koios trains under Slurm what it trains under mpirun: koios_losses_test.py ROOT KOIOS MPIEXEC

Runs inside with_slurm.sh 2: four ranks by mpirun, by slurm_1node.sbatch and, as two nodes of two,
by slurm_multinode.sbatch. Ranks and threads are equal, so every loss has to be, bit for bit.
"""

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

from slurm_job import Job

ROOT, KOIOS, MPIEXEC = Path(sys.argv.pop(1)), sys.argv.pop(1), sys.argv.pop(1)
STEPS = 6
DECK = ["input/debug.ini", f"training/steps={STEPS}", "training/warmup_steps=2",
        "training/batch_size=2", "training/seq_len=64", "model/n_layers=2", "model/dim=64",
        "model/n_heads=4", "metrics/log_freq=1", "optimizer/lr=2e-3"]
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

for asset in ("tokenizer.model", "kjv.txt"):
    if not (ROOT / "build/assets" / asset).exists():
        print(f"SKIPPED: no build/assets/{asset}; tools/setup.sh brings it")
        sys.exit(77)


def rows_of(run_folder):
    return [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]


def curve(run_folder):
    return [(row["step"], row["loss_metrics/global_avg_loss"], row["loss_metrics/global_max_loss"],
             row["grad_norm"]) for row in rows_of(run_folder)]


class UnderSlurm(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        scratch = tempfile.TemporaryDirectory()
        cls.addClassCleanup(scratch.cleanup)
        cls.scratch = Path(scratch.name)
        command = [MPIEXEC, "--oversubscribe", "--bind-to", "none", "-n", "4", KOIOS, *DECK,
                   f"job/dump_folder={cls.scratch}/mpirun"]
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, **ONE_THREAD}, timeout=120,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode != 0:
            raise AssertionError(done.stdout)
        cls.expected = curve(cls.scratch / "mpirun")

    def train(self, script, name, *options):
        folder = self.scratch / name
        job = Job(ROOT / "jobs" / script, [*DECK, f"job/dump_folder={folder}"],
                  [*options, "--cpus-per-task=1"], self.scratch / f"{name}.log", ROOT,
                  {**ONE_THREAD, "KOIOS": KOIOS})
        self.assertEqual(job.wait(timeout_s=120), "COMPLETED", job.log())
        self.assertRegex(job.log(), rf"(?m)^step +{STEPS}/{STEPS} \| loss ")
        (provenance,) = json.loads((folder / "provenance.json").read_text())
        self.assertEqual(provenance["slurm_job_id"], job.id)
        return curve(folder), provenance

    def test_mpirun_learns(self):
        self.assertEqual([row[0] for row in self.expected], list(range(1, STEPS + 1)))
        self.assertLess(self.expected[-1][1], self.expected[0][1])

    def test_one_node(self):
        losses, provenance = self.train("slurm_1node.sbatch", "one", "--ntasks-per-node=4")
        self.assertEqual(losses, self.expected)
        self.assertEqual(list(provenance["ranks_by_host"].values()), [4])

    def test_two_nodes(self):
        losses, provenance = self.train("slurm_multinode.sbatch", "two", "--nodes=2",
                                        "--ntasks-per-node=2")
        self.assertEqual(losses, self.expected)
        self.assertEqual(provenance["ranks_by_host"], {"n1": 2, "n2": 2})

    def test_without_pmix_the_fix_is_named(self):
        done = subprocess.run(["srun", "-K", "--mpi=none", "-n", "2", KOIOS, *DECK,
                               f"job/dump_folder={self.scratch}/none"], cwd=ROOT, timeout=60,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("srun --mpi=pmix", done.stdout)
        self.assertFalse((self.scratch / "none").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
