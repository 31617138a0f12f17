"""[profiling] of the real program: which steps are written, what a timeline says, what the tool makes
of it, and that training is the same."""

import json
import subprocess
import sys
import unittest

from koios_run import SOURCE, TINY, Run, Workplace

STEPS = 7


class Profiling(unittest.TestCase):
    def setUp(self):
        self.workplace = Workplace().__enter__()
        self.addCleanup(self.workplace.__exit__)
        self.path = self.workplace.path

    def train(self, folder, **keys):
        overrides = {**TINY, "training/steps": STEPS, "training/batch_size": 2,
                     "job/dump_folder": folder, **keys}
        done = subprocess.run(self.workplace.command(2, overrides), text=True, capture_output=True,
                              timeout=120, check=False)
        return Run(done, folder)

    def test_timelines(self):
        plain = self.train(self.path / "plain")
        run = self.train(self.path / "traced", **{"profiling/run_profiler": "true",
                                                  "profiling/profile_freq": 3})
        self.assertEqual(run.returncode, 0, run.output)
        self.assertEqual(run.losses(), plain.losses())
        traces = self.path / "traced/profiling/traces"
        self.assertEqual(sorted(f.name for f in traces.iterdir()), ["iteration_3", "iteration_6"])
        for rank in range(2):
            text = (traces / f"iteration_6/rank{rank}_trace.json").read_text()
            trace = json.loads(text)
            self.assertEqual(trace["otherData"], {"rank": rank, "step": 6})
            spans = [e for e in trace["traceEvents"] if e["ph"] == "X"]
            self.assertLessEqual({"compute", "gather", "reduce", "data"},
                                 {e["cat"] for e in spans})
            self.assertTrue(all(e["ts"] >= 0 and e["dur"] >= 0 for e in spans))
            # Two blocks, forward and backward: seven products each way and the head's.
            products = [e for e in spans if e["name"] == "product"]
            self.assertTrue(all(e["args"]["flops"] > 0 for e in products))
            self.assertEqual(sum(e["name"] == "attention" for e in spans), 2)
            self.assertEqual(sum(e["name"] == "attention backward" for e in spans), 2)
        tool = subprocess.run([sys.executable, SOURCE / "tools/trace_summary.py",
                               self.path / "traced"], text=True, capture_output=True, check=True)
        self.assertIn("attention backward", tool.stdout)
        self.assertIn("2 ranks", tool.stdout)

    def test_no_room_for_the_steps(self):
        run = self.train(self.path / "run", **{"profiling/profile_freq": 1})
        self.assertEqual(run.returncode, 2, run.output)
        self.assertIn("[profiling] profile_freq = 1 has no room for warmup_steps = 1 and "
                      "active_steps = 1", run.stderr)

    def test_a_folder_that_cannot_be_made(self):
        traces = self.path / "run/profiling/traces"
        traces.parent.mkdir(parents=True)
        traces.write_text("")
        keys = {"profiling/run_profiler": "true", "profiling/profile_freq": 3}
        run = self.train(self.path / "run", **keys)
        self.assertEqual(run.returncode, 1, run.output)
        self.assertRegex(run.stderr, r"error: \[profiling\] save_traces_folder: .*profiling/traces cannot be made")
        self.assertNotIn("step ", run.stdout)

    def test_a_trace_that_cannot_be_written(self):
        """On one rank: the others stop tracing with it, and all train on."""
        place = self.path / "run/profiling/traces/iteration_3/rank1_trace.json"
        (place / "in the way").mkdir(parents=True)
        run = self.train(self.path / "run", **{"profiling/run_profiler": "true", "profiling/profile_freq": 3})
        self.assertEqual(run.returncode, 0, run.output)
        self.assertEqual(len(run.losses()), STEPS)
        (said,) = [line for line in run.stderr.splitlines() if "iteration_3" in line]
        self.assertRegex(said, r"warning: step 3: .*rank1_trace.json.*\(rank 1\); no further steps are traced, "
                               r"training goes on$")
        self.assertFalse((self.path / "run/profiling/traces/iteration_6").exists())


if __name__ == "__main__":
    unittest.main()
