#!/usr/bin/env python3
"""tools/checkpoint.py on files written by h5py alone; Python with h5py and numpy, no Koios."""

import json
import os
import shutil
import stat
import subprocess
import sys
import unittest

from tool_run import TOOL, ToolTest, use_python_with

use_python_with("h5py, numpy", "requirements-checkpoint.txt")

import h5py  # noqa: E402
import numpy as np  # noqa: E402

import koios_file  # noqa: E402
import llama_numpy  # noqa: E402

TOKENS = np.random.default_rng(5).integers(0, koios_file.VOCAB, (3, 17))


def meta_logits(values):
    sizes = {key: koios_file.SIZES[key] for key in ("n_layers", "n_heads", "n_kv_heads")}
    return llama_numpy.forward(values.__getitem__, llama_numpy.META, TOKENS, **sizes,
                               eps=koios_file.EPS, theta=koios_file.THETA,
                               rope=llama_numpy.rope_interleaved)


def flip_bit(path, offset, bit=0):
    with open(path, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ (1 << bit)]))


class Checkpoint(ToolTest):
    def setUp(self):
        super().setUp()
        self.values = koios_file.parameters()
        self.file = self.folder / "step_00000007.h5"
        koios_file.write_checkpoint(self.file, self.values)


class Look(Checkpoint):
    def test_info(self):
        said = self.tool("info", self.file)
        for part in ("7 of 20", "1,234,567", "heads 6/2", "vocabulary 61", "lr 3e-04, warm-up ?",
                     "float32", "0.1 abc", "21 datasets", "bytes in float32"):
            self.assertIn(part, said)
        count = sum(array.size for array in self.values.values())
        self.assertIn(f"{count:,} parameters", said)
        self.assertIn("dim = 48", self.tool("info", "--deck", self.file))

    def test_good_file(self):
        sample = self.values["layers.0.attention.wq.weight"]
        self.assertEqual(koios_file.checksum(sample), koios_file.documented_checksum(sample))
        said = self.tool("verify", self.file)
        self.assertIn(f"good, {3 * len(self.values) + 2} datasets", said)


    def test_a_model_whose_norms_have_no_parameters(self):
        for name in [name for name in self.values if "norm" in name]:
            del self.values[name]
        koios_file.write_checkpoint(self.file, self.values, norm_type="np_layernorm")
        self.assertIn("good, ", self.tool("verify", self.file))
        count = sum(array.size for array in self.values.values())
        self.assertIn(f"{count:,} parameters", self.tool("info", self.file))


