"""Datasets as they are published, bad data, and validation: what the real binary makes of them."""

import gzip
import io
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
import unittest

from koios_run import BINARY, SOURCE, Workplace

TOKENIZE = os.environ["KOIOS_TOKENIZE"]
STEPS = {"training/steps": 3, "training/batch_size": 2}


traced = unittest.skipUnless(
    shutil.which("strace") and subprocess.run(["strace", "-qq", "-o", os.devnull, "true"],
                                              check=False).returncode == 0,
    "needs strace, and the right to use it")


class DataCase(unittest.TestCase):
    def setUp(self):
        self.workplace = Workplace().__enter__()
        self.addCleanup(self.workplace.__exit__)
        self.path = self.workplace.path

    def losses(self, ranks, overrides, folder="run"):
        run = self.workplace.run(ranks, {**STEPS, **overrides}, folder=folder)
        self.assertEqual(run.returncode, 0, run.output)
        return run.losses()

    def write(self, name, content):
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path


class Published(DataCase):
    """Each dataset in its own form gives the tokens of the same documents as JSON lines."""

    def sample(self, name):
        jsonl = self.path / f"{name}.jsonl"
        subprocess.run([sys.executable, SOURCE / "tools/get_dataset.py", "sample", name,
                        self.path / name, "--documents", "120", "--jsonl", jsonl],
                       check=True, stdout=subprocess.DEVNULL)
        return self.path / name, jsonl

    def compare(self, name):
        folder, jsonl = self.sample(name)
        published = self.losses(2, {"training/dataset": name, "training/dataset_path": folder},
                                name + "-run")
        reference = self.losses(2, {"training/dataset": "jsonl", "training/dataset_path": jsonl})
        self.assertEqual(published, reference)
        return folder

    def test_alpaca(self):
        self.compare("alpaca")

    def test_openwebtext(self):
        self.compare("openwebtext")

    def test_c4_and_its_part_for_validation(self):
        folder = self.compare("c4")
        held_out = gzip.decompress((folder / "c4-validation.00000-of-00001.json.gz").read_bytes())
        jsonl = self.write("held-out.jsonl", held_out)
        found = []
        for dataset, path in (("c4", folder), ("jsonl", jsonl)):
            run = self.workplace.run(2, {
                **STEPS, "validation/dataset": dataset, "validation/dataset_path": path,
                "validation/steps": 2}, folder=f"held-out-{dataset}")
            found.append(run.rows()[-1]["validation_metrics/loss"])
        self.assertEqual(found[0], found[1])


