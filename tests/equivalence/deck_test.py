"""What people write into decks and on command lines, run by the real program under the launcher."""

import os
import re
import shutil
import socket
import subprocess
import threading
import unittest

from koios_run import BINARY, SOURCE, Run, Workplace, digest


class Decks(unittest.TestCase):
    def setUp(self):
        self.workplace = Workplace().__enter__()
        self.addCleanup(self.workplace.__exit__)
        self.path = self.workplace.path

    def trains(self, overrides=None, ranks=2, deck=None, **more):
        base = {"training/steps": 2, "training/warmup_steps": 1, "training/batch_size": 2}
        base.update(overrides or {})
        run = self.start(base, ranks, deck, **more)
        self.assertEqual(run.returncode, 0, run.output)
        return run

    def start(self, overrides, ranks=2, deck=None, **more):
        done = subprocess.run(self.workplace.command(ranks, overrides, deck), text=True,
                              errors="replace", stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                              timeout=90, check=False, cwd=self.path, **more)
        return Run(done, self.path / "run")

    def refuses(self, message, overrides, ranks=2, **more):
        run = self.start(overrides, ranks, **more)
        self.assertEqual(run.returncode, 2, run.output)
        self.assertRegex(run.stderr, message)
        lines = [line for line in run.stderr.splitlines() if "error: " in line]
        self.assertEqual(len(lines), 1, run.stderr)

    def test_a_deck_on_standard_input_and_from_a_pipe(self):
        deck = "[training]\nsteps = 3\n"
        run = self.trains({"training/steps": None}, deck="-", input=deck)
        self.assertEqual(run.rows()[-1]["step"], 3)
        self.assertIn("steps = 3  # (standard input):2",
                      (self.path / "run/effective.ini").read_text())
        pipe = self.path / "deck.pipe"
        os.mkfifo(pipe)
        writer = threading.Thread(target=lambda: pipe.write_text("[training]\nsteps = 4\n"))
        writer.start()
        run = self.trains({"training/steps": None, "job/dump_folder": self.path / "piped"},
                          deck=pipe)
        writer.join()
        self.assertIn(f"steps = 4  # {pipe}:2", (self.path / "piped/effective.ini").read_text())

    def test_a_deck_that_is_something_else(self):
        for text, what in (("version https://git-lfs.github.com/spec/v1\noid sha256:a\n", "a Git LFS"),
                           ("<!DOCTYPE html><html>", "an HTML page"), ('{"training": 1}', "JSON")):
            self.refuses(rf"cannot read the deck \(standard input\): it is {what}", {}, deck="-",
                         input=text)

    def test_a_deck_that_is_empty(self):
        self.refuses(r"error: cannot read the deck \(standard input\): it is empty", {}, deck="-",
                     input="\n")
        (self.path / "empty.ini").touch()
        self.refuses(r"error: cannot read the deck empty.ini: it is empty", {}, deck="empty.ini")

    def test_without_standard_streams(self):
        command = self.workplace.command(1, {"training/steps": 2, "checkpoint/folder": "saved",
                                             "training/warmup_steps": 1})
        def start(redirection, deck=()):
            return subprocess.run(["sh", "-c", f'exec "$@" {redirection}', "sh", BINARY, *deck,
                                   *command[command.index(BINARY) + 1:]], cwd=self.path, text=True,
                                  capture_output=True, timeout=60, check=False)
        run = start("<&-", ["-"])
        self.assertEqual(run.returncode, 2, run.stderr)
        self.assertIn("error: cannot read the deck (standard input): ", run.stderr)
        start(">&- 2>&-")  # what would be printed goes into no file of the run
        for file in (self.path / "run").rglob("*"):
            if file.is_file() and file.name != "provenance.json":
                self.assertNotIn(b"[koios]", file.read_bytes(), file)
        self.assertEqual(len(Run(run, self.path / "run").rows()), 2)
        digest(self.path / "run/saved/step_00000002.h5")

    def test_a_deck_without_an_end(self):
        self.refuses(r"error: cannot read the deck /dev/zero: it has more than 1048576 bytes", {},
                     deck="/dev/zero")

    def test_a_million_wrong_lines(self):
        deck = self.path / "wrong.ini"
        deck.write_text("[a]\n" + "w\n" * 500000)
        run = self.start({}, deck=deck)
        self.assertEqual(run.returncode, 2)
        lines = [line for line in run.stderr.splitlines() if "error: " in line]
        self.assertEqual(len(lines), 51)
        self.assertRegex(lines[-1], r"wrong.ini: 499951 more errors")

    def test_pipes_sockets_and_devices_are_no_data(self):
        os.mkfifo(self.path / "data.txt")
        self.refuses(r"dataset_path = data.txt: is a pipe, which can be read only once",
                     {"training/dataset_path": "data.txt"})
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self.path / "socket"))
            self.refuses(r"dataset_path = socket: is a socket", {
                "validation/dataset_path": "socket"})
        self.refuses(r"tokenizer_path = /dev/zero: is a device",
                     {"model/tokenizer_path": "/dev/zero"})
        self.refuses(r"mixture: data.txt: is a pipe",
                     {"training/dataset_path": None, "data/mixture": "text:data.txt:1"})

    def test_bytes_that_are_not_utf8(self):
        for key, value in (("job/description", b"caf\xe9"), ("job/dump_folder", b"caf\xe9"),
                           ("validation/dataset_path", b"caf\xe9.txt")):
            section, name = key.split("/")
            deck = self.path / "latin1.ini"
            deck.write_bytes(f"[{section}]\n{name} = ".encode() + value + b"\n")
            self.refuses(rf"latin1.ini:2: \[{section}\] {name}: byte 4 of the value \(0xe9\) is "
                         "not UTF-8", {key: None}, deck=deck)

    def test_paths_as_a_shell_has_them(self):
        shutil.copy(SOURCE / "build/assets/kjv.txt", self.path / "kjv.txt")
        home = dict(os.environ, HOME=str(self.path), WHERE="runs")
        self.trains({"training/dataset_path": "~/kjv.txt", "job/dump_folder": "~/${WHERE}/$WHERE"},
                    env=home)
        written = (self.path / "runs/runs/effective.ini").read_text()
        self.assertIn(f"dataset_path = {self.path}/kjv.txt  # command line\n", written)
        self.refuses(r"dump_folder = \$NOT_SET_HERE/a: the environment variable NOT_SET_HERE is "
                     "not set", {"job/dump_folder": "$NOT_SET_HERE/a"})

    def test_names_that_look_like_patterns(self):
        text = (SOURCE / "build/assets/kjv.txt").read_text()[:200000]
        (self.path / "data[1].txt").write_text(text)
        (self.path / "da,ta").mkdir()
        (self.path / "da,ta" / "b*.txt").write_text(text)
        self.trains({"training/dataset_path": "data[1].txt",
                     "validation/dataset_path": "da,ta/b*.txt"})
        self.trains({"training/dataset_path": None, "job/dump_folder": "mixed",
                     "data/mixture": r"text : data[1].txt : 1, text:da\,ta/b*.txt:2"})
        tokens = self.path / "out.tokens"
        done = subprocess.run([os.environ["KOIOS_TOKENIZE"], f"--output={tokens}",
                               f"model/tokenizer_path={SOURCE}/build/assets/tokenizer.model",
                               "training/dataset_path=data[1].txt"], capture_output=True, text=True,
                              timeout=60, check=False, cwd=self.path)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertTrue(tokens.exists())

    def test_the_last_of_a_key_counts(self):
        command = self.workplace.command(1, {"training/steps": 9, "training/batch_size": 1})
        done = subprocess.run([*command, "training.steps=2"], capture_output=True, text=True,
                              timeout=60, check=False, cwd=self.path)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("steps = 2  # command line, the last of 2 times",
                      (self.path / "run/effective.ini").read_text())

    def test_a_few_steps_of_a_long_deck(self):
        run = self.trains({"training/warmup_steps": 200})
        warned = re.findall("warning: .*warmup_steps = 200 is not below steps = 2: the learning "
                            "rate never reaches optimizer/lr", run.stderr)
        self.assertEqual(len(warned), 1, run.stderr)

    def test_more_threads_than_the_pool_holds(self):
        run = self.trains({"training/steps": 1, "training/batch_size": 1,
                           "training/warmup_steps": 0}, ranks=1,
                          env=dict(os.environ, OMP_NUM_THREADS="1000"))
        self.assertRegex(run.stderr, r"warning: 1000 threads \(OMP_NUM_THREADS\) are more than the "
                         "512 of a rank; 512 are used")

    def test_settings_of_kokkos_change_nothing(self):
        run = self.trains(ranks=1, env=dict(os.environ, KOKKOS_NUM_THREADS="many",
                                            KOKKOS_DEVICE_ID="first"))
        self.assertNotIn("Kokkos", run.stderr)

    def test_a_deck_of_any_name(self):
        for name in (b"d\xe9ck.ini", b"two\nlines.ini"):
            deck = os.path.join(os.fsencode(self.path), name)
            with open(deck, "wb") as file:
                file.write(b"[optimizer]\nlr = 0.001\n")
            run = self.trains({"training/steps": 1, "training/warmup_steps": 0,
                               "checkpoint/folder": "checkpoints"}, ranks=1, deck=os.fsdecode(deck))
            effective = (run.folder / "effective.ini").read_bytes().decode("utf-8")
            self.assertRegex(effective, r"lr = 0.001  # .*(d\\xe9ck|two\\x0alines).ini:2\n")
            shutil.rmtree(run.folder)

    def test_a_run_folder_that_is_a_link_to_nothing(self):
        (self.path / "link").symlink_to("nowhere")
        run = self.start({"job/dump_folder": "link"}, ranks=1)
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stderr, "error: run folder 'link' is a link to nowhere, which is "
                         "not there")


if __name__ == "__main__":
    unittest.main(verbosity=2)
