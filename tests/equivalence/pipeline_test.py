"""The same training through stages: losses and parameters against 1 rank's, traffic, validation, and
checkpoints that change the mesh both ways.

With a bound that no norm reaches, stages change no bit but the printed norm's.
"""

import re
import unittest

from koios_run import MeshTest, digest, keys

GLOBAL_BATCH = 8
STEPS = 20
SAVED = "checkpoints/step_00000020.h5"


def settings(pp, dp=1, micro_batches=4, **more):
    out = {"model/n_layers": 4, "activation_checkpoint/mode": "none", "optimizer/lr": 2e-3,
           "training/steps": STEPS, "training/max_norm": 1e6,
           "training/batch_size": GLOBAL_BATCH // (dp * micro_batches),
           "training/gradient_accumulation_steps": micro_batches,
           "training/pipeline_parallel_degree": pp, "checkpoint/folder": "checkpoints",
           "checkpoint/interval": 10, "checkpoint/save_first_step": "false"}
    return out | keys(**more)


class Pipeline(MeshTest):
    @classmethod
    def prepare(cls):
        cls.one = cls.run_of(1, "one", settings(1, **cls.held_out()))

    @classmethod
    def held_out(cls):
        return {"validation__dataset_path": cls.workplace.path / "held_out.txt",
                "validation__interval": 10, "validation__steps": 2}

    @classmethod
    def run_of(cls, ranks, folder, options):
        text = cls.workplace.path / "held_out.txt"
        text.write_text("\n\n".join(f"{i} and {i + 1} are numbers." for i in range(2000)))
        return cls.workplace.train(ranks, options, folder)

    def test_stages_change_no_bit(self):
        for name, pp, more in (("pp2", 2, {}), ("pp4", 4, {}),
                               ("gpipe", 2, {"parallel__pipeline_schedule": "gpipe"}),
                               ("zero2", 2, {"parallel__pipeline_schedule": "zero_bubble"}),
                               ("zero4", 4, {"parallel__pipeline_schedule": "zero_bubble"}),
                               ("ring", 2, {"parallel__pipeline_schedule": "interleaved_1f1b"}),
                               ("back", 2, {"parallel__pipeline_schedule": "zero_bubble_v"}),
                               ("uneven", 2, {"parallel__pipeline_layers": "1,3"})):
            run = self.run_of(pp, name, settings(pp, **more, **self.held_out()))
            self.assert_same_bits(self.one, run, name)
            validation = [row.get("validation_metrics/loss") for row in run.rows()]
            expected = [row.get("validation_metrics/loss") for row in self.one.rows()]
            self.assertGreater(sum(loss is not None for loss in expected), 0)
            self.assertEqual(expected, validation, name)

    def assert_same_bits(self, one, run, name):
        self.assertEqual(one.losses(), run.losses(), name)
        self.assertEqual(digest(one.folder / SAVED), digest(run.folder / SAVED), name)
        self.assert_traffic_as_planned(run, name)

    def assert_traffic_as_planned(self, run, name):
        planned, measured = (
            line.split(": ")[1] for line in run.stdout.splitlines() if "pipeline traffic" in line)
        self.assertEqual(planned, measured, name)

    def test_the_way_back_through_the_stages(self):
        more = {"model__n_layers": 8, "parallel__pipeline_schedule": "zero_bubble_v"}
        for micro_batches, meshes in ((1, ("pp 2", "pp 2 x dp 2")),
                                      (3, ("pp 2", "pp 4", "pp 2 x dp 2")),
                                      (8, ("pp 4", "pp 2 x tp 2"))):
            one = self.run_of(1, f"one {micro_batches}",
                              settings(1, micro_batches=micro_batches, model__n_layers=8))
            for mesh in meshes:
                name = f"{mesh}, {micro_batches} micro-batches"
                degree = dict(axis.split() for axis in mesh.split(" x "))
                pp, dp, tp = (int(degree.get(axis, 1)) for axis in ("pp", "dp", "tp"))
                run = self.run_of(pp * dp * tp, name, settings(
                    pp, dp, micro_batches, training__tensor_parallel_degree=tp, **more))
                if dp * tp == 1:
                    self.assert_same_bits(one, run, name)
                else:
                    self.assert_close(one, run, name)
                    self.assert_traffic_as_planned(run, name)

    def test_stages_change_no_bit_in_fp8(self):
        for recipe, schedule in (("tensorwise", "1f1b"), ("rowwise", "zero_bubble_v")):
            with self.subTest(recipe):
                fp8 = {"training__fp8_linear": recipe, "training__fp8_skip_blocks": 1}
                one = self.run_of(1, f"{recipe}_1", settings(1, **fp8))
                two = self.run_of(2, f"{recipe}_2", settings(
                    2, parallel__pipeline_schedule=schedule, **fp8))
                self.assertEqual(one.losses(), two.losses())
                self.assertNotEqual(one.losses(), self.one.losses())
                self.assertEqual(digest(one.folder / SAVED), digest(two.folder / SAVED))
                for key in ("fp8/saturated", "fp8/zero_amax"):
                    self.assertEqual(one.column(key), two.column(key))
                    self.assertNotIn(key, self.one.rows()[0])
                self.assertEqual(sum(one.column("fp8/saturated")), 0)

    def test_fp8_sends_what_the_plan_says(self):
        for recipe in ("tensorwise", "rowwise", "block"):
            run = self.run_of(2, f"sent_{recipe}",
                              settings(1, dp=2, training__fp8_linear=recipe, training__steps=2))
            self.assertEqual(run.traffic("plan"), run.traffic("measured"), recipe)

    def test_checkpoints_change_the_mesh(self):
        # 10 steps on each mesh, on from the last one's checkpoint.
        steps = {"training__steps": 50}
        reference = self.workplace.run(1, settings(1, **steps), folder="reference")
        back = settings(2, parallel__pipeline_schedule="zero_bubble_v", **steps)
        meshes = (("pp 2 x dp 1", 2, back),
                  ("pp 1 x dp 2", 2, settings(1, dp=2, micro_batches=2, **steps)),
                  ("tp 2", 2, settings(1, training__tensor_parallel_degree=2, **steps)),
                  ("pp 2", 2, settings(2, parallel__pipeline_schedule="interleaved_1f1b", **steps)),
                  ("pp 2", 2, back))
        before = None
        for number, (mesh, ranks, options) in enumerate(meshes):
            run = self.run_of(ranks, "changes", options)
            if before:
                self.assertRegex(run.stdout, rf"step {10 * number}, written on 2 ranks = .*{before}")
            before = mesh
            checkpoints = self.workplace.path / "changes/checkpoints"
            for step in range(10 * number + 20, 60, 10):
                (checkpoints / f"step_000000{step}.h5").unlink(missing_ok=True)
        rows = {row["step"]: row["loss_metrics/global_avg_loss"] for row in run.rows()}
        worst = max(abs(rows[step + 1] - loss) for step, loss in enumerate(reference.losses()))
        print(f"pp 2 and back, dp 2, tp 2, pp 2 interleaved: largest loss difference {worst:.2e}")
        self.assertLessEqual(worst, self.LOSS_BOUND)

    def test_all_stages_agree_that_a_gradient_is_not_finite(self):
        # Such a decay multiplies the weights by -99 a step, until a step has NaN.
        wild = settings(2, training__steps=20, optimizer__lr=10, optimizer__weight_decay=10,
                        checkpoint__folder="")
        run = self.workplace.run(2, wild, folder="stops")
        self.assertNotEqual(run.returncode, 0, run.output)
        self.assertRegex(run.output, r"error: step 3: gradient norm nan; .*; its update was skipped\. ")
        skips = {**wild, "training/on_nonfinite": "skip",
                 "parallel/pipeline_schedule": "zero_bubble"}
        run = self.workplace.run(2, skips, folder="skips")
        self.assertEqual(run.returncode, 0, run.output)
        warned = re.findall(r"warning: step (\d+): ", run.stderr)
        self.assertEqual(warned, [str(step) for step in range(3, 21)])  # each once
        self.assertEqual(sum(run.column("skipped_steps")), 18)
        self.assertEqual(run.rows()[-1]["nonfinite"]["grad_norm"], "nan")

    def test_what_does_not_fit_is_said(self):
        run = self.workplace.run(2, settings(2, parallel__pipeline_layers="3,3"), folder="odd")
        self.assertEqual(run.returncode, 2, run.output)
        self.assertIn("pipeline_layers = 3,3: expected 2 numbers above 0, one for each stage, that "
                      "make 4 together", run.output)
        run = self.workplace.run(2, settings(2, parallel__pipeline_schedule="zero_bubble",
                                             activation_checkpoint__mode="full"), folder="odd")
        self.assertEqual(run.returncode, 2, run.output)
        self.assertIn("set [activation_checkpoint] mode = none, not full", run.output)


if __name__ == "__main__":
    unittest.main(verbosity=2)
