#!/usr/bin/env python3
"""Make the golden files of tests/golden: Llama 2 in plain PyTorch, double precision.

An independent oracle for the C++ model, loss, clipping, schedule and optimizers. It shares no code with
Koios and is never used in training. Needs PyTorch (1.13 or later, CPU is enough), NumPy and h5py, e.g.

    apt-get install --no-install-recommends python3-torch python3-h5py python3-numpy
    /usr/bin/python3 tools/make_golden.py            # rewrite tests/golden/*.h5
    /usr/bin/python3 tools/make_golden.py --check    # write nothing: verify the oracle and the stored files

Layout of a file (plain contiguous datasets, default library version, little-endian):

    attributes of /      case, optimizer, norm (fixed-length ASCII; none: rmsnorm); seed, dim, n_layers, n_heads, n_kv_heads, head_dim,
                         ffn_dim, vocab_size, seq_len, batch_size, steps, warmup_steps, n_params (int64);
                         norm_eps, rope_theta, lr, beta1, beta2, adam_eps, weight_decay, max_norm (float64);
                         fp32_rel_diff_{loss,grad_norm,logits,gradients,params} (float64, see below)
    /tokens              int32   [steps, batch_size, seq_len + 1]; inputs are [.., :-1], labels [.., 1:]
    /losses              float64 [steps]  mean cross entropy over batch_size * seq_len labels, before the update
    /grad_norms          float64 [steps]  global 2-norm before clipping
    /lrs                 float64 [steps]
    /logits_step1        float32 [batch_size, seq_len, vocab_size]
    /params_initial/X    float32  exactly the values the run started from
    /gradients_step1/X   float32  before clipping, of the mean loss
    /params_final/X    float32  after all `steps` updates
                         X is Meta's name, e.g. layers.0.attention.wq.weight ([out, in], as in y = x W^T)

Differences of the same run in single precision, as a yardstick for tolerances (each depends a little on the
machine's BLAS; a float implementation with another order of sums errs by a small multiple of it):

    attribute fp32_rel_diff of a dataset   |x32 - x64|_2 / |x64|_2; for params_final the denominator is the
                                           distance travelled, |x64 - initial|_2
    attribute fp32_max_diff of a dataset   max |x32 - x64| / max |x64|; for params_final again of the distance
    /fp32_rel_diff_*                       the largest over the group (loss, grad norm: over the steps)

Gradient accumulation needs no golden of its own: the mean over batch_size sequences equals the mean of the
micro-batch means for every divisor of batch_size (1, 2, 3, 6), since all have the same number of labels.
"""

import argparse
import dataclasses
import os
import sys

import h5py
import numpy as np
import torch
import torch.nn.functional as F


@dataclasses.dataclass(frozen=True)
class Case:
    """One golden file. Sizes are odd on purpose: nothing is a multiple of a vector or a tile."""

    case: str
    dim: int
    n_layers: int
    n_heads: int
    n_kv_heads: int
    ffn_dim: int
    vocab_size: int
    seq_len: int
    batch_size: int
    max_norm: float
    optimizer: str
    seed: int
    steps: int = 5
    warmup_steps: int = 2
    lr: float = 1e-3
    beta1: float = 0.9
    beta2: float = 0.95
    adam_eps: float = 1e-8
    weight_decay: float = 0.1
    norm_eps: float = 1e-5
    rope_theta: float = 10000.0
    norm: str = "rmsnorm"  # or layernorm (weight, no bias), np_layernorm (no parameters)
    fp8: int = 0  # the blocks' linear layers in FP8: 1 one scale a tensor, 2 a row, 3 a block of 128

    @property
    def head_dim(self):
        return self.dim // self.n_heads


