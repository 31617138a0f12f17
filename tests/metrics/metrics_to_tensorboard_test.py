#!/usr/bin/env python3
"""tools/metrics_to_tensorboard.py, read back by TensorBoard's own reader.

metrics_to_tensorboard_test.py ROOT; runs in ROOT/.venv where tensorboard is installed only there,
exits 77 (skipped) where it is not installed at all.
"""

import contextlib
import fcntl
import io
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
import unittest.mock
import urllib.parse
import urllib.request
from pathlib import Path

ROOT = Path(sys.argv.pop(1))
TOOL = ROOT / "tools/metrics_to_tensorboard.py"

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.plugin_event_accumulator import (
        EventAccumulator as ServerAccumulator)
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData
    from tensorboard.util.tensor_util import make_ndarray
except ImportError as error:
    venv = ROOT / ".venv/bin/python3"
    if venv.exists() and Path(sys.executable) != venv:
        os.execv(venv, [venv, __file__, ROOT, *sys.argv[1:]])
    print(f"SKIPPED: {sys.executable} has no tensorboard ({error}); to run this test: "
          "python3 -m venv .venv && .venv/bin/pip install -r tools/requirements-tensorboard.txt")
    sys.exit(77)

sys.path.insert(0, str(TOOL.parent))
import metrics_to_tensorboard  # noqa: E402

