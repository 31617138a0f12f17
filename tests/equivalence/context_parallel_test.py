"""The same training on meshes whose ranks share sequences: losses, samples and validation against 1
rank's, repeatability, traffic, documents, checkpoints that change the mesh, and what is refused.

The design's bound on losses is 2e-4 a step. tests/train/context_parallel_test.cpp compares gradients
and parameters with those of whole sequences, tests/train/llama_golden_test.cpp with PyTorch's.
"""

import re
import shutil
import unittest

from koios_run import MeshTest, keys

GLOBAL_BATCH = 4
STEPS = 20
EXACT = ("loss_metrics/global_avg_loss", "grad_norm", "data/samples_hash")
# (data-, context-, tensor-parallel)
MESHES = ((1, 1, 1), (1, 2, 1), (1, 3, 1), (1, 4, 1), (2, 2, 1), (1, 2, 2))


def settings(dp, cp, tp, **more):
    out = {"model/dim": 64, "model/n_heads": 8, "model/n_kv_heads": 4, "model/ffn_dim": 88,
           "model/n_layers": 2, "activation_checkpoint/mode": "none", "optimizer/lr": 2e-3,
           "training/steps": STEPS, "training/seq_len": 96,
           "training/batch_size": GLOBAL_BATCH // dp, "training/context_parallel_degree": cp,
           "training/tensor_parallel_degree": tp}
    return out | keys(**more)


def context_traffic(run, kind):
    return re.search(rf"context-parallel traffic {kind} per rank and step: (.*) sent",
                     run.stdout)[1]


class ContextParallel(MeshTest):
    @classmethod
    def prepare(cls):
        cls.runs = {mesh: cls.run_of(*mesh) for mesh in MESHES}

    @classmethod
    def run_of(cls, dp, cp, tp, folder="", **more):
        validation = cls.workplace.path / "held_out.txt"
        validation.write_text("\n\n".join(f"chapter {n} of a text that nobody trains on"
                                          for n in range(400)))
        more = {"validation__dataset": "text", "validation__dataset_path": validation,
                "validation__steps": 1, "validation__interval": 10, **more}
        return cls.workplace.train(dp * cp * tp, settings(dp, cp, tp, **more),
                                   folder or f"{dp}x{cp}x{tp}")

    def assert_close(self, run, other, what, key="loss_metrics/global_avg_loss"):
        super().assert_close(run, other, what, key)
        held_out = [r.rows()[-1]["validation_metrics/loss"] for r in (run, other)]
        self.assertLessEqual(abs(held_out[0] - held_out[1]), self.LOSS_BOUND, what)

    def assert_traffic(self, run):
        self.assertEqual(run.traffic("plan"), run.traffic("measured"))
        self.assertEqual(context_traffic(run, "plan"), context_traffic(run, "measured"))

    def test_losses_and_samples_do_not_depend_on_the_mesh(self):
        one = self.runs[1, 1, 1]
        self.assertLess(one.losses()[-1], one.losses()[0] - 0.5)
        for mesh, run in self.runs.items():
            self.assert_close(one, run, "1 rank against dp {} x cp {} x tp {}".format(*mesh))
            for key in ("data/samples_hash", "tokens_seen"):
                self.assertEqual(one.column(key), run.column(key), key)
            if mesh[1] > 1:
                self.assert_traffic(run)
                self.assertGreater(run.rows()[0]["time_metrics/communication_cp(s)"], 0)

    def test_same_mesh_gives_the_same_bits(self):
        again = self.run_of(2, 2, 1, "again")
        for key in EXACT:
            self.assertEqual(self.runs[2, 2, 1].column(key), again.column(key), key)

    def test_recomputation_changes_no_bit(self):
        for mode, option in (("full", None), ("selective", "op_half")):
            run = self.run_of(1, 2, 1, mode, activation_checkpoint__mode=mode,
                              activation_checkpoint__selective_ac_option=option)
            for key in EXACT:
                self.assertEqual(self.runs[1, 2, 1].column(key), run.column(key), f"{mode}: {key}")
            self.assert_traffic(run)

    def test_documents_and_micro_batches(self):
        more = {"data__document_mask": "true"}
        one = self.run_of(1, 1, 1, "masked", **more)
        self.assert_close(one, self.run_of(1, 3, 1, "masked3", **more), "document mask, cp 3")
        more.update(training__gradient_accumulation_steps=2, training__batch_size=2,
                    validation__steps=2)
        self.assert_close(one, self.run_of(1, 2, 1, "masked2", **more), "2 micro-batches, cp 2")

    def test_checkpoints_change_the_mesh(self):
        more = {"checkpoint__folder": "checkpoints", "checkpoint__interval": 10,
                "checkpoint__save_first_step": "false"}
        for before, after in (((1, 4, 1), (2, 1, 1)), ((2, 1, 1), (1, 4, 1))):
            name = "saved{}{}{}".format(*before)
            self.run_of(*before, name, **more)
            folder = self.workplace.path / (name + "_continued")
            shutil.copytree(self.workplace.path / name, folder)
            (folder / "checkpoints/step_00000020.h5").unlink()
            run = self.run_of(*after, folder.name, **more)
            self.assertIn("step 10, written on", run.stdout)
            rows = {row["step"]: row["loss_metrics/global_avg_loss"] for row in run.rows()}
            self.assertEqual(len(rows), STEPS)
            worst = max(abs(rows[step + 1] - loss)
                        for step, loss in enumerate(self.runs[1, 1, 1].losses()))
            print(f"{before}, continued on {after}: largest loss difference {worst:.2e}")
            self.assertLessEqual(worst, self.LOSS_BOUND)

    def test_what_does_not_divide_is_said(self):
        run = self.workplace.run(2, settings(1, 2, 1, training__seq_len=98), folder="odd")
        self.assertEqual(run.returncode, 2, run.output)
        self.assertIn("[training] context_parallel_degree = 2: each rank takes two of 4 equal "
                      "chunks of a sequence, and seq_len = 98 has no such chunks; the next that "
                      "has is 100", run.output)


if __name__ == "__main__":
    unittest.main(verbosity=2)
