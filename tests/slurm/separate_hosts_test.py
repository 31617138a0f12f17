#!/usr/bin/env python3
"""mpirun over four hosts that are separate in the network's sense: separate_hosts_test.py ROOT KOIOS MPIRUN

Each host is a network namespace with an address, a host name and shared memory of its own, on a bridge
between them; a script takes ssh's place. Copies of the model, one a host: losses to the bit as on one host,
the bytes that leave a host as planned, and what is said when a host dies. All of it is in namespaces of this
test's own, which end with it. Exit code 77 where it may not make them.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

HOSTS = ("n0", "n1", "n2", "n3")
RANKS_OF_A_HOST = 2
STEPS = 6
NAMESPACES = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc",
              "--kill-child"]
LARGER = ["model/dim=512", "model/n_layers=4", "model/n_heads=8", "model/n_kv_heads=8"]
INSIDE = "KOIOS_TEST_NAMESPACES"

AGENT = """#!/bin/sh
# What mpirun takes for ssh: HOST COMMAND...
host=$1
shift
exec ip netns exec "$host" unshare --uts --mount sh -c "
  hostname $host && mount -t tmpfs tmpfs /dev/shm && export TMPDIR=$FOLDER/$host && mkdir -p \\$TMPDIR
  $*"
"""


def call(*command):
    subprocess.run(command, check=True, capture_output=True, text=True)


def make_hosts(folder):
    call("mount", "-t", "tmpfs", "tmpfs", "/run")
    os.mkdir("/run/netns")
    (folder / "hosts").write_text("127.0.0.1 localhost\n10.77.0.254 head\n" + "".join(
        f"10.77.0.{i + 1} {host}\n" for i, host in enumerate(HOSTS)))
    call("mount", "--bind", folder / "hosts", "/etc/hosts")
    call("hostname", "head")
    call("ip", "link", "set", "lo", "up")
    call("ip", "link", "add", "bridge", "type", "bridge")
    call("ip", "addr", "add", "10.77.0.254/24", "dev", "bridge")
    call("ip", "link", "set", "bridge", "up")
    for i, host in enumerate(HOSTS):
        call("ip", "netns", "add", host)
        call("ip", "link", "add", f"to_{host}", "type", "veth", "peer", "name", "eth0", "netns", host)
        call("ip", "link", "set", f"to_{host}", "master", "bridge", "up")
        call("ip", "-n", host, "link", "set", "lo", "up")
        call("ip", "-n", host, "addr", "add", f"10.77.0.{i + 1}/24", "dev", "eth0")
        call("ip", "-n", host, "link", "set", "eth0", "up")


def bytes_sent(host):
    text = subprocess.run(["ip", "-n", host, "-s", "-j", "link", "show", "eth0"], check=True,
                          capture_output=True, text=True).stdout
    return json.loads(text)[0]["stats64"]["tx"]["bytes"]


def processes(host):
    text = subprocess.run(["ip", "netns", "pids", host], check=True, capture_output=True,
                          text=True).stdout
    return [int(pid) for pid in text.split()]


def is_rank(pid):
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")) == KOIOS.name
    except OSError:
        return False


class SeparateHosts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="koios-hosts-"))
        make_hosts(cls.folder)
        cls.agent = cls.folder / "agent.sh"
        cls.agent.write_text(AGENT.replace("$FOLDER", str(cls.folder)))
        cls.agent.chmod(0o755)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.folder, ignore_errors=True)

    def command(self, run_folder, hosts, steps=STEPS):
        ranks = RANKS_OF_A_HOST * len(HOSTS)
        where = ["--oversubscribe"]
        if hosts:
            where = ["--mca", "plm", "rsh", "--mca", "plm_rsh_agent", self.agent,
                     "--mca", "plm_rsh_no_tree_spawn", "1", "--mca", "btl_tcp_if_include", "eth0",
                     "-host", ",".join(f"{host}:{RANKS_OF_A_HOST}" for host in HOSTS)]
        settings = {
            "job/backend": "host", "job/dump_folder": self.folder / run_folder,
            "model/tokenizer_path": ROOT / "build/assets/tokenizer.model",
            "training/dataset_path": ROOT / "build/assets/kjv.txt",
            "model/dim": 48, "model/n_layers": 2, "model/n_heads": 6, "model/n_kv_heads": 2,
            "model/ffn_dim": 72, "training/seq_len": 32, "training/batch_size": 1,
            "training/warmup_steps": 2, "metrics/log_freq": 1, "training/steps": steps,
            "training/data_parallel_replicate_degree": len(HOSTS)}
        return [MPIRUN, "--bind-to", "none", *where, "-np", str(ranks), KOIOS,
                *(f"{key}={value}" for key, value in settings.items())]

    def run_it(self, run_folder, hosts):
        done = subprocess.run(self.command(run_folder, hosts), capture_output=True, text=True,
                              timeout=60, check=False, env=self.environment())
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def environment(self):
        return {**os.environ, "TMPDIR": str(self.folder)}

    def rows(self, run_folder):
        lines = (self.folder / run_folder / "metrics.jsonl").read_text().splitlines()
        return [[row["loss_metrics/global_avg_loss"], row["grad_norm"]]
                for row in map(json.loads, lines)]

    def test_losses_and_bytes(self):
        before = {host: bytes_sent(host) for host in HOSTS}
        text = self.run_it("four", hosts=True)
        sent = {host: bytes_sent(host) - before[host] for host in HOSTS}
        self.assertIn("4 nodes (n0: ranks 0, 1; n1: ranks 2, 3; n2: ranks 4, 5; "
                      "n3: ranks 6, 7)", text)
        self.assertIn("shard groups within a node, replicas over 4 nodes", text)
        self.assertNotIn("warning", text)
        self.run_it("one", hosts=False)
        self.assertEqual(self.rows("four"), self.rows("one"))
        # A gradient shard of each rank leaves its host, the weights do not. MPI's own all-reduce
        # may send up to log2(4) = 2 times the shard where 1.5 times would do.
        planned = int(re.search(r"replica traffic plan per rank and step: all-reduce ([\d,]+)",
                                text)[1].replace(",", ""))
        least = planned * RANKS_OF_A_HOST * STEPS
        for host, count in sent.items():
            print(f"{host}: {count:,} bytes sent, {least:,} planned")
            self.assertGreater(count, least)
            self.assertLess(count, 1.5 * least)

    def signal_a_host(self, run_folder, moment, send, more=()):
        """Calls `send` with the processes of n2 when `moment` is printed: what is printed from then
        on, and the exit code."""
        log = self.folder / f"{run_folder}.log"
        with log.open("w") as file, subprocess.Popen(
                [*self.command(run_folder, hosts=True, steps=100000), *more], stdout=file,
                stderr=file, env=self.environment()) as job, contextlib.ExitStack() as ending:
            ending.callback(job.kill)  # whatever fails here: who leaves waits for the job
            deadline = time.monotonic() + 100
            while not re.search(moment, log.read_text(), re.M):
                self.assertIsNone(job.poll(), log.read_text())
                self.assertLess(time.monotonic(), deadline, log.read_text())
                time.sleep(0.05)
            printed = len(log.read_text())
            sent = time.monotonic()
            send(processes("n2"))
            job.wait(timeout=30)
            print(f"{run_folder}: the end after {time.monotonic() - sent:.1f} s")
        deadline = time.monotonic() + 20
        while any(processes(host) for host in HOSTS):
            self.assertLess(time.monotonic(), deadline, "processes are left")
            time.sleep(0.05)
        return log.read_text()[printed:], job.returncode

    def kill_on_a_host(self, run_folder, whole_host):
        def kill(pids):
            for pid in pids:
                if whole_host or is_rank(pid):
                    os.kill(pid, signal.SIGKILL)
        text, code = self.signal_a_host(run_folder, r"^step +3/", kill)
        self.assertNotEqual(code, 0)
        return text

    def test_a_rank_of_another_host_that_is_stopped_before_the_first_step_says_so(self):
        def stop(pids):
            os.kill(max(pid for pid in pids if is_rank(pid)), signal.SIGTERM)
        text, code = self.signal_a_host("stopped", "memory plan", stop, LARGER)
        self.assertEqual(code, 99, text)
        self.assertRegex(text, r"\[koios rank [45]\] SIGTERM: stopped; nothing is lost, the same "
                         "command goes on")
        self.assertNotIn("has died", text)

    def test_a_host_that_dies_ends_the_job_with_its_name(self):
        text = self.kill_on_a_host("dies", whole_host=True)
        self.assertRegex(text, r"lost communication[^-]*on node n2")

    def test_ranks_that_die_end_the_job_with_their_hosts_name(self):
        text = self.kill_on_a_host("ranks", whole_host=False)
        self.assertRegex(text, r"process rank [45] .*on node n2 exited on signal 9")


if __name__ == "__main__":
    ROOT, KOIOS, MPIRUN = map(pathlib.Path, sys.argv[1:4])
    if INSIDE not in os.environ:
        missing = [tool for tool in ("unshare", "ip") if not shutil.which(tool)]
        if missing or subprocess.run([*NAMESPACES, "true"], capture_output=True,
                                     check=False).returncode != 0:
            print("skipped: needs unshare, ip and the right to make namespaces (root)")
            sys.exit(77)
        os.environ[INSIDE] = "1"
        sys.exit(subprocess.run([*NAMESPACES, sys.executable, *sys.argv], check=False).returncode)
    unittest.main(argv=[sys.argv[0], *sys.argv[4:]], verbosity=2)
