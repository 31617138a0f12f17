#!/usr/bin/env python3
"""Looks into Koios' checkpoints and carries weights to and from other programs.

  info FILE...             step, tokens, model, versions, sizes; --deck prints the deck
  verify FILE|FOLDER...    computes every checksum anew and names what is damaged
  to-hf FILE OUT           a folder that Hugging Face's LlamaForCausalLM loads
  from-hf FOLDER OUT.h5    such a folder's weights, for checkpoint/initial_load_path
  to-dcp FILE OUT          a folder that torchtitan loads (checkpoint.initial_load_path there)

Needs h5py and numpy (tools/requirements-checkpoint.txt); to-dcp needs PyTorch too. No more than one
tensor is in memory at a time. docs/checkpoints.md describes the files.
"""

import argparse
import math
import os
import sys
from pathlib import Path

from koios_tool import ToolError, line_of_deck, run, say


def how_to_install(error):
    requirements = os.path.relpath(Path(__file__).with_name("requirements-checkpoint.txt"))
    place = (f"install it with: {sys.executable} -m pip install -r {requirements}"
             if sys.prefix != sys.base_prefix else
             f"python3 -m venv .venv && .venv/bin/pip install -r {requirements}, then run this tool "
             "with .venv/bin/python3")
    return f"{error.name} is not usable here ({error}); {place}"


try:
    from koios_checkpoint.checkpoint_file import CheckpointFile
    from koios_checkpoint.dcp import to_dcp
    from koios_checkpoint.hugging_face import from_hugging_face, to_hugging_face
    from koios_checkpoint.verify import verify
    MISSING = None
except ImportError as error:  # said once the command line is understood: --help needs none of them
    MISSING = error

TYPES = ("float32", "float16", "bfloat16")


def gib(size):
    return f"{size / 2**30:.2f} GiB"


# ---- info ----------------------------------------------------------------------------------------
def sizes_by_kind(checkpoint):
    """{model, optimizer, ...: (datasets, bytes, types)}"""
    kinds = {}
    for path in checkpoint.paths:
        kind = "model" if checkpoint.is_weights_only else path.split("/")[1]
        array = checkpoint.array(path)
        count, size, types = kinds.get(kind, (0, 0, set()))
        kinds[kind] = (count + 1, size + array.bytes, types | {array.dtype})
    return kinds


def describe(checkpoint):
    attributes, state, sizes = checkpoint.attributes, checkpoint.train_state(), checkpoint.sizes()
    deck = checkpoint.deck
    parameters = sum(array.dataset.size for _, array in checkpoint.parameters())
    types = sorted({array.dtype for _, array in checkpoint.parameters()})
    yield "file", f"{checkpoint.path}, {gib(checkpoint.path.stat().st_size)}"
    yield "kind", ("weights only: no optimizer, cannot be resumed" if checkpoint.is_weights_only
                   else "checkpoint")
    yield "written", (f"{attributes.get('created', 'unknown')} by "
                      f"{attributes.get('koios_version', 'unknown')}, format version "
                      f"{attributes['format_version']}")
    if "mesh" in attributes:
        yield "mesh", attributes["mesh"]
    if state:
        yield "step", f"{state.get('step', '?')} of {deck.get('training/steps', '?')}"
        tokens = state.get("tokens")
        yield "tokens", f"{tokens:,}" if isinstance(tokens, int) else "?"
        yield "schedule", (f"lr {deck.get('optimizer/lr', '?')}, warm-up "
                           f"{deck.get('training/warmup_steps', '?')}, seed "
                           f"{deck.get('job/seed', '?')}")
    yield "model", (f"{parameters:,} parameters in {', '.join(types)}: dim {sizes.dim}, "
                    f"{sizes.n_layers} layers, heads {sizes.n_heads}/{sizes.n_kv_heads}, ffn "
                    f"{sizes.ffn_dim}, vocabulary {sizes.vocab_size}, norm_eps {sizes.norm_eps:g}, "
                    f"rope_theta {sizes.rope_theta:g}")
    for kind, (count, size, types) in sizes_by_kind(checkpoint).items():
        yield kind, f"{count} datasets, {size:,} bytes in {', '.join(sorted(types))}"


def info(arguments):
    for path in arguments.files:
        with CheckpointFile(path) as checkpoint:
            if arguments.deck:
                say(checkpoint.attributes.get("deck", ""), end="")
                continue
            for key, value in describe(checkpoint):
                say(f"{key:<11} {value}")


