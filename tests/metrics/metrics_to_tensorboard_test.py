#!/usr/bin/env python3
"""tools/metrics_to_tensorboard.py, read back by TensorBoard's own reader.

metrics_to_tensorboard_test.py ROOT; runs in ROOT/.venv where tensorboard is installed only there,
exits 77 (skipped) where it is not installed at all.
"""

import fcntl
import json
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(sys.argv.pop(1))
TOOL = ROOT / "tools/metrics_to_tensorboard.py"

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.plugin_event_accumulator import (
        EventAccumulator as ServerAccumulator)
    from tensorboard.util.tensor_util import make_ndarray
except ImportError as error:
    venv = ROOT / ".venv/bin/python3"
    if venv.exists() and Path(sys.executable) != venv:
        os.execv(venv, [venv, __file__, ROOT, *sys.argv[1:]])
    print(f"SKIPPED: {sys.executable} has no tensorboard ({error}); to run this test: "
          "python3 -m venv .venv && .venv/bin/pip install -r tools/requirements-tensorboard.txt")
    sys.exit(77)

LOSS = "loss_metrics/global_avg_loss"


def row(step, loss, run=1, **more):
    return {"step": step, "time": 1.7e9 + 1000 * run + step + 0.123456, "run": run, LOSS: loss,
            "mfu(%)": None, **more}