CASES = [
    Case("llama_tiny", 48, 3, 6, 2, 72, 101, 19, 6, 1.0, "adamw", seed=1),
    Case("llama_tiny_adam", 48, 1, 6, 2, 72, 101, 19, 6, 1.0, "adam", seed=2),  # L2 added to the gradient
    Case("llama_tiny_mha", 40, 2, 5, 5, 64, 83, 23, 4, 100.0, "adamw", seed=3),  # n_kv_heads = n_heads, no clipping
    # 84 sequences divide over 1, 2, 3, 4 and 7 ranks, and 20 steps let the meshes drift apart.
    Case("llama_tiny_84", 24, 2, 4, 2, 40, 61, 11, 84, 1.0, "adamw", seed=4, steps=20, lr=3e-3),
    # Heads, widths and vocabulary divide by 2 and 4, but what is left by no 3: tensor-parallel meshes.
    Case("llama_tiny_tp", 32, 2, 8, 4, 44, 92, 12, 12, 1.0, "adamw", seed=5, steps=20, lr=3e-3),
    # These divide over two tensor-parallel ranks.
    Case("llama_tiny_layernorm", 24, 2, 4, 2, 40, 62, 11, 12, 1.0, "adamw", seed=5, norm="layernorm"),
    Case("llama_tiny_np_layernorm", 24, 2, 4, 2, 40, 62, 11, 12, 1.0, "adamw", seed=6, norm="np_layernorm"),
    Case("llama_tiny_fp8", 64, 2, 4, 2, 96, 92, 16, 12, 1.0, "adamw", seed=7, fp8=1),
    Case("llama_tiny_fp8_rowwise", 64, 2, 4, 2, 96, 92, 16, 12, 1.0, "adamw", seed=8, fp8=2),
    # 192 tokens and 160 columns are more than one block.
    Case("llama_tiny_fp8_block", 64, 2, 4, 2, 160, 92, 16, 12, 1.0, "adamw", seed=9, fp8=3),
]


def stored_attributes(c):
    """What a file says of its case; no `norm` means rmsnorm."""
    return {k: v for k, v in dataclasses.asdict(c).items() if (k, v) not in (("norm", "rmsnorm"), ("fp8", 0))}


# ---- model ----------------------------------------------------------------------------------------------------


def param_shapes(c):
    d, kv, f = c.dim, c.n_kv_heads * c.head_dim, c.ffn_dim
    shapes = {"tok_embeddings.weight": (c.vocab_size, d)}
    for i in range(c.n_layers):
        p = f"layers.{i}."
        shapes[p + "attention_norm.weight"] = (d,)
        shapes[p + "attention.wq.weight"] = (d, d)
        shapes[p + "attention.wk.weight"] = (kv, d)
        shapes[p + "attention.wv.weight"] = (kv, d)
        shapes[p + "attention.wo.weight"] = (d, d)
        shapes[p + "ffn_norm.weight"] = (d,)
        shapes[p + "feed_forward.w1.weight"] = (f, d)
        shapes[p + "feed_forward.w2.weight"] = (d, f)
        shapes[p + "feed_forward.w3.weight"] = (f, d)
    shapes["norm.weight"] = (d,)
    shapes["output.weight"] = (c.vocab_size, d)
    if c.norm == "np_layernorm":
        shapes = {name: shape for name, shape in shapes.items() if not name.endswith("norm.weight")}
    return shapes


def draw(c):
    """Initial values (representable in float32) and tokens. RandomState's stream is frozen across NumPy versions."""
    rng = np.random.RandomState(c.seed)
    params = {}
    for name, shape in param_shapes(c).items():
        z = rng.standard_normal(shape)
        if name.endswith("norm.weight"):
            value = 1.0 + 0.1 * z
        elif name == "tok_embeddings.weight":
            value = 0.5 * z
        else:
            value = 0.15 * z
        params[name] = value.astype(np.float32)
    tokens = rng.randint(0, c.vocab_size, size=(c.steps, c.batch_size, c.seq_len + 1)).astype(np.int32)
    return params, tokens


FP8_BLOCK = 128


def groups_of(x, sizes):
    """The largest magnitude of each group of rows x columns, at each element of x."""
    for dim, size in enumerate(sizes):
        last = x.shape[dim]
        parts = torch.split(x, size or last, dim)
        x = torch.cat([p.amax(dim, keepdim=True).expand_as(p) for p in parts], dim)
    return x


def through_fp8(x, dtype, sizes):
    """What torchao's casts leave of x: scaled by largest / amax in float32, clamped, rounded; and back.
    sizes: of the groups that share a scale, rows and columns; None: all of them."""
    largest = torch.finfo(dtype).max
    scale = (largest / groups_of(x.abs(), sizes).double().clamp(min=1e-12)).float()
    q = (x.float() * scale).clamp(-largest, largest).to(dtype)
    return q.to(x.dtype) * (1.0 / scale).to(x.dtype)


# What shares a scale in each recipe, of tokens' matrices and of weights, in the rows that a product reads.
FP8_GROUPS = {
    1: ((None, None), (None, None)),                    # tensorwise
    2: ((1, None), (1, None)),                          # rowwise
    3: ((1, FP8_BLOCK), (FP8_BLOCK, FP8_BLOCK)),        # block
}


