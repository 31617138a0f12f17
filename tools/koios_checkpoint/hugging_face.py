"""Hugging Face's LlamaForCausalLM: names, rotary order, config.json, tokenizer, shards."""

import json
import math
import os
import re
import shutil

from koios_tool import ToolError, read_file

from .checkpoint_file import new_weights_file
from .element_types import STORED, convert, refuse_nonfinite
from .model import LlamaSizes
from .safetensors_file import SafetensorsReader, write_safetensors
from .sentencepiece_model import read_pieces
from .staging import staged

LAYER = {
    "attention_norm": "input_layernorm",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
}
TOP = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}
DEFAULT_CONTEXT = 4096  # Llama 2's, where a file does not say what it was trained on
MAX_JSON_BYTES = 16 << 20  # the index of 70B has 70 KB


def hugging_face_name(name):
    """layers.0.attention.wq.weight -> model.layers.0.self_attn.q_proj.weight"""
    found = re.fullmatch(r"layers\.(\d+)\.(.+)\.weight", name)
    if found:
        return f"model.layers.{found[1]}.{LAYER[found[2]]}.weight"
    return TOP[name.removesuffix(".weight")] + ".weight"


def _heads(name, sizes):
    """How many heads of rotated rows a parameter has; 0: it is not rotated."""
    return {"wq": sizes.n_heads, "wk": sizes.n_kv_heads}.get(name.split(".")[-2], 0)


def to_half_order(bits, heads):
    """Meta turns the rows (2j, 2j + 1) of a head as a pair, Hugging Face (j, j + head_dim / 2)."""
    rows, columns = bits.shape
    return bits.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def to_interleaved_order(bits, heads):
    rows, columns = bits.shape
    return bits.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


# ---- out -----------------------------------------------------------------------------------------
def _context(checkpoint):
    text = checkpoint.deck.get("training/seq_len", str(DEFAULT_CONTEXT))
    if not re.fullmatch(r"[1-9]\d{0,9}", text):
        raise ToolError(f"{checkpoint.path}: its deck says [training] seq_len = {text[:100]}")
    return int(text)


def _config(checkpoint, sizes, dtype, pieces):
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": sizes.vocab_size,
        "hidden_size": sizes.dim,
        "intermediate_size": sizes.ffn_dim,
        "num_hidden_layers": sizes.n_layers,
        "num_attention_heads": sizes.n_heads,
        "num_key_value_heads": sizes.n_kv_heads,
        "head_dim": sizes.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": _context(checkpoint),
        "rms_norm_eps": sizes.norm_eps,
        "rope_theta": sizes.rope_theta,
        "rope_scaling": None,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "initializer_range": 0.02,
        "use_cache": True,
        "torch_dtype": dtype,
    }
    if pieces:
        config |= {"bos_token_id": pieces.bos, "eos_token_id": pieces.eos,
                   "pad_token_id": pieces.pad if pieces.pad >= 0 else None}
    return config


def _tokenizer_config(pieces, context):
    return {
        "tokenizer_class": "LlamaTokenizer",
        "add_bos_token": True,
        "add_eos_token": False,
        "bos_token": pieces.name(pieces.bos),
        "eos_token": pieces.name(pieces.eos),
        "unk_token": pieces.name(pieces.unk),
        "pad_token": pieces.name(pieces.pad),
        "clean_up_tokenization_spaces": False,
        "legacy": False,
        "model_max_length": context,
    }


def _write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def _split(tensors, max_bytes):
    """Lists of tensors, in order, of at most max_bytes each (or of one tensor)."""
    parts, size = [[]], 0
    for tensor in tensors:
        tensor_bytes = math.prod(tensor[1]) * STORED[tensor[2]].itemsize
        if parts[-1] and size + tensor_bytes > max_bytes:
            parts.append([])
            size = 0
        parts[-1].append(tensor)
        size += tensor_bytes
    return parts


