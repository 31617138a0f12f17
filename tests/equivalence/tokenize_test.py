"""koios-tokenize and training on what it makes, with the real binaries."""

import fcntl
import json
import os
import re
import signal
import struct
import subprocess
import sys
import time
import unittest

from koios_run import MPIEXEC, SOURCE, Workplace, rank_of, ranks_of

TOKENIZE = os.environ["KOIOS_TOKENIZE"]


def is_written_since(file, time_ns):
    try:
        return file.stat().st_mtime_ns >= time_ns
    except FileNotFoundError:  # renamed meanwhile
        return False


class Tokenize(unittest.TestCase):
    def setUp(self):
        self.workplace = Workplace().__enter__()
        self.addCleanup(self.workplace.__exit__)

    def command(self, ranks, text, output, *more):
        return [MPIEXEC, "--oversubscribe", "--bind-to", "none", "-np", str(ranks), TOKENIZE,
                f"model/tokenizer_path={SOURCE / 'build/assets/tokenizer.model'}",
                f"training/dataset_path={text}", "--output", str(output), *more]

    def tokenize(self, ranks, text, name, *more):
        output = self.workplace.path / name
        done = subprocess.run(self.command(ranks, text, output, *more), capture_output=True,
                              text=True, timeout=200, check=False, cwd=self.workplace.path)
        return output, done

    def large_text(self):
        """More than two units of work: a book, and files that are cut in no place or in several."""
        folder = self.workplace.path / "text"
        folder.mkdir()
        book = (SOURCE / "build/assets/kjv.txt").read_bytes()
        (folder / "a.txt").write_bytes(book[:300000])
        (folder / "b.txt").write_bytes((book + b"\n\n") * 17)
        (folder / "c.txt").write_bytes(book[-200000:])
        return folder

    def test_any_number_of_ranks_makes_the_same_file_also_after_a_stop(self):
        text = self.large_text()
        one, done = self.tokenize(1, text, "one.tokens")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("3 files, ", done.stdout)
        parts = self.workplace.path / "three.tokens.parts"
        job = subprocess.Popen(self.command(3, text, self.workplace.path / "three.tokens"),
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not list(parts.glob("*.part")):
            self.assertLess(time.monotonic(), deadline, "no part within a minute")
            time.sleep(0.02)
        for process in [*ranks_of(job.pid, TOKENIZE), job.pid]:  # the ranks first: they are quick
            os.kill(process, signal.SIGKILL)
        job.wait()
        self.assertFalse((self.workplace.path / "three.tokens").exists())
        begun = time.time_ns()
        job = subprocess.Popen(self.command(2, text, self.workplace.path / "three.tokens"),
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        while not any(is_written_since(file, begun) for file in parts.glob("*.unfinished")):
            self.assertIsNone(job.poll())
        ranks = {rank_of(pid): pid for pid in ranks_of(job.pid, TOKENIZE)}
        os.kill(ranks[1], signal.SIGTERM)
        output = job.communicate(timeout=60)[0]
        self.assertEqual(job.returncode, 99, output)
        self.assertIn("[koios rank 1] SIGTERM: stopped; nothing is lost, the same command goes on", output)
        three, done = self.tokenize(2, text, "three.tokens")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("what an earlier run has left is kept", done.stdout)
        self.assertEqual(one.read_bytes(), three.read_bytes())
        self.assertFalse(parts.exists())

    def test_after_an_error_nobody_says_that_the_same_command_goes_on(self):
        book = (SOURCE / "build/assets/kjv.txt").read_text()
        for number, text in enumerate((json.dumps({"text": book}), json.dumps({"text": book}), "{")):
            (self.workplace.path / f"{number}.jsonl").write_text(f"{text}\n")
        _, done = self.tokenize(3, self.workplace.path / "*.jsonl", "broken.tokens",
                                "training/dataset=jsonl")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"\[koios rank 2\] error: \S+2.jsonl:1: not valid JSON")
        for line in done.stderr.splitlines():
            self.assertNotRegex(line, "goes on$")
            if "SIGTERM" in line:
                self.assertIn("and the same command goes on unless a rank reports an error", line)

    def test_trains_as_on_the_text_itself(self):
        book = SOURCE / "build/assets/kjv.txt"
        tokens, done = self.tokenize(2, book, "kjv.tokens")
        self.assertEqual(done.returncode, 0, done.stderr)
        magic, version, token_bytes = struct.unpack("<8sII", tokens.read_bytes()[:16])
        self.assertEqual((magic, version, token_bytes), (b"KOIOSTOK", 1, 2))
        base = {"training/steps": 3, "training/batch_size": 2, "data/shuffle": "false"}
        plain = self.workplace.run(2, base, folder="plain")
        self.assertEqual(plain.returncode, 0, plain.output)
        ahead = self.workplace.run(2, {**base, "training/dataset": "tokens",
                                       "training/dataset_path": tokens}, folder="ahead")
        self.assertEqual(ahead.returncode, 0, ahead.output)
        self.assertEqual(plain.losses(), ahead.losses())
        self.assertEqual(plain.column("data/samples_hash"), ahead.column("data/samples_hash"))

        damaged = bytearray(tokens.read_bytes())
        damaged[65536 + 100] ^= 1
        (self.workplace.path / "damaged.tokens").write_bytes(damaged)
        run = self.workplace.run(2, {**base, "training/dataset": "tokens",
                                     "training/dataset_path": "damaged.tokens"}, folder="damaged")
        self.assertNotEqual(run.returncode, 0)
        self.assertRegex(run.stderr, r"error: .*damaged.tokens: block 0 .* is damaged")

    def test_a_mixture_goes_on_exactly_on_other_ranks(self):
        book = SOURCE / "build/assets/kjv.txt"
        tokens, done = self.tokenize(1, book, "kjv.tokens")
        self.assertEqual(done.returncode, 0, done.stderr)
        short = self.workplace.path / "short.txt"
        short.write_bytes(book.read_bytes()[:60000])
        base = {"training/steps": 6, "data/mixture": f"tokens:{tokens}:0.7, text:{short}:0.3",
                "training/dataset_path": None, "checkpoint/folder": "checkpoints",
                "checkpoint/interval": 3}
        straight = self.workplace.run(3, {**base, "training/batch_size": 4})
        self.assertEqual(straight.returncode, 0, straight.output)
        expected = {row["step"]: row["data/samples_hash"] for row in straight.rows()}
        for ranks in (1, 4):
            (straight.folder / "checkpoints/step_00000006.h5").unlink()
            run = self.workplace.run(ranks, {**base, "training/batch_size": 12 // ranks})
            self.assertEqual(run.returncode, 0, run.output)
            self.assertRegex(run.stdout, r"continues from .*step_00000003.h5, step 3")
            got = {row["step"]: row["data/samples_hash"] for row in run.rows()}  # the last counts
            self.assertEqual(got, expected)

        with open(tokens, "ab") as file:
            file.write(b"x")
        run = self.workplace.run(2, {**base, "training/batch_size": 6, "training/steps": 7})
        self.assertNotEqual(run.returncode, 0)
        self.assertRegex(run.stderr, r"error: .*kjv.tokens: .* it is incomplete or was changed")

    def test_what_is_refused(self):
        empty = self.workplace.path / "empty.txt"
        empty.write_bytes(b"\n \n")
        _, done = self.tokenize(2, empty, "a.tokens")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"error: .*empty.txt: no documents")
        existing = self.workplace.path / "b.tokens"
        existing.write_bytes(b"")
        _, done = self.tokenize(2, empty, "b.tokens")
        self.assertRegex(done.stderr, r"error: .*b.tokens: is there already")
        _, done = self.tokenize(2, "nowhere.txt", "c.tokens")
        self.assertEqual(done.returncode, 2)
        self.assertRegex(done.stderr, r"error: .*nowhere.txt")
        book = SOURCE / "build/assets/kjv.txt"
        (self.workplace.path / "d.tokens.parts").mkdir()
        (self.workplace.path / "d.tokens.parts/letter").write_text("mine")
        _, done = self.tokenize(2, book, "d.tokens")
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr, r"error: .*d.tokens.parts: .* holds something else")
        self.assertEqual((self.workplace.path / "d.tokens.parts/letter").read_text(), "mine")

    def test_why_nothing_is_left_is_said(self):
        text = self.workplace.path / "bad.jsonl"
        text.write_bytes(b'{"text": null}\n' * 5)
        _, done = self.tokenize(2, text, "a.tokens", "training/dataset=jsonl", "data/on_bad_data=skip")
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertRegex(done.stderr, r"error: .*bad\.jsonl: no documents in 1 file \(format jsonl\) that "
                                      r"can be used; left out was, for example, .*bad\.jsonl:5: the field")

    def test_a_folder_is_no_output(self):
        book = SOURCE / "build/assets/kjv.txt"
        (self.workplace.path / "folder").mkdir()
        for name in ("o/", "folder"):
            done = subprocess.run(self.command(2, book, name), capture_output=True, text=True,
                                  timeout=60, check=False, cwd=self.workplace.path)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr, rf"error: {name}: is the name of a folder; --output takes")

    def test_loose_files_are_grouped(self):
        book = (SOURCE / "build/assets/kjv.txt").read_bytes()
        folder = self.workplace.path / "loose"
        folder.mkdir()
        whole = b""
        for i in range(2000):
            text = book[1000 * i:1000 * i + 1000].replace(b"\n\n", b"\n").strip() + b"\n"
            (folder / f"{i:05}.txt").write_bytes(text)
            whole += text + b"\n"
        (self.workplace.path / "whole.txt").write_bytes(whole)
        loose, done = self.tokenize(2, folder, "loose.tokens")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("2000 files, 2.0 MB, in 1 part", done.stdout)
        one, done = self.tokenize(1, self.workplace.path / "whole.txt", "one.tokens")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(loose.read_bytes(), one.read_bytes())

    def test_memory_is_bounded_by_the_largest_line(self):
        """A line of one letter, a nested value, documents without text, lines without end."""
        measured = ("import resource, subprocess, sys\n"
                    "code = subprocess.run(sys.argv[1:]).returncode\n"
                    "print('PEAK', resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss >> 10)\n"
                    "sys.exit(code)")
        cases = (
            ("letter", r"""printf '{"text": "'; head -c 60000000 /dev/zero | tr '\0' o;"""
             r"""printf '"}\n'""", 0, 480),
            ("nested", r"""printf '{"text": "a"}\n{"a": '; head -c 200000000 /dev/zero | """
             r"""tr '\0' '['; printf '\n'""", 0, 600),
            ("empty", r"""yes '{"text": ""}' | head -n 1000000""", 0, 600),
            ("newlines", r"""printf '{"text": "a"}'; head -c 2000000000 /dev/zero | tr '\0' '\n'""",
             0, 300))
        for name, command, code, most_mib in cases:
            packed = self.workplace.path / f"{name}.jsonl.gz"
            subprocess.run(f"({command}) | gzip -1 > {packed}", shell=True, check=True)
            output = self.workplace.path / f"{name}.tokens"
            done = subprocess.run(
                [sys.executable, "-c", measured,
                 *self.command(1, packed, output, "training/dataset=jsonl",
                               "data/on_bad_data=skip")],
                capture_output=True, text=True, timeout=200, check=False)
            self.assertEqual(done.returncode, code, name + done.stdout + done.stderr)
            peak = int(re.search(r"PEAK (\d+)", done.stdout).group(1))
            self.assertLess(peak, most_mib, name)

    def test_two_jobs_do_not_write_one_file(self):
        book = SOURCE / "build/assets/kjv.txt"
        with open(self.workplace.path / "a.tokens.lock", "wb") as held:
            fcntl.lockf(held, fcntl.LOCK_EX)
            output, done = self.tokenize(2, book, "a.tokens")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"error: .*a.tokens: another koios-tokenize is at work on it")
        output, done = self.tokenize(2, book, "a.tokens")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(list(self.workplace.path.glob("a.tokens*")), [output])

    def test_output_is_expanded_as_paths_of_a_deck(self):
        book = SOURCE / "build/assets/kjv.txt"
        home = self.workplace.path / "home"
        environment = dict(os.environ, HOME=str(home), OUT="made")
        for output, made in (("~/a.tokens", "a.tokens"), ("~/${OUT}/b.tokens", "made/b.tokens")):
            done = subprocess.run(self.command(2, book, output), env=environment, text=True,
                                  capture_output=True, timeout=60, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertTrue((home / made).is_file())
        done = subprocess.run(self.command(2, book, "$NOWHERE/c.tokens"), text=True,
                              capture_output=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertRegex(done.stderr, r"error: --output \$NOWHERE/c.tokens: the environment variable "
                                      "NOWHERE is not set")

    def test_a_document_beyond_the_memory_is_left_out(self):
        text = self.workplace.path / "text.jsonl"
        large = '{"text": "' + "\u9f98" * 13000000 + '"}\n'  # each byte a token
        text.write_text('{"text": "first"}\n' + large + '{"text": "last"}\n')
        for mib, what in ((250, "this document"), (450, "the tokens of this document of 39000000")):
            output = self.workplace.path / f"{mib}.tokens"
            command = self.command(1, text, output, "training/dataset=jsonl")
            program = command.index(TOKENIZE)
            command[program:program] = ["prlimit", f"--as={mib << 20}"]
            message = rf"text.jsonl:2: no memory for {what}.*ulimit -v allows \({mib} MiB\)"
            done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr, "error: .*" + message)
            done = subprocess.run(command + ["data/on_bad_data=skip"], capture_output=True,
                                  text=True, timeout=100, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stderr, r"left out \(1 so far\): .*" + message)
            self.assertIn(" of 2 documents", done.stdout)

    def test_writes_through_no_link(self):
        mine = self.workplace.path / "mine"
        mine.write_text("precious")
        folder = self.workplace.path / "folder"
        folder.mkdir()
        (folder / "0.part.unfinished").symlink_to(mine)
        (self.workplace.path / "a.tokens.parts").symlink_to(folder)
        _, done = self.tokenize(1, SOURCE / "build/assets/kjv.txt", "a.tokens")
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, "error: .*a.tokens.parts is a link to .*folder, and Koios")
        self.assertEqual(len(list(folder.iterdir())), 1)
        (self.workplace.path / "a.tokens.parts").unlink()
        for name in ("a.tokens.lock", "a.tokens.unfinished"):
            link = self.workplace.path / name
            link.symlink_to(mine)
            _, done = self.tokenize(2, SOURCE / "build/assets/kjv.txt", "a.tokens")
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr, f"error: .*{name} is a link to .*mine, and Koios writes")
            self.assertEqual(mine.read_text(), "precious")
            link.unlink()

    def test_nodes_whose_files_differ_make_no_file(self):
        book = (SOURCE / "build/assets/kjv.txt").read_bytes()
        for node, size in (("one", 9000), ("two", 9001)):
            (self.workplace.path / node).mkdir()
            (self.workplace.path / node / "a.txt").write_bytes(book[:size])
        output = self.workplace.path / "a.tokens"
        command = self.command(1, "a.txt", output)
        program = command[command.index("-np"):]
        contexts = [part for node in ("one", "two")
                    for part in (":", "-wdir", str(self.workplace.path / node), *program)]
        done = subprocess.run(command[:command.index("-np")] + contexts[1:], capture_output=True,
                              text=True, timeout=60, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"error: 1 rank reads other data than rank 0")
        self.assertFalse(output.exists())

    def test_a_wrong_command_line_is_told_once(self):
        book = SOURCE / "build/assets/kjv.txt"
        for wrong, message in ((["--outputs"], "--outputs is not an option"),
                               (["data/add_bos=false", "data/add_eos=false"], "both false"),
                               (["training/dataset=tokens"], "tokenized already")):
            _, done = self.tokenize(2, book, "a.tokens", *wrong)
            self.assertEqual(done.returncode, 2, done.stderr)
            self.assertEqual(done.stderr.count(message), 1, done.stderr)
        # Files that training alone needs may be yet to come.
        _, done = self.tokenize(2, book, "a.tokens", "validation/dataset_path=later.txt")
        self.assertEqual(done.returncode, 0, done.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