class Damage(Checkpoint):
    def test_one_bit_of_data_is_found_and_named(self):
        for path in ("/model/norm.weight", "/optimizer/exp_avg_sq/output.weight",
                     "/train_state/loss_history", "/data_state/position"):
            with h5py.File(self.file) as file:
                offset = file[path].id.get_offset() + file[path].id.get_storage_size() - 5
            flip_bit(self.file, offset, 3)
            said = self.tool("verify", self.file, code=1)
            self.assertIn(f"{path} is damaged", said)
            self.assertEqual(said.count("is damaged"), 1)
            flip_bit(self.file, offset, 3)
        self.tool("verify", self.file)

    def test_swapped_elements_are_found(self):
        with h5py.File(self.file, "r+") as file:
            data = file["model/norm.weight"][()]
            data[[1, 2]] = data[[2, 1]]
            file["model/norm.weight"][...] = data
        self.assertIn("/model/norm.weight is damaged", self.tool("verify", self.file, code=1))

    def test_missing_and_misshapen(self):
        with h5py.File(self.file, "r+") as file:
            del file["optimizer/exp_avg/layers.1.attention.wo.weight"]
            del file["model/layers.0.attention.wk.weight"]
            koios_file.add(file["model"], "layers.0.attention.wk.weight", np.ones((2, 2), "<f4"))
            del file["train_state"].attrs["tokens"]
        said = self.tool("verify", self.file, code=1)
        for part in ("/optimizer/exp_avg/layers.1.attention.wo.weight is missing",
                     "/model/layers.0.attention.wk.weight is (2, 2)", "no attribute tokens"):
            self.assertIn(part, said)

    def test_truncated(self):
        os.truncate(self.file, self.file.stat().st_size // 2)
        self.assertIn("cannot be opened", self.tool("verify", self.file, code=1))

    def test_one_bit_of_metadata_never_passes_with_other_content(self):
        """Metadata blocks carry HDF5's own checksums; what is left is unused space."""
        original = self.file.read_bytes()
        with h5py.File(self.file) as file:
            data = sorted((d.id.get_offset(), d.id.get_storage_size())
                          for g in ("model", "optimizer/exp_avg", "optimizer/exp_avg_sq")
                          for d in file[g].values())
        metadata = [at for at in range(0, len(original), 397)
                    if not any(begin <= at < begin + size for begin, size in data)]
        self.assertGreater(len(metadata), 5)
        copies = []
        for at in metadata[:40]:
            copies.append(self.folder / f"flipped_{at}.h5")
            copies[-1].write_bytes(original)
            flip_bit(copies[-1], at, at % 8)
        said = self.tool("verify", *copies, code=1)
        for copy in copies:
            self.assertIn(str(copy), said)
            if f"{copy}: good" not in said:
                continue
            with h5py.File(copy) as file:
                for name, array in self.values.items():
                    np.testing.assert_array_equal(file[f"model/{name}"][()], array)

    def test_a_folder_names_the_damaged_one(self):
        shutil.copy(self.file, self.folder / "step_00000008.h5")
        os.truncate(self.folder / "step_00000008.h5", 1000)
        said = self.tool("verify", self.folder, code=1)
        self.assertIn("step_00000007.h5: good", said)
        self.assertIn("step_00000008.h5 cannot be opened", said)

    def test_conversion_refuses_damage_and_leaves_nothing(self):
        with h5py.File(self.file) as file:
            offset = file["/model/output.weight"].id.get_offset()
        flip_bit(self.file, offset)
        said = self.tool("to-hf", self.file, self.folder / "hf", code=1)
        self.assertIn("/model/output.weight is damaged", said)
        self.assertEqual(sorted(path.name for path in self.folder.iterdir()), [self.file.name])


class HuggingFace(Checkpoint):
    def test_same_logits_in_the_other_rotary_order(self):
        self.tool("to-hf", self.file, self.folder / "hf")
        ours = meta_logits(self.values)
        theirs = llama_numpy.hugging_face_logits(self.folder / "hf", TOKENS)
        self.assertLess(np.abs(ours - theirs).max(), 1e-12 * np.abs(ours).max())
        # The check can tell: with wk as it is stored, the logits are others.
        file = self.folder / "hf/model.safetensors"
        tensors = llama_numpy.read_safetensors(file)
        name = "model.layers.0.self_attn.k_proj.weight"
        raw = self.values["layers.0.attention.wk.weight"]
        self.assertFalse(np.array_equal(tensors[name], raw))
        file.write_bytes(file.read_bytes().replace(tensors[name].tobytes(), raw.tobytes()))
        wrong = llama_numpy.hugging_face_logits(self.folder / "hf", TOKENS)
        self.assertGreater(np.abs(ours - wrong).max(), 1e-3 * np.abs(ours).max())

    def test_there_and_back_is_exact(self):
        for dtype, options in (("float32", []), ("bfloat16", ["--max-shard-size", "0.00004"])):
            hf, back = self.folder / f"hf-{dtype}", self.folder / f"back-{dtype}.h5"
            self.tool("to-hf", self.file, hf, "--dtype", dtype, *options)
            config = json.loads((hf / "config.json").read_text())
            self.assertEqual((config["torch_dtype"], config["max_position_embeddings"]),
                             (dtype, 32))
            self.assertEqual(len(list(hf.glob("*.safetensors"))) > 1, dtype == "bfloat16")
            said = self.tool("from-hf", hf, back, "--dtype", dtype)
            self.assertIn("n_kv_heads = 2", said)
            for line in said.split("[model]")[0].split("\n"):  # what is printed is a deck
                self.assertRegex(line, "^(#|$)")
            self.tool("verify", back)
            with h5py.File(back) as file:
                self.assertEqual(set(file), set(self.values))
                for name, array in self.values.items():
                    kept = array if dtype == "float32" else self.rounded(array)
                    np.testing.assert_array_equal(file[name][()], kept)
                    self.assertEqual(file[name].id.get_storage_size(),
                                     array.size * (4 if dtype == "float32" else 2))
            again = self.folder / f"again-{dtype}"
            self.tool("to-hf", back, again, *options)
            for file in hf.glob("*.safetensors"):
                self.assertEqual(file.read_bytes(), (again / file.name).read_bytes())
            mode = stat.S_IMODE((hf / "config.json").stat().st_mode)
            self.assertTrue(mode & 0o044 or os.umask(0o022) & 0o044)

    @staticmethod
    def rounded(array):
        """To bfloat16 by way of float64 arithmetic, ties to even."""
        exponent = np.floor(np.log2(np.abs(array.astype(np.float64))))
        unit = 2.0 ** (exponent - 7)
        return (np.round(array / unit) * unit).astype("<f4")

    def test_tied_head_is_written_twice(self):
        self.tool("to-hf", self.file, self.folder / "hf")
        config = json.loads((self.folder / "hf/config.json").read_text())
        (self.folder / "hf/config.json").write_text(
            json.dumps(config | {"tie_word_embeddings": True}))
        file = self.folder / "hf/model.safetensors"
        data = file.read_bytes()
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8:8 + length])
        del header["lm_head.weight"]
        text = json.dumps(header).encode()
        file.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length:])
        said = self.tool("from-hf", self.folder / "hf", self.folder / "tied.h5")
        self.assertIn("shares the embedding", said)
        with h5py.File(self.folder / "tied.h5") as back:
            np.testing.assert_array_equal(back["output.weight"], back["tok_embeddings.weight"])

    def test_what_koios_does_not_train_is_refused(self):
        self.tool("to-hf", self.file, self.folder / "hf")
        path = self.folder / "hf/config.json"
        config = json.loads(path.read_text())
        for change, part in (({"model_type": "mistral"}, "mistral"),
                             ({"rope_scaling": {"rope_type": "llama3"}}, "llama3"),
                             ({"attention_bias": True}, "attention_bias"),
                             ({"head_dim": 16}, "head_dim"),
                             ({"hidden_act": "gelu"}, "gelu"),
                             ({"intermediate_size": 80}, "gate_proj"),
                             ({"hidden_size": "48"}, 'hidden_size is "48", not a whole number'),
                             ({"num_hidden_layers": 1}, "layers.1"),
                             ({"num_hidden_layers": 3}, "lacks model.layers.2")):
            path.write_text(json.dumps(config | change))
            said = self.tool("from-hf", self.folder / "hf", self.folder / "x.h5", code=1)
            self.assertIn(part, said)
            self.assertFalse((self.folder / "x.h5").exists())
        path.write_text(json.dumps(config))
        for header in (b"[]      ", b'{"a": {}}', b'{"a": {"data_offsets": [0, 0], "shape": 3}}'):
            (self.folder / "hf/model.safetensors").write_bytes(
                len(header).to_bytes(8, "little") + header)
            self.assertIn("safetensors header is damaged",
                          self.tool("from-hf", self.folder / "hf", self.folder / "x.h5", code=1))

    def test_tokenizer_goes_along(self):
        pieces = ["<unk>", "<s>", "</s>", *"abc"]
        piece = [b"\x0a" + bytes([len(p)]) + p.encode() for p in pieces]
        model = b"".join(b"\x0a" + bytes([len(p)]) + p for p in piece)
        model += b"\x12\x0b\xc8\x02\x01\xd0\x02\x02" + b"\xd8\x02" + b"\x05\x20\x01"
        (self.folder / "t.model").write_bytes(model)
        self.tool("to-hf", self.file, self.folder / "hf", "--tokenizer", self.folder / "t.model")
        self.assertEqual((self.folder / "hf/tokenizer.model").read_bytes(), model)
        config = json.loads((self.folder / "hf/config.json").read_text())
        self.assertEqual((config["bos_token_id"], config["eos_token_id"], config["pad_token_id"]),
                         (1, 2, 5))
        names = json.loads((self.folder / "hf/tokenizer_config.json").read_text())
        self.assertEqual((names["bos_token"], names["eos_token"], names["pad_token"]),
                         ("<s>", "</s>", "c"))