class BadData(DataCase):
    def lines(self, count=40):
        return b"".join(b'{"text": "document %d of some length"}\n' % i for i in range(count))

    def refuses(self, message, path, dataset="jsonl"):
        run = self.workplace.run(2, {**STEPS, "training/dataset": dataset,
                                     "training/dataset_path": path}, timeout=60)
        self.assertNotEqual(run.returncode, 0, run.output)
        self.assertRegex(run.stderr, message)

    def test_each_is_named_and_ends_the_run(self):
        half = gzip.compress(os.urandom(50000).hex().encode())[:30000]
        self.refuses(r"a\.json\.gz: gzip data that ends in the middle",
                     self.write("a.json.gz", half))
        self.refuses(r"b\.jsonl:41: not valid JSON", self.write("b.jsonl", self.lines() + b"{\n"))
        self.refuses(r'c\.jsonl:1: no field "text"', self.write("c.jsonl", b'{"body": "x"}\n'))
        self.refuses(r"d\.jsonl:1: not UTF-8: byte 11", self.write("d.jsonl", b'{"text": "\xff"}\n'))
        self.refuses(r"e\.jsonl: is empty", self.write("e.jsonl", b""))
        self.write("c4/c4-train.00001-of-00003.json", self.lines())
        self.refuses(r"2 of 3 files are missing, first c4-train\.00000-of-00003\.json",
                     self.path / "c4", "c4")

    def test_a_pointer_of_git_lfs_and_a_name_that_lies(self):
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
        for name, dataset in (("books.txt", "text"), ("urlsf_subset00.tar", "openwebtext")):
            self.refuses(rf"error: .*{name}: is a Git LFS pointer, not the file itself",
                         self.write(name, pointer), dataset)
        self.refuses("error: .*pointer.tokens: not a token file of koios-tokenize, but a Git LFS pointer",
                     self.write("pointer.tokens", pointer), "tokens")
        self.refuses(r"error: .*c4\.json\.gz: its name says compressed, but it is an HTML page",
                     self.write("c4.json.gz", b"<!doctype html><title>Sign in</title>"), "c4")

    def test_what_is_no_file_is_not_passed_over(self):
        self.write("odd/a.jsonl", self.lines())
        os.mkfifo(self.path / "odd/b.jsonl")
        self.refuses(r"error: .*odd/b\.jsonl: is a pipe, which can be read only once", self.path / "odd")
        self.refuses(r"error: .*odd/b\.jsonl: is a pipe, which can be read only once",
                     self.path / "odd/*.jsonl")
        (self.path / "odd/b.jsonl").unlink()
        (self.path / "odd/b.jsonl").symlink_to("nowhere")
        self.refuses(r"error: .*odd/b\.jsonl: is a link to a file that is not there",
                     self.path / "odd/*.jsonl")
        run = self.workplace.run(1, {**STEPS, "training/dataset": "jsonl", "data/on_bad_data": "skip",
                                     "training/dataset_path": self.path / "odd/*.jsonl"})
        self.assertEqual(run.returncode, 0, run.output)
        self.assertRegex(run.stderr, r"left out \(1 so far\): .*odd/b\.jsonl: is a link")

    def test_nothing_goes_on_under_stop(self):
        half = gzip.compress(os.urandom(50000).hex().encode())[:30000]
        run = self.workplace.run(2, {**STEPS, "training/dataset": "jsonl",
                                     "training/dataset_path": self.write("a.json.gz", half)})
        self.assertEqual(run.returncode, 1)
        self.assertNotIn("left out", run.output)

    def test_what_is_quoted_does_not_reach_the_terminal_as_it_is(self):
        name = "evil\x1b]0;title\x07\x9b\u202e\u2066.jsonl"
        self.write("folder/" + name, self.lines() + b'{"text": "\x1b[31mred"}}\n')
        run = self.workplace.run(1, {**STEPS, "training/dataset": "jsonl",
                                     "training/dataset_path": self.path / "folder"})
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stderr, r"evil\\x1b\]0;title\\x07\\xc2\\x9b\\xe2\\x80\\xae"
                                     r"\\xe2\\x81\\xa6\.jsonl:41: not valid JSON")
        for control in "\x1b\x07\x9b\u202e\u2066":
            self.assertNotIn(control, run.output)

    def test_a_file_that_changed_since_the_last_start(self):
        path = self.write("a.jsonl", self.lines(200))
        data = {**STEPS, "training/dataset": "jsonl", "training/dataset_path": path,
                "checkpoint/folder": "checkpoints"}
        run = self.workplace.run(2, data)
        self.assertEqual(run.returncode, 0, run.output)
        self.write("a.jsonl", self.lines(200).replace(b"document 0", b"Document 0"))
        for _ in range(2):  # each start names it
            run = self.workplace.run(2, {**data, "training/steps": 6}, timeout=60)
            self.assertNotEqual(run.returncode, 0, run.output)
            self.assertRegex(run.output, r"a\.jsonl has changed since the last start in this folder")
        self.assertRegex(run.stderr, r"error: .*a\.jsonl: other files, or files of other sizes: "
                                     "the data has changed since the position")

    def test_a_file_is_the_same_by_whatever_way_its_folder_is_reached(self):
        (self.path / "data").mkdir()
        self.write("data/a.jsonl", self.lines(200))
        (self.path / "way").symlink_to("data")
        for way in ("data", "way", "data/../way/../data"):
            run = self.workplace.run(1, {**STEPS, "training/dataset": "jsonl",
                                         "training/dataset_path": self.path / way})
            self.assertEqual(run.returncode, 0, run.output)
            self.assertNotIn("last start in this folder", run.output)

    def test_a_file_that_changed_where_its_size_and_ends_do_not_show_it(self):
        path = self.write("a.jsonl", self.lines(2000))
        data = {**STEPS, "training/dataset": "jsonl", "training/dataset_path": path,
                "checkpoint/folder": "checkpoints"}
        run = self.workplace.run(2, data)
        self.assertEqual(run.returncode, 0, run.output)
        text = path.read_bytes()
        middle = text[5000:-5000].replace(b"document", b"DOCUMENT")
        self.write("a.jsonl", text[:5000] + middle + text[-5000:])
        run = self.workplace.run(2, {**data, "training/steps": 6}, timeout=60)
        self.assertEqual(run.returncode, 1, run.output)
        self.assertRegex(run.stderr, r"error: .*a\.jsonl:\d+ to .*: these documents are not those that "
                                     r"were there: the data has changed since .*; put it back as it was")
        self.assertEqual(len(run.rows()), 3)  # not a step more
        self.write("a.jsonl", text)
        run = self.workplace.run(2, {**data, "training/steps": 6})
        self.assertEqual(run.returncode, 0, run.output)

    def test_nodes_whose_files_differ_do_not_train(self):
        for node, lines in (("one", self.lines(200)), ("two", self.lines(199))):
            (self.path / node / "data").mkdir(parents=True)
            self.write(f"{node}/data/a.jsonl", lines)
        command = self.workplace.command(1, {**STEPS, "training/dataset": "jsonl",
                                             "training/dataset_path": "data"})
        program = command[command.index("-np"):]
        contexts = [part for node in ("one", "two")
                    for part in (":", "-wdir", str(self.path / node), *program)]

        def told():
            run = subprocess.run(command[:command.index("-np")] + contexts[1:], capture_output=True,
                                 text=True, timeout=60, check=False)
            self.assertEqual(run.returncode, 1, run.stdout + run.stderr)
            return run.stderr

        self.assertRegex(told(), r"error: 1 rank reads other data than rank 0 on .* \(1 on ")
        self.write("one/data/b.jsonl", self.lines(10))
        self.assertRegex(told(), r"\[koios rank 1\] error: data/b\.jsonl: may not be read: No such file "
                                 r"or directory on \S+; rank 0 sees it, and all ranks must")

    @traced
    def test_many_files_are_searched_for_and_opened_once(self):
        count = 3000
        for i in range(count):
            self.write(f"many/{i:05}.txt", b"a document of some length, number %d. " % i * 20)
        folder = self.path / "many"
        tokens = self.path / "many.tokens"
        uses = {
            BINARY: {"data/mixture": f"text:{folder}:1, text:{folder}/*.txt:1",
                     "training/dataset_path": None, "validation/dataset": "text",
                     "validation/dataset_path": f"{folder}/0*.txt", "validation/interval": 3,
                     "validation/steps": 1, "data/shuffle": "false", "data/shuffle_window": 16},
            TOKENIZE: {"training/dataset_path": f"{folder}/*.txt"},
        }
        for program, keys in uses.items():
            command = self.workplace.command(3, {**STEPS, **keys})
            binary = command.index(BINARY)
            trace = ["sh", "-c",
                     "exec strace -f --seccomp-bpf -qq -e trace=openat -o $0.$OMPI_COMM_WORLD_RANK \"$@\"",
                     str(self.path / "trace")]
            arguments = command[binary + 1:] + (["--output", str(tokens)] if program == TOKENIZE else [])
            run = subprocess.run([*command[:binary], *trace, program, *arguments],
                                 capture_output=True, text=True, timeout=120, check=False)
            self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
            for rank in range(3):
                opened = (self.path / f"trace.{rank}").read_text()
                lists = len(re.findall(r'/many/?", [^)]*O_DIRECTORY', opened))
                files = len(re.findall(r"/many/\d+\.txt", opened))
                self.assertGreater(files, 0)
                if rank == 0:
                    self.assertGreater(lists, 0)
                    self.assertGreaterEqual(files, count)
                else:
                    self.assertEqual(lists, 0, program)
                    self.assertLess(files, count / 2, program)

    @traced
    def test_one_of_the_ranks_that_share_samples_reads(self):
        """Two stages of two tensor-parallel ranks, and two ranks that share sequences, dp 2."""
        bad = b'{"body": 1}\n'
        self.write("a.jsonl", self.lines(60) + bad + self.lines(60))
        self.write("held.jsonl", self.lines(60))
        data = {**STEPS, "training/dataset": "jsonl", "training/dataset_path": self.path / "a.jsonl",
                "validation/dataset": "jsonl", "validation/dataset_path": self.path / "held.jsonl",
                "validation/interval": 2, "validation/steps": 2, "checkpoint/folder": "checkpoints",
                "data/on_bad_data": "skip", "data/shuffle": "false", "training/steps": 40}
        meshes = {
            "pp2tp2": ([0], {"training/pipeline_parallel_degree": 2,
                             "training/tensor_parallel_degree": 2, "training/batch_size": 4}),
            "dp2cp2": ([0, 2], {"training/context_parallel_degree": 2}),
        }
        for name, (readers, mesh) in meshes.items():
            trace = ["sh", "-c", "exec strace -f --seccomp-bpf -qq -e trace=openat "
                                 "-o $0.$OMPI_COMM_WORLD_RANK \"$@\"", str(self.path / "trace")]
            run = self.workplace.run(4, {**data, **mesh}, folder=name, below=trace)
            self.assertEqual(run.returncode, 0, run.output)
            for rank in range(4):
                opened = re.findall(r"(?:a|held)\.jsonl", (self.path / f"trace.{rank}").read_text())
                self.assertEqual(len(opened) > 0, rank in readers, (name, rank))
            self.assertEqual(len(re.findall(r"left out \(1 so far\): \S*a\.jsonl:61: no field",
                                            run.output)), 1, run.output)
            # What stops the run is told once, by the rank that met it.
            stop = self.workplace.run(4, {**data, **mesh, "data/on_bad_data": "stop"},
                                      folder=f"{name}-stop", timeout=60)
            self.assertEqual(stop.returncode, 1, stop.output)
            self.assertEqual(len(re.findall(r"error: \S*a\.jsonl:61: no field", stop.stderr)), 1,
                             stop.stderr)
        again = self.workplace.run(4, {**data, **meshes["dp2cp2"][1], "training/steps": 42},
                                   folder="pp2tp2")
        self.assertEqual(again.returncode, 0, again.output)
        whole = self.workplace.run(1, {**data, "training/steps": 42, "training/batch_size": 4},
                                   folder="whole")
        self.assertEqual(whole.column("data/samples_hash"), again.column("data/samples_hash"))

    def test_data_that_one_node_lacks(self):
        for node in ("one", "two"):
            (self.path / node).mkdir()
        self.write("one/data/a.jsonl", self.lines(20))
        for data, lacks in (("data", "data: No such"), ("data/a.jsonl", r"data/a\.jsonl: No such"),
                            ("data/*.jsonl", r"data/\*\.jsonl: data/a\.jsonl: No such")):
            command = self.workplace.command(1, {**STEPS, "training/dataset": "jsonl",
                                                 "training/dataset_path": data})
            program = command[command.index("-np"):]
            run = subprocess.run(
                [*command[:command.index("-np")], "-wdir", str(self.path / "one"), *program,
                 ":", "-wdir", str(self.path / "two"), *program],
                capture_output=True, text=True, timeout=60, check=False)
            self.assertEqual(run.returncode, 2, run.stdout + run.stderr)
            self.assertRegex(run.stderr, rf"error: .*dataset_path = {lacks} file or directory \(on .*, "
                                         r"rank 1\)")

    def test_left_out_and_counted(self):
        good = [b'{"text": "document %d of some length"}\n' % i for i in range(60)]
        bad = [b"{\n", b'{"body": 1}\n', b'{"text": "\xff"}\n', b'{"text": 5}\n']
        mixed = b"".join(good[:20] + bad[:2] + good[20:40] + bad[2:])
        folder = self.path / "mixed"
        folder.mkdir()
        self.write("mixed/1.jsonl", mixed)
        self.write("mixed/2.jsonl.gz", gzip.compress(b"".join(good[40:])) + b"\x1f\x8b\x08rest")
        self.write("mixed/3.jsonl", b"")
        clean = self.write("clean.jsonl", b"".join(good))
        order = {"training/dataset": "jsonl", "data/shuffle": "false", "training/steps": 6,
                 "data/on_bad_data": "skip"}
        run = self.workplace.run(2, {**STEPS, **order, "training/dataset_path": folder})
        self.assertEqual(run.returncode, 0, run.output)
        for text in (r"1\.jsonl:21: not valid JSON", r"3\.jsonl: is empty",
                     r"2\.jsonl\.gz: gzip data .* the rest of .*2\.jsonl\.gz is left out"):
            found = re.findall(r"left out \(\d+ so far\): \S*" + text, run.output)
            self.assertEqual(len(found), 1, run.output)  # by one rank for all
        self.assertEqual(run.losses(),
                         self.losses(2, {**order, "training/dataset_path": clean}, "clean"))


    def test_wherever_bad_records_lie_no_stream_is_without_a_document(self):
        lines = self.lines(64).splitlines(keepends=True)
        for i in range(3, 64, 8):
            lines[i] = b'{"text": null}\n'
        skip = {**STEPS, "training/dataset": "jsonl", "data/streams": 8, "data/on_bad_data": "skip"}
        run = self.workplace.run(2, {**skip, "training/dataset_path":
                                     self.write("a.jsonl", b"".join(lines))})
        self.assertEqual(run.returncode, 0, run.output)
        self.assertRegex(run.output, r'a\.jsonl:4: the field "text" is null, not a string')
        run = self.workplace.run(2, {**skip, "training/dataset_path":
                                     self.write("b.jsonl", b'{"text": null}\n' * 5)}, folder="b")
        self.assertEqual(run.returncode, 1)
        self.assertRegex(run.stderr, r"b\.jsonl: none of 5 documents .* can be used: there is no text "
                                     r"to train on; left out was, for example, .*b\.jsonl:5: the field")
        self.assertNotIn("data/streams", run.stderr)

    def test_archives_one_behind_the_other(self):
        documents = self.lines(40).splitlines(keepends=True)
        both = b""
        for part in (documents[:20], documents[20:]):
            packed = io.BytesIO()
            with tarfile.open(fileobj=packed, mode="w:gz") as archive:
                member = tarfile.TarInfo("a.jsonl")
                member.size = len(b"".join(part))
                archive.addfile(member, io.BytesIO(b"".join(part)))
            both += packed.getvalue()
        order = {"training/dataset": "jsonl", "data/shuffle": "false"}
        plain = self.losses(1, {**order, "training/dataset_path":
                                self.write("all.jsonl", b"".join(documents))}, "plain")
        run = self.workplace.run(1, {**STEPS, **order, "training/dataset_path":
                                     self.write("both.tgz", both + b"not gzip")})
        self.assertEqual(run.returncode, 0, run.output)
        self.assertEqual(run.losses(), plain)
        self.assertRegex(run.output, r"warning: data: .*both\.tgz: what follows its gzip data")

    def test_doubts_are_told_once(self):
        self.write("data/a.jsonl", self.lines())
        self.write("data/a.jsonl.gz", gzip.compress(self.lines()))
        (self.path / "data/more").mkdir()
        self.write("data/more/b.jsonl", self.lines())
        run = self.workplace.run(2, {**STEPS, "training/dataset": "jsonl",
                                     "training/dataset_path": self.path / "data"})
        self.assertEqual(run.returncode, 0, run.output)
        self.assertEqual(run.output.count("the files in its subfolders (more) are not read"), 1)
        self.assertEqual(run.output.count("a.jsonl is there packed and unpacked"), 1)

    def test_a_document_beyond_the_memory_is_left_out(self):
        small = "".join(json.dumps({"text": f"line {i} " * 20}) + "\n" for i in range(20))
        large = '{"text": "' + "\u9f98" * 13000000 + '"}\n'  # each byte a token
        (self.workplace.path / "text.jsonl").write_text(small + large + small)
        options = {"training/dataset": "jsonl", "training/dataset_path": "text.jsonl",
                   "data/streams": 4, "training/steps": 20, "training/batch_size": 2}
        limit = ["prlimit", f"--as={800 << 20}"]
        run = self.workplace.run(1, {**options, "data/on_bad_data": "skip"}, below=limit)
        self.assertEqual(run.returncode, 0, run.output)
        message = (r"text.jsonl:21: no memory for the tokens of this document of 39000000 bytes; "
                   r"the least is left of the address space that ulimit -v allows \(800 MiB\)")
        self.assertRegex(run.stderr, r"left out \(1 so far\): " + message)
        # Where it is all that a stream has, others' documents come in its place.
        run = self.workplace.run(1, {**options, "data/on_bad_data": "skip", "data/streams": 41},
                                 below=limit, folder="alone")
        self.assertEqual(run.returncode, 0, run.output)
        self.assertRegex(run.stderr, r"left out \(1 so far\): " + message)
        self.assertRegex(run.stderr, "stream 20 of 41 has no document that can be used; it reads "
                                     "those of stream 21")
        run = self.workplace.run(1, options, below=limit)
        self.assertEqual(run.returncode, 1, run.output)
        self.assertRegex(run.stderr, r"error: " + message)