LOSS = "loss_metrics/global_avg_loss"
BY_RANK = "time_metrics/end_to_end_by_rank(s)"
DECK = """# The deck in force: every key, and where its value comes from.

[job]
description = <b>two</b> runs  # input/debug.ini:3

[model]
flavor = debugmodel  # input/debug.ini:13
dim = 256  # flavor debugmodel
depth_init = true  # default

[optimizer]
lr = 5e-04  # input/debug.ini:19
"""


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
        """In this process: starting Python takes a hundred times as long as what is tested."""
        out, code = io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), \
                unittest.mock.patch.object(sys, "argv", list(map(str, self.command(*options)[1:]))):
            try:
                metrics_to_tensorboard.main()
            except SystemExit as stop:
                out.write(f"{stop.code}\n")
                code = 1 if isinstance(stop.code, str) else stop.code
        assert "this is a fault of the tool" not in out.getvalue(), out.getvalue()
        return code, out.getvalue()

    def convert_as_a_user_does(self, *options):
        done = subprocess.run(self.command(*options), capture_output=True, text=True, timeout=60)
        return done.returncode, done.stdout + done.stderr

    def points(self, tag=LOSS, out="tensorboard"):
        events = EventAccumulator(str(self.path / out), size_guidance={"scalars": 0})
        events.Reload()
        return [(p.step, p.value) for p in events.Scalars(tag)]

    def event_files(self, out="tensorboard"):
        return [path.read_bytes() for path in sorted((self.path / out).iterdir())]

    def fresh(self):
        """What a conversion into an empty folder writes."""
        with tempfile.TemporaryDirectory() as scratch:
            code, text = self.convert("--out", scratch)
            assert code == 0, text
            return self.event_files(scratch)

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
        code, text = self.run_folder.convert_as_a_user_does()
        self.assertEqual((code, text.splitlines()[-1][:12]), (0, "2 rows added"))
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
        for part in (line[:40], line[40:]):  # whole, but for its end
            self.run_folder.write(part)
            self.assertIn("metrics.jsonl:2: the last line has no end (yet); left out\n", self.convert())
            self.assertEqual(self.run_folder.points(), [(1, 10.5)])
        self.run_folder.write("\n")
        self.assertNotIn("left out", self.convert())
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

    def test_damage_of_the_event_file_is_found_and_mended(self):
        """By the checksums of its records; no byte of it is trusted."""
        self.run_folder.add(*(row(step, 10 - step) for step in range(1, 6)))
        self.convert()
        (event_file,) = (self.run_folder.path / "tensorboard").iterdir()
        whole = event_file.read_bytes()
        for at in range(0, len(whole), 41):
            event_file.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1:])
            self.convert()
            self.assertEqual(event_file.read_bytes(), whole, at)

    def test_any_change_of_the_metrics_ends_as_a_fresh_conversion(self):
        self.run_folder.add(*(row(step, 10 - step) for step in range(1, 9)))
        self.convert()
        lines = self.run_folder.metrics.read_text().splitlines(keepends=True)
        other = [json.dumps(row(step, step)) + "\n" for step in range(1, 9)]
        for changed in (lines[:3] + ["damaged\n"] + lines[4:], lines, lines[:5], lines[:1], other,
                        other + lines, lines[::-1], lines[1:], [], lines[:4] + other[4:], other[:3],
                        lines + [lines[7]], lines):
            self.run_folder.metrics.write_text("".join(changed))
            self.convert()
            if changed:
                self.assertEqual(self.run_folder.event_files(), self.run_folder.fresh())
        self.assertEqual(self.run_folder.points(), [(step, 10 - step) for step in range(1, 9)])
        self.assertEqual(self.run_folder.points_served(), self.run_folder.points())

    def test_the_deck_is_text_and_hparams(self):
        self.run_folder.add(row(1, 10.5), row(2, 9.5))
        self.convert()  # of a run folder whose deck is gone
        deck = self.run_folder.path / "effective.ini"
        for text in (DECK, DECK.replace("5e-04", "1e-3"), "", "\xff\0[", DECK):
            deck.write_text(text)
            self.convert()
            self.assertEqual(self.run_folder.event_files(), self.run_folder.fresh())
        deck.unlink()
        os.mkfifo(deck)
        self.convert()
        deck.unlink()
        deck.write_text(DECK)
        self.convert()
        self.assertEqual(self.run_folder.points_served(), [(1, 10.5), (2, 9.5)])
        events = ServerAccumulator(str(self.run_folder.path / "tensorboard")).Reload()
        shown = make_ndarray(events.Tensors("deck")[0].tensor_proto)[0].decode()
        self.assertIn("    lr = 5e-04  # input/debug.ini:19\n", shown)
        content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
        data = HParamsPluginData.FromString(content).session_start_info.hparams
        found = {key: getattr(value, value.WhichOneof("kind")) for key, value in data.items()}
        self.assertEqual(found, {"model/flavor": "debugmodel", "model/dim": 256,
                                 "model/depth_init": True, "optimizer/lr": 5e-4})

    def test_values_of_the_ranks_become_a_histogram(self):
        self.run_folder.add(row(1, 10.5, **{BY_RANK: [0.5, 0.5, 0.8, 0.65]}),
                            row(2, 9.5, **{BY_RANK: [0.25]}),
                            row(3, 9, **{BY_RANK: [], "odd": ["x"], "odder": [1, None], "deep": [[1]]}))
        self.convert()
        self.assertEqual(self.run_folder.points(), [(1, 10.5), (2, 9.5), (3, 9)])
        events = EventAccumulator(str(self.run_folder.path / "tensorboard")).Reload()
        self.assertEqual(events.PluginTagToContent("histograms").keys(), {BY_RANK})
        first, second = (make_ndarray(each.tensor_proto) for each in events.Tensors(BY_RANK))
        self.assertEqual(first.shape, (30, 3))
        self.assertEqual((first[0, 0], first[-1, 1]), (0.5, 0.8))
        self.assertEqual([list(each) for each in first[first[:, 2] > 0][:, 2:]], [[2], [1], [1]])
        self.assertEqual(second.tolist(), [[0.25, 0.25, 1]])

    def test_hostile_lines(self):
        deep = "[" * 100000
        odd = ['{"step": true, "time": 1}', '{"step": 1.5, "time": 1}', '{"step": "1", "time": 1}',
               '{"step": 1, "time": "1"}', '{"step": 1, "time": NaN}', '{"step": 1, "time": 1e999}',
               '{"step": -1, "time": 1}', '{"step": 1, "time": -1}', deep, '{"a":' * 50000,
               '{"step": 1, "time": 1, "nonfinite": {"a": "many"}}', '"step"', "null", "7", "\0",
               '{"step": 1, "time": 1, "nonfinite": [1]}', '{"step": 1, "time": 1, "\\ud800": 1}',
               '{"step": 1, "time": 1, "a": 1' + "0" * 400 + "}", "x" * (3 << 20), "\x1b[2J",
               '{"step": 9223372036854775808, "time": 1}', '{"step": 1' + "0" * 5000 + "}"]
        self.run_folder.write("".join(line + "\n" for line in odd))
        self.run_folder.add(row(3, 9.0, **{"\x1b[2J": 1.0, "huge": 1e300, "": 2, "text": "x",
                                           "list": [1], "flag": True}))
        text = self.convert()
        self.assertEqual(self.run_folder.points(), [(3, 9.0)])
        self.assertNotIn("\x1b", text)
        self.assertNotIn("Traceback", text)
        self.assertEqual(text.count("not a row of metrics"), 20)
        self.assertIn(f"{len(odd)} lines are not rows", text)

    def test_links_and_pipes_are_not_followed(self):
        elsewhere = self.run_folder.path / "elsewhere"
        elsewhere.mkdir()
        (elsewhere / "file").write_text("not ours")
        self.run_folder.add(row(1, 10.5))
        events = self.run_folder.path / "tensorboard"
        events.symlink_to(elsewhere)
        self.assertIn("is a link", self.refused())
        events.unlink()
        events.mkdir()
        event_file = events / "events.out.tfevents.koios"
        for make in (lambda: event_file.symlink_to(elsewhere / "file"),
                     lambda: event_file.symlink_to(elsewhere / "none"),
                     lambda: os.mkfifo(event_file), event_file.mkdir):
            make()
            self.assertIn("is not a file", self.refused())
            event_file.rmdir() if event_file.is_dir() else event_file.unlink()
        self.assertEqual([path.name for path in elsewhere.iterdir()], ["file"])
        self.assertEqual((elsewhere / "file").read_text(), "not ours")
        self.run_folder.metrics.rename(elsewhere / "metrics.jsonl")
        self.run_folder.metrics.symlink_to(elsewhere / "metrics.jsonl")
        self.assertIn("is a link", self.refused())
        self.run_folder.metrics.unlink()
        os.mkfifo(self.run_folder.metrics)
        self.assertIn("is not a file", self.refused())

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


