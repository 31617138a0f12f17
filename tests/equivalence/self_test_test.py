"""koios --self-test: the table, the file with every rank's values, and what it finds wrong: a clock that
is late, a run folder that is not everybody's, one that cannot be made. Speeds are not judged here, on a
machine that does other things too; tests/measure/outliers_test.cpp does that.
"""

import json
import os
import re
import subprocess
import unittest

from koios_run import BINARY, Run, Workplace

LATE_CLOCK = os.environ["KOIOS_LATE_CLOCK"]


def may_mount():
    done = subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False)
    return done.returncode == 0


class SelfTest(unittest.TestCase):
    def setUp(self):
        self.workplace = Workplace().__enter__()
        self.addCleanup(self.workplace.__exit__)
        self.folder = self.workplace.path / "run"

    def run_it(self, ranks, *options, rank_1=""):
        """rank_1: shell text that that rank begins with."""
        settings = {"job/backend": "host", "model/tokenizer_path": "not/there.model", "training/dataset_path": "not/there",
                    "training/data_parallel_replicate_degree": 2 if ranks == 4 else 1,
                    "training/tensor_parallel_degree": 2 if ranks == 4 else 1}
        command = self.workplace.command(ranks, settings) + ["--self-test", *options]
        at = command.index(BINARY)
        command[at:at] = ["sh", "-c", "if [ $OMPI_COMM_WORLD_RANK = 1 ]; then :; "
                          f"{rank_1}\nfi; exec \"$@\"", "sh"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
        return Run(done, self.folder)

    def findings(self, run):
        found = re.findall(r"error: self-test: (.*)", run.stderr)
        self.assertEqual(run.returncode, 1 if found else 0, run.output)
        self.assertEqual("no rank differs from the others" in run.stdout, not found)
        # Of the speeds of a busy machine nothing is asked.
        return [line for line in found if "where the median is" not in line]

    def test_every_quantity_has_a_line_and_every_rank_a_value(self):
        run = self.run_it(4)
        self.assertEqual(self.findings(run), [])
        for line in (r"GEMM 1024 x 1024 x 1024, float32 +TFLOP/s",
                     r"attention forward, 512 tokens, 8 heads +TFLOP/s",
                     r"attention backward, 512 tokens, 8 heads +TFLOP/s",
                     r"memory of the device, copied by a kernel +GB/s",
                     r"all-reduce tp, 4 MiB over 2 +GB/s", r"all-reduce replicate, 4 MiB over 2 +GB/s",
                     r"all-reduce all ranks, 4 MiB over 4 +GB/s", r"free .* of the node +GiB",
                     r"host memory, copied by one thread +GB/s", r"clock, ahead of rank 0's +ms",
                     r"write 64 MiB to \S+ +MB/s"):
            self.assertRegex(run.stdout, rf"(?m)^{line}( +-?[\d.]+){{3}}  (-|ranks? [\d, -]+)$")
        report = json.loads((self.folder / "self_test.json").read_text())
        self.assertEqual(len(report["hosts"]), 4)
        for measurement in report["measurements"]:
            self.assertEqual(len(measurement["of_rank"]), 4, measurement)
            if not measurement["name"].startswith("clock"):
                self.assertTrue(all(value > 0 for value in measurement["of_rank"]), measurement)
        self.assertEqual([file.name for file in self.folder.iterdir()], ["self_test.json"])
        # What it leaves, a prediction takes.
        plan = subprocess.run([BINARY, "model/vocab_size=1000", "--dry-run", "--ranks=4", "--backend=host",
                               "--rates", self.folder / "self_test.json"],
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertRegex(plan.stdout, r"(?m)^# predicted step on this machine, 8 ranks a node; "
                         r"rates \S+/self_test.json:$", plan.stderr)

    def test_a_late_clock_is_found(self):
        run = self.run_it(2, rank_1=f"export LD_PRELOAD={LATE_CLOCK} KOIOS_TEST_LATE_S=3")
        self.assertRegex("\n".join(self.findings(run)),
                         r"^rank 1 on \S+: clock, ahead of rank 0's: -(29|30)\d\d ms, more than 100$")

    @unittest.skipUnless(may_mount(), "needs the right to mount")
    def test_a_folder_of_its_own_is_found(self):
        self.folder.mkdir()
        run = self.run_it(2, rank_1=f"exec unshare -m sh -c 'mount -t tmpfs none {self.folder}; "
                          "exec \"$@\"' sh \"$@\"")
        self.assertRegex("\n".join(self.findings(run)),
                         r"^rank 1 on \S+: does not see what rank 0 wrote in \S+: the run folder must "
                         "be on a file system that all nodes share$")
        self.assertEqual([file.name for file in self.folder.iterdir()], ["self_test.json"])

    def test_a_folder_that_cannot_be_made_is_found(self):
        self.folder.write_text("no folder")
        run = self.run_it(2)
        self.assertRegex("\n".join(self.findings(run)),
                         r"^rank 0 on \S+: cannot make \S+: (Not a directory|File exists)$")

    def test_a_wrong_deck_ends_it_before(self):
        run = self.run_it(2, "training/batch_size=0")
        self.assertEqual(run.returncode, 2, run.output)


if __name__ == "__main__":
    unittest.main(verbosity=2)
