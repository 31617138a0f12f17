#!/usr/bin/env python3
"""NaN and infinity in the real program. Weights are made so that one parameter on one rank, or the
data of one rank alone, brings them: what koios says must name both. KOIOS_TEST_RANKS: of how many (2)."""

import json
import os
import pathlib
import re
import sys
import unittest

from tool_run import ToolTest, use_python_with

use_python_with("h5py, numpy", "requirements-checkpoint.txt")

import numpy as np  # noqa: E402

import koios_file  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "equivalence"))
from koios_run import Workplace  # noqa: E402

RANKS = int(os.environ.get("KOIOS_TEST_RANKS", "2"))
ALL_RANKS = "ranks 0, 1" if RANKS == 2 else f"ranks 0-{RANKS - 1}"
VOCAB = 32000
GOD = 2499  # the token (tests/data/tokenizer_golden.jsonl)
HOST = re.escape(os.uname().nodename)


class Nonfinite(ToolTest):
    def setUp(self):
        super().setUp()
        self.place = Workplace().__enter__()
        self.addCleanup(self.place.__exit__)
        self.values = koios_file.parameters(vocab=VOCAB)
        # One document, of which "God" is in the second sample of the first step: rank 1's.
        self.data = self.folder / "data.jsonl"
        self.data.write_text(json.dumps({"text": " ".join(["the"] * 40 + ["God"] + ["the"] * 400)}))

    def koios(self, code=1, **more):
        weights = self.folder / "weights.h5"
        with np.errstate(over="ignore"):  # in moments that nobody reads
            koios_file.write_checkpoint(weights, self.values, vocab=VOCAB)
        run = self.place.run(RANKS, {
            "training/dataset": "jsonl", "training/dataset_path": self.data,
            "data/shuffle": "false", "training/steps": 2, "training/warmup_steps": 0,
            "training/batch_size": 1, "checkpoint/initial_load_path": weights,
            **{key.replace("__", "/"): value for key, value in more.items()}})
        self.assertEqual(run.returncode, code, run.output)
        return run

    def make_god_spoil_the_gradient(self):
        """The loss stays as it is. Gate 0 of block 0 is exactly 0 and so is what comes of it, for
        this token only by a difference of two equal numbers; behind it the gradient of its input is
        2^150 times as large as others, which is infinite."""
        embedding = self.values["tok_embeddings.weight"]
        embedding[:, :2] = 0
        embedding[GOD, :2] = 1
        self.values["layers.0.attention.wo.weight"][:] = 0
        self.values["layers.0.ffn_norm.weight"][:] = 1
        gate, up = (self.values[f"layers.0.feed_forward.{name}.weight"] for name in ("w1", "w3"))
        gate[0], up[0] = 0, 0
        gate[0, :2] = 2.0 ** 50, -2.0 ** 50
        up[0, 0] = 2.0 ** 100

    def test_a_parameter_that_one_rank_holds(self):
        self.values["layers.1.feed_forward.w1.weight"][-1, 5] = np.nan
        for policy in ("stop", "skip"):
            run = self.koios(training__on_nonfinite=policy)
            self.assertRegex(run.stderr, (
                rf"error: step 1: loss nan on {ALL_RANKS}, gradient norm nan; the parameter "
                r"layers\.1\.feed_forward\.w1\.weight \(unit layers\.1\) itself has 1 value not finite, "
                rf"on rank {RANKS - 1} on {HOST}; its update was skipped. No later step can be better: "))

    def test_the_loss_of_one_rank(self):
        self.values["tok_embeddings.weight"][GOD] = np.inf
        self.assertRegex(self.koios().stderr, (
            rf"error: step 1: loss nan on rank 1 on {HOST}, gradient norm nan; the parameter "
            r"tok_embeddings\.weight \(unit \S+\) itself has 48 values not finite, on rank 0 on "
            rf"{HOST}; "))

    def test_the_gradient_of_one_rank(self):
        self.make_god_spoil_the_gradient()
        told = (r"step 1: gradient norm nan; of the gradients the first in the backward pass is that "
                r"of layers\.0\.ffn_norm\.weight \(unit layers\.0\), 2 values on rank 0 on \S+, out "
                rf"of the part of rank 1 on {HOST}; its update was skipped")
        self.assertRegex(self.koios().stderr, rf"error: {told}\. Lower ")
        run = self.koios(0, training__on_nonfinite="skip")
        self.assertRegex(run.stderr, rf"warning: {told}\n")
        self.assertNotIn("step 2:", run.stderr)
        self.assertEqual([row["skipped_steps"] for row in run.rows()[-2:]], [1, 0])

    def test_a_skipped_step_leaves_no_scales(self):
        """So the step after it knows none of the step before, and has the bits of one that wants none."""
        self.make_god_spoil_the_gradient()
        rows = [self.koios(0, training__on_nonfinite="skip", training__fp8_linear="tensorwise",
                           training__fp8_skip_blocks=0, training__fp8_scales=scales,
                           training__steps=3).rows()[-3:] for scales in ("current", "previous")]
        for current, previous in list(zip(*rows))[:2]:
            self.assertEqual(current["skipped_steps"], 1 if current["step"] == 1 else 0)
            for key in ("loss_metrics/global_avg_loss", "grad_norm"):
                self.assertEqual(current[key], previous[key])
        self.assertNotEqual(rows[0][2]["grad_norm"], rows[1][2]["grad_norm"])

    def test_the_gradient_of_one_replica(self):
        self.make_god_spoil_the_gradient()
        run = self.koios(training__data_parallel_replicate_degree=2)
        self.assertRegex(run.stderr, (
            r"error: step 1: gradient norm nan; of the gradients the first in the backward pass is "
            r"that of layers\.0\.ffn_norm\.weight \(unit layers\.0\), \d+ values on ranks 0, \d"))

    def test_the_loss_of_the_last_stage(self):
        self.values["output.weight"][:] = 3e38
        run = self.koios(training__pipeline_parallel_degree=2, training__on_nonfinite="skip",
                         training__nonfinite_budget=1, training__gradient_accumulation_steps=2)
        self.assertRegex(run.stderr, (
            rf"error: step 2: loss \w+ on (rank 1 on {HOST}|ranks 2, 3), gradient norm nan; .*: 2 in a "
            r"row, more than \[training\] nonfinite_budget = 1 allows"))

    def test_the_first_operation(self):
        plain = self.koios(0)
        checked = self.koios(0, job__check_numerics="true")
        self.assertEqual(checked.losses()[-2:], plain.losses()[-2:])

        self.make_god_spoil_the_gradient()
        for recompute in ("none", "full"):
            run = self.koios(job__check_numerics="true", activation_checkpoint__mode=recompute)
            self.assertRegex(run.stderr, (
                r"\[koios rank 1\] error: \[job\] check_numerics: step 1, backward layers\.0, micro-batch 0, "
                r"product with w1\|w3, backward on rank 1: 2 of the 1536 values of this rank's part "
                r"of d_normed2 are not finite; all results before were\n"))
        self.values["output.weight"][:] = 3e38
        self.assertRegex(self.koios(job__check_numerics="true").stderr, (
            r"error: \[job\] check_numerics: step 1, forward head, micro-batch 0, product with output on rank \d: "
            r"\d+ of the \d+ values of logits are not finite; "))
        self.values["layers.1.feed_forward.w1.weight"][-1, 5] = np.nan
        self.assertRegex(self.koios(job__check_numerics="true").stderr, (
            rf"\[koios rank {RANKS - 1}\] error: \[job\] check_numerics: step 1, its start, initial values "
            rf"or the update before on rank {RANKS - 1}: 1 of the {3456 // RANKS} values of "
            r"layers\.1\.feed_forward\.w1\.weight are not finite; "))

    def test_the_first_operation_among_those_that_cast_at_once(self):
        """In block 0 "God" makes gate and up so large that their product is infinite: in the second
        step, when what swiglu computes is no longer written but in 8 bits. No parameter changes."""
        self.data.write_text(json.dumps({"text": " ".join(["the"] * 104 + ["God"] + ["the"] * 400)}))
        embedding = self.values["tok_embeddings.weight"]
        embedding[:, 0] = 0
        embedding[GOD] = 0
        embedding[GOD, 0] = 1
        self.values["layers.0.attention.wo.weight"][:] = 0
        self.values["layers.0.ffn_norm.weight"][:] = 1
        for name in ("w1", "w3"):
            weight = self.values[f"layers.0.feed_forward.{name}.weight"]
            weight[:, 0] = 1
            weight *= 2.0 ** 62
        self.values["layers.0.feed_forward.w2.weight"][:] = 0
        self.values["output.weight"][:] = 0
        for scales in ("current", "previous"):
            run = self.koios(job__check_numerics="true", optimizer__lr=0,
                             training__fp8_linear="tensorwise", training__fp8_scales=scales)
            self.assertRegex(run.stderr, (
                r"error: \[job\] check_numerics: step 2, forward layers\.0, micro-batch 0, "
                r"silu\(gate\) up on rank 1: \d+ of the \d+ values of (the largest magnitude of )?"
                r"activated are not finite; all results before were\n"))


if __name__ == "__main__":
    unittest.main()