class Fp8Linear(torch.autograd.Function):
    """y = x w^T of e4m3 operands; gradients from e5m2 ones of y. w may be several weights, stacked.
    Every operand is scaled as its product reads it: along the dimension that is summed over."""

    @staticmethod
    def forward(ctx, x, w, recipe):
        ctx.save_for_backward(x, w)
        ctx.groups = FP8_GROUPS[recipe]
        tokens, weights = ctx.groups
        rows = through_fp8(x.flatten(0, -2), torch.float8_e4m3fn, tokens)
        return (rows @ through_fp8(w, torch.float8_e4m3fn, weights).T).unflatten(0, x.shape[:-1])

    @staticmethod
    def backward(ctx, dy):
        x, w = ctx.saved_tensors
        tokens, weights = ctx.groups
        x_rows, dy_rows = x.flatten(0, -2), dy.flatten(0, -2)
        dx = through_fp8(dy_rows, torch.float8_e5m2, tokens) @ through_fp8(w.T, torch.float8_e4m3fn, weights).T
        dw = through_fp8(dy_rows.T, torch.float8_e5m2, tokens) @ through_fp8(x_rows.T, torch.float8_e4m3fn, tokens).T
        return dx.view_as(x), dw, None


def linear(c, x, *weights):
    """x times each weight's transpose; in FP8 the weights are one product with one scale."""
    w = torch.cat(weights)
    y = Fp8Linear.apply(x, w, c.fp8) if c.fp8 else x @ w.T
    return y.split([len(w) for w in weights], dim=-1)


def rmsnorm(x, w, eps):
    return x * torch.rsqrt((x * x).mean(-1, keepdim=True) + eps) * w


def norm(c, p, name, x):
    if c.norm == "rmsnorm":
        return rmsnorm(x, p[name], c.norm_eps)
    return F.layer_norm(x, (c.dim,), p.get(name), None, c.norm_eps)


def rope(x, theta):
    """Rotate the pairs (x[2i], x[2i+1]) of x[b, t, h, hd] by the angle t * theta^(-2i/hd)."""
    seq_len, hd = x.shape[1], x.shape[3]
    frequency = theta ** (-torch.arange(0, hd, 2, dtype=x.dtype) / hd)
    angle = torch.outer(torch.arange(seq_len, dtype=x.dtype), frequency)[None, :, None, :]
    even, odd = x[..., 0::2], x[..., 1::2]
    rotated = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
    return torch.stack(rotated, dim=-1).reshape(x.shape)


def attention(c, p, prefix, x):
    b, t, _ = x.shape
    q, k, v = linear(c, x, *(p[prefix + name + ".weight"] for name in ("wq", "wk", "wv")))
    q = rope(q.reshape(b, t, c.n_heads, c.head_dim), c.rope_theta)
    k = rope(k.reshape(b, t, c.n_kv_heads, c.head_dim), c.rope_theta)
    v = v.reshape(b, t, c.n_kv_heads, c.head_dim)
    group = c.n_heads // c.n_kv_heads  # query heads j*group ... (j+1)*group-1 share key/value head j
    k, v = k.repeat_interleave(group, dim=2), v.repeat_interleave(group, dim=2)
    scores = torch.einsum("bihd,bjhd->bhij", q, k) * c.head_dim**-0.5
    later = torch.ones(t, t, dtype=torch.bool).triu(1)
    weights = torch.softmax(scores.masked_fill(later, float("-inf")), dim=-1)
    o = torch.einsum("bhij,bjhd->bihd", weights, v)
    return linear(c, o.reshape(b, t, c.dim), p[prefix + "wo.weight"])[0]


def feed_forward(c, p, prefix, x):
    gate, up = linear(c, x, p[prefix + "w1.weight"], p[prefix + "w3.weight"])
    return linear(c, gate * torch.sigmoid(gate) * up, p[prefix + "w2.weight"])[0]


def logits_of(c, p, inputs):
    h = p["tok_embeddings.weight"][inputs]
    for i in range(c.n_layers):
        layer = f"layers.{i}."
        h = h + attention(c, p, layer + "attention.", norm(c, p, layer + "attention_norm.weight", h))
        h = h + feed_forward(c, p, layer + "feed_forward.", norm(c, p, layer + "ffn_norm.weight", h))
    return norm(c, p, "norm.weight", h) @ p["output.weight"].T


