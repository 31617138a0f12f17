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

    def test_one_of_a_kind_is_singular(self):
        stages = self.plan("model/vocab_size=1000", "model/n_layers=3", "training/batch_size=1",
                           "training/pipeline_parallel_degree=2", "--ranks", "2").stdout
        self.assertIn("2 stages, 1 micro-batch, bubble", stages)
        layers = re.findall(r"(?m)^#   stage \d: (layers? [\d to]+), .*, 1 micro-batch in flight,", stages)
        self.assertEqual(sorted(layers), ["layer 2", "layers 0 to 1"], stages)

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

    def test_what_would_make_a_deck_fit_that_says_all_degrees(self):
        for gpu, name, ranks, more in (
                ("h100", "llama2_7b", 1, []),
                ("40 GiB", "llama2_70b", 8, ["training/tensor_parallel_degree=1"])):
            command = [ROOT / f"input/{name}.ini", "model/vocab_size=32000", f"--gpu={gpu.split()[0]}",
                       f"training/data_parallel_degree={ranks}", f"--ranks={ranks}", *more]
            done = subprocess.run([BINARY, *command, "--dry-run"], capture_output=True, text=True,
                                  timeout=60, check=False, cwd=self.folder)
            advice = re.findall(r"(?m)^#   (.*) \(plan [\d.]+ GiB\)$", done.stdout)
            self.assertTrue(any("--ranks" in change for change in advice), done.stdout)
            for change in map(str.split, advice):
                self.assertEqual(len(set(change)), len(change), change)
                self.assertIn(f"# fits {gpu}: plan ", self.plan(*command, *change).stdout)

    def test_the_longest_sequence_is_one_that_the_mesh_takes(self):
        command = ["model/dim=768", "model/n_heads=12", "model/ffn_dim=3072", "--gpu=24",
                   "model/vocab_size=32001", "training/tensor_parallel_degree=3", "--ranks=6",
                   "training/batch_size=2", "training/seq_len=1536"]
        found = re.search("longest training/seq_len that fits, by the plan: (.*)",
                          self.plan(*command).stdout)
        self.assertGreater(int(found[1]), 20000)  # not the first that three ranks cannot share
        self.assertIn("# fits 24 GiB", self.plan(*command, f"training/seq_len={found[1]}").stdout)

    def refused(self, *arguments, code=2):
        done = subprocess.run([BINARY, *arguments], capture_output=True, text=True, timeout=60,
                              check=False, cwd=self.folder)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        return done.stderr

    def test_the_parts_of_a_predicted_step_make_the_step(self):
        command = [ROOT / "input/llama2_70b.ini", "model/vocab_size=32000", "--ranks=512",
                   "--gpu=h100"]
        text = self.plan(*command, "--tokens=2e12").stdout
        parts = [float(ms) for ms in re.findall(r"(?m)^#   \S.* ([\d.]+) ms  +[\d.]+%$", text)]
        step = float(re.search(r"(?m)^#   step +([\d.]+) ms$", text)[1])
        self.assertGreaterEqual(len(parts), 8)
        self.assertAlmostEqual(sum(parts), step, delta=0.1 * len(parts))
        speed = float(re.search(r"# predicted speed: ([\d,]+) tokens/s", text)[1].replace(",", ""))
        days = float(re.search(r"# predicted time to 2e\+12 tokens: ([\d.]+) days", text)[1])
        self.assertAlmostEqual(2e12 / (512 * speed * 86400) / days, 1, delta=0.01)
        slower = self.plan(*command, "--tokens=2e12", "--between-nodes=1").stdout
        self.assertGreater(float(re.search(r"(?m)^#   step +([\d.]+) ms$", slower)[1]), step)
        self.assertIn("exposed: reduction of gradients", slower)

    def test_rates_of_another_machine(self):
        rates = self.folder / "rates.json"
        rates.write_text('{"rates": {"name": "a box", "gemm_tflops": 100, "memory_gbs": 1000, '
                         '"attention_forward_tflops": 50, "attention_backward_tflops": 40}}')
        text = self.plan("model/vocab_size=1000", "job/backend=cuda", "--rates", rates).stdout
        self.assertRegex(text, r"(?m)^# predicted step on a box, 8 ranks a node; rates \S+rates.json:$")
        self.assertNotIn("kWh", text)
        text = self.plan("model/vocab_size=1000", "training/mixed_precision_param=float32",
                         "--gpu=h200").stdout
        self.assertRegex(text, r"(?m)^# no prediction of speed: the rates of h200 .* are for computing "
                               r"in bfloat16, and \[training\] mixed_precision_param is float32$")
        self.assertNotIn("predicted", text)
        self.assertRegex(self.refused("model/vocab_size=1000", "job/backend=cuda", "--dry-run", "--ranks=2",
                                      "--rates", rates, code=1),
                         r"error: no prediction of speed: the rates of a box .* lack collective_gbs; ")
        for content, problem in (("{", "is not JSON"), ("[]", 'has no object "rates"'),
                                 ('{"rates": {"gem": 1}}', '"gem" is no rate'),
                                 ('{"rates": {"compute": "float16"}}', "must be bfloat16 or float32"),
                                 ('{"rates": {"gemm_tflops": 0}}', "must be a number above 0")):
            rates.write_text(content)
            self.assertIn(problem, self.refused("model/vocab_size=1000", "--dry-run", "--rates", rates))
        rates.unlink()
        for none in (rates, self.folder):
            self.assertIn(f"error: {none}: cannot be read",
                          self.refused("model/vocab_size=1000", "--dry-run", "--rates", none))

    def test_what_is_suggested_is_accepted_and_predicted_alike(self):
        for deck, ranks, more in (("llama2_70b", 64, ["--sequences=256"]),
                                  ("llama2_7b", 16, []),
                                  ("llama2_7b_128k", 16, ["--sequences=32"])):
            command = [ROOT / f"input/{deck}.ini", "model/vocab_size=32000", "--gpu=h100",
                       f"--ranks={ranks}"]
            done = subprocess.run([BINARY, *command, "--suggest", *more], capture_output=True,
                                  text=True, timeout=100, check=False, cwd=self.folder)
            self.assertEqual(done.returncode, 0, done.stderr)
            found = re.findall(r"(?m)^\d+\. ([\d,]+) tokens/s .*, plan ([\d.]+ GiB): .*\n"
                               r"   limits: (.+)\n   (.+)$", done.stdout)
            self.assertGreaterEqual(len(found), 3, done.stdout)
            speeds = [int(speed.replace(",", "")) for speed, *_ in found]
            self.assertEqual(speeds, sorted(speeds, reverse=True))
            for speed, planned, _, overrides in found[:5]:
                again = self.plan(*command, *overrides.split()).stdout
                self.assertIn(f"# fits h100: plan {planned} ", again)
                self.assertIn(f"# predicted speed: {speed} tokens/s of each rank", again)
                if more:
                    sequences = int(more[0].split("=")[1])
                    length = int(re.search(r"(?m)^seq_len = (\d+)", again)[1])
                    self.assertIn(f" {sequences * length:,} tokens a step", again)

    def test_the_table_of_what_is_suggested(self):
        table = re.findall(r"(?m)^\| 64 \| (pp .*?) \| (b\d+) (m\d+), .*? \| ([\d,]+) \(([\d.]+)%\) "
                           r"\| ([\d.]+) \| (\d+) \|", (ROOT / "docs/planning.md").read_text())
        done = subprocess.run([BINARY, ROOT / "input/llama2_70b.ini", "model/vocab_size=32000", "--gpu=h100",
                               "--suggest", "--ranks=64", "--sequences=1024", "--tokens=2e12"], capture_output=True,
                              text=True, timeout=100, check=False, cwd=self.folder)
        found = re.findall(r"(?m)^\d\. ([\d,]+) tokens/s of each rank, mfu ([\d.]+)%, step ([\d.]+) s, "
                           r"run (\d+) days, .*: 64 ranks = (pp .*)\n.*\n.*/batch_size=(\d+) .*_steps=(\d+)", done.stdout)
        self.assertEqual(table, [(mesh, f"b{batch}", f"m{micro}", speed, mfu, step, days)
                                 for speed, mfu, step, days, mesh, batch, micro in found[:5]])

    def test_suggest_says_what_it_lacks(self):
        deck = [ROOT / "input/llama2_70b.ini", "model/vocab_size=32000", "--suggest"]
        self.assertIn("--suggest needs --ranks N", self.refused(*deck, "--gpu=h100"))
        self.assertRegex(self.refused(*deck, "--gpu=h100", "--ranks=12"),
                         r"error: the deck's own degrees do not make up 12 ranks, .*--sequences G")
        self.assertIn("no rates of a100 are known", self.refused(*deck, "--gpu=a100", "--ranks=64"))
        none = subprocess.run([BINARY, *deck, "--gpu=h100", "--ranks=8", "--sequences=8"],
                              capture_output=True, text=True, timeout=60, check=False, cwd=self.folder)
        self.assertEqual(none.returncode, 1)
        self.assertRegex(none.stdout, "none fits, or none divides these sequences over the ranks: .*"
                                      "optimizer/state_dtype=bfloat16")

    def test_what_is_suggested_keeps_copy_engines_within_nodes(self):
        command = [BINARY, ROOT / "input/llama2_7b.ini", "model/vocab_size=32000", "--gpu=h100",
                   "--suggest", "--ranks=16", "--node=4", "--sequences=64",
                   "comm/shard_transport=copy_engine"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True,
                               cwd=self.folder).stdout
        meshes = re.findall(r"16 ranks = pp \d+ x dp ((?:\d+ x )?\d+) x cp (\d+) x tp (\d+)", found)
        self.assertGreaterEqual(len(meshes), 3, found)
        for data, context, tensor in meshes:
            self.assertLessEqual(int(data.split()[-1]) * int(context) * int(tensor), 4, found)

    def test_suggest_says_why_the_deck_goes_with_no_mesh(self):
        none = subprocess.run([BINARY, "model/vocab_size=1000", "training/fp8_linear=tensorwise",
                               "training/seq_len=25", "training/batch_size=1", "--gpu=h100",
                               "--ranks=8", "--suggest"], capture_output=True, text=True, timeout=60,
                              check=False, cwd=self.folder)
        self.assertEqual(none.returncode, 1)
        self.assertRegex(none.stdout, r"none is allowed: \[training\] fp8_linear: on a GPU all sizes .* 25$")

    def test_under_a_launcher_the_first_task_plans_for_all(self):
        for rank in (0, 1):
            told = subprocess.run([BINARY, "model/vocab_size=1000", "--dry-run"], capture_output=True,
                                  text=True, timeout=60, check=True, cwd=self.folder,
                                  env={**os.environ, "OMPI_COMM_WORLD_RANK": str(rank),
                                       "OMPI_COMM_WORLD_SIZE": "6"}).stdout
            self.assertEqual("# mesh: 6 ranks = " in told, rank == 0, told)
            self.assertEqual(bool(told), rank == 0)

    def test_without_a_vocabulary(self):
        done = subprocess.run([BINARY, "--dry-run"], capture_output=True, text=True, timeout=60,
                              check=False, cwd=self.folder)
        self.assertNotEqual(done.returncode, 0)
        self.assertRegex(done.stderr, r"error: .*tokenizer.model.*needs model/vocab_size")


if __name__ == "__main__":
    unittest.main(verbosity=2)
