#!/usr/bin/env python3
"""The host build's peer: the same training step in eager PyTorch on the CPU, timed.

Llama 2 of Koios' debug size (dim 256, 8 layers, 16 heads, ffn 768, vocabulary 32,000: 23,204,096 parameters),
float32, torch's scaled_dot_product_attention and rms_norm, fused AdamW where there is one, random tokens. One step
is forward, loss, backward, clipping and update; data loading is not in it. Prints one line of JSON.

Needs PyTorch 2.x. Any build will do; on a machine with CUDA's libraries in the loader's path a small one is:

    python3 -m venv VENV
    VENV/bin/pip install --no-deps torch==2.15.0 nvidia-nccl-cu13==2.30.7 nvidia-cufile \\
        nvidia-cusparselt-cu13==0.8.1 nvidia-nvshmem-cu13==3.7.2
    VENV/bin/pip install numpy typing_extensions sympy networkx jinja2 fsspec filelock setuptools
    VENV/bin/python tools/bench_host_pytorch.py --threads 2 --batch 4 --seq 512

(without those libraries: `VENV/bin/pip install torch numpy`).

glibc returns large blocks to the system after each use, which costs PyTorch a page fault per 4 KiB of activations
and logits in every step. The peer at its best keeps them: run it also with

    MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184

in the environment, and compare with the better of the two ("allocator" in the output tells them apart).
"""

import argparse
import json
import os
import statistics
import time

parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
parser.add_argument("--batch", type=int, default=4, help="sequences per step")
parser.add_argument("--seq", type=int, default=512, help="tokens per sequence")
parser.add_argument("--steps", type=int, default=7, help="timed steps")
parser.add_argument("--warmup", type=int, default=2, help="steps before the timed ones")
args = parser.parse_args()
os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(args.threads)  # before torch loads its pools

import torch  # noqa: E402
import torch.nn as nn  # noqa: E402
import torch.nn.functional as F  # noqa: E402

DIM, LAYERS, HEADS, FFN, VOCAB, EPS, THETA = 256, 8, 16, 768, 32000, 1e-5, 10000.0


class RmsNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(DIM))

    def forward(self, x):
        if hasattr(F, "rms_norm"):  # 2.4 and later
            return F.rms_norm(x, (DIM,), self.weight, EPS)
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + EPS) * self.weight


def rope(x, turn):
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * turn).flatten(3)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(DIM, DIM, bias=False) for _ in range(4))

    def forward(self, x, turn):
        b, t, _ = x.shape
        q, k, v = (w(x).view(b, t, HEADS, DIM // HEADS) for w in (self.wq, self.wk, self.wv))
        q, k, v = rope(q, turn).transpose(1, 2), rope(k, turn).transpose(1, 2), v.transpose(1, 2)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.wo(o.transpose(1, 2).reshape(b, t, DIM))


class FeedForward(nn.Module):
    def __init__(self):
        super().__init__()
        self.w1, self.w3 = (nn.Linear(DIM, FFN, bias=False) for _ in range(2))
        self.w2 = nn.Linear(FFN, DIM, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.attention = RmsNorm(), Attention()
        self.ffn_norm, self.feed_forward = RmsNorm(), FeedForward()

    def forward(self, h, turn):
        h = h + self.attention(self.attention_norm(h), turn)
        return h + self.feed_forward(self.ffn_norm(h))


class Llama(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok_embeddings = nn.Embedding(VOCAB, DIM)
        self.layers = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = RmsNorm()
        self.output = nn.Linear(DIM, VOCAB, bias=False)
        for name, p in self.named_parameters():
            if "layers" in name and p.dim() == 2:
                nn.init.normal_(p, std=0.02)
        nn.init.normal_(self.output.weight, std=DIM**-0.5)

    def forward(self, tokens, turn):
        h = self.tok_embeddings(tokens)
        for layer in self.layers:
            h = layer(h, turn)
        return self.output(self.norm(h))


def make_optimizer(parameters):
    options = dict(lr=8e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1)
    try:
        return torch.optim.AdamW(parameters, fused=True, **options), "fused"
    except (RuntimeError, TypeError):  # no fused AdamW for the CPU before 2.4
        return torch.optim.AdamW(parameters, foreach=True, **options), "foreach"


def main():
    torch.set_num_threads(args.threads)
    torch.manual_seed(1)
    model = Llama()
    parameters = list(model.parameters())
    optimizer, kind = make_optimizer(parameters)
    frequency = THETA ** (-torch.arange(0, DIM // HEADS, 2).float() / (DIM // HEADS))
    angle = torch.outer(torch.arange(args.seq).float(), frequency)
    turn = torch.polar(torch.ones_like(angle), angle)[None, :, None, :]

    seconds, losses = [], []
    for _ in range(args.warmup + args.steps):
        batch = torch.randint(VOCAB, (args.batch, args.seq + 1))
        start = time.perf_counter()
        optimizer.zero_grad(set_to_none=True)
        logits = model(batch[:, :-1], turn)
        loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        del logits
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)

    timed = seconds[args.warmup :]
    median = statistics.median(timed)
    tokens = args.batch * args.seq
    print(json.dumps({
        "system": "pytorch", "version": torch.__version__, "dtype": "float32", "adamw": kind,
        "allocator": "keeps memory" if os.environ.get("MALLOC_MMAP_MAX_") == "0" else "default",
        "threads": args.threads, "batch": args.batch, "seq": args.seq, "steps": args.steps,
        "n_params": sum(p.numel() for p in parameters), "first_loss": round(losses[0], 4),
        "step_s_median": round(median, 4), "step_s_min": round(min(timed), 4), "step_s_max": round(max(timed), 4),
        "tokens_per_s": round(tokens / median, 1), "tokens_per_s_best": round(tokens / min(timed), 1),
        "load_average": round(os.getloadavg()[0], 2)}))


if __name__ == "__main__":
    main()