def to_hugging_face(checkpoint, out, dtype=None, tokenizer=None, max_shard_bytes=5_000_000_000):
    """Writes the folder `out`; dtype None keeps what the file holds. Returns the bytes written."""
    sizes = checkpoint.sizes()
    if "rmsnorm" not in sizes.norm_type:
        raise ToolError(f"{checkpoint.path}: [model] norm_type = {sizes.norm_type}; "
                        "LlamaForCausalLM has rmsnorm only")
    arrays = {hugging_face_name(name): array for name, array in checkpoint.parameters()}
    pieces = read_pieces(tokenizer) if tokenizer else None
    if pieces and len(pieces.names) > sizes.vocab_size:
        raise ToolError(f"{tokenizer} has {len(pieces.names)} pieces, the model {sizes.vocab_size}: "
                        "it is not the model's tokenizer")
    tensors = [(name, array.shape, dtype or array.dtype) for name, array in arrays.items()]
    types = {kind for _, _, kind in tensors}
    total = sum(math.prod(shape) * STORED[kind].itemsize for _, shape, kind in tensors)

    def load(name):
        array = arrays[name]
        stored = array.read()
        refuse_nonfinite(stored, array.dtype, array.where())
        bits = convert(stored, array.dtype, dtype or array.dtype, array.name)
        heads = _heads(array.name, sizes) if bits.ndim == 2 else 0
        return to_half_order(bits, heads) if heads else bits

    with staged(out, total, is_folder=True) as folder:
        parts = _split(tensors, max_shard_bytes)
        places = {}
        for number, part in enumerate(parts, 1):
            file = ("model.safetensors" if len(parts) == 1 else
                    f"model-{number:05}-of-{len(parts):05}.safetensors")
            write_safetensors(folder / file, part, load)
            places |= {name: file for name, _, _ in part}
        if len(parts) > 1:
            _write_json(folder / "model.safetensors.index.json",
                        {"metadata": {"total_size": total}, "weight_map": places})
        config = _config(checkpoint, sizes, types.pop(), pieces)
        _write_json(folder / "config.json", config)
        if pieces:
            shutil.copyfile(tokenizer, folder / "tokenizer.model")
            _write_json(folder / "tokenizer_config.json",
                        _tokenizer_config(pieces, config["max_position_embeddings"]))
    return total


