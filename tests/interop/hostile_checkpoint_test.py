#!/usr/bin/env python3
"""Checkpoints from elsewhere that are made to harm: the real binary passes each over in one line,
within little memory, and continues from the one before."""

import os
import pathlib
import resource
import shutil
import subprocess
import sys
import unittest

from tool_run import use_python_with

use_python_with("h5py, numpy", "requirements-checkpoint.txt")

import h5py  # noqa: E402
import numpy as np  # noqa: E402

import koios_file  # noqa: E402

ROOT = pathlib.Path(os.environ["KOIOS_SOURCE_DIR"])
sys.path.insert(0, str(ROOT / "tests/equivalence"))
from koios_run import Workplace  # noqa: E402

SMALL = {"model/dim": 8, "model/n_layers": 1, "model/n_heads": 2, "model/n_kv_heads": 1,
         "model/ffn_dim": 8, "training/seq_len": 16, "training/batch_size": 2,
         "training/warmup_steps": 1, "training/steps": 2, "checkpoint/folder": "checkpoints", "checkpoint/interval": 1}
MOST_BYTES = 1 << 30


def replace(group, name, **dataset):
    del group[name]
    group.create_dataset(name, **dataset)


class HostileCheckpoint(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.place = Workplace().__enter__()
        cls.addClassCleanup(cls.place.__exit__)
        run = cls.place.run(1, SMALL)
        assert run.returncode == 0, run.output
        cls.good = run.folder / "checkpoints/step_00000002.h5"

    def passes_over(self, message, change=None, put=None):
        folder = self.place.path / "hostile"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "checkpoints").mkdir(parents=True)
        shutil.copy(self.good, folder / "checkpoints")
        bad = folder / "checkpoints/step_00000003.h5"
        if put:
            put(bad)
        else:
            shutil.copy(self.good, bad)
            with h5py.File(bad, "r+", libver=("v108", "v110")) as file:
                change(file)
        command = self.place.command(1, SMALL, folder="hostile")[6:]
        run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        lines = [line for line in run.stderr.splitlines() if "passed over" in line]
        self.assertEqual(len(lines), 1, run.stdout + run.stderr)
        self.assertRegex(lines[0], "step_00000003.h5.*" + message)
        self.assertEqual(run.returncode, 0, run.stdout + run.stderr)
        self.assertIn("nothing is left to do", run.stdout)
        self.assertLess(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss << 10, MOST_BYTES)

    def test_attributes_of_another_rank_type_or_size(self):
        for place, name in (("/", "format_version"), ("/train_state", "step")):
            for value in (np.arange(4096), "text", np.float64(1)):
                def change(file, place=place, name=name, value=value):
                    del file[place].attrs[name]
                    file[place].attrs[name] = value
                self.passes_over("format|whole number", change)

        for name in ("deck", "mesh", "kind"):
            self.passes_over(f"no attribute /:{name} that is a single text",
                             lambda file, name=name: file.attrs.pop(name))

        def an_array_of_checksums(file):
            file["model/norm.weight"].attrs["checksum"] = np.arange(8000, dtype=np.uint64)
        self.passes_over("the checksum of /model/norm.weight is not a whole number",
                         an_array_of_checksums)

        def huge(file):
            file.attrs["huge"] = np.zeros(64 << 20, np.uint8)
        self.passes_over("its attributes take more than 16 MiB", huge)

    def test_datasets_that_are_not_in_one_piece_inside_of_the_file(self):
        def bomb(file):
            replace(file, "train_state/loss_history", data=np.zeros((1 << 20, 3)),
                    compression="gzip", chunks=(1 << 16, 3))
        self.passes_over("/train_state/loss_history has no contiguous place", bomb)

        def elsewhere(file):
            replace(file, "model/norm.weight", shape=(8,), dtype="<f4",
                    external=[("/etc/passwd", 0, 32)])
        self.passes_over("/model/norm.weight has no contiguous place", elsewhere)

    def test_damaged_metadata(self):
        for at in (600, 1900, 3000):
            def flip(path, at=at):
                data = bytearray(self.good.read_bytes())
                data[at] ^= 16
                path.write_bytes(data)
            self.passes_over("", put=flip)

    def test_declared_sizes_beyond_the_file(self):
        for shape in ((1 << 40,), (1 << 62, 1 << 62), (1 << 62, 4)):
            def change(file, shape=shape):
                space = h5py.h5s.create_simple(shape)
                del file["data_state/next_sample"]
                h5py.h5d.create(file.id, b"data_state/next_sample", h5py.h5t.STD_I64LE, space)
            self.passes_over("/data_state/next_sample is declared larger than the file", change)

    def test_links_and_depth(self):
        pipe = self.place.path / "pipe"
        os.mkfifo(pipe)
        for link in (h5py.ExternalLink(str(pipe), "/"), h5py.SoftLink("/model")):
            def change(file, link=link):
                file["model/more"] = link
            self.passes_over("/model/more is a link to another place", change)

        def nest(file):
            at = file.id
            for _ in range(30000):
                at = h5py.h5g.create(at, b"g")
        self.passes_over("/g/g/g lies deeper than any group", nest)

        def ring(file):
            file["model/ring"] = file["/"]
        self.passes_over("lies deeper than any group", ring)

    def test_positions_that_another_program_wrote(self):
        def put(name, value):
            def change(file):
                array = file["data_state/" + name][:]
                array[0] += value
                del file["data_state/" + name]
                koios_file.add(file["data_state"], name, array)
            return change

        for name in ("stream_epoch", "stream_index", "window_start_record", "stream_token_offset",
                     "window_text", "next_sample"):
            self.passes_over("the saved position in the data is damaged: its integers do not have "
                             "their checksum", put(name, 1))

        def count(file):
            file["train_state"].attrs["tokens"] += 16
        self.passes_over("it is of 80 tokens, its position in the data of 4 samples of 16", count)

        def forge(file):
            put("stream_epoch", 1 << 40)(file)
            del file["data_state/position_check"]
        self.passes_over("stream_epoch of stream .* is 1099511627776, it has given", forge)

    def test_what_is_no_file_or_not_hdf5(self):
        self.passes_over("is not a file", put=os.mkfifo)
        self.passes_over("is a folder", put=os.mkdir)
        self.passes_over("it is a Git LFS pointer, not the file itself", put=lambda path: path.write_text(
            "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
