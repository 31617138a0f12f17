"""safetensors files: 8 bytes of header length, a JSON header, then the tensors' bytes.

Read and written tensor by tensor, with numpy alone.
"""

import json
import math
import os

import numpy as np

from koios_tool import ToolError, open_to_read, refuse_pointer
from .element_types import STORED

NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
CODES = {dtype: code for code, dtype in NAMES.items()}
MAX_HEADER_BYTES = 16 << 20  # 100,000 tensors; what the format allows takes gigabytes to parse


class SafetensorsReader:
    def __init__(self, path):
        self.path = path
        with open_to_read(path) as file:
            begin = file.read(8)
            refuse_pointer(path, begin + file.read(32))
            size = os.fstat(file.fileno()).st_size
            length = int.from_bytes(begin, "little")
            if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                raise ToolError(f"{path} is not a safetensors file, or is truncated")
            file.seek(8)
            header = file.read(length)
        self.begin = 8 + length
        try:
            self.entries = json.loads(header)
            self.entries.pop("__metadata__", None)
            for name, entry in self.entries.items():
                self._check(name, entry, size - self.begin)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            raise ToolError(f"{path}: its safetensors header is damaged") from None

    def _check(self, name, entry, data_bytes):
        first, last = entry["data_offsets"]
        numbers = [first, last, *entry["shape"]]
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError
        if not first <= last <= data_bytes:
            raise ToolError(f"{self.path} is truncated: {name} ends beyond the file")
        if len(entry["shape"]) > 8 or not isinstance(entry["dtype"], str):
            raise ValueError
        name.encode()  # a half of a surrogate pair is no text

    def read(self, name):
        """(stored bits, dtype)"""
        entry = self.entries[name]
        dtype = NAMES.get(entry["dtype"])
        if dtype is None:
            raise ToolError(f"{self.path}: {name} is {entry['dtype']}; Koios takes "
                            f"{', '.join(NAMES)}")
        first, last = entry["data_offsets"]
        needed = math.prod(entry["shape"]) * STORED[dtype].itemsize
        if needed != last - first:  # before memory is asked for
            raise ToolError(f"{self.path}: {name} has {last - first} bytes, its shape needs {needed}")
        bits = np.empty(entry["shape"], STORED[dtype])
        with open_to_read(self.path) as file:
            file.seek(self.begin + first)
            if file.readinto(bits.reshape(-1).view(np.uint8)) != bits.nbytes:
                raise ToolError(f"{self.path} is truncated at {name}")
        return bits, dtype


def write_safetensors(path, tensors, load):
    """`tensors` is [(name, shape, dtype)]; load(name) gives each one's bits when its turn comes."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, dtype in tensors:
        begin, end = end, end + math.prod(shape) * STORED[dtype].itemsize
        header[name] = {"dtype": CODES[dtype], "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape, dtype in tensors:
            bits = np.ascontiguousarray(load(name))
            if bits.shape != tuple(shape) or bits.dtype != STORED[dtype]:
                raise AssertionError(f"{name} came as {bits.dtype} {bits.shape}")
            file.write(memoryview(bits.reshape(-1).view(np.uint8)))
