#!/usr/bin/env python3
"""Writes tokenizer_golden.jsonl with the Python package: pip install sentencepiece (0.2.3 made it).

usage: make_tokenizer_golden.py build/assets/tokenizer.model > tests/data/tokenizer_golden.jsonl
       make_tokenizer_golden.py build/assets/tokenizer.model FILE    count and digest of its ids
"""
import json
import sys

import sentencepiece

TEXTS = [
    "In the beginning God created the heaven and the earth.",
    "",
    " ",
    "   leading and trailing   ",
    "two  spaces,\ta tab,\nand lines\n\n\nended\r\n",
    "x = [i**2 for i in range(10)]  # 0x1F4A9 != 1e-9",
    "Don't; can't. \"Quoted\" -- and (bracketed) ... #hash @at 100% $5.99",
    "1234567890 3.14159 2024-04-01T12:00:00Z",
    "UPPER lower MiXeD antidisestablishmentarianism",
    "na\u00efve caf\u00e9 \u00fcber stra\u00dfe \u0141\u00f3d\u017a \u20ac100",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440",
    "\u4f60\u597d\uff0c\u4e16\u754c \u3053\u3093\u306b\u3061\u306f \uc548\ub155",
    "\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd",
    "emoji \U0001f600\U0001f469\u200d\U0001f680 and \U0001d54f",
    "\u2581 the piece mark itself, \ufeff a mark inside, \ufb01 a ligature, e\u0301 combined",
    "<s> </s> <unk> [INST] are text here",
    "a" * 100,
    "\u0000\u0001\u007f control",
]

processor = sentencepiece.SentencePieceProcessor(model_file=sys.argv[1])
if len(sys.argv) > 2:
    with open(sys.argv[2], encoding="utf-8", newline="") as file:
        ids = processor.encode(file.read())
    digest = 0xCBF29CE484222325  # FNV-1a, an id at a time
    for i in ids:
        digest = (digest ^ i) * 0x100000001B3 % 2**64
    print(len(ids), hex(digest))
    sys.exit()
for text in TEXTS:
    ids = processor.encode(text)
    print(json.dumps({"text": text, "ids": ids, "decoded": processor.decode(ids)}))
