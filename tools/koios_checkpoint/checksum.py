"""The mesh-independent checksum of docs/checkpoints.md in numpy, apart from the C++ that wrote it.

sum over i of mix64((i + 1) * 0x9e3779b97f4a7c15 + bits(i)), modulo 2^64.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

GOLDEN = np.uint64(0x9e3779b97f4a7c15)
CHUNK = 1 << 16  # elements: the temporaries stay in the cache
_threads = ThreadPoolExecutor(min(8, os.cpu_count() or 1))  # numpy lets other threads run


def _unsigned(array):
    return array.reshape(-1).view(np.dtype(f"<u{array.dtype.itemsize}"))


def _chunk_sum(bits, first):
    x = np.arange(first + 1, first + 1 + bits.size, dtype=np.uint64)
    x *= GOLDEN
    x += bits
    shifted = x >> np.uint64(30)
    x ^= shifted
    x *= np.uint64(0xbf58476d1ce4e5b9)
    np.right_shift(x, np.uint64(27), out=shifted)
    x ^= shifted
    x *= np.uint64(0x94d049bb133111eb)
    np.right_shift(x, np.uint64(31), out=shifted)
    x ^= shifted
    return int(x.sum(dtype=np.uint64))


def checksum(array, first=0):
    """Of a C-contiguous array whose first element is element `first` of the dataset."""
    bits = _unsigned(array)
    sums = _threads.map(lambda begin: _chunk_sum(bits[begin:begin + CHUNK], first + begin),
                        range(0, bits.size, CHUNK))
    return sum(sums) % (1 << 64)
