#!/usr/bin/env python3
"""Weights into koios and out of it again, with the real binary; numpy's Llama is the judge.

What koios says of a batch must be what the files say of it: its loss in step n + 1 is that of the
weights it exported after step n, read by way of Hugging Face's layout.
"""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

from tool_run import ToolTest, use_python_with

use_python_with("h5py, numpy", "requirements-checkpoint.txt")

import h5py  # noqa: E402
import numpy as np  # noqa: E402

import koios_file  # noqa: E402
import llama_numpy  # noqa: E402

ROOT = pathlib.Path(os.environ["KOIOS_SOURCE_DIR"])
sys.path.insert(0, str(ROOT / "tests/equivalence"))
from koios_run import TINY, Workplace  # noqa: E402

VOCAB, SEQ_LEN, BATCH = 32000, TINY["training/seq_len"], 6
BOS, EOS = 1, 2
# float32 against float64: what koios' golden tests allow.
BOUND = 2e-6


def texts_and_ids():
    """SentencePiece's own answers (tests/data/make_tokenizer_golden.py)."""
    golden = (ROOT / "tests/data/tokenizer_golden.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in golden]
    return [(row["text"], row["ids"]) for row in rows if row["text"].strip()]


def batches(count):
    """[(tokens_BT, labels_BT)] of the first steps: bos ids eos, one after the other, cut."""
    stream = []
    while len(stream) < count * BATCH * (SEQ_LEN + 1):
        for _, ids in texts_and_ids():
            stream += [BOS, *ids, EOS]
    samples = np.array(stream[:count * BATCH * (SEQ_LEN + 1)]).reshape(count, BATCH, SEQ_LEN + 1)
    return [(step[:, :-1], step[:, 1:]) for step in samples]


class KoiosTest(ToolTest):
    @classmethod
    def setUpClass(cls):
        cls.place = Workplace()
        cls.place.__enter__()
        cls.addClassCleanup(cls.place.__exit__)
        cls.data = cls.place.path / "texts.jsonl"
        cls.data.write_text("".join(json.dumps({"text": text}) + "\n"
                                    for text, _ in texts_and_ids()))

    def koios(self, ranks, weights, folder, steps=1, code=0, tp=1, **more):
        run = self.place.run(ranks, {
            "training/dataset": "jsonl", "training/dataset_path": self.data,
            "data/shuffle": "false", "training/steps": steps, "training/warmup_steps": 0,
            "training/batch_size": BATCH * tp // ranks, "training/tensor_parallel_degree": tp,
            "checkpoint/folder": "checkpoints", "checkpoint/model_weights_only": "true",
            "checkpoint/initial_load_path": weights, **more}, folder=folder)
        self.assertEqual(run.returncode != 0, bool(code), run.output)
        return run

    def checkpoint(self, folder, step):
        return self.place.path / folder / f"checkpoints/step_{step:08}.h5"

    def exported(self, folder, steps=1):
        return self.place.path / folder / f"checkpoints/step_{steps:08}_weights.h5"

    def loss_by_hugging_face(self, weights, batch, name):
        folder = self.folder / name
        self.tool("to-hf", weights, folder)
        logits = llama_numpy.hugging_face_logits(folder, batch[0])
        return llama_numpy.mean_loss(logits, batch[1])


class InAndOut(KoiosTest):
    def test_weights_come_in_train_and_go_out(self):
        first, second = batches(2)
        koios_file.write_checkpoint(self.folder / "made.h5", koios_file.parameters(vocab=VOCAB),
                                    vocab=VOCAB)
        self.tool("to-hf", self.folder / "made.h5", self.folder / "hf")
        weights = self.folder / "in.h5"
        self.tool("from-hf", self.folder / "hf", weights)
        expected = self.loss_by_hugging_face(weights, first, "in")
        for ranks, tp, io in ((1, 1, "direct"), (3, 1, "parallel_hdf5"), (4, 2, "parallel_hdf5")):
            how = {"tp": tp, "checkpoint/io": io}
            losses = self.koios(ranks, weights, f"two_{ranks}", steps=2, **how).losses()
            self.assertLess(abs(losses[0] - expected), BOUND * expected)
            self.assertIn("good", self.tool("verify", self.checkpoint(f"two_{ranks}", 1)))
            run = self.koios(ranks, weights, f"one_{ranks}", **how)
            self.assertIn(str(weights), run.output)
            out = self.exported(f"one_{ranks}")
            self.assertIn("good", self.tool("verify", out))
            after = self.loss_by_hugging_face(out, second, f"out_{ranks}")
            self.assertLess(abs(losses[1] - after), BOUND * after)
            # The step did move the weights: the batch's loss is another one now.
            before = self.loss_by_hugging_face(weights, second, f"before_{ranks}")
            self.assertGreater(abs(before - after), 100 * BOUND * after)
            print(f"{ranks} ranks, tp {tp}: losses within {abs(losses[0] - expected):.1e} and "
                  f"{abs(losses[1] - after):.1e} of {expected:.2f} and {after:.2f}")

    def test_the_deck_of_from_hf_names_the_file_whatever_it_is_called(self):
        koios_file.write_checkpoint(self.folder / "made.h5", koios_file.parameters(vocab=VOCAB),
                                    vocab=VOCAB)
        self.tool("to-hf", self.folder / "made.h5", self.folder / "hf")
        weights = self.folder / "w$1 ${HOME}.h5"
        said = self.tool("from-hf", self.folder / "hf", weights)
        named = re.search(r"(?m)^initial_load_path = (.*)$", said)[1]
        self.assertIn(f"weights from {weights}", self.koios(1, named, "named").output)
        commented = self.tool("from-hf", self.folder / "hf", self.folder / "w # 1.h5")
        self.assertRegex(commented, r"(?m)^# initial_load_path: .* rename it$")

    def test_every_type_goes_out_and_comes_in(self):
        weights = self.folder / "in.h5"
        koios_file.write_checkpoint(weights, koios_file.parameters(vocab=VOCAB), vocab=VOCAB)
        full = None
        for dtype in ("float32", "bfloat16", "float16"):
            self.koios(2, weights, dtype, **{"checkpoint/export_dtype": dtype})
            out = self.exported(dtype)
            self.assertIn("good", self.tool("verify", out))
            self.assertIn(f"in {dtype}:", self.tool("info", out))
            with h5py.File(out) as file:
                values = file["output.weight"][()].astype(np.float32)
            full = values if full is None else full
            self.assertLess(np.abs(values - full).max(), np.abs(full).max() * 2.0 ** -8)
            loss = self.koios(2, out, f"from_{dtype}").losses()[0]
            expected = self.loss_by_hugging_face(out, batches(1)[0], f"hf_{dtype}")
            self.assertLess(abs(loss - expected), BOUND * expected)

    def test_moments_in_bfloat16_are_known(self):
        weights = self.folder / "in.h5"
        koios_file.write_checkpoint(weights, koios_file.parameters(vocab=VOCAB), vocab=VOCAB)
        moments = {}
        for dtype in ("float32", "bfloat16"):
            self.koios(2, weights, f"moments_{dtype}", **{
                "checkpoint/model_weights_only": "false", "optimizer/state_dtype": dtype})
            saved = self.checkpoint(f"moments_{dtype}", 1)
            self.assertIn("good", self.tool("verify", saved))
            self.assertRegex(self.tool("info", saved),
                             rf"model +[\d,]+ parameters in float32[^$]*optimizer .*in {dtype}\n")
            with h5py.File(saved) as file:
                moments[dtype] = {path: file[path][()].astype(np.float64) for path in
                                  ("optimizer/exp_avg/output.weight",
                                   "optimizer/exp_avg_sq/output.weight")}
        for path, wide in moments["float32"].items():
            narrow = moments["bfloat16"][path]
            self.assertLessEqual((np.abs(narrow - wide) / np.maximum(np.abs(wide), 1e-30)).max(),
                                 2.0 ** -7)
            # Up and down alike: of n values the mean is within a few 2^-8 / sqrt(n).
            used = wide[np.abs(wide) > 1e-30]
            error = ((narrow - wide)[np.abs(wide) > 1e-30] / used).mean()
            self.assertLess(abs(error), 5 * 2.0 ** -8 / np.sqrt(used.size), path)
            self.assertGreater(used.size, 1000)


class Logits(KoiosTest):
    def test_every_log_probability_is_that_of_the_file(self):
        """Of every token after every prefix, by the program's own forward pass."""
        weights = self.folder / "in.h5"
        koios_file.write_checkpoint(weights, koios_file.parameters())
        self.tool("to-hf", weights, self.folder / "hf")
        tokens = np.random.default_rng(9).integers(0, koios_file.VOCAB, (1, 8))
        logits = llama_numpy.hugging_face_logits(self.folder / "hf", tokens)[0]
        expected = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        for ranks in (1, 3):
            settings = {key: value for key, value in TINY.items() if key.startswith("model/")}
            settings |= {"model/vocab_size": koios_file.VOCAB,
                         "checkpoint/initial_load_path": weights}
            done = subprocess.run(
                [os.environ["KOIOS_MPIEXEC"], "--oversubscribe", "--bind-to", "none", "-np",
                 str(ranks), os.environ["KOIOS_LOGITS_PROBE"], " ".join(map(str, tokens[0])),
                 *(f"{key}={value}" for key, value in settings.items())],
                capture_output=True, text=True, check=False, timeout=100)
            self.assertEqual(done.returncode, 0, done.stderr)
            found = np.array([line.split() for line in done.stdout.splitlines()], float)
            self.assertEqual(found.shape, expected.shape)
            worst = np.abs(found - expected).max()
            print(f"{ranks} ranks: log-probabilities within {worst:.1e} of {expected.min():.1f}"
                  f"..{expected.max():.1f}")
            self.assertLess(worst, BOUND * np.abs(expected).max())


class Refused(KoiosTest):
    def test_one_line_and_no_hang(self):
        weights = self.folder / "in.h5"
        koios_file.write_checkpoint(weights, koios_file.parameters(vocab=VOCAB), vocab=VOCAB)
        damaged = self.folder / "damaged.h5"
        shutil.copy(weights, damaged)
        with h5py.File(damaged) as file:
            offset = file["model/layers.1.attention.wo.weight"].id.get_offset()
        with open(damaged, "r+b") as file:
            file.seek(offset + 100)
            file.write(b"\x01\x02")
        text = self.folder / "text.h5"
        text.write_text("hello")
        for path, change, parts in (
                (weights, {"model/n_heads": 12, "model/n_kv_heads": 4}, ["n_heads", "6", "12"]),
                (weights, {"model/norm_eps": 1e-6}, ["norm_eps"]),
                (weights, {"model/ffn_dim": 96}, ["ffn_dim", "72", "96"]),
                (weights, {"model/vocab_size": 32064}, ["vocab", "32000", "32064"]),
                (self.folder / "none.h5", {}, ["none.h5"]),
                (self.folder, {}, [self.folder.name]),
                (text, {}, ["text.h5"]),
                (damaged, {}, ["damaged.h5", "layers.1.attention.wo.weight", "checksum"])):
            run = self.koios(2, path, "refused", code=1, **change)
            line = [line for line in run.stderr.splitlines() if "error: " in line]
            self.assertEqual(len(line), 1, run.output)
            for part in ("initial_load_path", *parts):
                self.assertIn(part, line[0])


if __name__ == "__main__":
    unittest.main(verbosity=1)
