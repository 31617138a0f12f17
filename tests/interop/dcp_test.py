#!/usr/bin/env python3
"""tools/checkpoint.py to-dcp: what it writes is read by PyTorch itself, and files or places that are
odd or mean harm end in one line.

Needs torch: in this Python, in .venv, or in the one that KOIOS_TORCH_PYTHON names; skipped aloud
otherwise. What is said where PyTorch is not usable is in hostile_test.py.
"""

import math
import os
import resource
import signal
import subprocess
import sys
import unittest

from tool_run import TOOL, ToolTest, use_python_with

use_python_with("h5py, numpy, torch", "requirements-hugging-face.txt",
                os.environ.get("KOIOS_TORCH_PYTHON"))

import h5py  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.distributed.checkpoint as dcp  # noqa: E402

import koios_file  # noqa: E402
from hostile_test import ODD_ATTRIBUTES, Hostile  # noqa: E402


class Loaded(ToolTest):
    def test_torchtitans_loader(self):
        values = koios_file.parameters()
        koios_file.write_checkpoint(self.folder / "step_00000007.h5", values)
        for name in ("float32", "bfloat16"):
            dtype = getattr(torch, name)
            self.tool("to-dcp", self.folder / "step_00000007.h5", self.folder / name, "--dtype", name)
            state = {key: torch.full(array.shape, torch.nan, dtype=dtype)
                     for key, array in values.items()}
            dcp.load(state, checkpoint_id=self.folder / name)
            for key, array in values.items():
                self.assertTrue(torch.equal(state[key], torch.from_numpy(array).to(dtype)), key)

    def test_a_file_of_weights_alone(self):
        values = koios_file.parameters()
        koios_file.write_checkpoint(self.folder / "step_00000007.h5", values)
        file = self.folder / "step_00000007_weights.h5"
        with h5py.File(self.folder / "step_00000007.h5") as whole, h5py.File(file, "w") as weights:
            weights.attrs.update({**whole.attrs, "kind": np.bytes_("weights")})
            for name, array in values.items():
                koios_file.add(weights, name, array)
        self.tool("to-dcp", file, self.folder / "dcp")
        state = {key: torch.full(array.shape, torch.nan) for key, array in values.items()}
        dcp.load(state, checkpoint_id=self.folder / "dcp")
        for key, array in values.items():
            self.assertTrue(torch.equal(state[key], torch.from_numpy(array)), key)

    def test_torchtitans_loader_never_sees_damage(self):
        file = self.folder / "step_00000007.h5"
        koios_file.write_checkpoint(file, koios_file.parameters())
        with h5py.File(file) as opened:
            offset = opened["model/norm.weight"].id.get_offset()
        with open(file, "r+b") as opened:
            opened.seek(offset)
            opened.write(b"\x01")
        said = self.tool("to-dcp", file, self.folder / "dcp", code=1)
        self.assertIn("/model/norm.weight is damaged", said)
        self.assertFalse((self.folder / "dcp").exists())


class Refused(Hostile):
    def refuses(self, what, *parts, change=None):
        """One line with these parts, and nothing is left behind."""
        if change:
            with self.mutated() as file:
                change(file)
        said = self.tried(what, "to-dcp", self.file, self.folder / "dcp")
        for part in parts:
            self.assertIn(part, said, what)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), ["good.h5", "odd.h5"])

    def test_attributes(self):
        for owner, names in (("/", ("format", "format_version", "kind", "deck", "vocab_size")),
                             ("/model/norm.weight", ("checksum", "dtype"))):
            for name in names:
                for number, value in enumerate(ODD_ATTRIBUTES):
                    with self.mutated() as file:
                        file[owner].attrs[name] = value
                    self.refuses(f"{owner} {name} as odd value {number}", "odd.h5")
                self.refuses(f"without {name}", "odd.h5",
                             change=lambda file, o=owner, n=name: file[o].attrs.pop(n))

    def test_weights_that_are_not_finite(self):
        for value in (math.nan, math.inf, -math.inf):
            self.values["layers.1.feed_forward.w3.weight"][3, 5] = value
            koios_file.write_checkpoint(self.file, self.values)
            self.refuses(f"{value}", "/model/layers.1.feed_forward.w3.weight", "NaN or infinite")

    def test_datasets(self):
        name = "model/output.weight"

        def instead(**dataset):
            def change(file):
                del file[name]
                file.create_dataset(name, **dataset)
                file[name].attrs.update({"checksum": np.uint64(1), "dtype": np.bytes_("float32")})
            return change

        def declared(*shape):
            def change(file):
                del file[name]
                space = h5py.h5s.create_simple(shape)
                h5py.h5d.create(file.id, name.encode(), h5py.h5t.IEEE_F32LE, space)
                file[name].attrs.update({"checksum": np.uint64(1), "dtype": np.bytes_("float32")})
            return change

        def linked(link):
            def change(file):
                del file[name]
                file[name] = link
            return change

        for shape in ((1 << 40,), (1 << 62, 1 << 62), (1 << 40, 48), (61, 48)):
            self.refuses(f"declared as {shape}", f"/{name}", "which the file does not hold",
                         change=declared(*shape))
        for what, part, change in (
                ("missing", "is not there", lambda file: file.pop(name)),
                ("no model", "is not there", lambda file: file.pop("model")),
                ("a number", "has no rows", instead(data=np.float32(1))),
                ("no rows", "the deck in the file says", instead(data=np.zeros((0, 48), "<f4"))),
                ("integers", "its HDF5 type is not", instead(data=np.zeros((61, 48), "<i4"))),
                ("packed", "is packed", instead(shape=(1 << 30,), dtype="<f4", compression="gzip")),
                ("a link", "is a link", linked(h5py.SoftLink("/model/norm.weight"))),
                ("a link to a pipe", "is a link", linked(h5py.ExternalLink("/dev/zero", "/"))),
                ("a billion layers", "n_layers = 1000000000", lambda file: file.attrs.update(
                    {"deck": np.bytes_(koios_file.deck(n_layers=10**9))}))):
            self.refuses(what, part, change=change)

    def test_places(self):
        (self.folder / "file").touch()
        (self.folder / "folder").mkdir()
        (self.folder / "link").symlink_to(self.folder / "folder")
        (self.folder / "dangling").symlink_to(self.folder / "nothing")
        (self.folder / "locked").mkdir(mode=0o555)
        for name, part in (("file", "is there already"), ("folder", "is there already"),
                           ("link", "is there already"), ("dangling", "is there already"),
                           ("none/at/all", "there is no folder"), ("locked/dcp", "cannot write to")):
            if name.startswith("locked") and os.geteuid() == 0:
                continue  # root may write anywhere
            said = self.tried(name, "to-dcp", self.good, self.folder / name)
            self.assertIn(part, said)
        self.assertEqual(list((self.folder / "folder").iterdir()), [])
        self.assertFalse((self.folder / "nothing").exists())

    def test_a_disk_that_takes_no_more(self):
        def limited():
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
        done = subprocess.run([sys.executable, TOOL, "to-dcp", self.good, self.folder / "dcp"],
                              capture_output=True, text=True, check=False, preexec_fn=limited,
                              timeout=100)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertRegex(done.stderr, r"\Acheckpoint: error: PyTorch cannot write [^\n]+\n\Z")
        self.assertEqual([path.name for path in self.folder.iterdir()], ["good.h5"])


if __name__ == "__main__":
    unittest.main(verbosity=1)
