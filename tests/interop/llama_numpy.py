"""Llama 2's forward pass in numpy, float64, from the papers: the reference of these tests.

Written twice where Meta and Hugging Face differ: which rows of wq and wk turn together.
Shapes: B batch, T tokens, H/K query/kv heads, E head dim, D width, V vocabulary.
"""

import json
import struct

import numpy as np


def rmsnorm(x, weight, eps):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + eps) * weight


def angles_TE(tokens, head_dim, theta):
    frequency = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    return np.outer(np.arange(tokens), frequency)


def rope_interleaved(x_BTHE, theta):
    """Meta: the pair (2j, 2j + 1) is a complex number, turned."""
    angle = angles_TE(x_BTHE.shape[1], x_BTHE.shape[-1], theta)[None, :, None, :]
    turned = (x_BTHE[..., 0::2] + 1j * x_BTHE[..., 1::2]) * np.exp(1j * angle)
    return np.stack([turned.real, turned.imag], -1).reshape(x_BTHE.shape)


def rope_half(x_BTHE, theta):
    """Hugging Face: x cos + rotate_half(x) sin."""
    angle = angles_TE(x_BTHE.shape[1], x_BTHE.shape[-1], theta)
    angle = np.concatenate([angle, angle], -1)[None, :, None, :]
    half = x_BTHE.shape[-1] // 2
    rotated = np.concatenate([-x_BTHE[..., half:], x_BTHE[..., :half]], -1)
    return x_BTHE * np.cos(angle) + rotated * np.sin(angle)


def attention(q_BTHE, k_BTKE, v_BTKE):
    groups = q_BTHE.shape[2] // k_BTKE.shape[2]
    k, v = (np.repeat(x, groups, axis=2) for x in (k_BTKE, v_BTKE))
    scores = np.einsum("bthe,bshe->bhts", q_BTHE, k) / np.sqrt(q_BTHE.shape[-1])
    length = scores.shape[-1]
    scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhts,bshe->bthe", weights, v)


def forward(weight, names, tokens_BT, *, n_layers, n_heads, n_kv_heads, eps, theta, rope):
    """weight(name) gives a matrix, `names` the model's own name of each; returns logits_BTV."""
    batch, length = tokens_BT.shape
    w = {}

    def of(layer, key):
        name = names[key].format(layer)
        if name not in w:
            w[name] = weight(name).astype(np.float64)
        return w[name]

    x = of(0, "embedding")[tokens_BT]
    for layer in range(n_layers):
        h = rmsnorm(x, of(layer, "norm1"), eps)
        q, k, v = ((h @ of(layer, key).T).reshape(batch, length, heads, -1)
                   for key, heads in (("q", n_heads), ("k", n_kv_heads), ("v", n_kv_heads)))
        mixed = attention(rope(q, theta), rope(k, theta), v).reshape(batch, length, -1)
        x = x + mixed @ of(layer, "o").T
        h = rmsnorm(x, of(layer, "norm2"), eps)
        gate = h @ of(layer, "gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ of(layer, "up").T)) @ of(layer, "down").T
    return rmsnorm(x, of(0, "norm"), eps) @ of(0, "head").T


META = {
    "embedding": "tok_embeddings.weight", "norm": "norm.weight", "head": "output.weight",
    "norm1": "layers.{}.attention_norm.weight", "norm2": "layers.{}.ffn_norm.weight",
    "q": "layers.{}.attention.wq.weight", "k": "layers.{}.attention.wk.weight",
    "v": "layers.{}.attention.wv.weight", "o": "layers.{}.attention.wo.weight",
    "gate": "layers.{}.feed_forward.w1.weight", "up": "layers.{}.feed_forward.w3.weight",
    "down": "layers.{}.feed_forward.w2.weight",
}
HUGGING_FACE = {
    "embedding": "model.embed_tokens.weight", "norm": "model.norm.weight",
    "head": "lm_head.weight", "norm1": "model.layers.{}.input_layernorm.weight",
    "norm2": "model.layers.{}.post_attention_layernorm.weight",
    "q": "model.layers.{}.self_attn.q_proj.weight", "k": "model.layers.{}.self_attn.k_proj.weight",
    "v": "model.layers.{}.self_attn.v_proj.weight", "o": "model.layers.{}.self_attn.o_proj.weight",
    "gate": "model.layers.{}.mlp.gate_proj.weight", "up": "model.layers.{}.mlp.up_proj.weight",
    "down": "model.layers.{}.mlp.down_proj.weight",
}


def mean_loss(logits_BTV, labels_BT):
    top = logits_BTV.max(-1, keepdims=True)
    log_sum = np.log(np.exp(logits_BTV - top).sum(-1)) + top[..., 0]
    return (log_sum - np.take_along_axis(logits_BTV, labels_BT[..., None], -1)[..., 0]).mean()


def read_safetensors(path):
    """name -> array; bfloat16 widened to float32."""
    data = path.read_bytes()
    length, = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        first, last = (8 + length + offset for offset in entry["data_offsets"])
        raw = data[first:last]
        if entry["dtype"] == "BF16":
            wide = np.zeros((len(raw) // 2, 2), "<u2")
            wide[:, 1] = np.frombuffer(raw, "<u2")
            array = wide.reshape(-1).view("<f4")
        else:
            array = np.frombuffer(raw, {"F32": "<f4", "F16": "<f2"}[entry["dtype"]])
        tensors[name] = array.reshape(entry["shape"])
    return tensors


def hugging_face_logits(folder, tokens_BT):
    """Of a folder as to-hf writes it, by its config.json."""
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for file in sorted(folder.glob("*.safetensors")):
        tensors |= read_safetensors(file)
    return forward(tensors.__getitem__, HUGGING_FACE, tokens_BT,
                   n_layers=config["num_hidden_layers"], n_heads=config["num_attention_heads"],
                   n_kv_heads=config["num_key_value_heads"], eps=config["rms_norm_eps"],
                   theta=config["rope_theta"], rope=rope_half)
