#!/usr/bin/env python3
"""tools/get_dataset.py with the real hub client against a server of ours, and its conversions.

Exit code 77 (skipped) without huggingface_hub and pyarrow.
"""

import base64
import decimal
import gzip
import hashlib
import http.server
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import threading
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
VENV = ROOT / ".venv/bin/python3"
COMMIT = "0" * 40

try:
    import huggingface_hub  # noqa: F401
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet
except ImportError:
    if VENV.exists() and "KOIOS_IN_VENV" not in os.environ:
        os.execve(VENV, [str(VENV), __file__, *sys.argv[1:]], {**os.environ, "KOIOS_IN_VENV": "1"})
    print("skipped: pip install -r tools/requirements-data.txt")
    sys.exit(77)


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub's interface as listing and downloading need."""

    files = {}  # (kind, repository) -> {name: content}
    gated = set()
    cut = set()  # their next download breaks off half-way
    ranges = []  # where downloads that go on began
    revisions = []  # of the files that were asked for

    def log_message(self, *_):
        pass

    def refuse(self, code, kind, message):
        self.send_response(code)
        self.send_header("X-Error-Code", kind)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, body, headers=(), code=200):
        self.send_response(code)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        path = self.path.split("?")[0]
        for (kind, repository), files in self.files.items():
            prefix = "datasets/" if kind == "dataset" else ""
            if path.startswith(f"/api/{kind}s/{repository}"):
                rest = path[len(f"/api/{kind}s/{repository}"):]
                if rest.startswith("/tree/"):
                    entries = [{"type": "file", "path": n, "size": len(c), "oid": "1" * 40}
                               for n, c in files.items()]
                    return self.answer(json.dumps(entries).encode(),
                                       [("Content-Type", "application/json")])
                info = {"id": repository, "sha": COMMIT,
                        "siblings": [{"rfilename": name} for name in files]}
                return self.answer(json.dumps(info).encode(),
                                   [("Content-Type", "application/json")])
            if path.startswith(f"/{prefix}{repository}/resolve/"):
                revision, name = path.split("/resolve/")[1].split("/", 1)
                Hub.revisions.append(revision)
                if repository in self.gated and not self.headers.get("Authorization"):
                    return self.refuse(401, "GatedRepo", "restricted")
                if name not in files:
                    return self.refuse(404, "EntryNotFound", "no such entry")
                return self.send_file(name, files[name])
        return self.refuse(401, "RepoNotFound", "no such repository")

    do_HEAD = do_GET

    def send_file(self, name, content):
        headers = [("X-Repo-Commit", COMMIT), ("ETag", f'"{hashlib.sha1(content).hexdigest()}"'),
                   ("Accept-Ranges", "bytes")]
        wanted = self.headers.get("Range")
        if wanted and self.command == "GET":
            first = int(wanted.removeprefix("bytes=").split("-")[0])
            Hub.ranges.append(first)
            headers.append(("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}"))
            return self.answer(content[first:], headers, 206)
        if name in self.cut and self.command == "GET":
            self.cut.discard(name)
            self.close_connection = True
            headers.append(("Content-Length", str(len(content))))
            self.send_response(200)
            for key, value in headers:
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content[:len(content) // 2])
            return None
        return self.answer(content, headers)


class GetDataset(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
        threading.Thread(target=cls.server.serve_forever, daemon=True).start()

    @classmethod
    def tearDownClass(cls):
        cls.server.shutdown()

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.path = pathlib.Path(scratch.name)
        Hub.files = {}
        Hub.gated = set()
        Hub.cut = set()
        Hub.ranges = []
        Hub.revisions = []

    def tool(self, *arguments, server=True, code=0):
        environment = {**os.environ, "HF_HOME": str(self.path / "home"), "HF_HUB_DISABLE_XET": "1",
                       "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                       "HF_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}" if server
                       else "http://127.0.0.1:9"}
        environment.pop("HF_TOKEN", None)
        run = subprocess.run([sys.executable, ROOT / "tools/get_dataset.py", *map(str, arguments)],
                             cwd=self.path, env=environment, capture_output=True, text=True,
                             timeout=100, check=False)
        self.assertEqual(run.returncode, code, run.stdout + run.stderr)
        self.assertNotIn("Traceback", run.stderr)
        return run.stderr if code else run.stdout

    def parquet(self, columns, name="part.parquet"):
        pa.parquet.write_table(pa.table(columns), self.path / name)
        return (self.path / name).read_bytes()

    def test_alpaca_becomes_the_published_array(self):
        columns = {"instruction": ["Go", "St\u00f6p"], "input": ["", "here"],
                   "output": ["Yes", "No"], "text": ["filled", "filled"]}
        Hub.files[("dataset", "tatsu-lab/alpaca")] = {
            "data/train-00000-of-00001-a0.parquet": self.parquet(columns), "README.md": b"x"}
        self.assertIn("dataset = alpaca\ndataset_path = data/alpaca/alpaca_data.json",
                      self.tool("alpaca"))
        array = json.loads((self.path / "data/alpaca/alpaca_data.json").read_text())
        del columns["text"]
        self.assertEqual(array, [dict(zip(columns, row)) for row in zip(*columns.values())])

    def test_c4_first_files_and_validation(self):
        Hub.files[("dataset", "allenai/c4")] = {
            f"en/c4-{name}.json.gz": gzip.compress(name.encode())
            for name in ("train.00000-of-00002", "train.00001-of-00002",
                         "validation.00000-of-00001")}
        printed = self.tool("c4", "--files", "1")
        folder = self.path / "data/c4/en"
        self.assertEqual(sorted(p.name for p in folder.iterdir()),
                         ["c4-train.00000-of-00002.json.gz",
                          "c4-validation.00000-of-00001.json.gz"])
        self.assertIn("dataset_path = data/c4/en/c4-train.*", printed)
        self.assertIn("[validation]", printed)
        self.assertIn("dataset_path = data/c4/en\n", self.tool("c4"))
        self.assertEqual(len(list(folder.iterdir())), 3)

    def test_a_download_that_broke_off_goes_on(self):
        content = bytes(range(256)) * 300000
        Hub.files[("model", "some/model")] = {"tokenizer.model": content}
        Hub.cut = {"tokenizer.model"}
        self.tool("tokenizer", "some/model")
        self.assertEqual((self.path / "data/tokenizer.model").read_bytes(), content)
        self.assertEqual(Hub.cut, set())
        self.assertTrue(all(first > 0 for first in Hub.ranges) and Hub.ranges, Hub.ranges)

    def test_openwebtext_as_archives_or_as_tables(self):
        Hub.files[("dataset", "Skylion007/openwebtext")] = {"subsets/urlsf_subset00.tar": b"tar"}
        self.assertIn("dataset = openwebtext", self.tool("openwebtext"))
        Hub.files[("dataset", "Skylion007/openwebtext")] = {
            "plain_text/train-00000-of-00001.parquet": self.parquet({"text": ["a", "b"]})}
        self.assertIn("dataset = jsonl", self.tool("openwebtext", "--out", "owt"))
        self.assertEqual(self.documents(self.path / "owt"), ["a", "b"])

    def documents(self, folder):
        return [json.loads(line)["text"] for path in sorted(folder.glob("*.jsonl.gz"))
                for line in gzip.decompress(path.read_bytes()).splitlines()]

    def test_a_tokenizer_that_is_restricted(self):
        Hub.files[("model", "meta-llama/Llama-2-7b-hf")] = {"tokenizer.model": b"pieces"}
        Hub.gated = {"meta-llama/Llama-2-7b-hf"}
        error = self.tool("tokenizer", "meta-llama/Llama-2-7b-hf", code=1)
        self.assertRegex(error, "^get_dataset: error: access to meta-llama/Llama-2-7b-hf was "
                                "refused: it is restricted. Accept its licence .*HF_TOKEN\n$")
        self.assertIn("tokenizer_path = data/tokenizer.model",
                      self.tool("tokenizer", "meta-llama/Llama-2-7b-hf", "--token", "hf_abcdefgh"))
        self.assertEqual((self.path / "data/tokenizer.model").read_bytes(), b"pieces")

    def test_what_is_not_there(self):
        self.assertIn("refused or does not exist", self.tool("tokenizer", "no/body", code=1))
        Hub.files[("model", "some/model")] = {"config.json": b"{}"}
        self.assertIn("no such file", self.tool("tokenizer", "some/model", code=1))
        error = self.tool("c4", server=False, code=1)
        self.assertRegex(error, "^get_dataset: error: allenai/c4: .*start again.*\n$")
        (self.path / "file").write_bytes(b"")
        self.parquet({"text": ["x"]})
        self.assertRegex(self.tool("convert", "part.parquet", "file/out", code=1),
                         "^get_dataset: error: .*file.*\n$")
        for wrong in (("c4", "--files", 0), ("sample", "c4", "s", "--documents", -1)):
            self.assertIn("not a whole number from 1 on", self.tool(*wrong, code=2))

    def test_the_lines_for_the_deck_name_any_path(self):
        for folder, line in (("a b", "dataset_path = a b"),
                             ("a$b", "dataset_path = a\\$b"), ("~a", "dataset_path = ./~a"),
                             ("#a", "dataset_path = ./#a"), ("'a'", "dataset_path = ./'a'"),
                             ("a ", "# dataset_path: a deck has no place for a , "),
                             ("a # b", "# dataset_path: a deck has no place for a # b, ")):
            self.assertRegex(self.tool("sample", "c4", folder), f"(?m)^{re.escape(line)}")

    def test_one_commit_is_fetched_and_named(self):
        Hub.files[("model", "some/model")] = {"tokenizer.model": b"pieces"}
        self.assertIn(f"some/model at commit {COMMIT}", self.tool("tokenizer", "some/model"))
        self.assertTrue(Hub.revisions)
        self.assertEqual(set(Hub.revisions), {COMMIT})

    def test_tables_of_every_kind(self):
        table = pa.table({"text": [f"d{i}" for i in range(5)], "n": list(range(5))})
        saved = self.path / "saved"
        saved.mkdir()
        with pa.OSFile(str(saved / "data-00000-of-00001.arrow"), "wb") as sink, \
                pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
        (saved / "state.json").write_text(
            json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
        self.tool("convert", saved, "out", "--documents-per-file", "2")
        self.assertEqual(self.documents(self.path / "out"), table["text"].to_pylist())
        self.assertEqual(sorted(p.name for p in (self.path / "out").iterdir()),
                         [f"documents-0000{i}-of-00003.jsonl.gz" for i in range(3)])
        self.parquet({"body": ["x"]})
        self.assertIn("no column text; it has body",
                      self.tool("convert", "part.parquet", "out2", code=1))
        (self.path / "bad.parquet").write_bytes(b"PAR1 nonsense")
        self.assertIn("bad.parquet", self.tool("convert", "bad.parquet", "out3", code=1))
        self.assertIn("no such file", self.tool("convert", "nowhere", "out4", code=1))
        (saved / "state.json").write_text("{}")
        self.assertIn("does not list _data_files", self.tool("convert", saved, "out5", code=1))

    def test_another_conversion_replaces_the_one_before_or_leaves_it(self):
        self.parquet({"text": ["a", "b", "c"]})
        self.tool("convert", "part.parquet", "out", "--documents-per-file", "1")
        table = pa.table({"text": pa.array([b"d", b"\xff"], pa.binary())})
        pa.parquet.write_table(table, self.path / "bad.parquet")
        self.assertIn("not UTF-8", self.tool("convert", "bad.parquet", "out", code=1))
        self.assertEqual(self.documents(self.path / "out"), ["a", "b", "c"])
        self.tool("convert", "part.parquet", "out")
        self.assertEqual(self.documents(self.path / "out"), ["a", "b", "c"])
        self.assertEqual([p.name for p in (self.path / "out").iterdir()],
                         ["documents-00000-of-00001.jsonl.gz"])

    def test_rows_that_json_lines_cannot_hold_as_they_are(self):
        self.parquet({"text": pa.array(["caf\u00e9".encode(), None, b"c"], pa.binary()),
                      "score": [1.5, 2.5, float("nan")],
                      "deep": [[{"x": float("inf")}], [], []]})
        self.assertIn("1 rows without text left out", self.tool("convert", "part.parquet", "out"))
        lines = gzip.decompress(next((self.path / "out").iterdir()).read_bytes()).splitlines()

        def refuse(name):
            self.fail(f"{name} is not JSON")
        self.assertEqual([json.loads(line, parse_constant=refuse) for line in lines],
                         [{"text": "caf\u00e9", "score": 1.5, "deep": [{"x": None}]},
                          {"text": "c", "score": None, "deep": []}])
        self.parquet({"text": [[1]]})
        self.assertIn("holds list<element: int64>, not text", self.tool("convert", "part.parquet", "out2", code=1))

    def rows_of(self, columns, name="odd.arrow"):
        """Converts a table, written as Arrow; returns (its rows, what was said)."""
        table = pa.table(columns)
        with pa.OSFile(str(self.path / name), "wb") as sink, \
                pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)
        said = self.tool("convert", name, "out")
        (packed,) = (self.path / "out").iterdir()

        def refuse(constant):
            self.fail(f"{constant} is not JSON")
        return [json.loads(line, parse_constant=refuse)
                for line in gzip.decompress(packed.read_bytes()).splitlines()], said

    def test_every_column_type_of_arrow(self):
        moment = 1700000000123456789

        def whole(values, kind, width=pa.int64()):
            return pa.array(values, width).cast(kind, safe=False)
        map_type = pa.map_(pa.string(), pa.float64())
        deep = pa.list_(pa.struct([("at", pa.timestamp("ns")), ("m", map_type)]))
        nan, inf = float("nan"), float("inf")
        columns = {  # two rows each, the second null where it can be: (array, expected)
            "text": (pa.array(["a", "b"]), ["a", "b"]),
            "null": (pa.nulls(2), [None, None]),
            "bool": (pa.array([True, None]), [True, None]),
            "uint64": (pa.array([2**64 - 1, None], pa.uint64()), [2**64 - 1, None]),
            "half": (pa.array([1.5, nan], pa.float32()).cast(pa.float16()), [1.5, None]),
            "double": (pa.array([inf, -inf]), [None, None]),
            "decimal": (pa.array([decimal.Decimal("1.50"), None]), ["1.50", None]),
            "ns": (whole([moment, None], pa.timestamp("ns")),
                   ["2023-11-14 22:13:20.123456789", None]),
            "ns zone": (whole([moment, None], pa.timestamp("ns", "UTC")),
                        ["2023-11-14 22:13:20.123456789Z", None]),
            "no such zone": (whole([0, None], pa.timestamp("s", "No/where")),
                             ["1970-01-01 00:00:00Z", None]),
            "far": (whole([2**62, None], pa.timestamp("s")), [..., None]),
            "date32": (whole([10**7, None], pa.date32(), pa.int32()), [..., None]),
            "date64": (whole([86400000, None], pa.date64()), ["1970-01-02", None]),
            "time32": (whole([1, None], pa.time32("s"), pa.int32()), ["00:00:01", None]),
            "time64": (whole([1, None], pa.time64("ns")), ["00:00:00.000000001", None]),
            "duration": (whole([moment, None], pa.duration("ns")), [moment, None]),
            "interval": (pa.array([(1, 2, 3), None], pa.month_day_nano_interval()),
                         [[1, 2, 3], None]),
            "binary": (pa.array([b"\xff", None]), ["/w==", None]),
            "fixed": (pa.array([b"\xff", None], pa.binary(1)), ["/w==", None]),
            "large": (pa.array([b"\xff", None], pa.large_binary()), ["/w==", None]),
            "view": (pa.array([b"\xff", None], pa.binary_view()), ["/w==", None]),
            "text view": (pa.array(["x", None], pa.string_view()), ["x", None]),
            "large text": (pa.array(["x", None], pa.large_string()), ["x", None]),
            "dictionary": (pa.array(["x", None]).dictionary_encode(), ["x", None]),
            "dictionary of times": (whole([1, None], pa.timestamp("ns")).dictionary_encode(),
                                    ["1970-01-01 00:00:00.000000001", None]),
            "runs": (pa.compute.run_end_encode(pa.array([inf, 2.0])), [None, 2.0]),
            "list": (pa.array([[1.5, inf, None], None]), [[1.5, None, None], None]),
            "large list": (pa.array([[1], None], pa.large_list(pa.int8())), [[1], None]),
            "fixed list": (pa.array([[1, 2], None], pa.list_(pa.int8(), 2)), [[1, 2], None]),
            "list view": (pa.array([[1], None], pa.list_view(pa.int8())), [[1], None]),
            "large list view": (pa.array([[1], None], pa.large_list_view(pa.int8())), [[1], None]),
            "struct": (pa.array([{"x": nan, "y": b"\0"}, None]), [{"x": None, "y": "AA=="}, None]),
            "no fields": (pa.array([{}, None], pa.struct([])), [{}, None]),
            "map": (pa.array([[("k", inf), ("l", 1.0)], None], map_type),
                    [[["k", None], ["l", 1.0]], None]),
            "map of numbers": (pa.array([[(1, 2)], []], pa.map_(pa.int64(), pa.int64())),
                               [[[1, 2]], []]),
            "deep": (pa.array([[{"at": moment, "m": [("k", nan)]}, None], None], deep),
                     [[{"at": "2023-11-14 22:13:20.123456789", "m": [["k", None]]}, None], None]),
            "dense union": (pa.UnionArray.from_dense(
                pa.array([0, 1], pa.int8()), pa.array([0, 0], pa.int32()),
                [pa.array([inf]), whole([1], pa.timestamp("ns"))]),
                [None, "1970-01-01 00:00:00.000000001"]),
            "sparse union": (pa.UnionArray.from_sparse(
                pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])]), [1, "b"]),
            "uuid": (pa.ExtensionArray.from_storage(pa.uuid(), pa.array([bytes(16), None],
                                                                        pa.binary(16))),
                     [base64.b64encode(bytes(16)).decode(), None]),
            "tensor": (pa.ExtensionArray.from_storage(
                pa.fixed_shape_tensor(pa.float32(), [2]), pa.array([[1, nan], None],
                                                                   pa.list_(pa.float32(), 2))),
                [[1, None], None]),
        }
        rows, said = self.rows_of({name: array for name, (array, _) in columns.items()})
        self.assertNotIn("left out", said)
        self.assertEqual(len(rows), 2)
        for name, (_, expected) in columns.items():
            for row, value in zip(rows, expected):
                if value is not ...:
                    self.assertEqual(row[name], value, name)
                self.assertIn(name, row)

    def test_a_column_that_cannot_be_written_is_left_out_with_a_line(self):
        bad = pa.Array.from_buffers(pa.string(), 2, [None, pa.py_buffer(bytes(4) + b"\1\0\0\0" * 2),
                                                     pa.py_buffer(b"\xff")])
        rows, said = self.rows_of({"text": ["a", "b"], "bad\x1b": bad, "n": [1, 2]})
        self.assertEqual(rows, [{"text": "a", "n": 1}, {"text": "b", "n": 2}])
        self.assertIn(r"column bad\x1b (string) is left out: Invalid", said)
        self.assertEqual(said.count("left out"), 1)
        table = pa.table({"text": bad})
        pa.parquet.write_table(table, self.path / "bad.parquet")
        self.assertRegex(self.tool("convert", "bad.parquet", "out2", code=1),
                         r"\Aget_dataset: error: bad.parquet: column text: Invalid[^\n]+\n\Z")
        table = pa.Table.from_arrays([pa.array(["a"])] * 2, ["text", "text"])
        with pa.OSFile(str(self.path / "two.arrow"), "wb") as sink, \
                pa.ipc.new_file(sink, table.schema) as file:
            file.write_table(table)
        self.assertIn("two columns text", self.tool("convert", "two.arrow", "out2", code=1))

        table = pa.Table.from_arrays([pa.array(["a"])] * 3, ["text", "n", "n"])
        pa.parquet.write_table(table, self.path / "three.parquet")
        self.assertIn("column n is left out: there are several of this name",
                      self.tool("convert", "three.parquet", "out3"))

    def test_what_is_no_table_is_said(self):
        os.mkfifo(self.path / "pipe")
        self.assertIn("pipe: is neither a file nor a folder", self.tool("convert", "pipe", "out", code=1))
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 1\n"
        for name, content, message in (
                ("a.parquet", pointer, "is a Git LFS pointer"),
                ("b.parquet", b"<!DOCTYPE html>", "b.parquet: is no Parquet table; it begins with b'<!DOC"),
                ("c.arrow", pointer, "is a Git LFS pointer"),
                ("d.csv", b"text\nhello\n", "d.csv: is neither an Arrow nor a Parquet table"),
                ("e.arrow", b"", "e.arrow: is neither an Arrow nor a Parquet table")):
            (self.path / name).write_bytes(content)
            self.assertIn(message, self.tool("convert", name, "out", code=1))

    def test_lists_of_files_stay_inside_of_the_folder(self):
        folder = self.path / "saved"
        folder.mkdir()
        (self.path / "x.arrow").write_bytes(b"")
        for text in (json.dumps({"_data_files": [{"filename": "../x.arrow"}]}),
                     json.dumps({"_data_files": [{"filename": 7}]}), "[" * 100000, "[]", "7"):
            (folder / "state.json").write_text(text)
            error = self.tool("convert", folder, "out", code=1)
            self.assertRegex(error, r"\Aget_dataset: error: [^\n]*state.json: [^\n]*_data_files[^\n]*\n\Z")

    def test_parts_of_a_folder_are_not_mixed(self):
        folder = self.path / "tables"
        folder.mkdir()
        for part in ("train", "test"):
            name = f"{part}-00000-of-00001.parquet"
            (folder / name).write_bytes(self.parquet({"text": [part]}))
        self.assertIn("holds several parts (test, train)", self.tool("convert", folder, "x", code=1))
        self.tool("convert", folder, "out", "--part", "test")
        self.assertEqual(self.documents(self.path / "out"), ["test"])
        self.assertIn("holds no part dev", self.tool("convert", folder, "x", "--part", "dev", code=1))


if __name__ == "__main__":
    unittest.main(verbosity=2)