class Following(unittest.TestCase):
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


class Follow(Following):
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

    def test_damage_that_is_repaired_and_files_that_are_replaced(self):
        """While it follows: what was shown is mended, not only what comes after."""
        self.run_folder.hold()
        lines = [json.dumps(row(step, 10 - step)) + "\n" for step in range(1, 9)]
        other = [json.dumps(row(step, 20 + step, run=2)) + "\n" for step in range(1, 7)]
        process = self.start()
        self.run_folder.write("".join(lines[:3] + ["damaged\n"] + lines[4:6]))
        self.wait_for([(1, 9), (2, 8), (3, 7), (5, 5), (6, 4)])

        def repair(text):  # in its place
            with open(self.run_folder.metrics, "r+") as file:
                file.write(text)
                file.truncate()

        def replace(text):
            new = self.run_folder.path / "metrics.new"
            new.write_text(text)
            new.replace(self.run_folder.metrics)

        for change, now in ((repair, lines[:7]), (replace, lines), (replace, other),
                            (repair, other[:2]), (replace, lines[:2] + other[2:]), (repair, lines)):
            change("".join(now))
            expected = [(each["step"], each[LOSS]) for each in map(json.loads, now)]
            self.wait_for(expected)
        self.run_folder.add(row(9, 1))
        self.run_folder.release()
        self.assertEqual(process.wait(timeout=30), 0)
        self.assertEqual(self.run_folder.event_files(), self.run_folder.fresh())
        self.assertEqual(self.run_folder.points(), [(step, 10 - step) for step in range(1, 10)])

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


