"""Llama 2's sizes and its parameters under Meta's names, as Koios stores them."""

import dataclasses
import math

from koios_tool import ToolError

LARGEST = 1 << 31  # of any size: beyond it a file is damaged or means harm


@dataclasses.dataclass(frozen=True)
class LlamaSizes:
    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    ffn_dim: int
    vocab_size: int
    norm_eps: float
    rope_theta: float
    norm_type: str = "rmsnorm"

    def problem(self):
        """What makes these sizes no Llama's, or None."""
        for key in ("dim", "n_layers", "n_heads", "n_kv_heads", "ffn_dim", "vocab_size"):
            if not 1 <= getattr(self, key) <= LARGEST:
                return f"{key} = {getattr(self, key)} is not from 1 to {LARGEST}"
        if self.dim % self.n_heads:
            return f"n_heads = {self.n_heads} does not divide dim = {self.dim}"
        if self.n_heads % self.n_kv_heads:
            return f"n_kv_heads = {self.n_kv_heads} does not divide n_heads = {self.n_heads}"
        if self.head_dim % 2:
            return (f"dim / n_heads = {self.head_dim} is odd, and rotary embeddings turn pairs")
        for key in ("norm_eps", "rope_theta"):
            if not (math.isfinite(getattr(self, key)) and getattr(self, key) > 0):
                return f"{key} = {getattr(self, key)} is not a number above 0"
        return None

    @property
    def head_dim(self):
        return self.dim // self.n_heads

    def deck(self, seq_len, tokenizer_path):
        """What a deck has to say to train such a model."""
        values = {"name": "llama", **dataclasses.asdict(self)}
        if tokenizer_path:
            values["tokenizer_path"] = tokenizer_path
        lines = ["[model]", *(f"{key} = {value}" for key, value in values.items()),
                 "", "[training]", f"seq_len = {seq_len}"]
        return "\n".join(lines) + "\n"

    def shapes(self):
        """name -> shape, in the order of the model."""
        layer = {
            "attention_norm": (self.dim,),
            "attention.wq": (self.n_heads * self.head_dim, self.dim),
            "attention.wk": (self.n_kv_heads * self.head_dim, self.dim),
            "attention.wv": (self.n_kv_heads * self.head_dim, self.dim),
            "attention.wo": (self.dim, self.n_heads * self.head_dim),
            "ffn_norm": (self.dim,),
            "feed_forward.w1": (self.ffn_dim, self.dim),
            "feed_forward.w3": (self.ffn_dim, self.dim),
            "feed_forward.w2": (self.dim, self.ffn_dim),
        }
        shapes = {"tok_embeddings.weight": (self.vocab_size, self.dim)}
        for number in range(self.n_layers):
            shapes |= {f"layers.{number}.{name}.weight": shape for name, shape in layer.items()}
        shapes |= {"norm.weight": (self.dim,), "output.weight": (self.vocab_size, self.dim)}
        if self.norm_type == "np_layernorm":  # no parameters
            shapes = {name: shape for name, shape in shapes.items() if "norm" not in name}
        return shapes


def parse_deck(text):
    """{section/key: value} of an effective deck; Koios wrote it, one `key = value` a line."""
    values, section = {}, ""
    for line in text.splitlines():
        line = line.split(" #")[0].strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line and not line.startswith((";", "#")):
            key, value = line.split("=", 1)
            values[f"{section}/{key.strip()}"] = value.strip()
    return values


def sizes_of_deck(deck, vocab_size, where):
    """A deck's [model] section with every size in it."""
    def value(key, kind):
        try:
            return kind(deck[f"model/{key}"])
        except KeyError:
            raise ToolError(f"{where}: its deck has no [model] {key}") from None
        except ValueError:
            raise ToolError(f"{where}: [model] {key} = {deck[f'model/{key}'][:100]} of its deck is "
                            "not a number") from None

    integers = {key: value(key, int)
                for key in ("dim", "n_layers", "n_heads", "n_kv_heads", "ffn_dim")}
    sizes = LlamaSizes(**integers, vocab_size=vocab_size, norm_eps=value("norm_eps", float),
                       rope_theta=value("rope_theta", float),
                       norm_type=deck.get("model/norm_type", "rmsnorm"))
    if problem := sizes.problem():
        raise ToolError(f"{where}: its deck cannot be that of a Llama: {problem}")
    return sizes