class Validation(DataCase):
    def setUp(self):
        super().setUp()
        text = "".join(json.dumps({"text": f"number {i}: " + "ab cd " * (i % 13)}) + "\n"
                       for i in range(300))
        self.held_out = self.write("held-out.jsonl", text.encode())
        self.on = {"validation/dataset": "jsonl", "validation/dataset_path": self.held_out}

    def test_the_same_on_every_mesh_and_training_does_not_notice(self):
        def run(ranks, overrides, folder):
            run = self.workplace.run(ranks, {
                "training/steps": 5, "training/batch_size": 6 // ranks, "metrics/log_freq": 5,
                **overrides}, folder=folder)
            self.assertEqual(run.returncode, 0, run.output)
            return run
        on = {**self.on, "validation/interval": 2, "validation/steps": 3}
        runs = [run(ranks, on, f"np{ranks}") for ranks in (1, 2, 3)]
        runs.append(run(2, {**on, "training/tensor_parallel_degree": 2, "training/batch_size": 6},
                        "tp2"))
        for one in runs:
            rows = [r for r in one.rows() if "validation_metrics/loss" in r]
            self.assertEqual([r["step"] for r in rows], [2, 4, 5])
            for row in rows:
                self.assertAlmostEqual(row["validation_metrics/perplexity"],
                                       math.exp(row["validation_metrics/loss"]), delta=0.01)
            self.assertIn("| 18 sequences |", one.stdout)
        values = [[r.get("validation_metrics/loss") for r in one.rows()] for one in runs]
        for other in values[1:]:
            for a, b in zip(values[0][1:], other[1:]):
                self.assertAlmostEqual(a, b, delta=2e-4)
        plain = run(2, {}, "plain")
        self.assertEqual(plain.losses()[0], runs[1].losses()[0])
        # Validation's traffic is not training's, though weights that it gathered may serve a step.
        self.assertLessEqual(runs[1].traffic("measured")[0], plain.traffic("measured")[0])
        self.assertEqual(runs[1].traffic("measured")[1], plain.traffic("measured")[1])
        self.assertEqual(plain.rows()[-1]["grad_norm"], runs[1].rows()[-1]["grad_norm"])

    def test_it_is_the_loss_of_training(self):
        for precision in ("float32", "bfloat16"):
            run = self.workplace.run(2, {
                **STEPS, **self.on, "training/dataset": "jsonl", "data/shuffle": "false",
                "training/dataset_path": self.held_out, "optimizer/lr": 0, "validation/steps": 3,
                "training/mixed_precision_param": precision}, folder=precision)
            self.assertEqual(run.returncode, 0, run.output)
            trained = run.losses()
            self.assertAlmostEqual(sum(trained) / 3, run.rows()[-1]["validation_metrics/loss"],
                                   delta=2e-6)

    def test_too_little_held_out_data_is_said(self):
        self.write("held-out.jsonl", b'{"text": "short"}\n')
        run = self.workplace.run(2, {**STEPS, **self.on})
        self.assertEqual(run.returncode, 0, run.output)
        self.assertIn("some of it counts twice", run.output)

    def test_keys_without_data_are_refused(self):
        run = self.workplace.run(2, {**STEPS, "validation/interval": 5})
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("[validation] interval does nothing without dataset_path", run.stderr)


if __name__ == "__main__":
    unittest.main(verbosity=2)
