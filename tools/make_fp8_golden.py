#!/usr/bin/env python3
"""Make tests/golden/fp8_casts.txt: what PyTorch's float8 casts do to every float32.

Needs PyTorch (2.1 or later, CPU is enough). Values are first clamped to the largest number of the type, as
torchao does for training (to_fp8_saturated). A cast never decreases, so it is known by the least float32 that
gives each code; the script then casts all 2^32 float32 patterns and compares them with that table.

    python3 tools/make_fp8_golden.py            # rewrite the file
    python3 tools/make_fp8_golden.py --check    # write nothing: compare the stored file

A line is: type, code (hexadecimal), the least non-negative float32 that is cast to it, what the code is cast back
to (both as hexadecimal bits). Of the negative codes only the sign differs. NaN becomes 7f, or ff with its sign.
"""

import argparse
import os
import sys

import numpy as np
import torch

TYPES = {"e4m3": (torch.float8_e4m3fn, 0x7E), "e5m2": (torch.float8_e5m2, 0x7B)}
FILE = os.path.join(os.path.dirname(__file__), "..", "tests", "golden", "fp8_casts.txt")
CHUNK = 1 << 22  # what stays in a cache


def floats(bits):
    return torch.from_numpy(bits.astype(np.uint32).view(np.float32))


def cast(values, dtype):
    largest = torch.finfo(dtype).max
    return values.clamp(min=-largest, max=largest).to(dtype).view(torch.uint8).numpy()


def least_floats(dtype, largest_code):
    """By bisection over the patterns of the non-negative floats up to infinity."""
    codes = np.arange(largest_code + 1)
    low, high = np.zeros(len(codes), np.int64), np.full(len(codes), 0x7F800000, np.int64)
    while (low < high).any():
        middle = (low + high) // 2
        reached = cast(floats(middle), dtype) >= codes
        high = np.where(reached, middle, high)
        low = np.where(reached, low, middle + 1)
    return low


def verify(dtype, thresholds):
    for first in range(0, 1 << 31, CHUNK):
        bits = np.arange(first, first + CHUNK, dtype=np.uint32)
        want = (np.searchsorted(thresholds, bits, side="right") - 1).astype(np.uint8)
        want[bits > 0x7F800000] = 0x7F
        for sign in (0, 1):
            got = cast(floats(bits | np.uint32(sign << 31)), dtype)
            wrong = np.flatnonzero(got != want + 128 * sign)
            if len(wrong):
                sys.exit(f"{dtype}: {bits[wrong[0]]:08x} with sign {sign} becomes {got[wrong[0]]:02x}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    lines = []
    for name, (dtype, largest_code) in TYPES.items():
        thresholds = least_floats(dtype, largest_code)
        verify(dtype, thresholds)
        back = torch.arange(128, dtype=torch.uint8).view(dtype).to(torch.float32).numpy().view(np.uint32)
        lines += [f"{name} {c:02x} {t:08x} {back[c]:08x}\n" for c, t in enumerate(thresholds)]
    text = "".join(lines)
    if not check:
        with open(FILE, "w", encoding="ascii") as out:
            out.write(text)
    elif open(FILE, encoding="ascii").read() != text:
        sys.exit(f"{FILE} differs from this PyTorch's casts")


if __name__ == "__main__":
    main()
