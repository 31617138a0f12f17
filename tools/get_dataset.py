#!/usr/bin/env python3
"""Fetches what Koios trains on, turns tables into JSON lines, and makes samples of the same form.

  get_dataset.py alpaca [--out DIR]                 52,002 instructions, as one JSON array
  get_dataset.py openwebtext [--out DIR] [--files N]
  get_dataset.py c4 [--out DIR] [--files N]         of 1,024 files for training; and for validation
  get_dataset.py tokenizer REPOSITORY [--out FILE]  its tokenizer.model, such as Llama 2's
  get_dataset.py convert INPUT DIR                  Parquet, Arrow, save_to_disk folder: JSON lines
  get_dataset.py sample NAME DIR [--documents N]    offline: made-up text in the published form

Fetching goes through huggingface_hub, which resumes where it was interrupted; converting needs
pyarrow: pip install -r tools/requirements-data.txt. A token for restricted repositories is taken
from --token or HF_TOKEN. Ends by saying what to write into the deck; docs/data.md has the rest.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from koios_data import hub, samples, tables  # noqa: E402
from koios_tool import run  # noqa: E402


def positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1 on")
    return value


def parse(arguments):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(name, run, **out):
        sub = commands.add_parser(name)
        sub.set_defaults(run=run)
        if out:
            sub.add_argument("--out", type=pathlib.Path, **out)
            sub.add_argument("--token", help="for restricted repositories (default: HF_TOKEN)")
            sub.add_argument("--revision", help="a commit of the repository (default: its newest)")
        return sub

    command("alpaca", hub.fetch_alpaca, default=pathlib.Path("data/alpaca"))
    for name, run in (("openwebtext", hub.fetch_openwebtext), ("c4", hub.fetch_c4)):
        sub = command(name, run, default=pathlib.Path("data") / name)
        sub.add_argument("--files", type=positive, help="only the first so many (default: all)")
    sub = command("tokenizer", hub.fetch_tokenizer, default=pathlib.Path("data/tokenizer.model"))
    sub.add_argument("repository", help="owner/name, such as meta-llama/Llama-2-7b-hf")
    sub = command("convert", tables.convert)
    sub.add_argument("input", type=pathlib.Path, help="a file, or a folder of them")
    sub.add_argument("out", type=pathlib.Path)
    sub.add_argument("--part", help="of a folder that holds several, such as train and test")
    sub.add_argument("--documents-per-file", type=positive, default=100000)
    sub = command("sample", samples.make)
    sub.add_argument("name", choices=sorted(samples.MAKERS))
    sub.add_argument("out", type=pathlib.Path)
    sub.add_argument("--documents", type=positive, default=200)
    sub.add_argument("--jsonl", type=pathlib.Path,
                     help="the documents that the sample holds, as JSON lines beside it")
    return parser.parse_args(arguments)


def main():
    options = parse(sys.argv[1:])
    run("get_dataset", lambda: options.run(options))


if __name__ == "__main__":
    main()
