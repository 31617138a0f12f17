#!/usr/bin/env python3
"""Makes 107 MB of English text out of Debian packages.

Two dictionaries in prose (GCIDE, WordNet), the documentation of Linux and of Python, and, where
tools/setup.sh has brought it, the King James Bible. The packages are downloaded by apt-get and
unpacked with dpkg, not installed; on another system nothing of this works. DIR (default
build/assets/debian) then holds documents as JSON lines, in a seeded order: train.jsonl.gz, and every
fiftieth document in validation.jsonl.gz. What is there already is left as it is.
"""

import argparse
import gzip
import json
import os
import pathlib
import random
import re
import subprocess
import sys
import tempfile

PACKAGES = ["dict-gcide", "dict-wn", "linux-doc-6.1", "python3.11-doc"]
PIECE = 6000  # bytes of short entries that make one document
HELD_OUT = 50


def unpack(folder):
    """Fetches the packages into the folder and unpacks them there."""
    apt = ["apt-get", "-qq", "download"]
    if os.geteuid() == 0:
        apt += ["-o", "APT::Sandbox::User=root"]
    try:
        subprocess.run(apt + PACKAGES, cwd=folder, check=True)
        for package in sorted(folder.glob("*.deb")):
            subprocess.run(["dpkg", "-x", package.name, "root"], cwd=folder, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"debian_corpus: error: {error}; this needs Debian 12, its package lists "
                 "(apt-get update) and the network")
    return folder / "root/usr/share"


def lines_of(path):
    with gzip.open(path, "rt", encoding="utf-8", errors="replace") as lines:
        yield from lines


def entries(path):
    """Entries of a dictionary, which begin where a line is not indented."""
    entry = []
    for line in lines_of(path):
        if entry and line.strip() and not line[0].isspace():
            yield "".join(entry)
            entry = []
        entry.append(line)
    yield "".join(entry)


def pieces(parts):
    """Short parts brought together to documents of PIECE bytes."""
    held = []
    size = 0
    for part in parts:
        held.append(part)
        size += len(part)
        if size >= PIECE:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)


def documents(share, bible):
    yield from pieces(entries(share / "dictd/gcide.dict.dz"))
    yield from pieces(entries(share / "dictd/wn.dict.dz"))
    linux = share / "doc/linux-doc-6.1/Documentation"
    for path in sorted(linux.rglob("*.rst.gz")):
        if "translations" not in path.parts:
            yield "".join(lines_of(path))
    for path in sorted((share / "doc/python3.11").rglob("*.rst.txt")):
        yield path.read_text(encoding="utf-8", errors="replace")
    if bible.exists():
        with open(bible, encoding="utf-8") as verses:
            yield from pieces(verses)


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, nargs="?", metavar="DIR",
                        default=root / "build/assets/debian")
    out = parser.parse_args().out
    if (out / "train.jsonl.gz").exists():
        print(f"debian_corpus: {out}: is there")
        return
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as scratch:
        print("debian_corpus: fetching and unpacking 75 MB of packages", flush=True)
        share = unpack(pathlib.Path(scratch))
        part = pathlib.Path(scratch) / "train"
        with gzip.open(part, "wt", encoding="utf-8", compresslevel=5) as train, \
                gzip.open(out / "validation.jsonl.gz", "wt", encoding="utf-8") as held_out:
            texts = [re.sub(r"\n{3,}", "\n\n", text).strip()
                     for text in documents(share, root / "build/assets/kjv.txt")]
            texts = [text for text in texts if text]
            random.Random(1).shuffle(texts)
            for number, text in enumerate(texts):
                target = held_out if number % HELD_OUT == 0 else train
                target.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
        part.rename(out / "train.jsonl.gz")
    size = sum(len(text.encode()) for text in texts)
    print(f"debian_corpus: {out}: {len(texts):,} documents, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
