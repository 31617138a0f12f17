"""Stopping and continuing: N steps = k + (N - k), bit for bit on the same mesh, within the bounds of
the design on another; always the same samples."""

import re
import shutil
import unittest

from koios_run import Workplace, digest

GLOBAL_BATCH = 12  # divides by 1, 2, 3 and 4
STEPS = 9
LOSS_BOUND = 2e-4  # sums in another order


def settings(dp, tp, **more):
    out = {"training/batch_size": GLOBAL_BATCH // dp, "training/tensor_parallel_degree": tp,
           "training/steps": STEPS, "optimizer/lr": 2e-3, "checkpoint/folder": "checkpoints", "checkpoint/interval": 3}
    out.update({key.replace("__", "/"): value for key, value in more.items()})
    return out


EXACT = ("loss_metrics/global_avg_loss", "loss_metrics/global_max_loss", "grad_norm", "lr",
         "tokens_seen", "data/samples_hash")


class Restart(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.workplace = Workplace().__enter__()
        cls.straight = cls.run_of(2, "straight")

    @classmethod
    def tearDownClass(cls):
        cls.workplace.__exit__()

    @classmethod
    def run_of(cls, dp, folder, tp=1, **more):
        run = cls.workplace.run(dp * tp, settings(dp, tp, **more), folder=folder)
        if run.returncode != 0:
            raise AssertionError(run.output)
        return run

    def copy_up_to(self, step, folder):
        """A run folder that looks as if the run had been stopped after this step."""
        target = self.workplace.path / folder
        shutil.copytree(self.straight.folder, target)
        for file in (target / "checkpoints").iterdir():
            if int(re.search(r"step_(\d+)\.h5$", file.name)[1]) > step:
                file.unlink()

    def last_rows(self, run):
        """Row by step; the last one counts."""
        return {row["step"]: row for row in run.rows()}

    def assert_same_rows(self, run):
        expected, got = self.last_rows(self.straight), self.last_rows(run)
        self.assertEqual(expected.keys(), got.keys())
        for step, row in expected.items():
            for key in EXACT:
                self.assertEqual(row[key], got[step][key], f"step {step}: {key}")

    def assert_same_values(self, run, other, step):
        a, b = (digest(r.folder / f"checkpoints/step_{step:08d}.h5") for r in (run, other))
        self.assertIn("optimizer/exp_avg_sq/layers.1.attention.wq.weight 48 48", a)
        self.assertIn("data_state/next_sample", a)
        self.assertEqual(a, b)

    def test_a_row_says_what_saving_took_and_how_long_each_rank_did(self):
        rows = self.last_rows(self.straight)
        stall = {step: row["time_metrics/checkpoint_stall(s)"] for step, row in rows.items()}
        for step in (4, 7):  # the first rows after a save
            self.assertGreater(stall[step], 0)
        for step in (3, 5, 6):
            self.assertEqual(stall[step], 0)
        for row in rows.values():
            for key in ("end_to_end", "communication"):
                by_rank = row[f"time_metrics/{key}_by_rank(s)"]
                self.assertEqual(len(by_rank), 2)
                self.assertTrue(all(0 < seconds < 100 for seconds in by_rank), by_rank)
            parts = sum(row[f"time_metrics/communication_{part}(s)"]
                        for part in ("gather", "reduce", "tp"))
            self.assertLess(0, parts)
            self.assertLess(parts, 1.001 * row["time_metrics/communication(s)"])
            self.assertGreater(row["memory/host_resident(GiB)"], 0.01)
            self.assertGreater(row["memory/host_free(GiB)"], 0.01)
            self.assertEqual(row["skipped_steps"], 0)
            self.assertFalse([key for key in row if key.startswith("gpu/")])

    def test_same_mesh_gives_the_same_bits(self):
        self.copy_up_to(6, "one")
        run = self.run_of(2, "one")
        self.assertRegex(run.stdout, r"continues from .*step_00000006.h5, step 6")
        self.assertEqual([row["step"] for row in run.rows() if row["run"] == 2], [7, 8, 9])
        self.assert_same_rows(run)
        self.assert_same_values(self.straight, run, 9)

    def test_scales_of_the_step_before_are_in_no_checkpoint(self):
        """The first step after a start has no older scales, and so the bits of one that wants none."""
        rows = {}
        for scales in ("current", "previous"):
            self.copy_up_to(6, f"{scales}_scales")
            rows[scales] = self.last_rows(self.run_of(
                2, f"{scales}_scales", training__fp8_linear="tensorwise",
                training__fp8_scales=scales))
        for key in EXACT:
            self.assertEqual(rows["current"][7][key], rows["previous"][7][key], key)
        self.assertNotEqual(rows["current"][8]["grad_norm"], rows["previous"][8]["grad_norm"])
        for step in (8, 9):
            self.assertEqual(rows["previous"][step]["fp8/saturated"], 0)
            losses = [rows[scales][step]["loss_metrics/global_avg_loss"] for scales in rows]
            self.assertAlmostEqual(losses[0], losses[1], delta=5e-3)

    def test_asynchronous_saves_hold_the_same_bits(self):
        self.copy_up_to(6, "async")
        shutil.rmtree(self.workplace.path / "async/checkpoints")
        run = self.run_of(2, "async", training__steps=STEPS, checkpoint__async="true",
                          checkpoint__interval=1)
        self.assertEqual(run.stdout.count("while training stood still for"), STEPS)
        for step in (1, 3, 6, 9):
            self.assert_same_values(self.straight, run, step)
        for step in range(5, STEPS + 1):
            (run.folder / f"checkpoints/step_{step:08d}.h5").unlink()
        run = self.run_of(2, "async", checkpoint__async="true")
        self.assertRegex(run.stdout, r"continues from .*step_00000004.h5")
        self.assert_same_rows(run)
        self.assert_same_values(self.straight, run, 9)

    def test_parallel_hdf5_holds_the_same_bits(self):
        self.copy_up_to(6, "mpi_io")
        shutil.rmtree(self.workplace.path / "mpi_io/checkpoints")
        run = self.run_of(2, "mpi_io", checkpoint__io="parallel_hdf5")
        self.assertRegex(run.stdout, r"parallel HDF5 [\d.]+ over .*, component \w+")
        for step in (1, 3, 6, 9):
            self.assert_same_values(self.straight, run, step)
        (run.folder / "checkpoints/step_00000009.h5").unlink()
        run = self.run_of(2, "mpi_io", checkpoint__io="parallel_hdf5", checkpoint__async="true")
        self.assertRegex(run.stdout, r"continues from .*step_00000006.h5")
        self.assertIn("while training stood still for", run.stdout)
        self.assert_same_rows(run)
        self.assert_same_values(self.straight, run, 9)

    def test_parallel_hdf5_of_tensor_parallel_ranks_holds_the_same_bits(self):
        direct = self.run_of(1, "tp_direct", tp=2, training__steps=3)
        for is_async in ("false", "true"):
            run = self.run_of(1, f"tp_mpi_io_{is_async}", tp=2, training__steps=3,
                              checkpoint__io="parallel_hdf5", checkpoint__async=is_async)
            self.assert_same_values(direct, run, 3)

    def test_two_restarts_give_the_same_bits(self):
        self.copy_up_to(3, "two")
        stopped = self.run_of(2, "two", training__steps=6, checkpoint__interval=3)
        self.assertRegex(stopped.stdout, "differs .* training/steps was 9, now 6")
        # The schedule of a shorter run is another one: take the straight run's checkpoint again.
        shutil.copy(self.straight.folder / "checkpoints/step_00000006.h5",
                    stopped.folder / "checkpoints/step_00000006.h5")
        (stopped.folder / "metrics.jsonl").write_bytes(
            b"".join((self.straight.folder / "metrics.jsonl").read_bytes().splitlines(True)[:6]))
        self.assert_same_rows(self.run_of(2, "two"))

    def test_other_meshes_stay_within_the_bounds(self):
        """2 -> 1 -> 4 -> 2 x tp 2 -> 4 data-parallel ranks, one run folder."""
        expected = self.last_rows(self.straight)
        self.copy_up_to(3, "meshes")
        for step, (dp, tp) in ((3, (1, 1)), (5, (4, 1)), (6, (2, 2)), (7, (4, 1))):
            with self.subTest(dp=dp, tp=tp):
                for file in (self.workplace.path / "meshes/checkpoints").iterdir():
                    if int(file.stem.removeprefix("step_")) > step:
                        file.unlink()
                run = self.run_of(dp, "meshes", tp, checkpoint__interval=1)
                self.assertRegex(run.stdout, rf"continues from .*step_{step:08d}.h5")
                got = self.last_rows(run)
                worst = 0
                for later in range(step + 1, STEPS + 1):
                    self.assertEqual(expected[later]["data/samples_hash"],
                                     got[later]["data/samples_hash"])
                    worst = max(worst, abs(expected[later]["loss_metrics/global_avg_loss"]
                                           - got[later]["loss_metrics/global_avg_loss"]))
                print(f"continued on dp {dp} x tp {tp}: largest loss difference {worst:.2e}")
                self.assertLessEqual(worst, LOSS_BOUND)


if __name__ == "__main__":
    unittest.main(verbosity=2)
