#!/usr/bin/env python3
"""tools/checkpoint.py on some 300 files that are damaged or mean harm: one line each, exit code 1.

One process for all of them: what is tested takes milliseconds, starting Python and h5py a second.
"""

import json
import math
import os
import resource
import shutil
import struct
import subprocess
import sys
import time
import unittest

from tool_run import TOOL, ToolTest, use_python_with

use_python_with("h5py, numpy", "requirements-checkpoint.txt")

import h5py  # noqa: E402
import numpy as np  # noqa: E402
from h5py import h5d, h5p, h5s, h5t  # noqa: E402

import koios_file  # noqa: E402

ODD_ATTRIBUTES = (
    np.arange(1000, dtype="<i8"), np.zeros((2, 2)), np.array([], "<f4"), h5py.Empty("<i8"),
    h5py.Empty("S4"), np.array(["a", "b"], dtype="S1"), "text", b"\xff\xfe", "", 1.5,
    float("nan"), float("inf"), np.int64(-1), np.uint64(2**64 - 1), np.int64(2**62),
    np.array((1, 2.5), dtype=[("a", "<i4"), ("b", "<f8")]), np.bool_(True), 1 + 2j,
    np.void(b"opaque"), "\x1b]0;owned\x07", "9" * 5000, "x" * 60000)
ODD_JSON = (None, True, False, 0, -1, 1, 1.5, 10**400, -10**30, 10**9, math.nan, math.inf, "", "12",
            "\x1b[2J", "\ud800", [], [1], {}, {"a": [{}]})
CONFIG_KEYS = ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers",
               "num_attention_heads", "num_key_value_heads", "vocab_size", "rms_norm_eps",
               "rope_theta", "rope_scaling", "rope_parameters", "hidden_act", "attention_bias",
               "mlp_bias", "head_dim", "tie_word_embeddings", "max_position_embeddings")


class Hostile(ToolTest):
    def setUp(self):
        super().setUp()
        self.values = koios_file.parameters()
        self.good = self.folder / "good.h5"
        koios_file.write_checkpoint(self.good, self.values)
        self.file = self.folder / "odd.h5"

    def tried(self, what, *arguments, codes=(1,)):
        """What a command said; it may also end well where the oddity is none of its business."""
        began = time.monotonic()
        with self.subTest(what):
            said = self.tool(*arguments, codes=codes)
            for raw in ("\x1b", "\x07", "Traceback", "fault of the tool"):
                self.assertNotIn(raw, said)
            self.assertLess(time.monotonic() - began, 20, what)
            return said
        return ""

    def mutated(self):
        self.file.write_bytes(self.good.read_bytes())
        return h5py.File(self.file, "r+", libver=("v110", "v110"))

    def on_every_command(self, what, codes=(1,), commands=("info", "verify", "to-hf")):
        said, out = "", self.folder / "hf"
        for command in commands:
            more = [out] if command == "to-hf" else []
            said += self.tried(f"{command}: {what}", command, self.file, *more, codes=codes)
        shutil.rmtree(out, ignore_errors=True)
        return said