# ---- in ------------------------------------------------------------------------------------------
def _read_json(path):
    try:
        data = read_file(path, MAX_JSON_BYTES, "such a file")
    except OSError as error:
        raise ToolError(f"{path}: {error.strerror}") from None
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ToolError(f"{path} is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ToolError(f"{path} holds no JSON object")
    return value


class _Config:
    """A config.json, whose values may be of any type: each is asked for with the type it must have.

    null is as if the key were not there.
    """

    def __init__(self, path):
        self.path = path
        self.values = _read_json(path)

    def must(self, holds, message):
        if not holds:
            raise ToolError(f"{self.path}: {message}")

    def _get(self, key, types, what, default):
        value = self.values.get(key)
        if value is None:
            self.must(default is not ..., f"has no {key}")
            return default
        is_bool = isinstance(value, bool) and bool not in types
        self.must(isinstance(value, types) and not is_bool,
                  f"{key} is {json.dumps(value)[:100]}, not {what}")
        return value

    def whole(self, key, default=...):
        value = self._get(key, (int,), "a whole number from 1 on", default)
        self.must(value >= 1, f"{key} is {value}, not a whole number from 1 on")
        return value

    def number(self, key, default):
        value = self._get(key, (int, float), "a number", default)
        self.must(abs(value) <= 1e300, f"{key} is {str(value)[:100]}, not a number")
        return float(value)

    def text(self, key, default):
        return self._get(key, (str,), "text", default)

    def flag(self, key):
        return self._get(key, (bool,), "true or false", False)

    def object(self, key):
        return self._get(key, (dict,), "an object", {})


def _sizes(config):
    """Of a config.json; what Koios does not train is refused here, not ignored."""
    must = config.must
    kind = config.text("model_type", None)
    must(kind == "llama", f"model_type is {kind}; Koios takes llama")
    rope = config.object("rope_parameters")
    scaling = config.object("rope_scaling") or rope
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    must(kind == "default", f"scales the rotary angles ({str(kind)[:100]}), which Koios does not")
    act = config.text("hidden_act", "silu")
    must(act == "silu", f"hidden_act is {act}; Koios has silu")
    for key in ("attention_bias", "mlp_bias"):
        must(not config.flag(key), f"{key} is true; Koios' layers have no biases")
    dim, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    head_dim = config.whole("head_dim", max(1, dim // heads))
    must(head_dim * heads == dim, f"head_dim {head_dim} is not hidden_size / num_attention_heads = "
         f"{dim} / {heads}")
    theta = rope.get("rope_theta")
    if theta is not None:
        must(type(theta) in (int, float) and abs(theta) <= 1e300,
             f"rope_theta is {str(theta)[:100]}, not a number")
    sizes = LlamaSizes(dim=dim, n_layers=config.whole("num_hidden_layers"), n_heads=heads,
                       n_kv_heads=config.whole("num_key_value_heads", heads),
                       ffn_dim=config.whole("intermediate_size"),
                       vocab_size=config.whole("vocab_size"),
                       norm_eps=config.number("rms_norm_eps", 1e-6),
                       rope_theta=float(theta or config.number("rope_theta", 10000)))
    problem = sizes.problem()
    must(problem is None, f"cannot be that of a Llama: {problem}")
    return sizes


def _weight_files(index):
    """The files that an index names: beside it, so no path."""
    names = _Config(index).object("weight_map").values()
    for name in names:
        if not isinstance(name, str) or os.path.basename(name) != name or name in ("", ".", ".."):
            raise ToolError(f"{index}: weight_map names {str(name)[:100]}, which is not a file "
                            "beside it")
    return sorted(set(names))


def _tensor_files(folder):
    """name -> its SafetensorsReader"""
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if index.exists():
        files = _weight_files(index)
    elif single.exists():
        files = [single.name]
    else:
        raise ToolError(f"{folder} has neither {single.name} nor {index.name}; weights in other "
                        "formats are made into safetensors by save_pretrained of transformers")
    places = {}
    for file in files:
        if not (folder / file).is_file():
            raise ToolError(f"{folder / file} is not there, but {index.name} names it")
        reader = SafetensorsReader(folder / file)
        places |= {name: reader for name in reader.entries}
    return places


def from_hugging_face(folder, out, dtype="float32", origin="tools/checkpoint.py from-hf"):
    """Writes a weights-only file; returns (sizes, tokenizer path or None, notes)."""
    if not folder.is_dir():
        raise ToolError(f"{folder} is not a folder")
    config = _Config(folder / "config.json")
    sizes = _sizes(config)
    tied = config.flag("tie_word_embeddings")
    context = config.whole("max_position_embeddings", DEFAULT_CONTEXT)
    places = _tensor_files(folder)
    config.must(sizes.n_layers <= len(places), f"num_hidden_layers is {sizes.n_layers}, but there "
                f"are only {len(places)} tensors")
    notes = []
    wanted = {name: hugging_face_name(name) for name in sizes.shapes()}
    if "lm_head.weight" not in places and tied:
        wanted["output.weight"] = wanted["tok_embeddings.weight"]
        notes.append("its head shares the embedding's weights: written twice, since Koios trains "
                     "the two apart")
    missing = [name for name in wanted.values() if name not in places]
    if missing:
        raise ToolError(f"{folder} lacks {missing[0]}" +
                        (f" and {len(missing) - 1} more" if len(missing) > 1 else ""))
    unknown = [name for name in places
               if name not in set(wanted.values()) and not name.endswith("rotary_emb.inv_freq")
               and not (name == "lm_head.weight" and tied)]
    if unknown:
        raise ToolError(f"{folder} holds {unknown[0]}, which a Llama of Koios does not have")
    tokenizer = folder / "tokenizer.model"
    tokenizer = tokenizer.absolute() if tokenizer.is_file() else None

    total = sum(math.prod(shape) for shape in sizes.shapes().values()) * STORED[dtype].itemsize
    with staged(out, total, is_folder=False) as path, \
            new_weights_file(path, sizes, origin, context, tokenizer) as add:
        for name, shape in sizes.shapes().items():
            bits, kind = places[wanted[name]].read(wanted[name])
            if bits.shape != shape:
                raise ToolError(f"{folder}: {wanted[name]} is {bits.shape}, config.json says "
                                f"{shape}")
            refuse_nonfinite(bits, kind, f"{places[wanted[name]].path}: {wanted[name]}")
            heads = _heads(name, sizes) if bits.ndim == 2 else 0
            if heads:
                bits = to_interleaved_order(bits, heads)
            add(name, convert(bits, kind, dtype, name), dtype)
    return sizes, tokenizer, notes
