"""What may happen to checkpoints and their folder, each with what Koios must do about it."""

import fcntl
import os
import pathlib
import re
import shutil
import subprocess
import time
import unittest

from koios_run import Workplace, digest

# Half a million parameters: files of 6 MiB.
SMALL = {"model/dim": 8, "model/n_layers": 1, "model/n_heads": 2, "model/n_kv_heads": 1,
         "model/ffn_dim": 8, "training/seq_len": 16, "training/batch_size": 2,
         "training/warmup_steps": 1, "training/steps": 4,
         "checkpoint/folder": "checkpoints", "checkpoint/interval": 1}


def is_mounted_tmpfs(folder, size):
    folder.mkdir(parents=True)
    return subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
                          capture_output=True, check=False).returncode == 0


class Faults(unittest.TestCase):
    def setUp(self):
        self.workplace = Workplace().__enter__()
        self.addCleanup(self.workplace.__exit__)
        self.folder = self.workplace.path / "run/checkpoints"

    def koios(self, ranks=2, fails=False, **more):
        settings = dict(SMALL)
        settings.update({key.replace("__", "/"): value for key, value in more.items()})
        run = self.workplace.run(ranks, settings, timeout=90)
        self.assertEqual(run.returncode != 0, fails, run.output)
        return run

    def refuses(self, message, **more):
        run = self.koios(fails=True, **more)
        self.assertRegex(run.stderr, message)
        self.assertEqual(len(re.findall("error: ", run.stderr)), 1, run.stderr)
        return run

    def names(self):
        return sorted(path.name for path in self.folder.iterdir())

    def file(self, step):
        return self.folder / f"step_{step:08d}.h5"

    def tmpfs(self, folder, size):
        if not is_mounted_tmpfs(folder, size):
            self.skipTest("this user may not mount a tmpfs")
        self.addCleanup(subprocess.run, ["umount", "-l", str(folder)], check=False)

    def test_damaged_newest_file_is_named_and_the_one_before_used(self):
        self.koios()
        newest, before = self.file(4), self.file(3)
        bad = bytearray(newest.read_bytes())
        bad[len(bad) // 2] ^= 16  # in the values of the embedding
        newest.write_bytes(bad)
        with before.open("r+b") as file:
            file.truncate(before.stat().st_size // 2)
        run = self.koios()
        self.assertRegex(run.stderr, r"passed over .*step_00000004.h5: the values of /\S+ do not "
                                     "have their checksum")
        self.assertRegex(run.stderr, r"passed over .*step_00000003.h5: .*truncated")
        self.assertRegex(run.stdout, r"continues from .*step_00000002.h5, step 2")
        self.assertNotIn("passed over", self.koios(training__steps=5).output)  # written anew

    def test_only_damaged_files_is_not_a_fresh_start(self):
        self.koios(training__steps=2)
        for step in (1, 2):
            self.file(step).write_bytes(b"not HDF5")
        self.refuses("none of the checkpoints in .* can be used")

    def test_stale_partial_files_are_removed_and_never_read(self):
        self.koios(training__steps=2)
        shutil.copy(self.file(2), self.folder / "step_00000009.h5.partial")
        run = self.koios()
        self.assertRegex(run.stdout, "removed .*step_00000009.h5.partial")
        self.assertRegex(run.stdout, r"continues from .*step_00000002.h5")
        self.assertEqual(self.names(), [f"step_{n:08d}.h5" for n in (1, 2, 3, 4)])

    def test_full_disk(self):
        self.tmpfs(self.workplace.path / "run", "22m")
        run = self.refuses(r"cannot reserve \d+ MiB for .*step_0000000\d.h5.partial: No space left "
                           r"on device; \d+ MiB are free", training__steps=9)
        saved = run.stdout.count("saved ")
        self.assertGreaterEqual(saved, 2)
        self.assertEqual(self.names(), [f"step_{n + 1:08d}.h5" for n in range(saved)])
        self.file(1).unlink()
        run = self.koios(training__steps=saved + 1)
        self.assertRegex(run.stdout, rf"continues from .*step_{saved:08d}.h5")

    def test_full_disk_asynchronously(self):
        self.tmpfs(self.workplace.path / "run", "22m")
        run = self.refuses(r"cannot reserve \d+ MiB for .*: No space left on device",
                           training__steps=9, checkpoint__async="true")
        self.assertNotIn(".partial", "".join(self.names()))
        self.assertGreaterEqual(len(self.names()), run.stdout.count("saved "))

    def test_full_disk_through_parallel_hdf5(self):
        self.tmpfs(self.workplace.path / "run", "22m")
        for is_async in ("false", "true"):
            self.refuses(r"cannot reserve \d+ MiB for .*: No space left on device",
                         training__steps=9, checkpoint__io="parallel_hdf5",
                         checkpoint__async=is_async)
            self.assertNotIn(".partial", "".join(self.names()))
            self.assertGreaterEqual(len(self.names()), 2)

    def test_retention_keeps_room_on_the_disk(self):
        self.tmpfs(self.workplace.path / "run", "36m")  # all nine would take 60
        self.koios(training__steps=9, checkpoint__keep_latest_k=1, checkpoint__keep_every=5)
        self.assertEqual(self.names(), ["step_00000005.h5", "step_00000009.h5"])

    def test_folder_made_read_only(self):
        self.tmpfs(self.folder, "100m")
        self.koios(training__steps=2)
        subprocess.run(["mount", "-o", "remount,ro", str(self.folder)], check=True)
        self.refuses(r"cannot write .*step_00000003.h5.partial: Read-only file system")

    def test_a_file_in_place_of_the_folder(self):
        self.folder.parent.mkdir()
        self.folder.write_text("")
        self.refuses("folder .*checkpoints cannot be made")

    def test_locks_of_others_and_no_locks(self):
        self.koios(training__steps=2)
        with self.file(2).open("rb") as newest:
            fcntl.flock(newest, fcntl.LOCK_EX)  # as h5py takes on a file that it changes
            self.assertIn("step_00000002.h5", self.koios(training__steps=3).stdout)
        for locking in ("TRUE", "FALSE"):
            os.environ["HDF5_USE_FILE_LOCKING"] = locking
            self.addCleanup(os.environ.pop, "HDF5_USE_FILE_LOCKING", None)
            self.file(3).unlink()
            self.koios(training__steps=3)

    def test_two_jobs_in_one_folder(self):
        first = subprocess.Popen(self.workplace.command(1, {**SMALL, "training/steps": 100000}),
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.addCleanup(first.communicate)
        self.addCleanup(first.terminate)
        deadline = time.monotonic() + 60
        while not self.file(1).exists():
            self.assertLess(time.monotonic(), deadline, "no checkpoint within a minute")
            time.sleep(0.05)
        self.refuses(rf"is in use by another run \(host, process: {os.uname().nodename} \d+\)")

    def test_interval_in_seconds(self):
        settings = {**SMALL, "training/steps": 100000, "checkpoint/interval_type": "seconds"}
        job = subprocess.Popen(self.workplace.command(2, settings), stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True)
        self.addCleanup(job.communicate)
        self.addCleanup(job.terminate)
        deadline = time.monotonic() + 60
        saved = []
        while len(saved) < 4:
            self.assertLess(time.monotonic(), deadline, saved)
            time.sleep(0.05)
            saved = sorted(self.folder.glob("*.h5"))
        self.assertEqual(saved[0], self.file(1))
        self.assertGreater(int(saved[3].stem.removeprefix("step_")), 4)
        times = [path.stat().st_mtime for path in saved]
        for earlier, later in zip(times, times[1:]):
            self.assertGreater(later - earlier, 0.98)  # each second, but for the clock's grain
            self.assertLess(later - earlier, 10)

    def test_resume_modes(self):
        self.refuses(r"resume = required, but there is no checkpoint", checkpoint__resume="required")
        self.koios(training__steps=2)
        self.koios(training__steps=3, checkpoint__resume="required")
        self.refuses(r"resume = none, but .* holds checkpoints", checkpoint__resume="none")
        self.assertIn("nothing is left to do", self.koios(training__steps=3).stdout)

    def test_decks_that_contradict_the_checkpoint(self):
        self.koios(training__steps=2)
        self.refuses(r"step_00000002.h5 is of another run: job/seed was 0, now 5; model/ffn_dim was "
                     r"8, now 16", model__ffn_dim=16, job__seed=5)
        run = self.koios(optimizer__lr=1e-5)
        self.assertIn("differs from the checkpoint's deck: optimizer/lr was 8e-04, now 1e-05",
                      run.stdout)

    def test_one_file_too_many_of_a_killed_run_goes(self):
        self.koios(training__steps=3, checkpoint__keep_latest_k=2)
        shutil.copy(self.file(2), self.file(1))
        run = self.koios(training__steps=3, checkpoint__keep_latest_k=2)
        self.assertIn("nothing is left to do", run.stdout)
        self.assertEqual(self.names(), ["step_00000002.h5", "step_00000003.h5"])

    def test_a_renamed_checkpoint_is_not_used(self):
        self.koios(training__steps=2)
        self.file(2).rename(self.file(7))
        run = self.koios(training__steps=3)
        self.assertRegex(run.stderr, r"passed over .*step_00000007.h5: its name says step 7, and it "
                                     "is of step 2")
        self.assertRegex(run.stdout, r"continues from .*step_00000001.h5, step 1")

    def test_losses_that_are_no_numbers_are_saved(self):
        diverging = {"optimizer__lr": 10, "optimizer__beta2": 0, "training__max_norm": 1e9,
                     "training__on_nonfinite": "skip", "training__steps": 40,
                     "checkpoint__interval": 10}
        run = self.koios(**diverging)
        rows = [row for row in run.rows() if "nonfinite" in row]
        if not rows:
            self.fail("no loss of this run is NaN")
        self.assertIn("step_00000040.h5", self.names())
        self.assertRegex(self.koios(**{**diverging, "training__steps": 41}).stdout,
                         r"continues from .*step_00000040.h5")

    def test_what_a_run_writes_goes_through_no_link(self):
        other = self.workplace.path / "other"
        for name in ("metrics.jsonl", "run.lock", "effective.ini", "effective.ini.partial",
                     "provenance.json", "data_files.txt.partial"):
            other.write_text('{"step":1}\nsomebody else\'s')
            link = self.folder.parent / name
            link.parent.mkdir(exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(other)
            self.refuses(rf"{name} is a link to .*other, and Koios writes through no links")
            self.assertEqual(other.read_text(), '{"step":1}\nsomebody else\'s')
            link.unlink()
        (self.folder.parent / "metrics.jsonl").write_text("a diary")
        self.refuses("metrics.jsonl does not hold the metrics of a run")
        self.assertEqual((self.folder.parent / "metrics.jsonl").read_text(), "a diary")

    def test_a_run_folder_may_be_a_link(self):
        (self.workplace.path / "elsewhere").mkdir()
        (self.workplace.path / "run").symlink_to(self.workplace.path / "elsewhere")
        self.koios(training__steps=2)
        self.assertEqual(self.names(), ["step_00000001.h5", "step_00000002.h5"])

    def test_files_may_not_grow(self):
        command = ["prlimit", f"--fsize={5 << 20}"] + self.workplace.command(1, SMALL)[6:]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        self.assertEqual(run.returncode, 1, run.stdout + run.stderr)
        self.assertRegex(run.stderr, r"cannot reserve \d+ MiB for .*h5.partial: File too large; this "
                                     r"process may make files of at most 5120 KiB \(ulimit -f\)")
        self.assertEqual(self.names(), [])

    def test_decks_that_see_other_data(self):
        self.koios(training__steps=2)
        self.refuses("is of another run: data/document_mask was false, now true",
                     data__document_mask="true")

    def test_finished_weights_stay_as_they_are(self):
        for interval in (3, 100):
            shutil.rmtree(self.folder.parent, ignore_errors=True)
            options = {"checkpoint__model_weights_only": "true", "checkpoint__interval": interval,
                       "checkpoint__save_first_step": "false"}
            self.koios(**options)
            weights = self.folder / "step_00000004_weights.h5"
            before, names = (weights.read_bytes(), weights.stat().st_mtime_ns), self.names()
            run = self.koios(**options)
            self.assertIn("nothing is left to do", run.stdout)
            self.assertEqual((weights.read_bytes(), weights.stat().st_mtime_ns), before)
            self.assertEqual(self.names(), names)
            self.refuses("is of another run: model/norm_type", **options,
                         model__norm_type="layernorm")

    def test_weights_alone_cannot_be_resumed(self):
        for dtype, size in (("float32", 4), ("bfloat16", 2), ("float16", 2)):
            shutil.rmtree(self.folder.parent, ignore_errors=True)
            run = self.koios(checkpoint__model_weights_only="true", checkpoint__interval=3,
                             checkpoint__export_dtype=dtype)
            self.assertIn("weights only: it cannot be resumed", run.stdout)
            self.assertEqual(self.names(), ["step_00000001.h5", "step_00000003.h5",
                                            "step_00000004_weights.h5"])
            lines = digest(self.folder / "step_00000004_weights.h5").splitlines()
            self.assertEqual(len(lines), 12)  # embedding, head, 3 norms, 7 matrices of the block
            for line in lines:
                self.assertRegex(line, rf"^[a-z0-9._]+( \d+)+ {size} \w+$")  # no group, this size
        self.assertIn("step_00000003.h5", self.koios().stdout)
        weights = {"checkpoint__initial_load_path": self.folder / "step_00000004_weights.h5",
                   "checkpoint__folder": "new"}
        self.refuses(r"it is of another model: model/norm_type is rmsnorm there, layernorm here",
                     **weights, model__norm_type="layernorm")
        self.refuses(r"it is of another model: model/ffn_dim is 8 there, 16 here; model/rope_theta "
                     r"is 10000 there, 5e\+05 here\n", **weights, model__ffn_dim=16,
                     model__rope_theta=5e5)
        # What fixes a run does not fix a model, and fused_rmsnorm is the same formula.
        run = self.koios(**weights, model__norm_type="fused_rmsnorm", job__seed=5,
                         optimizer__name="Adam", data__add_bos="false")
        self.assertIn("weights from ", run.stdout)


if __name__ == "__main__":
    unittest.main(verbosity=2)