class Checkpoints(Hostile):
    def test_attributes(self):
        for owner in ("/", "/train_state", "/model/norm.weight"):
            with h5py.File(self.good) as file:
                names = list(file[owner].attrs)
            for name in names:
                for number, value in enumerate(ODD_ATTRIBUTES):
                    with self.mutated() as file:
                        del file[owner].attrs[name]
                        file[owner].attrs[name] = value
                    command = ("info", "verify")[(number + len(name)) % 2]
                    self.tried(f"{command}: {owner} {name} = {str(value)[:40]}", command, self.file,
                               codes=(0, 1))

    def test_attributes_are_named(self):
        with self.mutated() as file:
            file.attrs["vocab_size"] = np.arange(7)
        self.assertIn("its attribute vocab_size is not one value", self.tool("info", self.file, code=1))
        with self.mutated() as file:
            del file.attrs["format_version"]
            file.attrs["format_version"] = "1"
        self.assertIn("format_version is not a whole number", self.tool("info", self.file, code=1))
        with self.mutated() as file:
            del file["train_state"].attrs["step"]
            file["train_state"].attrs["step"] = "7"
        self.assertIn("/train_state: its attribute step is not a whole number",
                      self.tool("verify", self.file, code=1))

    def test_decks(self):
        sizes = ("dim", "n_layers", "n_heads", "n_kv_heads", "ffn_dim", "norm_eps", "rope_theta")
        odd = ("", "0", "-3", "1000000000", "10000000000000000000000", "9" * 5000, "nan", "inf",
               "1e400", "x", "0x10", "\x1b[2J", "7")
        for key in sizes:
            for number, value in enumerate(odd):
                with self.mutated() as file:
                    del file.attrs["deck"]
                    file.attrs["deck"] = np.bytes_(koios_file.deck(**{key: value}).encode())
                harmless = key in ("norm_eps", "rope_theta") and value in ("1000000000", "7",
                                                                           "10000000000000000000000")
                self.on_every_command(f"{key} = {value[:20]}", codes=(0,) if harmless else (1,),
                                      commands=[("info", "verify", "to-hf")[number % 3]])
        for text in ("", "[model", "= 3\n" * 1000, "[model]\n" + "x" * 60000):
            with self.mutated() as file:
                del file.attrs["deck"]
                file.attrs["deck"] = text
            self.on_every_command(f"deck {text[:20]}")
        for value in ("0", "-1", "x", "1" * 400):
            with self.mutated() as file:
                file.attrs["vocab_size"] = np.int64(0)
                del file.attrs["deck"]
                file.attrs["deck"] = np.bytes_(koios_file.deck(vocab_size=value).encode())
            self.on_every_command(f"vocab_size {value[:20]}")
        with self.mutated() as file:
            del file.attrs["deck"]
            file.attrs["deck"] = np.bytes_(
                koios_file.deck().replace("seq_len = 32", "seq_len = many").encode())
        self.assertIn("seq_len = many", self.tried("seq_len", "to-hf", self.file, self.folder / "o"))

    def test_n_layers_of_a_billion_takes_no_memory(self):
        with self.mutated() as file:
            del file.attrs["deck"]
            file.attrs["deck"] = np.bytes_(koios_file.deck(n_layers=1000000000).encode())
        said = self.on_every_command("n_layers")
        self.assertIn("n_layers = 1000000000, but it holds only", said)

    def replaced(self, make, name="model/norm.weight"):
        """A file in which make(file, name) has made the dataset anew; attributes as they were."""
        with self.mutated() as file:
            attributes = dict(file[name].attrs)
            del file[name]
            make(file, name)
            if isinstance(file.get(name, getlink=True), h5py.HardLink):
                for key, value in attributes.items():
                    file[name].attrs[key] = value

    def test_datasets(self):
        (self.folder / "other.bin").write_bytes(bytes(10000))
        os.mkfifo(self.folder / "pipe.h5")
        layout = h5py.VirtualLayout((48,), "<f4")
        layout[:] = h5py.VirtualSource("good.h5", "model/norm.weight", shape=(48,))

        def late(file, name):
            space = h5s.create_simple((1 << 40,))
            h5d.create(file.id, name.encode(), h5t.IEEE_F32LE, space)

        def packed(file, name):
            file.create_dataset(name, (1 << 28,), "<f4", compression="gzip", fillvalue=1.0)

        makers = {
            "scalar": lambda f, n: f.create_dataset(n, data=np.float32(1)),
            "null": lambda f, n: f.create_dataset(n, data=h5py.Empty("<f4")),
            "rank 5": lambda f, n: f.create_dataset(n, data=np.ones((1, 2, 3, 4, 2), "<f4")),
            "no rows": lambda f, n: f.create_dataset(n, data=np.ones((0,), "<f4")),
            "huge": late,
            "packed": packed,
            "chunked": lambda f, n: f.create_dataset(n, data=np.ones(48, "<f4"), chunks=(8,)),
            "text": lambda f, n: f.create_dataset(n, data=np.array([b"ab"] * 48)),
            "compound": lambda f, n: f.create_dataset(n, data=np.zeros(48, [("a", "<f4")])),
            "variable": lambda f, n: f.create_dataset(n, (48,), h5py.string_dtype()),
            "big endian": lambda f, n: f.create_dataset(n, data=np.ones(48, ">f4")),
            "in another file": lambda f, n: f.create_dataset(
                n, (48,), "<f4", external=[(str(self.folder / "other.bin"), 0, 192)]),
            "virtual": lambda f, n: f.create_virtual_dataset(n, layout),
            "soft link": lambda f, n: f.__setitem__(n, h5py.SoftLink("/model/output.weight")),
            "link to a file": lambda f, n: f.__setitem__(
                n, h5py.ExternalLink(str(self.good), "/model/norm.weight")),
            "link to a pipe": lambda f, n: f.__setitem__(
                n, h5py.ExternalLink(str(self.folder / "pipe.h5"), "/x")),
            "named type": lambda f, n: f.__setitem__(n, np.dtype("<f4")),
            "group": lambda f, n: f.create_group(n),
        }
        for what, make in makers.items():
            self.replaced(make)
            said = self.on_every_command(what)
            self.assertIn("norm.weight", said, what)

    def test_structure(self):
        def nest(file):
            group = file["model"]
            for _ in range(2000):
                group = group.create_group("g")

        def many(file):
            for number in range(300):
                file.create_group(f"model/g{number}")

        for what, change, codes in (
                ("nested", nest, (1,)), ("many", many, (0, 1)),
                ("loop", lambda f: f["model"].__setitem__("loop", f["/"]), (1,)),
                ("no model", lambda f: f.__delitem__("model"), (1,)),
                ("no state", lambda f: f.__delitem__("train_state"), (0, 1)),
                ("state is a dataset", lambda f: (f.__delitem__("train_state"),
                                                  f.create_dataset("train_state", data=1)), (0, 1)),
                ("weights", lambda f: f.attrs.__setitem__("kind", "weights"), (1,)),
                ("escape in a name", lambda f: f.create_group("\x1b[2J"), (0, 1)),
                ("escape in a link", lambda f: f.__setitem__("\x1b[2J", h5py.SoftLink("/x")), (1,))):
            with self.mutated() as file:
                change(file)
            self.on_every_command(what, codes=codes)

    def test_weights_that_are_not_finite(self):
        for value in (math.nan, math.inf, -math.inf):
            self.values["layers.1.feed_forward.w3.weight"][3, 5] = value
            koios_file.write_checkpoint(self.file, self.values)
            for arguments in (["to-hf", self.file, self.folder / "hf"], ["verify", self.file]):
                said = self.tried(f"{value}", *arguments)
                self.assertIn("/model/layers.1.feed_forward.w3.weight", said)
                self.assertIn("NaN or infinite", said)
            self.assertFalse((self.folder / "hf").exists())

    def test_bytes(self):
        """Flipped, cut, and other files under such a name."""
        whole = self.good.read_bytes()
        dice = np.random.default_rng(7)
        for number in range(24):
            data = bytearray(whole)
            for at in dice.integers(0, 4096 if number % 2 else len(whole), 3):
                data[at] ^= 1 << int(dice.integers(0, 8))
            self.file.write_bytes(data)
            self.tried(f"flip {number}", "info", self.file, codes=(0, 1))
            self.tried(f"flip {number}", "verify", self.file, codes=(0, 1))
        for length in (0, 1, 8, 100, 1000, len(whole) // 2, len(whole) - 1):
            self.file.write_bytes(whole[:length])
            self.on_every_command(f"cut at {length}")
        self.file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        self.assertIn("Git LFS pointer", self.on_every_command("pointer"))

    def test_not_files(self):
        os.mkfifo(self.folder / "p.h5")
        for place in (self.folder / "p.h5", "/dev/zero", "/dev/null", self.folder / ("n" * 300),
                      self.folder / "\udcff\x1b.h5"):
            self.tried(place, "info", place)
            self.tried(place, "from-hf", place, self.folder / "o.h5")
            self.tried(place, "to-hf", self.good, self.folder / "o", "--tokenizer", place)


class Folders(Hostile):
    def setUp(self):
        super().setUp()
        self.hf = self.folder / "hf"
        self.tool("to-hf", self.good, self.hf)
        self.out = self.folder / "out.h5"
        self.config = json.loads((self.hf / "config.json").read_text())
        weights = (self.hf / "model.safetensors").read_bytes()
        length = int.from_bytes(weights[:8], "little")
        self.header, self.data = json.loads(weights[8:8 + length]), weights[8 + length:]

    def from_hf(self, what, codes=(1,)):
        said = self.tried(what, "from-hf", self.hf, self.out, codes=codes)
        self.out.unlink(missing_ok=True)
        return said

    def write_weights(self, header, data=None, name="model.safetensors"):
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        (self.hf / name).write_bytes(struct.pack("<Q", len(text)) + text +
                                     (self.data if data is None else data))

    def test_config(self):
        for key in CONFIG_KEYS:
            for value in ODD_JSON:
                (self.hf / "config.json").write_text(json.dumps(self.config | {key: value}))
                self.from_hf(f"{key} = {str(value)[:40]}", codes=(0, 1))
        for key, value, part in (("hidden_size", "48", 'hidden_size is "48", not a whole number'),
                                 ("head_dim", 1, "head_dim 1 is not"),
                                 ("num_hidden_layers", 10**9, "only 21 tensors"),
                                 ("num_attention_heads", 48, "is odd, and rotary"),
                                 ("num_key_value_heads", 4, "does not divide n_heads"),
                                 ("rms_norm_eps", None, None), ("rms_norm_eps", "x", "not a number"),
                                 ("hidden_size", True, "hidden_size is true"),
                                 ("rope_scaling", [1], "rope_scaling is [1], not an object"),
                                 ("rope_parameters", {"rope_theta": "x"}, "rope_theta is x")):
            (self.hf / "config.json").write_text(json.dumps(
                self.config | {key: value} | ({"head_dim": None, "num_key_value_heads": None}
                                              if key == "num_attention_heads" else {})))
            said = self.from_hf(f"{key} = {value}", codes=(0,) if part is None else (1,))
            self.assertIn(part or "note" if part else "[model]", said)
        for text in (b"", b"null", b"[]", b"\xff\xfe", b"[" * 100000, b'{"a":' * 100000, b"{" * 10,
                     b"1" * 5000, b" " * (17 << 20), b"version https://git-lfs.github.com/spec/v1\n"):
            (self.hf / "config.json").write_bytes(text)
            self.from_hf(f"config {text[:20]}")
        (self.hf / "config.json").unlink()
        os.mkfifo(self.hf / "config.json")
        self.from_hf("config.json is a pipe")

    def test_weight_map_stays_inside_of_the_folder(self):
        index = self.hf / "model.safetensors.index.json"
        (self.folder / "elsewhere.safetensors").write_bytes(
            (self.hf / "model.safetensors").read_bytes())
        name = "model.norm.weight"
        for place in ("../elsewhere.safetensors", str(self.folder / "elsewhere.safetensors"), "..",
                      "", ".", "a/../../elsewhere.safetensors", "none", "a\0b", 7, None, ["x"], {},
                      "\x1b[2J", "/dev/zero"):
            index.write_text(json.dumps({"weight_map": {name: place}}))
            said = self.from_hf(f"weight_map {place}")
            if place is not None and "elsewhere" in str(place):
                self.assertIn("not a file beside it", said)
        for value in ODD_JSON:
            index.write_text(json.dumps({"weight_map": value}))
            self.from_hf(f"weight_map = {str(value)[:40]}")
        for text in (b"", b"[]", b"[" * 100000):
            index.write_bytes(text)
            self.from_hf(f"index {text[:20]}")

    def test_headers(self):
        name = "model.norm.weight"
        for entry in ODD_JSON:
            self.write_weights(self.header | {name: entry})
            self.from_hf(f"entry {str(entry)[:40]}")
        for key in ("dtype", "shape", "data_offsets"):
            for value in (*ODD_JSON, [0], [0, 4], [4, 0], [-4, 0], [0, 10**30], [True, 192],
                          [0, 192, 384], [1 << 40], [1] * 40, ["48"], "I64", "F64"):
                entry = self.header[name] | {key: value}
                self.write_weights(self.header | {name: entry})
                self.from_hf(f"{key} {str(value)[:40]}")
        for header in (b"", b"[]", b"null", b"1", b"[" * 100000, b'{"a":' * 50000, b"\xff\xff"):
            self.write_weights(header)
            self.from_hf(f"header {header[:20]}")
        for begin in (b"", b"\0" * 8, b"\xff" * 8, struct.pack("<Q", 1 << 62) + b"{}"):
            (self.hf / "model.safetensors").write_bytes(begin)
            self.from_hf(f"file {begin[:20]}")
        (self.hf / "model.safetensors").write_bytes(
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
        self.assertIn("Git LFS pointer", self.from_hf("pointer"))

    def test_weights_that_are_not_finite(self):
        name = "model.layers.0.mlp.up_proj.weight"
        first = self.header[name]["data_offsets"][0]
        for value in (math.nan, math.inf):
            data = bytearray(self.data)
            data[first:first + 4] = struct.pack("<f", value)
            self.write_weights(self.header, bytes(data))
            self.assertRegex(self.from_hf(f"{value}"), f"{name}: 1 of its values are NaN or infinite")
            self.assertFalse(self.out.exists())

    def test_tokenizers(self):
        place = self.folder / "t.model"
        for data in (b"", b"\x80" * 100000, b"\x0a\xff\xff\xff\xff\x0f", b"<!DOCTYPE html>", b"{}",
                     b"\x0a\x02\x08\x01", b"\x0a\x03\x0a\x01\xff", b"\x12\x03\xc8\x02\xff", b"\x07",
                     bytes(1000), b"version https://git-lfs.github.com/spec/v1\n"):
            place.write_bytes(data)
            self.tried(data[:20], "to-hf", self.good, self.folder / "o", "--tokenizer", place)
        os.truncate(place, 1 << 40)
        self.tried("a terabyte", "to-hf", self.good, self.folder / "o", "--tokenizer", place)


class Arguments(Hostile):
    def test_sizes_of_shards(self):
        for size in ("nan", "inf", "-inf", "0", "-1"):
            said = self.tried(size, "to-hf", self.good, self.folder / "o", f"--max-shard-size={size}")
            self.assertIn("not a size in GB above 0", said)

    def test_outputs_that_are_links(self):
        (self.folder / "link").symlink_to(self.folder / "nothing")
        for arguments in (["to-hf", self.good], ["from-hf", self.folder], ["to-dcp", self.good]):
            self.tried(arguments[0], *arguments, self.folder / "link")
        self.assertFalse((self.folder / "nothing").exists())

    def test_a_pytorch_that_is_of_no_use(self):
        """to-dcp where PyTorch is broken, in pieces, or without the parts that are used."""
        parts = self.folder / "torch/distributed/checkpoint"
        parts.mkdir(parents=True)
        for folder in (parts, parts.parent, parts.parent.parent):
            (folder / "__init__.py").touch()
        for broken, text, reason in (
                (parts, "", "has no attribute 'DefaultSavePlanner'"),
                (parts.parent, "raise ValueError", "ValueError"),
                (parts.parent.parent, "raise OSError('libcudart.so.12: not there\\n')", "libcudart")):
            (broken / "__init__.py").write_text(text)
            done = subprocess.run([sys.executable, TOOL, "to-dcp", self.good, self.folder / "o"],
                                  capture_output=True, text=True, check=False, timeout=100,
                                  env=os.environ | {"PYTHONPATH": str(self.folder)})
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr, r"\Acheckpoint: error: to-dcp needs PyTorch[^\n]+\n\Z")
            self.assertIn(reason, done.stderr)
        self.assertFalse((self.folder / "o").exists())

    def test_as_a_user_starts_it(self):
        """The same through real processes, whose memory is limited."""
        def limited():
            resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
        with self.mutated() as file:
            del file["model/norm.weight"]
            h5d.create(file.id, b"model/norm.weight", h5t.IEEE_F32LE, h5s.create_simple((1 << 40,)))
            file.attrs["created"] = "\x1b]0;owned\x07"
        for command, part in ((["verify", self.file], "which the file does not hold"),
                              (["info", self.file], "no checksum"),
                              (["to-hf", self.file, self.folder / "o", "--max-shard-size", "nan"],
                               "not a size in GB")):
            done = subprocess.run([sys.executable, TOOL, *command], capture_output=True, text=True,
                                  check=False, preexec_fn=limited, timeout=100,
                                  env=os.environ | {"OPENBLAS_NUM_THREADS": "1"})
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertRegex(done.stderr, r"\Acheckpoint: error: [^\n]+\n\Z")
            self.assertNotIn("\x1b", done.stdout)


def tearDownModule():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    assert peak < 1, f"{peak:.2f} GiB of memory were used"


if __name__ == "__main__":
    unittest.main(verbosity=1)
