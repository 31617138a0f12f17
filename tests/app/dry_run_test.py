"""koios --dry-run plans any mesh before there is a GPU, a tokenizer or data."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

BINARY = os.environ["KOIOS_BINARY"]
ROOT = pathlib.Path(__file__).resolve().parents[2]


class DryRun(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)  # where nothing is that a deck names

    def plan(self, *arguments):
        done = subprocess.run([BINARY, *arguments, "--dry-run"], capture_output=True, text=True,
                              timeout=60, check=False, cwd=self.folder)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def test_the_command_of_the_readme(self):
        command = re.search(r"(?m)^koios (input/\S+ .*) --dry-run (.*?) *#",
                            (ROOT / "README.md").read_text())
        deck, *more = f"{command[1]} {command[2]}".split()
        done = self.plan(ROOT / deck, *more)
        self.assertIn("# mesh: 64 ranks = pp 1 x dp 64 x cp 1 x tp 1\n", done.stdout)
        self.assertIn("# model 7B: 6,738,415,616 parameters", done.stdout)
        planned = re.search(r"#   master parameters +([\d,]+) bytes", done.stdout)[1]
        self.assertAlmostEqual(int(planned.replace(",", "")) / (6738415616 / 64 * 4), 1, delta=1e-4)
        self.assertRegex(done.stderr, r"warning: .*llama2_7b.ini:\d+: \[training\] dataset_path")

    def test_the_name_of_a_deck_does_not_command_the_terminal(self):
        deck = self.folder / "a\x1b]0;b.ini"
        deck.write_text("[model]\nvocab_size = 1000\n")
        printed = self.plan(deck).stdout
        self.assertIn("a\\x1b]0;b.ini:2", printed)
        self.assertNotIn("\x1b", printed)

    def test_what_it_prints_is_a_deck_of_the_same_plan(self):
        first = self.plan("model/vocab_size=1000", "model/n_layers=3", "job/backend=cuda",
                          "validation/dataset_path=later.txt").stdout
        (self.folder / "printed.ini").write_text(first)
        second = self.plan("printed.ini").stdout
        plans = [re.findall("(?m)^# .*$", text) for text in (first, second)]
        self.assertIn("# memory plan per rank (cuda, bfloat16 compute):", plans[0])
        self.assertEqual(*plans)

    def test_a_shipped_deck_fits_the_nodes_that_its_head_names(self):
        decks = sorted((ROOT / "input").glob("llama2_*.ini"))
        self.assertGreaterEqual(len(decks), 3)
        for deck in decks:
            nodes, gpus = re.search(r"for (\d+) nodes? of (\d+) GPUs of 80 GB",
                                    deck.read_text()).groups()
            for gpu in ("h100", "a100"):
                done = self.plan(deck, "model/vocab_size=32000", "--gpu", gpu,
                                 f"--ranks={int(nodes) * int(gpus)}")
                self.assertRegex(done.stdout, f"# fits {gpu}: plan ", deck.name)

    def test_the_longest_sequence_that_fits(self):
        command = [ROOT / "input/llama2_7b_128k.ini", "model/vocab_size=32000", "--ranks=8",
                   "--gpu=h100"]
        shared = r"(?m)^# longest training/seq_len that fits, by the plan: (\d+)$"
        longest = int(re.search(shared, self.plan(*command).stdout)[1])
        self.assertGreater(longest, 131072)
        self.assertIn("# fits h100: plan ",
                      self.plan(*command, f"training/seq_len={longest}").stdout)
        beyond = subprocess.run(
            [BINARY, *command, f"training/seq_len={longest + 2048}", "--dry-run"],
            capture_output=True, text=True, timeout=60, check=False, cwd=self.folder)
        self.assertIn("# does not fit h100: plan ", beyond.stdout)
        apart = self.plan(*command, "training/context_parallel_degree=1",
                          "training/seq_len=8192").stdout
        self.assertLess(int(re.search(shared, apart)[1]), longest)

    def test_what_does_not_fit_says_which_change_would_make_it_fit(self):
        command = [ROOT / "input/llama2_70b.ini", "model/vocab_size=32000", "--gpu=h100",
                   "training/tensor_parallel_degree=1", "--ranks=32"]
        done = subprocess.run([BINARY, *command, "--dry-run"], capture_output=True, text=True,
                              timeout=60, check=False, cwd=self.folder)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn("# does not fit h100: plan ", done.stdout)
        advice = re.findall(r"(?m)^#   (.*) \(plan ([\d.]+ GiB)\)$", done.stdout)
        self.assertGreaterEqual(len(advice), 2, done.stdout)
        for change, bytes_planned in advice:  # appended as it stands
            again = self.plan(*command, *change.split())
            self.assertIn(f"# fits h100: plan {bytes_planned} ", again.stdout)

    def test_without_a_vocabulary(self):
        done = subprocess.run([BINARY, "--dry-run"], capture_output=True, text=True, timeout=60,
                              check=False, cwd=self.folder)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, r"error: .*tokenizer.model.*needs model/vocab_size")


if __name__ == "__main__":
    unittest.main(verbosity=2)
