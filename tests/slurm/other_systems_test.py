#!/usr/bin/env python3
"""The scripts for PBS and Flux, with stand-ins for those systems' commands: what they run, the time
they leave, and that they submit themselves again: other_systems_test.py ROOT"""

import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(sys.argv.pop(1))


class OtherSystems(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)
        (self.scratch / "bin").mkdir()

    def stand_in(self, name, body):
        """A command that notes how it was called."""
        path = self.scratch / "bin" / name
        path.write_text(f'#!/bin/bash\necho "$(basename $0) $*" >>{self.scratch}/calls\n{body}\n')
        path.chmod(0o755)

    def run_script(self, script, *arguments, **environment):
        done = subprocess.run(
            [ROOT / "jobs" / script, *arguments], cwd=ROOT, text=True, timeout=60,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env={"PATH": f"{self.scratch}/bin:{os.environ['PATH']}", "KOIOS": "the/koios",
                 **environment})
        calls = self.scratch / "calls"
        return done, calls.read_text().splitlines() if calls.exists() else []

    def pbs(self, code, walltime="01:00:00"):
        self.stand_in("mpirun", f"exit {code}")
        self.stand_in("qsub", "echo 8.server")
        self.stand_in("qstat", f'echo "Job Id: $2"; echo "    Resource_List.walltime = {walltime}"')
        nodes = self.scratch / "nodes"
        nodes.write_text("n1\nn1\nn2\nn2\n")
        return self.run_script("pbs.sh", PBS_JOBID="7.server", PBS_NODEFILE=str(nodes),
                               PBS_O_WORKDIR=str(ROOT), ARGS="input/debug.ini a/b=c")

    def test_pbs_starts_a_rank_for_each_line_of_the_node_file(self):
        done, calls = self.pbs(0)
        self.assertEqual(done.returncode, 0, done.stdout)
        self.assertEqual(calls[0], "qstat -f 7.server")
        self.assertRegex(calls[1], r"^mpirun --hostfile \S+/nodes -n 4 --bind-to none "
                                   r"-x OMP_NUM_THREADS the/koios input/debug.ini a/b=c "
                                   r"-t (60:00|59:\d\d)$")
        self.assertEqual(len(calls), 2)
        self.assertRegex(done.stdout, r"(?m)^\[job\] started .*, PBS job 7.server$")
        self.assertRegex(done.stdout, r"(?m)^\[job\] hosts    n1 n2$")

    def test_pbs_goes_on_after_a_stop_only(self):
        done, calls = self.pbs(99)
        self.assertEqual(done.returncode, 99)
        self.assertEqual(calls[-1], "qsub -v ARGS=input/debug.ini a/b=c jobs/pbs.sh")
        (self.scratch / "calls").unlink()
        done, calls = self.pbs(1)
        self.assertEqual((done.returncode, calls[-1].split()[0]), (1, "mpirun"))

    def test_pbs_without_a_limit(self):
        _, calls = self.pbs(0, walltime="")
        self.assertTrue(calls[-1].endswith(" a/b=c"), calls)

    def flux(self, code, timeleft="echo 3599.7"):
        self.stand_in("flux", f'''case $1 in
          run) exit {code} ;;
          job) {timeleft} ;;
          getattr) echo f2aB ;;
          hostlist) echo n1 n2 ;;
          resource) echo 2 ;;
        esac''')
        return self.run_script("flux.sh", "input/debug.ini", "two words=1", FLUX_URI="local:///x",
                               RANKS_PER_NODE="4", OMP_NUM_THREADS="3", GPUS_PER_RANK="1")

    def test_flux_starts_the_ranks_of_every_node(self):
        done, calls = self.flux(0)
        self.assertEqual(done.returncode, 0, done.stdout)
        run = next(call for call in calls if call.startswith("flux run"))
        self.assertEqual(run, "flux run -N 2 -n 8 -c 3 -g 1 -o pmi=pmix -o gpu-affinity=off "
                              "-o exit-on-error the/koios input/debug.ini two words=1 -t 59:59")
        self.assertNotIn("batch", "".join(calls))
        self.assertRegex(done.stdout, r"(?m)^\[job\] started .*, Flux job f2aB$")
        self.assertRegex(done.stdout, r"(?m)^\[job\] hosts    n1 n2$")

    def test_flux_goes_on_after_a_stop_only(self):
        done, calls = self.flux(99)
        self.assertEqual(done.returncode, 99)
        self.assertEqual(calls[-1], "flux --parent batch jobs/flux.sh input/debug.ini two words=1")

    def test_flux_without_a_limit(self):
        _, calls = self.flux(0, timeleft="echo infinity")
        run = next(call for call in calls if call.startswith("flux run"))
        self.assertTrue(run.endswith("words=1"), run)

    def test_nothing_of_a_site_is_in_the_scripts(self):
        """Accounts, partitions and hosts are the user's to fill in."""
        for script in (ROOT / "jobs").iterdir():
            for line in script.read_text().splitlines():
                active = re.match(r"#(SBATCH|PBS|\s*flux:)", line)
                self.assertFalse(active and re.search(r"partition|account|-q |-A |/home|/scratch",
                                                      line), f"{script.name}: {line}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