def loss_of(c, p, tokens):
    """tokens [batch, seq_len + 1] -> mean cross entropy, logits."""
    logits = logits_of(c, p, tokens[:, :-1])
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()), logits


# ---- training -------------------------------------------------------------------------------------------------


def lr_factor(c, done):
    if done < c.warmup_steps:
        return (done + 1) / (c.warmup_steps + 1)
    return 1.0 - (done - c.warmup_steps) / max(1, c.steps - c.warmup_steps)


def make_optimizer(c, parameters):
    kind = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[c.optimizer]
    return kind(parameters, lr=c.lr, betas=(c.beta1, c.beta2), eps=c.adam_eps, weight_decay=c.weight_decay)


class WrittenOutOptimizer:
    """Adam and AdamW from their formulas, to check torch.optim's (--check only)."""

    def __init__(self, c, parameters):
        self.c, self.step_count = c, 0
        self.param_groups = [{"lr": c.lr}]
        self.state = [(p, torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]

    @torch.no_grad()
    def step(self):
        c, lr = self.c, self.param_groups[0]["lr"]
        self.step_count += 1
        for p, m, v in self.state:
            g = p.grad if c.optimizer == "adamw" else p.grad + c.weight_decay * p
            if c.optimizer == "adamw":
                p -= lr * c.weight_decay * p
            m.copy_(c.beta1 * m + (1 - c.beta1) * g)
            v.copy_(c.beta2 * v + (1 - c.beta2) * g * g)
            m_hat = m / (1 - c.beta1**self.step_count)
            v_hat = v / (1 - c.beta2**self.step_count)
            p -= lr * m_hat / (v_hat.sqrt() + c.adam_eps)


def train(c, dtype, make=make_optimizer):
    initial, tokens = draw(c)
    params = {name: torch.tensor(value, dtype=dtype, requires_grad=True) for name, value in initial.items()}
    batches = torch.from_numpy(tokens).long()
    optimizer = make(c, list(params.values()))
    out = {"losses": [], "grad_norms": [], "lrs": [], "params_initial": initial, "tokens": tokens}
    for step in range(c.steps):
        lr = c.lr * lr_factor(c, step)
        optimizer.param_groups[0]["lr"] = lr
        for p in params.values():
            p.grad = None
        loss, logits = loss_of(c, params, batches[step])
        loss.backward()
        if step == 0:
            out["logits_step1"] = logits.detach().double().numpy()
            out["gradients_step1"] = {name: p.grad.double().numpy().copy() for name, p in params.items()}
        norm = torch.sqrt(sum((p.grad**2).sum() for p in params.values()))
        scale = min(1.0, c.max_norm / (norm.item() + 1e-6))
        for p in params.values():
            p.grad *= scale
        optimizer.step()
        out["losses"].append(loss.item())
        out["grad_norms"].append(norm.item())
        out["lrs"].append(lr)
    out["params_final"] = {name: p.detach().double().numpy().copy() for name, p in params.items()}
    for key in ("losses", "grad_norms", "lrs"):
        out[key] = np.array(out[key], dtype=np.float64)
    return out


def differences(x, exact, origin=0.0):
    """|x - exact| relative to |exact - origin|: of the 2-norms, of the maxima."""
    error, size = np.abs(x - exact), np.abs(exact - origin)
    return np.linalg.norm(error) / np.linalg.norm(size), error.max() / size.max()


# ---- files ----------------------------------------------------------------------------------------------------


def write(c, path):
    exact, single = train(c, torch.float64), train(c, torch.float32)
    temporary = path + ".new"
    with h5py.File(temporary, "w") as f:

        def put(name, value, dtype, diffs=None):
            dataset = f.create_dataset(name, data=np.ascontiguousarray(value, dtype=dtype))
            if diffs is not None:
                dataset.attrs["fp32_rel_diff"], dataset.attrs["fp32_max_diff"] = (np.float64(x) for x in diffs)

        for key, value in {**stored_attributes(c), "head_dim": c.head_dim}.items():
            kind = {str: np.bytes_, int: np.int64, float: np.float64}[type(value)]
            f.attrs[key] = kind(value)
        f.attrs["n_params"] = np.int64(sum(v.size for v in exact["params_initial"].values()))

        put("tokens", exact["tokens"], "<i4")
        put("lrs", exact["lrs"], "<f8")
        put("losses", exact["losses"], "<f8", differences(single["losses"], exact["losses"]))
        put("grad_norms", exact["grad_norms"], "<f8", differences(single["grad_norms"], exact["grad_norms"]))
        put("logits_step1", exact["logits_step1"], "<f4", differences(single["logits_step1"], exact["logits_step1"]))
        largest = {"gradients_step1": 0.0, "params_final": 0.0}
        for name, initial in exact["params_initial"].items():
            put("params_initial/" + name, initial, "<f4")
            for group, origin in (("gradients_step1", 0.0), ("params_final", initial.astype(np.float64))):
                diffs = differences(single[group][name], exact[group][name], origin)
                put(f"{group}/{name}", exact[group][name], "<f4", diffs)
                largest[group] = max(largest[group], diffs[0])
        for key in ("loss", "grad_norm"):
            series = {"loss": "losses", "grad_norm": "grad_norms"}[key]
            f.attrs["fp32_rel_diff_" + key] = np.max(np.abs(single[series] / exact[series] - 1))
        f.attrs["fp32_rel_diff_logits"] = f["logits_step1"].attrs["fp32_rel_diff"]
        f.attrs["fp32_rel_diff_gradients"] = np.float64(largest["gradients_step1"])
        f.attrs["fp32_rel_diff_params"] = np.float64(largest["params_final"])
        attributes = dict(f.attrs)
    os.replace(temporary, path)
    report(c, exact, attributes)
    print(f"  wrote {path}, {os.path.getsize(path)} bytes")


def report(c, exact, attributes):
    print(f"{c.case}: {attributes['n_params']} parameters, {c.optimizer}, max_norm {c.max_norm}")
    for key in ("losses", "grad_norms", "lrs"):
        print(f"  {key:11}", " ".join(f"{x:.10g}" for x in exact[key]))
    rms = {name: np.sqrt(np.mean(g**2)) for name, g in exact["gradients_step1"].items()}
    low, high = min(rms, key=rms.get), max(rms, key=rms.get)
    print(f"  gradient rms from {rms[low]:.2e} ({low}) to {rms[high]:.2e} ({high})")
    diffs = {k[len("fp32_rel_diff_"):]: v for k, v in attributes.items() if k.startswith("fp32_rel_diff_")}
    print("  fp32 against fp64:", ", ".join(f"{k} {v:.1e}" for k, v in diffs.items()))


# ---- checks ---------------------------------------------------------------------------------------------------


class Checker:
    def __init__(self):
        self.failed = False

    def __call__(self, what, error, limit):
        good = bool(error <= limit)  # false for NaN
        self.failed = self.failed or not good
        print(f"  {'ok  ' if good else 'FAIL'} {what}: {error:.2e} (limit {limit:.0e})")


def check_gradients(c, check):
    """Central differences: along two random directions of each tensor, and its four largest elements one by one."""
    initial, tokens = draw(c)
    p = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in initial.items()}
    batch = torch.from_numpy(tokens[0]).long()
    loss_of(c, p, batch)[0].backward()
    rng = np.random.RandomState(0)
    worst = 0.0
    for tensor in p.values():
        gradient = tensor.grad.clone()
        directions = [torch.from_numpy(rng.standard_normal(tuple(tensor.shape))) for _ in range(2)]
        for index in gradient.flatten().abs().topk(4).indices:
            unit = torch.zeros(tensor.numel(), dtype=torch.float64)
            unit[index] = 1.0
            directions.append(unit.view_as(tensor))
        for direction in directions:
            h = 1e-3 / direction.norm()

            def slope(step):
                with torch.no_grad():
                    home = tensor.clone()
                    tensor.copy_(home + step * direction)
                    above = loss_of(c, p, batch)[0]
                    tensor.copy_(home - step * direction)
                    below = loss_of(c, p, batch)[0]
                    tensor.copy_(home)
                return (above - below) / (2 * step)

            numeric = (4 * slope(h) - slope(2 * h)) / 3  # error O(h^4) against round-off 1e-15 / h
            scale = gradient.norm() * direction.norm() / tensor.numel() ** 0.5  # what a random direction gives
            worst = max(worst, ((numeric - (gradient * direction).sum()).abs() / scale).item())
    check("gradients against central differences, relative", worst, 1e-8)