class Served(Following):
    """By a TensorBoard that runs all the while, as people look at it."""

    def setUp(self):
        super().setUp()
        self.server = subprocess.Popen(
            [sys.executable, "-m", "tensorboard.main", "--logdir", self.run_folder.path, "--port", "0",
             "--host", "127.0.0.1", "--reload_interval", "1"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.addCleanup(self.server.stderr.close)
        self.addCleanup(self.server.wait)
        self.addCleanup(self.server.terminate)
        for line in self.server.stderr:
            if " at http://" in line:
                self.url = line.split(" at ")[1].split()[0]
                return
        self.fail("TensorBoard did not start")

    def plugin(self, path, tag, **more):
        query = urllib.parse.urlencode({"run": "tensorboard", "tag": tag} | more)
        with urllib.request.urlopen(f"{self.url}data/plugin/{path}?{query}", timeout=10) as got:
            return json.load(got)

    def served(self):
        return [(step, value) for _, step, value in self.plugin("scalars/scalars", LOSS)]

    def wait_for(self, expected):
        deadline, found = time.monotonic() + 60, None
        while time.monotonic() < deadline:
            try:
                found = self.served()
                if found == expected:
                    return
            except OSError:
                pass  # no such run yet
            time.sleep(0.2)
        self.fail(f"{expected} did not appear; last: {found}")

    def test_deck_hparams_and_histograms_are_served(self):
        (self.run_folder.path / "effective.ini").write_text(DECK)
        self.run_folder.add(row(1, 10.5, **{BY_RANK: [0.5, 0.8]}))
        self.run_folder.convert()
        self.wait_for([(1, 10.5)])
        text = self.plugin("text/text", "deck")[0]["text"]
        self.assertIn("lr = 5e-04", text)
        self.assertNotIn("<b>two", text)
        _, step, bins = self.plugin("histograms/histograms", BY_RANK)[0]
        self.assertEqual((step, bins[0][0], bins[-1][1]), (1, 0.5, 0.8))
        wanted = json.dumps({"experimentName": "", "allowedStatuses": ["STATUS_UNKNOWN"],
                             "colParams": [{"hparam": "optimizer/lr", "includeInResult": True}],
                             "startIndex": 0, "sliceSize": 10})
        groups = self.plugin("hparams/session_groups", "", request=wanted)["sessionGroups"]
        self.assertEqual([group["hparams"]["optimizer/lr"] for group in groups], [5e-4])

    def test_growth_restart_and_repair_are_seen(self):
        self.run_folder.hold()
        process = self.start()
        lines = [json.dumps(row(step, 10 - step)) + "\n" for step in range(1, 9)]
        self.run_folder.write("".join(lines[:2] + ["damaged\n"] + lines[3:4]))
        self.wait_for([(1, 9), (2, 8), (4, 6)])
        self.run_folder.add(row(5, 5))
        self.wait_for([(1, 9), (2, 8), (4, 6), (5, 5)])
        self.run_folder.add(row(4, 26, run=2))  # from a checkpoint
        self.wait_for([(1, 9), (2, 8), (4, 26)])
        self.run_folder.metrics.write_text("".join(lines[:6]))
        self.wait_for([(step, 10 - step) for step in range(1, 7)])
        self.run_folder.metrics.write_text("".join(lines[:3]))
        self.wait_for([(step, 10 - step) for step in range(1, 4)])
        self.run_folder.write("".join(lines[3:]))
        self.run_folder.release()
        self.assertEqual(process.wait(timeout=30), 0)
        self.wait_for([(step, 10 - step) for step in range(1, 9)])


if __name__ == "__main__":
    unittest.main()
