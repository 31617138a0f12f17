"""Signals, walltime and the files STOP and SAVE: what a run does, and that whatever comes at whatever
moment, the newest checkpoint is complete and a later start trains the same steps to the same bits.

The trials go through a table of signal, receiver and moment, as many as KOIOS_STOP_TRIALS says, from
a random place on (KOIOS_STOP_SEED)."""

import ctypes
import itertools
import os
import pathlib
import platform
import random
import re
import signal
import struct
import subprocess
import time
import unittest
import unittest.mock

from koios_run import Job, Retrained, Workplace

TRIALS = int(os.environ.get("KOIOS_STOP_TRIALS", "10"))
SEED = int(os.environ.get("KOIOS_STOP_SEED", "1"))
STOPPED, FAILED = 99, 1
SMALL = {"model/dim": 8, "model/n_layers": 1, "model/n_heads": 2, "model/n_kv_heads": 1,
         "model/ffn_dim": 8, "training/seq_len": 16, "training/batch_size": 2,
         "training/warmup_steps": 1, "training/steps": 100000, "checkpoint/folder": "checkpoints",
         "checkpoint/interval": 1000, "checkpoint/keep_latest_k": 2}
BEGUN = "continues from|training starts anew"
STEP = r"^step +\d+/"
SAVED = r"saved .*step_(\d+)\.h5"


def newest(run_folder):
    """Step of the newest complete checkpoint; 0 where there is none."""
    names = [file.name for file in (run_folder / "checkpoints").glob("step_*.h5")]
    return max((int(name[5:13]) for name in names), default=0)


def takes(pid, number):
    """Whether this process has a handler for this signal."""
    if pid is None:
        return False
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    return bool(int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16) >> (number - 1) & 1)


def signal_as_parent(pid, number):
    """As kill(2) by the parent of this process would send it; see rt_sigqueueinfo(2)."""
    parent = int(re.search(r"PPid:\s*(\d+)", pathlib.Path(f"/proc/{pid}/status").read_text())[1])
    si_queue, size_of_siginfo = -1, 128
    info = struct.pack("=4i2i", number, 0, si_queue, 0, parent, os.getuid()).ljust(size_of_siginfo,
                                                                                  b"\0")
    call = {"x86_64": 129, "aarch64": 138}[platform.machine()]
    if ctypes.CDLL(None, use_errno=True).syscall(call, pid, int(number), info) != 0:
        raise OSError(ctypes.get_errno(), "rt_sigqueueinfo")