class RunFolder:
    """A run folder as lib/metrics writes it."""

    def __init__(self, path):
        self.path = Path(path)
        self.metrics = self.path / "metrics.jsonl"
        self.lock = None

    def write(self, text):
        with open(self.metrics, "a") as file:
            file.write(text)

    def add(self, *rows):
        self.write("".join(json.dumps(row) + "\n" for row in rows))

    def hold(self):
        """What a running job does: an open-file-description lock on run.lock."""
        self.lock = open(self.path / "run.lock", "w")
        whole = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        fcntl.fcntl(self.lock, 37, whole)  # F_OFD_SETLK
        self.lock.write(f"{socket.gethostname()} {os.getpid()}\n")
        self.lock.flush()

    def release(self):
        self.lock.close()

    def command(self, *options):
        return [sys.executable, TOOL, self.path, *options]

    def convert(self, *options):
        done = subprocess.run(self.command(*options), capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def points(self, tag=LOSS, out="tensorboard"):
        events = EventAccumulator(str(self.path / out), size_guidance={"scalars": 0})
        events.Reload()
        return [(p.step, p.value) for p in events.Scalars(tag)]

    def points_served(self):
        """As the web server reads them, which is not quite the same code."""
        events = ServerAccumulator(str(self.path / "tensorboard"))
        return [(p.step, make_ndarray(p.tensor_proto).item()) for p in events.Reload().Tensors(LOSS)]

    def tags(self):
        events = EventAccumulator(str(self.path / "tensorboard"))
        return set(events.Reload().Tags()["scalars"])


class Once(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.run_folder = RunFolder(scratch.name)

    def convert(self, *options):
        code, text = self.run_folder.convert(*options)
        self.assertEqual(code, 0, text)
        return text

    def refused(self, *options):
        code, text = self.run_folder.convert(*options)
        self.assertEqual(code, 1, text)
        self.assertNotIn("Traceback", text)
        return text

    def test_tags_values_and_times_pass_through(self):
        self.run_folder.add(row(1, 10.5, **{"time_metrics/data_loading(%)": 3}), row(10, 8.25))
        self.assertIn("2 rows added, 2 in all", self.convert())
        self.assertEqual(self.run_folder.points(), [(1, 10.5), (10, 8.25)])
        self.assertEqual(self.run_folder.tags(), {LOSS, "time_metrics/data_loading(%)"})
        events = EventAccumulator(str(self.run_folder.path / "tensorboard")).Reload()
        self.assertEqual(events.Scalars(LOSS)[0].wall_time, row(1, 0)["time"])

    def test_second_run_adds_only_what_is_new(self):
        self.run_folder.add(row(1, 10.5), row(2, 9.5))
        self.convert()
        self.assertIn("0 rows added, 2 in all", self.convert())
        self.run_folder.add(row(3, 9.0))
        self.assertIn("1 rows added, 3 in all", self.convert())
        self.assertEqual(self.run_folder.points(), [(1, 10.5), (2, 9.5), (3, 9.0)])
        self.assertEqual(len(list((self.run_folder.path / "tensorboard").iterdir())), 1)

    def test_steps_trained_again_replace_the_first(self):
        self.run_folder.add(*(row(step, 10 - step) for step in range(1, 6)))
        self.run_folder.add(*(row(step, 20 - step, run=2) for step in range(4, 8)))
        self.convert()
        expected = [(1, 9), (2, 8), (3, 7), (4, 16), (5, 15), (6, 14), (7, 13)]
        self.assertEqual(self.run_folder.points(), expected)
        self.assertEqual(self.run_folder.points_served(), expected)
        self.convert()
        self.assertEqual(self.run_folder.points(), expected)

    def test_half_written_last_line_waits_until_it_is_whole(self):
        line = json.dumps(row(2, 9.5))
        self.run_folder.add(row(1, 10.5))
        self.run_folder.write(line[:40])
        self.convert()
        self.assertEqual(self.run_folder.points(), [(1, 10.5)])
        self.run_folder.write(line[40:] + "\n")
        self.convert()
        self.assertEqual(self.run_folder.points(), [(1, 10.5), (2, 9.5)])

    def test_half_written_event_is_written_again(self):
        self.run_folder.add(row(1, 10.5), row(2, 9.5))
        self.convert()
        (event_file,) = (self.run_folder.path / "tensorboard").iterdir()
        whole = event_file.read_bytes()
        for damaged in (whole[:-5], whole[:-len(whole) // 4], whole + bytes(100), b""):
            event_file.write_bytes(damaged)
            self.convert()
            self.assertEqual(self.run_folder.points(), [(1, 10.5), (2, 9.5)])

    def test_nan_and_infinity_are_points_null_is_none(self):
        self.run_folder.add(row(1, None, nonfinite={LOSS: "nan"}),
                            row(2, None, nonfinite={LOSS: "inf"}), row(3, None))
        self.convert()
        (first, second) = self.run_folder.points()
        self.assertTrue(math.isnan(first[1]))
        self.assertEqual(second, (2, math.inf))

    def test_line_that_is_no_row_is_named_and_left_out(self):
        self.run_folder.add(row(1, 10.5))
        self.run_folder.write('oops\n[1]\n{"step": 2, "time": 1, "nonfinite": null}\n'
                              '{"step": 1e30, "time": 1}\n')
        self.run_folder.add(row(2, 9.5))
        text = self.convert()
        self.assertIn("metrics.jsonl:2: not a row", text)
        for line in (3, 4, 5):
            self.assertIn(f"metrics.jsonl:{line}: not a row", text)
        self.assertEqual(self.run_folder.points(), [(1, 10.5), (2, 9.5)])

    def test_other_folder_for_the_events(self):
        self.run_folder.add(row(1, 10.5))
        self.convert("--out", self.run_folder.path / "a/b")
        self.assertEqual(self.run_folder.points(out="a/b"), [(1, 10.5)])
        self.assertFalse((self.run_folder.path / "tensorboard").exists())

    def test_no_metrics(self):
        self.assertIn(f"there is no {self.run_folder.metrics}", self.refused())
        self.assertIn("there is no", self.refused("--follow"))

    def test_folder_that_cannot_be_written(self):
        self.run_folder.add(row(1, 10.5))
        (self.run_folder.path / "tensorboard").write_text("in the way")
        self.assertIn("choose another folder with --out", self.refused())

    def test_without_tensorboard_the_pip_command_is_named(self):
        self.run_folder.add(row(1, 10.5))
        # -S: no site-packages, so no tensorboard
        done = subprocess.run([sys.executable, "-S", "-E", TOOL, self.run_folder.path],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 1)
        self.assertIn("pip install -r", done.stderr)
        self.assertIn("requirements-tensorboard.txt", done.stderr)
        self.assertNotIn("Traceback", done.stderr)


class Follow(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.run_folder = RunFolder(scratch.name)

    def start(self):
        process = subprocess.Popen(self.run_folder.command("--follow"), stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def wait_for(self, expected):
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if (self.run_folder.path / "tensorboard").exists():
                try:
                    if self.run_folder.points() == expected:
                        return
                except KeyError:
                    pass  # no such tag yet
            time.sleep(0.1)
        self.fail(f"{expected} did not appear")

    def test_from_before_the_first_row_to_the_end_of_the_run(self):
        self.run_folder.hold()
        process = self.start()
        time.sleep(0.5)
        self.run_folder.add(row(1, 10.5))
        self.wait_for([(1, 10.5)])
        self.run_folder.add(row(2, 9.5))
        self.wait_for([(1, 10.5), (2, 9.5)])
        self.run_folder.add(row(3, 9.0))
        self.run_folder.release()
        self.assertEqual(process.wait(timeout=30), 0)
        self.assertEqual(self.run_folder.points(), [(1, 10.5), (2, 9.5), (3, 9.0)])

    def test_interrupted(self):
        self.run_folder.hold()
        self.run_folder.add(row(1, 10.5))
        process = self.start()
        self.wait_for([(1, 10.5)])
        code, text = self.run_folder.convert()
        self.assertEqual(code, 1)
        self.assertIn("being written by another", text)
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(timeout=30), 0)
        self.assertIn("1 in all", process.stdout.read())
        self.run_folder.release()

    def test_run_that_has_ended(self):
        self.run_folder.add(row(1, 10.5))
        self.run_folder.hold()
        self.run_folder.release()
        self.assertEqual(self.run_folder.convert("--follow")[0], 0)
        self.assertEqual(self.run_folder.points(), [(1, 10.5)])

    def test_run_on_another_host_whose_lock_does_not_reach(self):
        self.run_folder.add(row(1, 10.5))
        (self.run_folder.path / "run.lock").write_text("elsewhere 17\n")
        process = self.start()
        self.wait_for([(1, 10.5)])
        (self.run_folder.path / "run.lock").write_text("")  # ended by itself
        self.assertEqual(process.wait(timeout=30), 0)


if __name__ == "__main__":
    unittest.main()
