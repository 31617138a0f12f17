#!/usr/bin/env python3
"""Compares Koios' tokenizer with the Python packages, one core each, in one run.

usage: bench_tokenizer.py [--rounds 3] TOKENIZER.model BENCH_TOKENIZER TEXT...

BENCH_TOKENIZER is build/host/tools/bench_tokenizer. The texts are cut at line ends into documents
of about 4 KB. The ids must be those of the package sentencepiece, one by one; the rates are the
best of the rounds, in which the three take turns. Needs: python3 -m venv VENV;
VENV/bin/pip install -r tools/requirements-tokenizers.txt
"""
import argparse
import array
import os
import pathlib
import subprocess
import sys
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"  # the package tokenizers: one core
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import sentencepiece
import tokenizers

DOCUMENT_BYTES = 4096


def documents(paths):
    texts = []
    for path in paths:
        part = []
        size = 0
        for line in pathlib.Path(path).read_bytes().decode().replace("\0", "").splitlines(True):
            part.append(line)
            size += len(line.encode())
            if size >= DOCUMENT_BYTES:
                texts.append("".join(part))
                part, size = [], 0
        if part:
            texts.append("".join(part))
    return texts


def hugging_face(processor):
    """The fast tokenizer that Hugging Face makes of such a model: BPE with its merges spelt out."""
    size = processor.get_piece_size()
    vocabulary = {processor.id_to_piece(i): i for i in range(size)}
    merges = []
    for piece, rank in vocabulary.items():
        if processor.is_byte(rank) or processor.is_control(rank) or processor.is_unknown(rank):
            continue
        halves = [(piece[:i], piece[i:]) for i in range(1, len(piece))
                  if piece[:i] in vocabulary and piece[i:] in vocabulary]
        halves.sort(key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
        merges += [(processor.get_score(rank), pair) for pair in halves]
    merges = [pair for _, pair in sorted(merges, key=lambda entry: entry[0], reverse=True)]
    result = tokenizers.Tokenizer(tokenizers.models.BPE(
        vocabulary, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    result.normalizer = tokenizers.normalizers.Sequence([
        tokenizers.normalizers.Prepend("\u2581"), tokenizers.normalizers.Replace(" ", "\u2581")])
    return result


def timed(encode, texts):
    started = time.perf_counter()
    ids = [encode(text) for text in texts]
    return time.perf_counter() - started, ids


def koios(binary, model, texts, folder):
    source, target = folder / "documents", folder / "ids"
    source.write_bytes(b"\0".join(text.encode() for text in texts))
    printed = subprocess.run([binary, model, source, target], check=True, capture_output=True,
                             text=True).stdout.split()
    ids = array.array("i")
    ids.frombytes(target.read_bytes())
    return float(printed[2]), ids


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("model")
    parser.add_argument("binary")
    parser.add_argument("texts", nargs="+")
    arguments = parser.parse_args()

    processor = sentencepiece.SentencePieceProcessor(model_file=arguments.model)
    other = hugging_face(processor)
    texts = documents(arguments.texts)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    best = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(arguments.rounds):
            seconds, theirs = timed(processor.encode, texts)
            best.setdefault("sentencepiece", []).append(seconds)
            seconds, fast = timed(lambda text: other.encode(text).ids, texts)
            best.setdefault("tokenizers", []).append(seconds)
            seconds, ours = koios(arguments.binary, arguments.model, texts, pathlib.Path(folder))
            best.setdefault("koios", []).append(seconds)
    expected = [i for ids in theirs for i in ids]
    print(f"{len(texts)} documents, {megabytes:.1f} MB, {len(expected)} tokens; one core each")
    for name, seconds in best.items():
        print(f"{name:14} {megabytes / min(seconds):8.2f} MB/s {len(expected) / min(seconds):12.0f} "
              "tokens/s")
    same = sum(a == b for a, b in zip(theirs, fast))
    print(f"tokenizers: the ids of {same} of {len(texts)} documents are sentencepiece's")
    if list(ours) != expected:
        at = next((i for i, (a, b) in enumerate(zip(ours, expected)) if a != b), "the end")
        sys.exit(f"koios: ids differ from sentencepiece's, first at token {at}")
    print(f"koios: all {len(expected)} ids are sentencepiece's")


if __name__ == "__main__":
    main()