class Stopping(unittest.TestCase):
    def setUp(self):
        self.workplace = Workplace().__enter__()
        self.addCleanup(self.workplace.__exit__)
        self.folder = self.workplace.path / "run"

    def start(self, ranks=2, **more):
        settings = {**SMALL, **{key.replace("__", "/"): value for key, value in more.items()}}
        return Job(self.workplace.command(ranks, settings), self.workplace.path)

    def running(self, **more):
        job = self.start(**more)
        self.assertTrue(job.wait_for(STEP), job.output)
        return job

    def assert_stopped(self, job, by):
        self.assertEqual(job.end(), STOPPED, job.output)
        (step,) = job.numbers(rf"stopped by {by} after step (\d+) of 100000: the same command goes on")
        self.assertEqual(newest(self.folder), step, job.output)
        return step

    def test_usr1_saves_and_goes_on(self):
        job = self.running(checkpoint__save_first_step="false")
        job.process.send_signal(signal.SIGUSR1)
        self.assertTrue(job.wait_for("saved "), job.output)
        (saved,) = job.numbers(SAVED)
        self.assertTrue(job.wait_for(rf"^step +{saved + 3}/"), job.output)
        job.process.send_signal(signal.SIGUSR2)
        self.assertGreater(self.assert_stopped(job, "SIGUSR2"), saved)

    def test_a_launchers_usr1_that_reaches_a_rank_late_saves_once(self):
        job = self.running(checkpoint__save_first_step="false", checkpoint__interval=100000)
        ranks = job.process_of_rank()
        for saves, rank in enumerate((0, 1), start=1):  # who is late one time is first the next
            signal_as_parent(ranks[rank], signal.SIGUSR1)
            self.wait_for_saves(job, saves)
            signal_as_parent(ranks[1 - rank], signal.SIGUSR1)
            time.sleep(0.6)  # sooner, the next one would be the same wish
            self.assertEqual(len(job.numbers(SAVED)), saves, job.output)
        os.kill(ranks[1], signal.SIGUSR1)  # for this rank alone
        self.wait_for_saves(job, 3)
        job.process.send_signal(signal.SIGUSR2)
        self.assert_stopped(job, "SIGUSR2")

    def wait_for_saves(self, job, count):
        deadline = time.monotonic() + 30
        while len(job.numbers(SAVED)) < count:
            self.assertLess(time.monotonic(), deadline, job.output)
            time.sleep(0.005)

    def test_any_rank_is_heard(self):
        for number in (signal.SIGUSR2, signal.SIGTERM, signal.SIGINT):
            for asynchronous in ("false", "true"):
                job = self.running(ranks=3, checkpoint__async=asynchronous)
                os.kill(max(job.ranks()), number)
                self.assert_stopped(job, number.name)

    def test_a_second_one_ends_at_once(self):
        for told, stopped in ((0, 1), (1, 0)):
            with self.subTest(f"to rank {told}"):
                self.second_one_ends_at_once(told, stopped)

    def second_one_ends_at_once(self, told, stopped):
        # A validation that nothing would end, and a rank that is not there to agree.
        job = self.running(validation__dataset_path=os.environ["KOIOS_SOURCE_DIR"]
                           + "/build/assets/kjv.txt", validation__dataset="text",
                           validation__interval=2, validation__steps=100000)
        ranks = job.process_of_rank()
        os.kill(ranks[stopped], signal.SIGSTOP)
        os.kill(ranks[told], signal.SIGUSR2)
        time.sleep(1)
        self.assertIsNone(job.process.poll(), job.output)
        os.kill(ranks[told], signal.SIGTERM)
        self.assertEqual(job.end(), 128 + signal.SIGTERM, job.output)
        self.assertEqual([line for line in job.said() if " again" in line],
                         [f"[koios rank {told}] SIGTERM again: stopped at once, the newest complete "
                          "checkpoint stands"])
        self.assertNotIn("has died", job.output)

    def test_validation_is_broken_off(self):
        job = self.running(validation__dataset_path=os.environ["KOIOS_SOURCE_DIR"]
                           + "/build/assets/kjv.txt", validation__dataset="text",
                           validation__interval=2, validation__steps=100000)
        time.sleep(0.3)
        job.process.send_signal(signal.SIGUSR2)
        self.assertEqual(self.assert_stopped(job, "SIGUSR2"), 2)
        self.assertIn("validation broken off", job.output)

    def test_before_the_first_step_nothing_is_waited_for(self):
        job = self.start()
        self.assertTrue(job.wait_for("memory plan"), job.output)
        os.kill(min(job.ranks()), signal.SIGTERM)
        self.assertEqual(job.end(), STOPPED, job.output)
        self.assertIn("SIGTERM: stopped; nothing is lost", job.output)

    def stopped_in_the_start(self, ranks, told, number, timeout=60):
        """The lines that name the signal. The model is large enough for the start to take a second."""
        job = self.start(ranks=ranks, model__dim=512, model__n_layers=4, model__n_heads=8,
                         model__n_kv_heads=8, model__ffn_dim=2048)
        self.assertTrue(job.wait_for("memory plan"), job.output)
        processes = job.process_of_rank()
        for rank in told:
            os.kill(processes[rank], number)
        self.assertEqual(job.end(timeout), STOPPED, job.output)
        self.assertNotIn("has died", job.output)
        self.assertFalse((self.folder / "checkpoints").exists(), job.output)
        return [line for line in job.said() if "SIG" in line]

    def test_before_the_first_step_a_rank_that_is_stopped_says_so(self):
        for ranks, rank, number in ((2, 1, signal.SIGTERM), (3, 2, signal.SIGTERM),
                                    (3, 1, signal.SIGUSR2), (3, 2, signal.SIGINT)):
            with self.subTest(f"{number.name} to rank {rank} of {ranks}"):
                self.assertEqual(self.stopped_in_the_start(ranks, [rank], number),
                                 [f"[koios rank {rank}] {number.name}: stopped; nothing is lost, the "
                                  "same command goes on"])

    def test_of_several_that_are_stopped_one_says_so(self):
        (line,) = self.stopped_in_the_start(3, [1, 2], signal.SIGTERM)
        self.assertRegex(line, r"^\[koios rank [12]\] SIGTERM: stopped; nothing is lost")

    def test_a_stopped_rank_ends_the_others_where_the_launcher_leaves_them(self):
        leaves_them = {"OMPI_MCA_orte_abort_on_non_zero_status": "0"}
        with unittest.mock.patch.dict(os.environ, leaves_them):
            (line,) = self.stopped_in_the_start(3, [1], signal.SIGTERM, timeout=30)
        self.assertIn("[koios rank 1] SIGTERM: stopped; nothing is lost", line)

    def test_while_mpi_starts_a_stopped_rank_says_so_too(self):
        job = self.start(ranks=3)
        deadline = time.monotonic() + 60
        while not takes(pid := job.process_of_rank().get(2), signal.SIGTERM):
            self.assertLess(time.monotonic(), deadline, job.output)
        os.kill(pid, signal.SIGTERM)
        said = r"\[koios rank 2\] SIGTERM: stopped; nothing is lost, the same command goes on"
        self.assertTrue(job.wait_for(said), job.output)
        job.kill(whole=True)  # Open MPI 4.1's mpirun may hang after an end in MPI_Init

    def test_without_checkpoints_it_says_that_nothing_is_saved(self):
        job = self.running(checkpoint__folder="")
        job.process.send_signal(signal.SIGUSR1)
        self.assertTrue(job.wait_for("a save was asked for, but .* nothing is saved"), job.output)
        job.process.send_signal(signal.SIGUSR2)
        self.assertEqual(job.end(), FAILED, job.output)
        self.assertRegex(job.output, r"stopped by SIGUSR2 after step \d+ of 100000; nothing is saved")

    def test_files_in_the_run_folder(self):
        job = self.running(checkpoint__save_first_step="false")
        (self.folder / "SAVE").touch()
        self.assertTrue(job.wait_for("saved "), job.output)
        self.assertFalse((self.folder / "SAVE").exists())
        (self.folder / "STOP").touch()
        self.assert_stopped(job, "the file .*STOP")
        again = self.start()
        self.assertEqual(again.end(), FAILED)
        self.assertRegex(again.output, "STOP is there: .* remove it to train on")
        (self.folder / "STOP").unlink()
        job = self.running()
        job.process.send_signal(signal.SIGUSR2)
        self.assert_stopped(job, "SIGUSR2")

    def test_walltime_chain_gives_the_same_bits(self):
        steps = {"training__steps": 60, "checkpoint__interval": 7}
        whole = Retrained()
        job = self.start(**steps)
        self.assertEqual(job.end(), 0, job.output)
        whole.check(self.folder / "metrics.jsonl")
        self.folder.rename(self.workplace.path / "straight")
        starts = 0
        while True:
            began = time.monotonic()
            # Too short for anything but the first step, so that every start does one.
            limit = "00:01" if starts < 3 else "0"
            code = self.start(job__walltime=limit, **steps).end()
            starts += 1
            whole.check(self.folder / "metrics.jsonl")
            if code == 0:
                break
            self.assertEqual(code, STOPPED)
            self.assertEqual(newest(self.folder), starts)
            self.assertLess(time.monotonic() - began, 60)
        self.assertEqual((starts, newest(self.folder), whole.again), (4, 60, 60))

    def test_walltime_is_kept(self):
        limit_s = 12
        began = time.monotonic()
        job = self.start(job__walltime=f"0:{limit_s}")
        step = self.assert_stopped(job, "job/walltime")
        self.assertLess(time.monotonic() - began, limit_s)
        self.assertGreater(step, 1)

    def test_trials(self):
        random.seed(SEED)
        moments = ("start-up", "first step", "step", "save", "validation")
        signals = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM, signal.SIGINT)
        table = list(itertools.product(signals, ("launcher", "rank", "twice"), moments))
        table += [("walltime", None, None)] * 6
        random.shuffle(table)
        saved, counts, retrained = 0, {}, Retrained()
        for number in range(TRIALS):
            trial = table[number % len(table)]
            saved, ending = self.trial(number, *trial, saved)
            counts[ending] = counts.get(ending, 0) + 1
            if (self.folder / "metrics.jsonl").exists():
                retrained.check(self.folder / "metrics.jsonl")
        print(f"{TRIALS} trials, step {saved} reached, {retrained.again} steps trained twice, all "
              f"alike; {counts}")

    def trial(self, number, what, receiver, moment, saved):
        """The newest step that is safe, and how it ended."""
        more = {"checkpoint__async": "true" if number % 2 else "false",
                "checkpoint__interval": 1 if moment == "save" else 1000}
        if moment == "validation":
            more.update(validation__dataset_path=os.environ["KOIOS_SOURCE_DIR"]
                        + "/build/assets/kjv.txt", validation__dataset="text",
                        validation__interval=1, validation__steps=30)
        if what == "walltime":
            more["job__walltime"] = f"0:0{random.randint(1, 4)}"
        job = self.start(**more)
        title = f"trial {number}: {what} to {receiver} at {moment}"
        if what != "walltime":
            self.wait_for_moment(job, moment)
            self.send(job, what, receiver)
        code = job.end(timeout=100)
        title += f" ended with {code}\n{job.output}"
        self.assertNotEqual(code, 0, title)
        self.assertNotIn("passed over", job.output, title)
        start = (job.numbers(r"continues from .*step_(\d+)\.h5") or [None])[-1]
        self.assertIn(start, (None, *range(saved, saved + 10000)), title)
        safe = max([saved, *job.numbers(SAVED)])
        self.assertGreaterEqual(newest(self.folder) if self.folder.exists() else 0, safe, title)
        stopped = job.numbers(r"stopped by .* after step (\d+) of")
        if stopped:
            self.assertEqual(newest(self.folder), stopped[0], title)
        self.assertNotIn("has died", job.output, title)
        if what == "walltime" or (receiver == "rank" and moment != "start-up"):
            before_a_step = [line for line in job.said() if "stopped; nothing is lost" in line]
            self.assertIn(len(before_a_step), (0, 1) if moment == "first step" else (0,), title)
            self.assertEqual((code, len(stopped + before_a_step)), (STOPPED, 1), title)
        self.wait_until_nothing_runs(title)
        return newest(self.folder) if self.folder.exists() else 0, "saved" if stopped else code

    def wait_until_nothing_runs(self, title, timeout=30):
        """A launcher that is told twice leaves its ranks to find out by themselves."""
        deadline = time.monotonic() + timeout
        while left := subprocess.run(["pgrep", "-f", str(self.workplace.path)],
                                     capture_output=True, text=True, check=False).stdout:
            self.assertLess(time.monotonic(), deadline, f"{left} are left of {title}")
            time.sleep(0.05)

    def wait_for_moment(self, job, moment):
        if moment == "start-up":
            time.sleep(random.uniform(0.05, 0.7))
        elif moment == "first step":
            job.wait_for(BEGUN)
            time.sleep(random.uniform(0, 0.05))
        elif moment == "save":
            job.wait_for(STEP)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline and not list(self.folder.glob("checkpoints/*.partial")):
                pass
        else:
            job.wait_for(STEP)
            time.sleep(random.uniform(0, 0.3))

    def send(self, job, number, receiver):
        """USR1 is followed by USR2 once it has had its effect, so that the trial ends."""
        pids = job.ranks() if receiver == "rank" else []
        pid = random.choice(pids) if pids else job.process.pid
        wishes = [number, number] if receiver == "twice" else [number]
        if number == signal.SIGUSR1:
            wishes.append(signal.SIGUSR2)
        for wish in wishes:
            if job.process.poll() is not None:
                return
            try:
                os.kill(pid, wish)
            except ProcessLookupError:
                return
            if wish == signal.SIGUSR1:
                job.wait_for("saved .*", timeout=5)
            else:
                time.sleep(0.6)


if __name__ == "__main__":
    unittest.main(verbosity=2)
