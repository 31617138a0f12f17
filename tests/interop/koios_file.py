"""A checkpoint as docs/checkpoints.md describes it, written by h5py alone."""

import h5py
import numpy as np

SIZES = {"dim": 48, "n_layers": 2, "n_heads": 6, "n_kv_heads": 2, "ffn_dim": 72}
VOCAB = 61
EPS, THETA = 1e-5, 10000.0
MASK = (1 << 64) - 1


def mix64(x):
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9 & MASK
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb & MASK
    return x ^ (x >> 31)


def checksum(array):
    if array.size > 10000:
        return documented_checksum(array)
    bits = array.reshape(-1).view(f"<u{array.dtype.itemsize}").tolist()
    return sum(mix64((i * 0x9e3779b97f4a7c15 + value) & MASK)
               for i, value in enumerate(bits, 1)) & MASK


def documented_checksum(a):
    """The numpy lines of docs/checkpoints.md, for arrays that are too large for plain integers."""
    i = np.arange(1, a.size + 1, dtype=np.uint64)
    x = i * np.uint64(0x9e3779b97f4a7c15) + a.ravel().view(np.uint32).astype(np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xbf58476d1ce4e5b9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94d049bb133111eb)
    return int((x ^ (x >> np.uint64(31))).sum(dtype=np.uint64))


def parameters(seed=1, vocab=VOCAB):
    """name -> float32 array of a tiny Llama with grouped-query attention."""
    random = np.random.default_rng(seed)
    dim, ffn = SIZES["dim"], SIZES["ffn_dim"]
    kv = dim // SIZES["n_heads"] * SIZES["n_kv_heads"]
    shapes = {"tok_embeddings.weight": (vocab, dim)}
    for layer in range(SIZES["n_layers"]):
        for name, shape in {
                "attention_norm": (dim,), "attention.wq": (dim, dim), "attention.wk": (kv, dim),
                "attention.wv": (kv, dim), "attention.wo": (dim, dim), "ffn_norm": (dim,),
                "feed_forward.w1": (ffn, dim), "feed_forward.w3": (ffn, dim),
                "feed_forward.w2": (dim, ffn)}.items():
            shapes[f"layers.{layer}.{name}.weight"] = shape
    shapes |= {"norm.weight": (dim,), "output.weight": (vocab, dim)}
    return {name: (random.normal(0, 0.3, shape) + (len(shape) == 1)).astype("<f4")
            for name, shape in shapes.items()}


def deck(**more):
    values = SIZES | {"vocab_size": 0, "norm_eps": EPS, "rope_theta": THETA} | more
    return ("# The deck in force\n\n[model]\n" +
            "".join(f"{key} = {value}  # somewhere\n" for key, value in values.items()) +
            "\n[optimizer]\nlr = 3e-04  # default\n\n[training]\nseq_len = 32  # default\nsteps = 20  # default\n")


def add(group, name, array):
    dataset = group.create_dataset(name, data=array)
    dataset.attrs["checksum"] = np.uint64(checksum(array))
    dataset.attrs["dtype"] = np.bytes_({"<f4": "float32", "<f8": "float64",
                                        "<i8": "int64"}[array.dtype.str])


def write_checkpoint(path, values, vocab=VOCAB, **more):
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        for name, value in {"format": "koios", "kind": "checkpoint", "koios_version": "0.1 abc",
                            "deck": deck(**more), "mesh": "1 rank",
                            "created": "2026-11-22T18:33:53Z"}.items():
            file.attrs[name] = np.bytes_(value)
        file.attrs["format_version"] = np.int64(1)
        file.attrs["vocab_size"] = np.int64(vocab)
        state = file.create_group("train_state")
        for name, value in {"step": 7, "tokens": 1234567}.items():
            state.attrs[name] = np.int64(value)
        add(state, "loss_history", np.array([[1, 4.5, 4.6]], "<f8"))
        add(file.create_group("data_state"), "position", np.array([5, 0, 2], "<i8"))
        for name, array in values.items():
            add(file.require_group("model"), name, array)
            add(file.require_group("optimizer/exp_avg"), name, array * np.float32(0.5))
            add(file.require_group("optimizer/exp_avg_sq"), name, array * array)
