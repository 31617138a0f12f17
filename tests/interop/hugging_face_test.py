#!/usr/bin/env python3
"""What tools/checkpoint.py writes, read by transformers themselves, and the way back.

Needs torch and transformers (tools/requirements-hugging-face.txt): in this Python, in .venv, or in
the one that KOIOS_TORCH_PYTHON names; skipped aloud otherwise.
"""

import os
import unittest

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from tool_run import ToolTest, use_python_with  # noqa: E402

use_python_with("h5py, numpy, torch, transformers", "requirements-hugging-face.txt",
                os.environ.get("KOIOS_TORCH_PYTHON"))

import numpy as np  # noqa: E402
import torch  # noqa: E402
from transformers import LlamaConfig, LlamaForCausalLM  # noqa: E402

import koios_file  # noqa: E402
import llama_numpy  # noqa: E402

TOKENS = np.random.default_rng(5).integers(0, koios_file.VOCAB, (3, 31))


def random_model(n_kv_heads, dtype):
    torch.manual_seed(7)
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=koios_file.VOCAB, hidden_size=48, intermediate_size=72, num_hidden_layers=2,
        num_attention_heads=6, num_key_value_heads=n_kv_heads, rms_norm_eps=1e-5,
        rope_theta=50000.0, max_position_embeddings=64, initializer_range=0.3))
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += 0.1 * torch.randn_like(parameter)
    return model.to(dtype)


class HuggingFace(ToolTest):
    def test_transformers_gives_the_logits_of_metas_formulas(self):
        values = koios_file.parameters()
        koios_file.write_checkpoint(self.folder / "step_00000007.h5", values)
        self.tool("to-hf", self.folder / "step_00000007.h5", self.folder / "hf")
        model = LlamaForCausalLM.from_pretrained(self.folder / "hf")
        self.assertEqual(model.dtype, torch.float32)
        with torch.no_grad():
            theirs = model(torch.from_numpy(TOKENS)).logits.double().numpy()
        sizes = {key: koios_file.SIZES[key] for key in ("n_layers", "n_heads", "n_kv_heads")}
        ours = llama_numpy.forward(values.__getitem__, llama_numpy.META, TOKENS, **sizes,
                                   eps=koios_file.EPS, theta=koios_file.THETA,
                                   rope=llama_numpy.rope_interleaved)
        worst = np.abs(ours - theirs).max() / np.abs(ours).max()
        print(f"float32 transformers against float64 numpy: {worst:.1e} of the largest logit")
        self.assertLess(worst, 1e-5)  # float32's rounding; another rotary order is 1e-1

    def test_a_model_of_transformers_comes_back_as_it_was(self):
        for dtype, kv_heads, options in ((torch.float32, 6, {}), (torch.bfloat16, 2,
                                                                  {"max_shard_size": "40KB"})):
            name = str(dtype).removeprefix("torch.")
            model = random_model(kv_heads, dtype)
            model.save_pretrained(self.folder / f"theirs-{name}", **options)
            said = self.tool("from-hf", self.folder / f"theirs-{name}", self.folder / f"{name}.h5",
                             "--dtype", name)
            self.assertIn("rope_theta = 50000.0", said)
            self.tool("to-hf", self.folder / f"{name}.h5", self.folder / f"back-{name}")
            back = LlamaForCausalLM.from_pretrained(self.folder / f"back-{name}", dtype="auto")
            self.assertEqual(back.dtype, dtype)
            for key in ("hidden_size", "num_key_value_heads", "rms_norm_eps", "rope_parameters",
                        "max_position_embeddings", "vocab_size"):
                self.assertEqual(getattr(back.config, key), getattr(model.config, key))
            for (path, ours), theirs in zip(back.named_parameters(), model.parameters()):
                self.assertTrue(torch.equal(ours, theirs), path)


if __name__ == "__main__":
    unittest.main(verbosity=1)