# ---- verify --------------------------------------------------------------------------------------
def checkpoint_files(places):
    """Each file itself; of a folder all that end in .h5."""
    for place in places:
        if place.is_dir():
            files = sorted(place.glob("*.h5"))
            if not files:
                raise ToolError(f"{place} holds no file that ends in .h5")
            yield from files
        else:
            yield place


def verify_files(arguments):
    damaged = 0
    for path in checkpoint_files(arguments.places):
        try:
            with CheckpointFile(path) as checkpoint:
                count, size, problems = verify(checkpoint)
        except ToolError as error:
            damaged += 1
            say(error)
            continue
        damaged += bool(problems)
        for problem in problems:
            say(f"{path}: {problem}")
        if not problems:
            say(f"{path}: good, {count} datasets, {gib(size)}")
    if damaged:
        raise ToolError(f"{damaged} file{'s are' if damaged > 1 else ' is'} not good")


# ---- conversions ---------------------------------------------------------------------------------
def tokenizer_of(checkpoint, given):
    """The path to copy from: the option, or what the deck in the file names."""
    if given:
        if not given.is_file():
            raise ToolError(f"{given} is not there")
        return given
    named = (checkpoint.deck.get("model/tokenizer_path") or "").replace("\\$", "$")
    if named and Path(named).is_file():
        return Path(named)
    say(f"no tokenizer copied: {named or 'the file names none'}"
          f"{' is not there' if named else ''}; give it with --tokenizer")
    return None


def shard_bytes(gigabytes):
    if not (math.isfinite(gigabytes) and gigabytes > 0):
        raise ToolError(f"--max-shard-size {gigabytes} is not a size in GB above 0")
    return int(gigabytes * 1e9)


def to_hf(arguments):
    with CheckpointFile(arguments.file) as checkpoint:
        size = to_hugging_face(checkpoint, arguments.out, arguments.dtype,
                               tokenizer_of(checkpoint, arguments.tokenizer),
                               shard_bytes(arguments.max_shard_size))
    say(f"{arguments.out}: {gib(size)} of weights for LlamaForCausalLM")


def from_hf(arguments):
    sizes, tokenizer, notes = from_hugging_face(arguments.folder, arguments.out, arguments.dtype)
    for note in notes:
        say(f"# note: {note}")
    say(f"# {arguments.out}: a deck that trains it\n")
    keys = ("dim", "n_layers", "n_heads", "n_kv_heads", "ffn_dim", "vocab_size", "norm_eps",
            "rope_theta")
    say("[model]", *(f"{key} = {getattr(sizes, key)}" for key in keys), sep="\n")
    say(line_of_deck("tokenizer_path", tokenizer) if tokenizer else
          f"# tokenizer_path: {arguments.folder} holds no tokenizer.model (SentencePiece)")
    say(f"\n[checkpoint]\n{line_of_deck('initial_load_path', arguments.out.absolute())}")


def torchtitan(arguments):
    with CheckpointFile(arguments.file) as checkpoint:
        size = to_dcp(checkpoint, arguments.out, arguments.dtype)
    say(f"{arguments.out}: {gib(size)} of weights for torch.distributed.checkpoint")


# ---- command line --------------------------------------------------------------------------------
def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, action):
        found = commands.add_parser(name)
        found.set_defaults(action=action)
        return found

    sub = command("info", info)
    sub.add_argument("files", type=Path, nargs="+", metavar="FILE")
    sub.add_argument("--deck", action="store_true", help="print the deck that is in the file")
    sub = command("verify", verify_files)
    sub.add_argument("places", type=Path, nargs="+", metavar="FILE|FOLDER")
    for name, action, default in (("to-hf", to_hf, None), ("to-dcp", torchtitan, None),
                                  ("from-hf", from_hf, "float32")):
        sub = command(name, action)
        what = "folder" if name == "from-hf" else "file"
        sub.add_argument(what, type=Path, metavar=what.upper())
        sub.add_argument("out", type=Path, metavar="OUT")
        sub.add_argument("--dtype", choices=TYPES, default=default,
                         help=f"default: {default or 'what the file holds'}")
        if name == "to-hf":
            sub.add_argument("--tokenizer", type=Path, metavar="FILE",
                             help="SentencePiece model; default: the one the deck in FILE names")
            sub.add_argument("--max-shard-size", type=float, default=5, metavar="GB",
                             help="of a safetensors file (default: 5)")
    return parser.parse_args()


def act(arguments):
    if MISSING is not None:
        raise ToolError(how_to_install(MISSING))
    arguments.action(arguments)


def main():
    arguments = parse_arguments()
    run("checkpoint", lambda: act(arguments))


if __name__ == "__main__":
    main()
