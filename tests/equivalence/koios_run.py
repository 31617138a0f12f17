"""Runs the real binary under the real launcher and reads what it leaves behind."""

import json
import os
import pathlib
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

BINARY = os.environ["KOIOS_BINARY"]
SOURCE = pathlib.Path(os.environ["KOIOS_SOURCE_DIR"])
MPIEXEC = os.environ.get("KOIOS_MPIEXEC", "mpirun")

# A model small enough for seconds, with grouped-query attention and rows that few ranks divide.
TINY = {
    "model/dim": 48,
    "model/n_layers": 2,
    "model/n_heads": 6,
    "model/n_kv_heads": 2,
    "model/ffn_dim": 72,
    "training/seq_len": 32,
    "training/warmup_steps": 2,
    "metrics/log_freq": 1,
    "comm/train_timeout_seconds": 60,
}


def digest(path):
    """A line for each dataset, which two files share where its values are the same."""
    return subprocess.run([os.environ["KOIOS_DIGEST_PROBE"], str(path)], capture_output=True,
                          text=True, check=True).stdout


class Run:
    """What one run printed and wrote."""

    def __init__(self, completed, folder):
        self.returncode = completed.returncode
        self.stdout = completed.stdout
        self.stderr = completed.stderr
        self.folder = folder

    @property
    def output(self):
        return self.stdout + self.stderr

    def rows(self):
        text = (self.folder / "metrics.jsonl").read_text()
        return [json.loads(line) for line in text.splitlines()]

    def column(self, key):
        return [row[key] for row in self.rows()]

    def losses(self):
        return self.column("loss_metrics/global_avg_loss")

    def traffic(self, kind):
        """(all-gather, reduce-scatter) bytes of the line 'traffic plan' or 'traffic measured'."""
        match = re.search(
            rf"traffic {kind} per rank and step: all-gather ([\d,]+) bytes, "
            r"reduce-scatter ([\d,]+) bytes", self.stdout)
        return tuple(int(text.replace(",", "")) for text in match.groups())

    def tensor_traffic(self, kind):
        """(all-gather, reduce-scatter, all-reduce, exchanges) bytes of tensor-parallel ranks."""
        match = re.search(
            rf"tensor-parallel traffic {kind} per rank and step: all-gather ([\d,]+) bytes, "
            r"reduce-scatter ([\d,]+) bytes, all-reduce ([\d,]+) bytes, "
            r"exchanges ([\d,]+) bytes", self.stdout)
        return tuple(int(text.replace(",", "")) for text in match.groups())

    def planned(self, label):
        """Bytes of one line of the memory plan."""
        match = re.search(rf"^\[koios\]   {re.escape(label)} +([\d,]+) bytes", self.stdout, re.M)
        return int(match.group(1).replace(",", ""))


