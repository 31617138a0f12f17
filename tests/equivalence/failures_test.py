"""What a user can get wrong, each with the one line that says so; and a rank that is killed."""

import os
import pathlib
import re
import signal
import subprocess
import time
import unittest

from koios_run import BINARY, SOURCE, Workplace, ranks_of


class Failures(unittest.TestCase):
    def setUp(self):
        self.workplace = Workplace().__enter__()
        self.addCleanup(self.workplace.__exit__)

    def refuses(self, message, overrides=None, ranks=2, **more):
        base = {"training/steps": 3, "training/batch_size": 2}
        base.update(overrides or {})
        run = self.workplace.run(ranks, base, timeout=60, **more)
        self.assertNotEqual(run.returncode, 0, run.output)
        self.assertRegex(run.stderr, message)
        lines = [line for line in run.stderr.splitlines() if "error: " in line]
        self.assertEqual(len(lines), 1, run.stderr)  # said once, not by every rank
        return run

    def write(self, name, content):
        path = self.workplace.path / name
        path.write_bytes(content)
        return path

    def test_wrong_key_with_the_nearest_one(self):
        deck = self.write("deck.ini", b"[training]\nsequence_len = 32\n")
        self.refuses(r"error: .*deck.ini:2: \[training\] sequence_len is not a key; "
                     r"did you mean seq_len\?", deck=deck)

    def test_all_errors_of_a_deck_at_once(self):
        deck = self.write("deck.ini", b"[training]\nsteps = 3x\nseq_len = -1\n[modle]\ndim = 8\n")
        run = self.workplace.run(2, {"model/dim": None, "training/seq_len": None}, deck=deck)
        for line in (2, 3, 4):
            self.assertRegex(run.stderr, rf"error: .*deck.ini:{line}: ")

    def test_missing_deck(self):
        run = self.refuses(r"error: .*nowhere.ini: No such file", deck="nowhere.ini")
        self.assertEqual(run.returncode, 2)

    def test_wrong_option(self):
        run = self.refuses(r"error: --drun is not an option", deck="--drun", ranks=3)
        self.assertEqual(run.returncode, 2)

    def test_missing_file_on_another_node(self):
        here, there = self.workplace.path / "here", self.workplace.path / "there"
        here.mkdir()
        there.mkdir()
        (here / "kjv.txt").write_text("In the beginning\n")
        launch, *job = self.workplace.command(1, {"training/dataset_path": "kjv.txt"})
        program = job[job.index("-np"):]
        run = subprocess.run([launch, "--oversubscribe", "-wdir", str(here), *program,
                              ":", "-wdir", str(there), *program],
                             capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(run.returncode, 2, run.stderr)
        self.assertRegex(run.stderr, r"kjv.txt: No such file or directory \(on \S+, rank 1\)")

    def test_output_that_cannot_be_written(self):
        with open("/dev/full", "w") as full:
            run = subprocess.run([BINARY, "--help-deck"], stdout=full, stderr=subprocess.PIPE,
                                 text=True, timeout=60, check=False)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("error: cannot write to standard output", run.stderr)

    def test_missing_tokenizer(self):
        self.refuses(r"error: .*no-such.model", {"model/tokenizer_path": "no-such.model"})

    def test_tokenizer_larger_than_the_vocabulary(self):
        run = self.refuses(r"error: command line: \[model\] vocab_size = 1000 .*32000",
                           {"model/vocab_size": 1000})
        self.assertEqual(run.returncode, 2)

    def test_a_tensor_degree_that_does_not_divide_the_tokenizers_vocabulary(self):
        deck = self.write("three.ini", b"[training]\ntensor_parallel_degree = 3\n")
        sizes = {"model/n_heads": 6, "model/n_kv_heads": 3, "model/dim": 48, "model/ffn_dim": 72}
        told = rf"error: {deck}:2: \[training\] tensor_parallel_degree = 3 does not divide the 32000"
        run = self.refuses(told, {**sizes, "training/seq_len": 24}, ranks=3, deck=deck)
        self.assertEqual(run.returncode, 2)
        plan = subprocess.run(
            [BINARY, deck, "--dry-run", "--ranks", "3", "training/seq_len=24",
             f"model/tokenizer_path={SOURCE}/build/assets/tokenizer.model",
             *(f"{key}={value}" for key, value in sizes.items())],
            capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(plan.returncode, 2, plan.stderr)
        self.assertRegex(plan.stderr, told)

    def test_empty_text(self):
        self.refuses(r"error: .*empty.txt.*",
                     {"training/dataset_path": self.write("empty.txt", b"")})

    def test_text_that_is_not_utf8(self):
        text = b"a good line\nand \xff\xfe a bad one\n" * 3
        self.refuses(r"error: .*bad.txt:2.*UTF-8",
                     {"training/dataset_path": self.write("bad.txt", text)})

    def test_more_tensor_parallel_than_heads(self):
        self.refuses(r"error: .*tensor_parallel_degree", {"training/tensor_parallel_degree": 8},
                     ranks=8)

    def test_run_folder_that_cannot_be_written(self):
        # Root may write into read-only folders, but nobody into /proc.
        self.refuses(r"error: .*/proc/koios", {"job/dump_folder": "/proc/koios"})

    def test_the_limit_that_is_short_is_named(self):
        # In one the plan does not fit, in others a thread, the tokenizer's tables, or MPI.
        tried = [("as", "ulimit -v", mib, threads) for threads in (1, 2)
                 for mib in (150, 180, 240, 290, 310, 325)] + [("data", "ulimit -d", 100, 2)]
        for limit, option, mib, threads in tried:
            with self.subTest(limit=limit, mib=mib, threads=threads):
                run = self.workplace.run(
                    1, {"training/steps": 3, "training/batch_size": 2}, timeout=60,
                    below=["prlimit", f"--{limit}={mib << 20}", "env",
                           f"OMP_NUM_THREADS={threads}"])
                self.assertNotEqual(run.returncode, 0, run.output)
                errors = [line for line in run.stderr.splitlines() if "error: " in line]
                self.assertLessEqual(len(errors), 1, run.stderr)
                reasons = errors or re.findall("warning: only .*: if it fails, .*", run.stderr)
                self.assertRegex(reasons[0], rf"[MG]iB of the \S+( space)? that {option} allows")
                for error in errors:  # and who has taken what there was
                    if "memory" in error:
                        self.assertRegex(error, r"; memory of this process: start [\d.]+, .*in all "
                                                r"[\d.]+ GiB; [\d.]+ GiB are free")
        run = self.workplace.run(1, {"training/steps": 3, "training/batch_size": 2},
                                 below=["prlimit", f"--as={2 << 30}", "env", "OMP_NUM_THREADS=2"])
        self.assertEqual(run.returncode, 0, run.output)
        self.assertRegex(run.stdout, r"memory of this process: start [\d.]+, communicators [\d.]+, "
                                     r"memory plan [\d.]+, .*first step -?[\d.]+, in all [\d.]+ GiB; ")

    def test_a_folder_in_the_place_of_a_file(self):
        for name in ("metrics.jsonl", "effective.ini", "provenance.json", "data_files.txt"):
            (self.workplace.path / "run" / name).mkdir(parents=True)
            self.refuses(rf"error: .*run/{name} is a folder", ranks=1)
            (self.workplace.path / "run" / name).rmdir()

    def test_a_step_that_is_not_finite(self):
        # Such a decay multiplies the weights by -99 a step, until a step has NaN.
        wild = {"training/steps": 20, "optimizer/lr": 10, "optimizer/weight_decay": 10,
                "metrics/log_freq": 20}
        nan = r"gradient norm nan; of the gradients the first in the backward pass is that of " \
              r"layers\.1\.\S+ \(unit layers\.1\), \d+ values on ranks 0, 1, out of the part of " \
              r"ranks 0, 1; its update was skipped"
        run = self.refuses(rf"error: step 3: {nan}\. Lower \[optimizer\] lr ", wild)
        self.assertEqual(run.column("step"), [1])  # at once, long before the next line is due
        self.refuses(rf"error: step 6: {nan}: 4 in a row, more than \[training\] "
                     r"nonfinite_budget = 3 allows",
                     {**wild, "training/on_nonfinite": "skip", "training/nonfinite_budget": 3})

        run = self.workplace.run(2, {**wild, "training/on_nonfinite": "skip"}, folder="skip")
        self.assertEqual(run.returncode, 0, run.stderr)
        warned = re.findall(rf"warning: step (\d+): {nan}\n", run.stderr)
        self.assertEqual(warned, [str(step) for step in range(3, 21)])  # each once
        last = run.rows()[-1]
        self.assertEqual(last["step"], 20)
        self.assertEqual(last["skipped_steps"], 18)
        self.assertIsNone(last["grad_norm"])
        self.assertEqual(last["nonfinite"]["grad_norm"], "nan")

        run = self.workplace.run(2, {**wild, "training/on_nonfinite": "continue"}, folder="on")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertRegex(run.stderr, r"warning: step 3: gradient norm nan; .*; its update was made "
                                     r"all the same\n")
        self.assertRegex(run.stderr, r"warning: step 4: loss nan on ranks 0, 1, gradient norm nan; the "
                                     r"parameter output.weight \(unit head\) itself has \d+ values "
                                     r"not finite, on ranks 0, 1; ")
        self.assertEqual(run.rows()[-1]["skipped_steps"], 0)

    def test_a_step_may_take_longer_than_a_collective(self):
        run = self.workplace.run(2, {
            "training/steps": 1, "training/warmup_steps": 0, "training/batch_size": 1,
            "training/gradient_accumulation_steps": 250,
            "comm/init_timeout_seconds": 2, "comm/train_timeout_seconds": 2})
        self.assertEqual(run.returncode, 0, run.output)
        print(f"a step of {run.column('time_metrics/end_to_end(s)')[0]:.1f} s")

    def test_a_killed_rank_ends_the_job(self):
        command = self.workplace.command(
            3, {"training/steps": 100000, "training/batch_size": 4})
        job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                               cwd=self.workplace.path)
        self.addCleanup(job.kill)
        metrics = self.workplace.path / "run/metrics.jsonl"
        deadline = time.monotonic() + 60
        while not (metrics.exists() and len(metrics.read_text().splitlines()) > 2):
            self.assertIsNone(job.poll(), "ended early")
            self.assertLess(time.monotonic(), deadline, "no third step within a minute")
            time.sleep(0.2)
        victims = list(ranks_of(job.pid))
        self.assertEqual(len(victims), 3)
        killed_at = time.monotonic()
        os.kill(victims[1], signal.SIGKILL)
        output, _ = job.communicate(timeout=30)
        print(f"ended {time.monotonic() - killed_at:.1f} s after the kill")
        self.assertNotEqual(job.returncode, 0)
        self.assertIn("signal 9", output)
        while any(pathlib.Path(f"/proc/{p}/exe").exists() for p in victims):
            self.assertLess(time.monotonic(), killed_at + 30, "a rank lives on")
            time.sleep(0.1)


if __name__ == "__main__":
    unittest.main(verbosity=2)
