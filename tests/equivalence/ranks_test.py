"""The same training on 1, 2, 3, 4 and 7 ranks: losses, repeatability, traffic and memory.

Bounds: losses of two meshes differ by sums in another order only; the design allows 2e-4 a step.
"""

import shutil
import subprocess
import unittest

from koios_run import BINARY, MeshTest, SOURCE, keys

GLOBAL_BATCH = 84  # divides by 1, 2, 3, 4 and 7
STEPS = 20


def settings(ranks, **more):
    out = {"training/batch_size": GLOBAL_BATCH // ranks, "training/steps": STEPS,
           "optimizer/lr": 2e-3}
    return out | keys(**more)


class Ranks(MeshTest):
    @classmethod
    def prepare(cls):
        cls.runs = {ranks: cls.workplace.train(ranks, settings(ranks), f"np{ranks}")
                    for ranks in (1, 2, 3, 4, 7)}

    def worst_difference(self, run, other):
        losses, others = run.losses(), other.losses()
        self.assertEqual(len(losses), STEPS)
        self.assertEqual(len(others), STEPS)
        return max(abs(a - b) for a, b in zip(losses, others))

    def test_losses_do_not_depend_on_the_ranks(self):
        one = self.runs[1]
        self.assertAlmostEqual(one.losses()[0], 10.86, delta=0.1)  # ln V + 0.49
        self.assertLess(one.losses()[-1], one.losses()[0] - 0.5)
        for ranks, run in self.runs.items():
            worst = self.worst_difference(one, run)
            print(f"1 rank against {ranks}: largest loss difference {worst:.2e}")
            self.assertLessEqual(worst, self.LOSS_BOUND, f"{ranks} ranks")

    def test_same_mesh_gives_the_same_bits(self):
        again = self.workplace.run(3, settings(3), folder="np3-again")
        for key in ("loss_metrics/global_avg_loss", "loss_metrics/global_max_loss", "grad_norm"):
            self.assertEqual(self.runs[3].column(key), again.column(key), key)

    def test_accumulation_and_resharding_change_nothing(self):
        for more in ({"training__gradient_accumulation_steps": 3,
                      "training__batch_size": GLOBAL_BATCH // 6},
                     {"training__gradient_accumulation_steps": 3,
                      "training__batch_size": GLOBAL_BATCH // 6,
                      "training__reduce_every_micro_batch": "false"},
                     {"training__reshard_after_forward": "false"},
                     {"training__prefetch_blocks": 2}):
            run = self.workplace.run(2, settings(2, **more), folder="variant" + str(len(more)))
            self.assertEqual(run.returncode, 0, run.output)
            rows = run.losses()[-STEPS:]
            worst = max(abs(a - b) for a, b in zip(self.runs[1].losses(), rows))
            print(f"{more}: largest loss difference {worst:.2e}")
            self.assertLessEqual(worst, self.LOSS_BOUND, more)
            self.assertEqual(run.traffic("plan"), run.traffic("measured"), more)

    def test_kept_casts_change_no_bit(self):
        for ranks, accumulation in ((1, 1), (3, 1), (2, 3)):
            kept, not_kept = (
                self.workplace.run(ranks, settings(
                    ranks, training__mixed_precision_param="bfloat16", training__steps=5,
                    training__gradient_accumulation_steps=accumulation,
                    training__batch_size=GLOBAL_BATCH // ranks // accumulation,
                    training__keep_cast_shards=keep), folder=f"cast-{keep}-{ranks}")
                for keep in ("true", "false"))
            self.assertEqual((kept.planned("cast parameters") > 0,
                              "cast parameters" in not_kept.output), (True, False))
            for key in ("loss_metrics/global_avg_loss", "grad_norm"):
                self.assertEqual(len(kept.column(key)), 5, kept.output)
                self.assertEqual(kept.column(key), not_kept.column(key), ranks)
            self.assertEqual(kept.traffic("plan"), kept.traffic("measured"))

    def test_gradients_reduced_in_bfloat16(self):
        # Each rank rounds its share of a gradient once, by at most 2^-9 of it: a perturbation far
        # above float32's, which 20 steps carry into the third digit of the loss at most.
        whole = self.runs[3].traffic("measured")
        for more in ({}, {"training__gradient_accumulation_steps": 2,
                          "training__batch_size": GLOBAL_BATCH // 6}):
            run = self.workplace.run(3, settings(3, training__mixed_precision_reduce="bfloat16",
                                                 **more), folder="narrow" + str(len(more)))
            self.assertEqual(run.returncode, 0, run.output)
            self.assertEqual(run.traffic("plan"), run.traffic("measured"))
            worst = self.worst_difference(self.runs[1], run)
            print(f"reduced in bfloat16, {more}: largest loss difference {worst:.2e}")
            self.assertGreater(worst, 0)
            self.assertLessEqual(worst, 5e-3)
            if not more:
                self.assertEqual(run.traffic("measured"), (whole[0], whole[1] // 2))

    def test_more_ranks_than_rows(self):
        small = {"model__dim": 4, "model__n_heads": 2, "model__n_kv_heads": 1, "model__ffn_dim": 5,
                 "training__seq_len": 8, "training__steps": 5}  # 7 ranks share rows of 2, 4 and 5
        one = self.workplace.run(1, settings(1, **small), folder="small1")
        seven = self.workplace.run(7, settings(7, **small), folder="small7")
        self.assertEqual(seven.returncode, 0, seven.output)
        self.assertEqual((len(one.losses()), len(seven.losses())), (5, 5))
        worst = max(abs(a - b) for a, b in zip(one.losses(), seven.losses()))
        print(f"7 ranks, rows of 2, 4 and 5: largest loss difference {worst:.2e}")
        self.assertLessEqual(worst, self.LOSS_BOUND)
        self.assertEqual(seven.traffic("plan"), seven.traffic("measured"))

    def test_traffic_is_what_the_plan_says(self):
        for ranks, run in self.runs.items():
            self.assertEqual(run.traffic("plan"), run.traffic("measured"), f"{ranks} ranks")
        self.assertEqual(self.runs[1].traffic("measured"), (0, 0))
        self.assertGreater(self.runs[4].traffic("measured")[1], 0)

    def test_memory_falls_with_the_ranks(self):
        for label in ("master parameters", "gradient shard", "optimizer exp_avg",
                      "optimizer exp_avg_sq"):
            whole = self.runs[1].planned(label)
            for ranks in (2, 4, 7):
                share = self.runs[ranks].planned(label) * ranks / whole
                self.assertLess(share, 1.01, f"{label} on {ranks} ranks")

    @unittest.skipUnless(subprocess.run(["unshare", "-m", "true"], capture_output=True,
                                        check=False).returncode == 0, "needs the right to mount")
    def test_rank_0_reads_the_tokenizer_for_all(self):
        # What rank 1 has under that name is something else.
        model, other = self.workplace.path / "a.model", self.workplace.path / "other"
        shutil.copy(SOURCE / "build/assets/tokenizer.model", model)
        other.write_text("no tokenizer")
        command = self.workplace.command(2, {**settings(2, training__steps=1),
                                             "model/tokenizer_path": model}, folder="other-model")
        at = command.index(BINARY)
        command[at:at] = ["sh", "-c", f"[ $OMPI_COMM_WORLD_RANK = 0 ] && exec \"$@\"; exec unshare -m "
                          f"sh -c 'mount --bind {other} {model} && exec \"$@\"' sh \"$@\"", "sh"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