class Workplace:
    """A scratch folder with a text to train on; use as a context."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="koios-test-"))
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)

    def command(self, ranks, overrides=None, deck=None, folder="run", below=()):
        """below: what each rank is started by, as a command that ends in another. KOIOS_TEST_ENTRIES:
        more entries of the deck, for every test (tools/bundle.sh: over which transport)."""
        settings = {
            "job/dump_folder": self.path / folder,
            "model/tokenizer_path": SOURCE / "build/assets/tokenizer.model",
            "training/dataset_path": SOURCE / "build/assets/kjv.txt",
        }
        settings.update(TINY)
        settings.update(overrides or {})
        settings.update(entry.split("=", 1) for entry in os.environ.get("KOIOS_TEST_ENTRIES", "").split())
        return (
            [MPIEXEC, "--oversubscribe", "--bind-to", "none", "-np", str(ranks), *below, BINARY]
            + ([str(deck)] if deck else [])
            + [f"{key}={value}" for key, value in settings.items() if value is not None])

    def run(self, ranks, overrides=None, deck=None, folder="run", timeout=100, below=()):
        completed = subprocess.run(
            self.command(ranks, overrides, deck, folder, below),
            capture_output=True, text=True, timeout=timeout, cwd=self.path, check=False)
        return Run(completed, self.path / folder)

    def train(self, ranks, overrides, folder):
        """A run that must end well."""
        run = self.run(ranks, overrides, folder=folder)
        if run.returncode != 0:
            raise AssertionError(f"{folder}: exit {run.returncode}\n{run.output}")
        return run


def keys(**more):
    """training__steps=3 as training/steps."""
    return {key.replace("__", "/"): value for key, value in more.items()}


class MeshTest(unittest.TestCase):
    """The same training on several meshes, in one workplace: prepare() makes the runs that its tests
    compare. Losses of two meshes differ by sums in another order only: the design allows 2e-4 a step."""

    LOSS_BOUND = 2e-4

    @classmethod
    def setUpClass(cls):
        cls.workplace = Workplace().__enter__()
        cls.prepare()

    @classmethod
    def tearDownClass(cls):
        cls.workplace.__exit__()

    def assert_close(self, run, other, what, key="loss_metrics/global_avg_loss"):
        values, others = ({row["step"]: row[key] for row in r.rows() if key in row}
                          for r in (run, other))
        self.assertEqual(values.keys(), others.keys())
        worst = max(abs(value - others[step]) for step, value in values.items())
        print(f"{what}: largest difference of {key} {worst:.2e}")
        self.assertLessEqual(worst, self.LOSS_BOUND, what)


def ranks_of(launcher, binary=BINARY):
    """Processes of this binary started by this launcher."""
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
            if int(stat[1]) == launcher and os.readlink(entry / "exe") == os.path.realpath(binary):
                yield int(entry.name)
        except OSError:
            continue


def rank_of(pid):
    for entry in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
        if entry.startswith(b"OMPI_COMM_WORLD_RANK="):
            return int(entry.split(b"=")[1])
    raise AssertionError(f"{pid} has no rank")


class Job:
    """A run that is going on, line by line."""

    def __init__(self, command, folder):
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True, errors="replace", cwd=folder)
        self.lines = []
        self.readers = [threading.Thread(target=self._read, args=(pipe,))
                        for pipe in (self.process.stdout, self.process.stderr)]
        for reader in self.readers:
            reader.start()

    def _read(self, pipe):
        for line in pipe:
            self.lines.append(line)
        pipe.close()

    @property
    def output(self):
        return "".join(self.lines)

    def wait_for(self, pattern, timeout=60):
        """Whether a line with this pattern came before the end."""
        deadline = time.monotonic() + timeout
        while not any(re.search(pattern, line) for line in self.lines.copy()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                return any(re.search(pattern, line) for line in self.lines.copy())
            time.sleep(0.005)
        return True

    def ranks(self):
        return list(ranks_of(self.process.pid))

    def process_of_rank(self):
        return {rank_of(pid): pid for pid in self.ranks()}

    def said(self):
        """The program's own lines: a launcher may write on behind one."""
        return [found[0] for line in self.lines if (found := re.search(r"\[koios.*?(?=\n|---|$)", line))]

    def end(self, timeout=60):
        """Waits for the end of the launcher and of its ranks; the exit code."""
        ranks = self.ranks()
        self.process.wait(timeout=timeout)
        self._wait_for_end_of(ranks)
        return self.process.returncode

    def kill(self, whole):
        """SIGKILL to all, or to one rank."""
        ranks = self.ranks()
        for pid in ranks + [self.process.pid] if whole else [random.choice(ranks)]:
            os.kill(pid, signal.SIGKILL)
        self.process.wait(timeout=60)
        self._wait_for_end_of(ranks)

    def _wait_for_end_of(self, ranks):
        deadline = time.monotonic() + 60
        for pid in ranks:  # a killed launcher leaves them to nobody
            while os.path.exists(f"/proc/{pid}/exe"):
                if time.monotonic() > deadline:
                    raise AssertionError(f"rank {pid} is still there")
                time.sleep(0.01)
        for reader in self.readers:
            reader.join(timeout=60)

    def numbers(self, pattern):
        return [int(m[1]) for m in (re.search(pattern, line) for line in self.lines) if m]


class Retrained:
    """Steps that several starts have trained must have given the same bits each time."""

    EXACT = ("loss_metrics/global_avg_loss", "grad_norm", "data/samples_hash", "tokens_seen")

    def __init__(self):
        self.rows = {}
        self.again = 0

    def check(self, metrics):
        """The rows of the last start in this file."""
        found = []
        for line in metrics.read_text().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                break  # half a line of a killed run
        for row in found:
            if row["run"] != found[-1]["run"]:
                continue
            values = [row[key] for key in self.EXACT]
            self.again += row["step"] in self.rows
            if self.rows.setdefault(row["step"], values) != values:
                raise AssertionError(f"step {row['step']}: {self.rows[row['step']]}, now {values}")
