"""kill -9 of one rank or of the whole job, at random moments of a run that is saving nearly all of
the time: every start must find the newest checkpoint that was said to be saved, or a later one, and
train the same steps to the same bits again."""

import json
import os
import random
import re
import signal
import subprocess
import threading
import time
import unittest

from koios_run import Workplace, ranks_of

TRIES = 52
SEED = int(os.environ.get("KOIOS_KILL_SEED", "1"))
SETTINGS = {"model/dim": 8, "model/n_layers": 1, "model/n_heads": 2, "model/n_kv_heads": 1,
            "model/ffn_dim": 8, "training/seq_len": 16, "training/batch_size": 2,
            "training/warmup_steps": 1, "training/steps": 100000,
            "checkpoint/folder": "checkpoints", "checkpoint/interval": 1,
            "checkpoint/keep_latest_k": 2}
EXACT = ("loss_metrics/global_avg_loss", "grad_norm", "data/samples_hash", "tokens_seen")


class Job:
    """A run that is going on, and the newest step it said was saved."""

    def __init__(self, workplace, settings):
        self.process = subprocess.Popen(workplace.command(2, settings), stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, text=True, cwd=workplace.path)
        self.lines = []
        self.saved = threading.Event()
        self.readers = [threading.Thread(target=self.read, args=(pipe,))
                        for pipe in (self.process.stdout, self.process.stderr)]
        for reader in self.readers:
            reader.start()

    def read(self, pipe):
        for line in pipe:
            self.lines.append(line)
            if "saved " in line:
                self.saved.set()
        pipe.close()

    def kill(self, whole):
        ranks = list(ranks_of(self.process.pid))
        victims = ranks + [self.process.pid] if whole else [random.choice(ranks)]
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=60)
        for pid in ranks:  # a killed launcher leaves them to nobody
            while os.path.exists(f"/proc/{pid}/exe"):
                time.sleep(0.01)
        for reader in self.readers:
            reader.join(timeout=60)

    def steps(self, pattern):
        return [int(m[1]) for m in (re.search(pattern, line) for line in self.lines) if m]


class Kill(unittest.TestCase):
    def test_kills_at_random_moments(self):
        random.seed(SEED)
        with Workplace() as workplace:
            rows, saved, again = {}, 0, 0
            for number in range(TRIES):
                asynchronous = number % 2 == 1
                io = "parallel_hdf5" if number % 3 == 1 else "direct"
                job = Job(workplace, {**SETTINGS, "checkpoint/async": str(asynchronous).lower(),
                                      "checkpoint/io": io})
                reached = job.saved.wait(timeout=60)
                time.sleep(random.uniform(0, 0.3))
                job.kill(whole=number % 4 < 2)
                output = "".join(job.lines)
                self.assertTrue(reached, output)
                start = (job.steps(r"continues from .*step_(\d+)\.h5") or [0])[-1]
                self.assertGreaterEqual(start, saved, f"try {number}: {output}")
                self.assertNotIn("passed over", output)
                saved = max(job.steps(r"saved .*step_(\d+)\.h5"))
                again += self.check_rows(workplace, rows)
            print(f"{TRIES} kills, step {saved} reached, {again} steps trained twice, all alike")
            self.assertGreater(again, TRIES / 4)  # else the kills came at the wrong moments

    def check_rows(self, workplace, rows):
        """Steps that were trained again must give the same bits; returns how many there are."""
        found = []
        for line in (workplace.path / "run/metrics.jsonl").read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break  # half a line of the killed run
        again = 0
        for row in found:
            if row["run"] != found[-1]["run"]:
                continue
            values = [row[key] for key in EXACT]
            again += row["step"] in rows
            self.assertEqual(rows.setdefault(row["step"], values), values, f"step {row['step']}")
        return again


if __name__ == "__main__":
    unittest.main(verbosity=2)
