"""The same training on meshes with tensor-parallel ranks: losses against 1 rank's, repeatability,
traffic, recomputation, and checkpoints that change the mesh.

The design's bound on losses is 2e-4 a step. tests/train/llama_golden_test.cpp compares losses,
gradients and parameters of such meshes with PyTorch's.
"""

import shutil
import unittest

from koios_run import MeshTest, keys

GLOBAL_BATCH = 12  # divides by 1, 2, 3 and 4
STEPS = 20
EXACT = ("loss_metrics/global_avg_loss", "loss_metrics/global_max_loss", "grad_norm")
# (data-parallel, tensor-parallel): rows that 3 do not divide, grouped-query attention.
MESHES = ((1, 1), (1, 2), (1, 4), (2, 2), (3, 2), (2, 4))


def settings(dp, tp, **more):
    out = {"model/dim": 64, "model/n_heads": 8, "model/n_kv_heads": 4, "model/ffn_dim": 88,
           "model/n_layers": 3, "activation_checkpoint/mode": "none", "optimizer/lr": 2e-3,
           "training/steps": STEPS, "training/batch_size": GLOBAL_BATCH // dp,
           "training/tensor_parallel_degree": tp}
    return out | keys(**more)


class TensorParallel(MeshTest):
    @classmethod
    def prepare(cls):
        cls.runs = {mesh: cls.run_of(*mesh) for mesh in MESHES}

    @classmethod
    def run_of(cls, dp, tp, folder="", **more):
        return cls.workplace.train(dp * tp, settings(dp, tp, **more), folder or f"{dp}x{tp}")

    def assert_traffic(self, run):
        self.assertEqual(run.traffic("plan"), run.traffic("measured"))
        self.assertEqual(run.tensor_traffic("plan"), run.tensor_traffic("measured"))

    def test_losses_do_not_depend_on_the_mesh(self):
        one = self.runs[1, 1]
        self.assertLess(one.losses()[-1], one.losses()[0] - 0.5)
        for mesh, run in self.runs.items():
            self.assert_close(one, run, f"1 rank against dp {mesh[0]} x tp {mesh[1]}")
            if mesh[1] > 1:
                self.assert_traffic(run)

    def test_same_mesh_gives_the_same_bits(self):
        again = self.run_of(2, 2, "again")
        for key in EXACT:
            self.assertEqual(self.runs[2, 2].column(key), again.column(key), key)

    def test_gathered_logits_and_accumulation(self):
        for name, more in {
                "logits": {"training__enable_loss_parallel": "false"},
                "micro": {"training__gradient_accumulation_steps": 3, "training__batch_size": 2}
        }.items():
            run = self.run_of(2, 2, name, **more)
            self.assert_close(self.runs[1, 1], run, name)
            self.assert_traffic(run)

    def test_recomputation_changes_no_bit(self):
        for mode, option in (("full", None), ("selective", "op_half")):
            run = self.run_of(1, 2, mode, activation_checkpoint__mode=mode,
                              activation_checkpoint__selective_ac_option=option)
            for key in EXACT:
                self.assertEqual(self.runs[1, 2].column(key), run.column(key), f"{mode}: {key}")
            self.assert_traffic(run)

    def test_asynchronous_exchanges_change_no_bit(self):
        for dp, tp in ((2, 2), (1, 4)):
            run = self.run_of(dp, tp, f"async{tp}", parallel__async_tp="true")
            for key in EXACT:
                self.assertEqual(self.runs[dp, tp].column(key), run.column(key), f"tp {tp}: {key}")
            self.assert_traffic(run)
            self.assertGreater(run.tensor_traffic("measured")[3], 0)

    def test_fp8_sends_what_the_plan_says(self):
        gathered = {}
        for recipe in ("", "tensorwise", "rowwise"):
            run = self.run_of(2, 2, f"fp8_{recipe}", training__fp8_linear=recipe,
                              training__steps=2, training__mixed_precision_param="bfloat16")
            self.assert_traffic(run)
            gathered[recipe] = run.tensor_traffic("measured")[0]
        # Of 6 gathers a block in bfloat16 and 2 of the head's: 4 in 8 bits, or 4 in 16.
        bf16_gather = gathered[""] / (6 * 3 + 2)
        self.assertEqual(gathered["tensorwise"], (4 / 2 * 3 + 2) * bf16_gather)
        self.assertEqual(gathered["rowwise"], (4 * 3 + 2) * bf16_gather)
        for recipe in ("tensorwise", "rowwise"):  # gradients of weights come later
            self.assert_traffic(self.workplace.train(
                4, settings(1, 2, training__fp8_linear=recipe, training__steps=2,
                            training__pipeline_parallel_degree=2,
                            parallel__pipeline_schedule="zero_bubble"), f"split_{recipe}"))

    def test_checkpoints_change_the_mesh(self):
        more = {"checkpoint__folder": "checkpoints", "checkpoint__interval": 10,
                "checkpoint__save_first_step": "false"}
        self.run_of(4, 1, "dp4", **more)
        for dp, tp in ((2, 2), (1, 4)):
            folder = self.workplace.path / f"continued{tp}"
            shutil.copytree(self.workplace.path / "dp4", folder)
            (folder / "checkpoints/step_00000020.h5").unlink()
            run = self.run_of(dp, tp, folder.name, **more)
            self.assertIn("step 10, written on 4 ranks = pp 1 x dp 4", run.stdout)
            rows = {row["step"]: row["loss_metrics/global_avg_loss"] for row in run.rows()}
            self.assertEqual(len(rows), STEPS)
            worst = max(abs(rows[step + 1] - loss)
                        for step, loss in enumerate(self.runs[1, 1].losses()))
            print(f"dp 4, continued on dp {dp} x tp {tp}: largest loss difference {worst:.2e}")
            self.assertLessEqual(worst, self.LOSS_BOUND)

    def test_what_does_not_divide_is_said(self):
        run = self.workplace.run(2, settings(1, 2, model__vocab_size=32001), folder="odd")
        self.assertEqual(run.returncode, 2, run.output)
        self.assertIn("tensor_parallel_degree = 2 must divide n_heads = 8, n_kv_heads = 4, "
                      "ffn_dim = 88, vocab_size = 32001 and batch_size * seq_len = 384; degrees "
                      "that do: 1", run.output)


if __name__ == "__main__":
    unittest.main(verbosity=2)
