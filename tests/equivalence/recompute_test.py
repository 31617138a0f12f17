"""Recomputation changes no bit: every mode against `none` on the same mesh, and what it saves.
tests/train/recompute_test.cpp has all combinations with the norms, and tensor parallelism."""

import unittest

from koios_run import Workplace

STEPS = 6
EXACT = ("loss_metrics/global_avg_loss", "loss_metrics/global_max_loss", "grad_norm")
MODES = {
    "op": {"activation_checkpoint/mode": "selective",
           "activation_checkpoint/selective_ac_option": "op"},
    "op_half": {"activation_checkpoint/mode": "selective",
                "activation_checkpoint/selective_ac_option": "op_half"},
    "selective 2": {"activation_checkpoint/mode": "selective"},  # 2 is the default
    "selective 3": {"activation_checkpoint/mode": "selective",
                    "activation_checkpoint/selective_ac_option": 3},
    "full": {"activation_checkpoint/mode": "full"},
}
NONE = {"activation_checkpoint/mode": "none"}
# Ranks, and what else: accumulation, prefetch, weights kept or gathered again. 12 sequences a step.
ONE = {}
TWO = {"training/gradient_accumulation_steps": 3, "training/prefetch_blocks": 2}
THREE = {"training/reshard_after_forward": "false", "training/prefetch_blocks": 0}


class Recompute(unittest.TestCase):
    def train(self, ranks, more, mode, folder):
        settings = {"model/n_layers": 5, "training/steps": STEPS, "optimizer/lr": 2e-3,
                    "training/batch_size": 12 // ranks // more.get(
                        "training/gradient_accumulation_steps", 1)}
        run = self.workplace.run(ranks, {**settings, **more, **mode}, folder=folder)
        self.assertEqual(run.returncode, 0, run.output)
        return run

    def setUp(self):
        self.workplace = Workplace().__enter__()
        self.addCleanup(self.workplace.__exit__)

    def compare(self, ranks, more, modes):
        none = self.train(ranks, more, NONE, "none")
        values = {key: none.column(key) for key in EXACT}
        self.assertEqual(len(values["grad_norm"]), STEPS)
        for name in modes:
            with self.subTest(mode=name):
                run = self.train(ranks, more, MODES[name], name.replace(" ", ""))
                self.assertIn("now: " + ("full" if name == "full" else "selective"), run.stdout)
                for key in EXACT:
                    self.assertEqual(run.column(key), values[key], key)
                self.assertEqual(run.traffic("plan"), run.traffic("measured"))
                self.assertLess(run.planned("activations"), none.planned("activations"))

    def test_one_rank(self):
        self.compare(1, ONE, ("op", "full"))

    def test_two_ranks_accumulating(self):
        self.compare(2, TWO, ("op_half", "selective 2"))

    def test_three_ranks_keeping_weights(self):
        self.compare(3, THREE, ("selective 3",))


if __name__ == "__main__":
    unittest.main(verbosity=2)
