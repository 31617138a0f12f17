"""Made-up documents in exactly the form in which each dataset is published."""

import gzip
import hashlib
import io
import json
import lzma
import random
import re
import tarfile

from . import say, say_deck

WORDS = ("the of and to in is that for on was with as by this from at or an are be which have not "
         "one training model data loss gradient energy temperature na\u00efve caf\u00e9 \u6e90 "
         "\u20ac \U0001f600 \"quoted\" back\\slash").split()


def text(dice, sentences):
    lines = []
    for _ in range(sentences):
        lines.append(" ".join(dice.choice(WORDS) for _ in range(dice.randint(3, 20))).capitalize()
                     + dice.choice([".", "?", "!", ".\n", ".\n\n"]))
    return " ".join(lines)


def documents(count, seed=1):
    dice = random.Random(seed)
    return [text(dice, dice.choice([1, 2, 5, 30])) for _ in range(count)]


def alpaca(texts, folder):
    """alpaca_data.json; every second one has an input."""
    objects = [{"instruction": t.split(".")[0].strip() or "Go on.", "input": t[:40] if i % 2 else "",
                "output": t} for i, t in enumerate(texts)]
    (folder / "alpaca_data.json").write_text(json.dumps(objects, indent=4))
    filled = []
    for o in objects:
        head = ("Below is an instruction that describes a task, paired with an input that provides "
                "further context. " if o["input"] else
                "Below is an instruction that describes a task. ")
        middle = f"### Input:\n{o['input']}\n\n" if o["input"] else ""
        filled.append(f"{head}Write a response that appropriately completes the request.\n\n"
                      f"### Instruction:\n{o['instruction']}\n\n{middle}"
                      f"### Response:\n{o['output']}")
    return folder / "alpaca_data.json", filled


def c4(texts, folder):
    """c4-train.0000k-of-00002.json.gz and one file of others for validation."""
    def write(name, part):
        with gzip.open(folder / name, "wt", encoding="utf-8") as out:
            for i, t in enumerate(part):
                out.write(json.dumps({"text": t, "timestamp": "2019-04-25T12:57:54Z",
                                      "url": f"http://a.example/{i}"}) + "\n")
    half = len(texts) // 2
    write("c4-train.00000-of-00002.json.gz", texts[:half])
    write("c4-train.00001-of-00002.json.gz", texts[half:])
    write("c4-validation.00000-of-00001.json.gz", documents(max(1, len(texts) // 4), seed=2))
    return folder, texts


def packed(members):
    """A tar of (name, bytes)."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def openwebtext(texts, folder):
    """urlsf_subset0k.tar, each with .xz files, each a tar of .txt files."""
    def named(number, t):
        digest = hashlib.md5(t.encode()).hexdigest()
        return f"{number:07d}-{digest}.txt", f"{t}\n\n\n\nThe end.\n".encode()
    for subset in range(2):
        part = texts[subset * len(texts) // 2:(subset + 1) * len(texts) // 2]
        inner = []
        for first in range(0, len(part), 25):
            members = [named(first + i, t) for i, t in enumerate(part[first:first + 25])]
            inner.append((f"openwebtext/urlsf_subset{subset:02d}-{first // 25}_data.xz",
                          lzma.compress(packed(members))))
        (folder / f"urlsf_subset{subset:02d}.tar").write_bytes(packed(inner))
    # What the dataset's own script makes of a file.
    return folder, [re.sub("\n\n\n+", "\n\n", f"{t}\n\n\n\nThe end.\n").strip() for t in texts]


MAKERS = {"alpaca": alpaca, "c4": c4, "openwebtext": openwebtext}


def make(options):
    options.out.mkdir(parents=True, exist_ok=True)
    path, expected = MAKERS[options.name](documents(options.documents), options.out)
    if options.jsonl:
        with open(options.jsonl, "w", encoding="utf-8") as out:
            for t in expected:
                out.write(json.dumps({"text": t}) + "\n")
        say(f"the same documents as JSON lines: {options.jsonl}")
    say_deck(options.name, path)