class Refusals(Checkpoint):
    def test_help_needs_no_packages(self):
        for arguments, code, text in ((["--help"], 0, "to-hf FILE OUT"),
                                      (["info", "x"], 1, "checkpoint: error: h5py is not usable here")):
            done = subprocess.run([sys.executable, "-S", TOOL, *arguments], capture_output=True,
                                  text=True, timeout=60, check=False)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertIn(text, done.stdout + done.stderr)

    def test_as_a_user_starts_it(self):
        for file, code in ((self.file, 0), (self.folder / "none.h5", 1)):
            done = subprocess.run([sys.executable, TOOL, "info", file], capture_output=True,
                                  text=True, check=False, cwd=self.folder)
            self.assertEqual(done.returncode, code, done.stderr)
            self.assertEqual(done.stderr.count("\n"), code)

    def test_one_line_each(self):
        other = self.folder / "other.h5"
        h5py.File(other, "w").close()
        text = self.folder / "text.h5"
        text.write_text("hello")
        unfinished = self.folder / "step_00000009.h5.partial"
        unfinished.touch()
        for arguments, part in ((["info", self.folder / "none.h5"], "is not there"),
                                (["info", self.folder], "is a folder"),
                                (["info", other], "not a checkpoint of Koios"),
                                (["info", text], "cannot be opened as HDF5"),
                                (["info", unfinished], "was not finished"),
                                (["to-hf", self.file, self.file], "is there already"),
                                (["to-hf", self.file, self.folder / "a/b"], "there is no folder"),
                                (["from-hf", self.folder, self.folder / "y.h5"], "config.json"),
                                (["verify", self.folder / "none.h5"], "is not good")):
            self.assertIn(part, self.tool(*arguments, code=1))

    def test_newer_format(self):
        with h5py.File(self.file, "r+") as file:
            file.attrs["format_version"] = np.int64(2)
        self.assertIn("format version 2", self.tool("info", self.file, code=1))

    def test_float16_overflow(self):
        self.values["norm.weight"][3] = 1e6
        koios_file.write_checkpoint(self.file, self.values)
        said = self.tool("to-hf", self.file, self.folder / "hf", "--dtype", "float16", code=1)
        self.assertIn("norm.weight has values beyond float16's range", said)


if __name__ == "__main__":
    unittest.main(verbosity=1)
