#!/usr/bin/env python3
"""tools/trace_summary.py on timelines whose sums are known: trace_summary_test.py ROOT"""

import contextlib
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
import unittest.mock
from pathlib import Path

ROOT = Path(sys.argv.pop(1))
TOOL = ROOT / "tools/trace_summary.py"
sys.path.insert(0, str(TOOL.parent))
import trace_summary  # noqa: E402


def span(lane, name, begin_ms, end_ms, **work):
    return {"ph": "X", "pid": 0, "tid": lane, "name": name, "ts": 1e6 + begin_ms * 1e3,
            "dur": (end_ms - begin_ms) * 1e3, "args": work}


# A step of 100 ms: computes for 70, of which attention is 20 inside of a block; waits 10 for a
# gather of 30 and 5 for a reduction of 25; 15 at the end nothing.
STEP = [span("compute", "block", 0, 40), span("compute", "attention", 10, 30, flops=2e12),
        span("compute", "wait for weights", 40, 50), span("compute", "head", 50, 80, bytes=6e9),
        span("gather", "all_gather", 20, 50, bytes=3e9), span("reduce", "reduce_scatter", 60, 85),
        span("data", "next batch", 99, 100)]


class TraceSummary(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)

    def write(self, events, rank=0, iteration=10, wrap=True):
        path = self.folder / f"profile_traces/iteration_{iteration}/rank{rank}_trace.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = events if isinstance(events, str) else json.dumps(
            {"traceEvents": events} if wrap else events)
        path.write_text(text)
        return path

    def tool(self, *arguments, code=0):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), \
                unittest.mock.patch.object(sys, "argv", [str(TOOL), *map(str, arguments)]):
            ended = 0
            try:
                trace_summary.main()
            except SystemExit as stop:
                ended = 1 if isinstance(stop.code, str) else stop.code or 0
                err.write(f"{stop.code}\n")
        self.assertEqual(ended, code, out.getvalue() + err.getvalue())
        if code:
            self.assertRegex(err.getvalue(), r"\Atrace_summary: error: [^\n]+\n\Z")
            self.assertNotIn("fault of the tool", err.getvalue())
            return err.getvalue()
        return out.getvalue()

    def row(self, text, *begin):
        """The cells of the one line that begins so."""
        found = [line.split() for line in text.splitlines()
                 if line.split()[:len(begin)] == list(begin)]
        self.assertEqual(len(found), 1, text)
        return found[0][len(begin):]

    def test_one_rank(self):
        self.write(STEP)
        text = self.tool(self.folder, "--peak-tflops", "1000", "--memory-gbs", "400")
        self.assertIn("1 rank, 100.000 ms traced", text)
        # gather: 20..50, of which 40..50 is uncovered; reduce: 60..85, of which 80..85.
        self.assertIn("exposed communication: 15.000 ms, 15.0%; other waits: 0.000 ms, 0.0%; "
                      "no lane at work: 14.000 ms, 14.0%", text)
        self.assertEqual(self.row(text, "block"), ["compute", "1", "20.000", "20.0"])
        self.assertEqual(self.row(text, "attention"),
                         ["compute", "1", "20.000", "20.0", "100.0", "10.0"])
        self.assertEqual(self.row(text, "head"), ["compute", "1", "30.000", "30.0", "200.0", "50.0"])
        self.assertEqual(self.row(text, "all_gather"),
                         ["gather", "1", "30.000", "30.0", "100.0", "25.0"])
        self.assertEqual(self.row(text, "compute"), ["70.000", "70.0"])
        self.assertEqual(self.row(text, "gather"), ["30.000", "30.0", "10.000", "10.0"])
        self.assertEqual(self.row(text, "reduce"), ["25.000", "25.0", "5.000", "5.0"])
        self.assertEqual(self.row(text, "data"), ["1.000", "1.0", "1.000", "1.0"])

    def test_the_slowest_rank_is_named(self):
        self.write(STEP)
        slow = [event | {"dur": event["dur"] + 10e3} if event["name"] == "head" else event
                for event in STEP]
        self.write(slow, rank=3)
        self.write(STEP, rank=12)
        text = self.tool(self.folder)
        self.assertIn("slowest rank: 3, it computes for 80.000 ms, the fastest for 70.000 ms", text)
        self.assertEqual(self.row(text, "3"), ["100.000", "80.000", "10.000", "0.000", "9.000"])
        ranks = [line.split()[0] for line in text.splitlines()[-4:-1]]
        self.assertEqual(ranks, ["0", "3", "12"])

    def test_links_between_stages_are_communication(self):
        link = "activations of stage 0 to 1"
        self.write([*STEP, span(link, "receive", 82, 95), span("checkpoint", "save", 95, 97)])
        text = self.tool(self.folder)
        self.assertIn("exposed communication: 25.000 ms, 25.0%; other waits: 0.000 ms, 0.0%; "
                      "no lane at work: 2.000 ms", text)
        self.assertEqual(self.row(text, *link.split()), ["13.000", "13.0", "13.000", "13.0"])

    def test_a_wait_for_what_is_on_no_lane_is_not_idle(self):
        # 88 to 97, of which 90 to 92 has a lane at work: as on the host, where a rank waits in MPI.
        self.write([*STEP, span("compute", "wait", 88, 97), span("gather", "all_gather", 90, 92)])
        text = self.tool(self.folder)
        self.assertIn("exposed communication: 17.000 ms, 17.0%; other waits: 7.000 ms, 7.0%; "
                      "no lane at work: 5.000 ms, 5.0%", text)

    def test_lanes_by_number_with_names(self):
        lanes = ("compute", "gather", "reduce", "data")
        events = [event | {"tid": lanes.index(event["tid"])} for event in STEP]
        events += [{"ph": "M", "name": "thread_name", "pid": 0, "tid": number, "args": {"name": lane}}
                   for number, lane in enumerate(lanes)]
        path = self.write(events, wrap=False)
        by_number = self.tool(path)
        self.write(STEP)
        self.assertEqual(by_number, self.tool(path))

    def test_the_last_iteration_or_the_one_named(self):
        self.write(STEP, iteration=9)
        self.write(STEP, iteration=100)
        self.assertIn("iteration_100:", self.tool(self.folder))
        self.assertIn("iteration_9:", self.tool(self.folder, "--iteration", "9"))
        self.assertIn("holds no traces of iteration 7, but of 9, 100",
                      self.tool(self.folder, "--iteration", "7", code=1))
        here = os.getcwd()
        self.addCleanup(os.chdir, here)
        os.chdir(self.folder / "profile_traces/iteration_9")
        self.tool(".", "--iteration", "9")
        self.assertIn("but of 9\n", self.tool(".", "--iteration", "7", code=1))
        files = sorted(self.folder.rglob("*.json"))
        self.assertIn("several iterations", self.tool(*files, code=1))

    def test_what_is_no_trace(self):
        self.assertIn("set [profiling] run_profiler", self.tool(self.folder, code=1))
        for text in ("", "{", "[" * 100000, "7", "null", "{}", "[]", '{"traceEvents": 7}',
                     '{"traceEvents": [7]}', '[{"ph": "X"}]', '[{"ph": "X", "ts": 1, "dur": -1}]',
                     '[{"ph": "X", "ts": NaN, "dur": 1}]', '[{"ph": "X", "ts": "1", "dur": 1}]',
                     '[{"ph": "X", "ts": true, "dur": 1}]', "\xff"):
            path = self.write(text)
            self.assertIn(path.name, self.tool(path, code=1))
        self.tool(self.folder / "none.json", code=1)
        odd = [{"ph": "X", "ts": 0, "dur": 1, "tid": [1], "name": ["x\x1b"], "args": 3},
               {"ph": "X", "ts": 0, "dur": 0, "tid": "\x1b[2J", "args": {"flops": "x", "bytes": None}},
               {"ph": "M", "name": "thread_name", "tid": {}, "args": {"name": 1}}, {}]
        self.assertNotIn("\x1b", self.tool(self.write(odd)))

    def test_as_a_user_starts_it(self):
        self.write(STEP)
        for place, code in ((self.folder, 0), (self.folder / "none", 1)):
            done = subprocess.run([sys.executable, TOOL, place], capture_output=True, text=True,
                                  timeout=60, check=False)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertEqual(done.stderr.count("\n"), code)


if __name__ == "__main__":
    unittest.main()