def check_model(c, check):
    """RoPE as Meta writes it (complex numbers), causality, and the loss written out."""
    rng = np.random.RandomState(0)
    x = torch.from_numpy(rng.standard_normal((2, c.seq_len, 3, c.head_dim)))
    frequency = 1.0 / (c.rope_theta ** (torch.arange(0, c.head_dim, 2).double() / c.head_dim))
    angle = torch.outer(torch.arange(c.seq_len).double(), frequency)
    turn = torch.polar(torch.ones_like(angle), angle)[None, :, None, :]
    pairs = torch.view_as_complex(x.reshape(2, c.seq_len, 3, c.head_dim // 2, 2))
    rotated = torch.view_as_real(pairs * turn).flatten(3)
    check("rope against complex rotation", (rotated - rope(x, c.rope_theta)).abs().max(), 1e-13)

    initial, tokens = draw(c)
    p = {name: torch.tensor(value, dtype=torch.float64) for name, value in initial.items()}
    batch = torch.from_numpy(tokens[0]).long()
    loss, logits = loss_of(c, p, batch)
    changed = batch.clone()
    changed[:, c.seq_len // 2] = (changed[:, c.seq_len // 2] + 1) % c.vocab_size
    delta = (logits_of(c, p, changed[:, :-1]) - logits).abs().amax(dim=(0, 2))
    check("later token seen by earlier position", delta[: c.seq_len // 2].max(), 0.0)
    check("changed token unseen at its own and later positions (1/change)", 1e-6 / delta[c.seq_len // 2 :].min(), 1.0)
    picked = logits.gather(2, batch[:, 1:, None])[..., 0]
    check("loss against log-sum-exp", (loss - (logits.logsumexp(-1) - picked).mean()).abs(), 1e-13)


def check_accumulation(c, check):
    """Gradients of two micro-batches, averaged, equal those of the whole batch."""
    initial, tokens = draw(c)
    p = {name: torch.tensor(value, dtype=torch.float64, requires_grad=True) for name, value in initial.items()}
    batch = torch.from_numpy(tokens[0]).long()
    whole = torch.autograd.grad(loss_of(c, p, batch)[0], list(p.values()))
    halves = [torch.autograd.grad(loss_of(c, p, part)[0], list(p.values())) for part in batch.chunk(2)]
    worst = max(((a + b) / 2 - w).norm() / w.norm() for w, a, b in zip(whole, *halves))
    check("accumulated gradients against the whole batch", worst, 1e-13)


def check_training(c, check, exact):
    other = train(c, torch.float64, WrittenOutOptimizer)
    worst = max(differences(other["params_final"][n], exact["params_final"][n], v.astype(np.float64))[0]
                for n, v in exact["params_initial"].items())
    check("torch.optim against the formulas, of the distance travelled", worst, 1e-9)


def check_file(c, check, exact, path):
    """Another machine or PyTorch version must arrive at the stored numbers (float32 for arrays)."""
    if not os.path.exists(path):
        return check(f"{path} does not exist", np.inf, 0.0)
    with h5py.File(path, "r") as f:
        wrong = sum(f.attrs[k] != (v.encode() if isinstance(v, str) else v) for k, v in stored_attributes(c).items())
        wrong += sum((f["params_initial/" + n][...] != v).any() for n, v in exact["params_initial"].items())
        wrong += (f["tokens"][...] != exact["tokens"]).any()
        check("file: attributes, initial values, tokens that differ", wrong, 0)
        for key in ("losses", "grad_norms", "lrs"):
            check(f"file: {key}", differences(f[key][...], exact[key])[1], 1e-11)
        check("file: logits", differences(f["logits_step1"][...], exact["logits_step1"])[0], 1e-7)
        for group in ("gradients_step1", "params_final"):
            worst = max(differences(f[f"{group}/{n}"][...], x)[0] for n, x in exact[group].items())
            check(f"file: {group}", worst, 1e-7)


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="verify the oracle and the stored files; write nothing")
    parser.add_argument("--out", default=os.path.join(here, "..", "tests", "golden"), help="folder of the .h5 files")
    args = parser.parse_args()
    torch.set_num_threads(1)
    check = Checker()
    for c in CASES:
        path = os.path.normpath(os.path.join(args.out, c.case + ".h5"))
        if not args.check:
            write(c, path)
            continue
        print(f"{c.case} (PyTorch {torch.__version__})")
        exact = train(c, torch.float64)
        if not c.fp8:  # whose roundings have no slopes, and whose scales see all tokens
            check_model(c, check)
            check_gradients(c, check)
            check_accumulation(c, check)
        check_training(c, check, exact)
        check_file(c, check, exact, path)
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
