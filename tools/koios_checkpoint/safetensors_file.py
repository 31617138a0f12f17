"""safetensors files: 8 bytes of header length, a JSON header, then the tensors' bytes.

Read and written tensor by tensor, with numpy alone.
"""

import json
import os

import numpy as np

from . import ToolError
from .element_types import STORED

NAMES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}
CODES = {dtype: code for code, dtype in NAMES.items()}
MAX_HEADER_BYTES = 100_000_000  # the format's own limit


class SafetensorsReader:
    def __init__(self, path):
        self.path = path
        try:
            with open(path, "rb") as file:
                length = int.from_bytes(file.read(8), "little")
                size = os.fstat(file.fileno()).st_size
                if not 2 <= length <= min(MAX_HEADER_BYTES, size - 8):
                    raise ToolError(f"{path} is not a safetensors file, or is truncated")
                self.entries = json.loads(file.read(length))
            self.entries.pop("__metadata__", None)
            self.begin = 8 + length
            for name, entry in self.entries.items():
                first, last = entry["data_offsets"]
                if not 0 <= first <= last <= size - self.begin:
                    raise ToolError(f"{path} is truncated: {name} ends beyond the file")
                if not all(isinstance(extent, int) and extent >= 0 for extent in entry["shape"]):
                    raise ValueError
                entry["dtype"].isalnum()  # is text
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ToolError(f"{path}: its safetensors header is damaged") from None

    def read(self, name):
        """(stored bits, dtype)"""
        entry = self.entries[name]
        dtype = NAMES.get(entry["dtype"])
        if dtype is None:
            raise ToolError(f"{self.path}: {name} is {entry['dtype']}; Koios takes "
                            f"{', '.join(NAMES)}")
        first, last = entry["data_offsets"]
        bits = np.empty(entry["shape"], STORED[dtype])
        if bits.nbytes != last - first:
            raise ToolError(f"{self.path}: {name} has {last - first} bytes, its shape needs "
                            f"{bits.nbytes}")
        with open(self.path, "rb") as file:
            file.seek(self.begin + first)
            if file.readinto(bits.reshape(-1).view(np.uint8)) != bits.nbytes:
                raise ToolError(f"{self.path} is truncated at {name}")
        return bits, dtype


def write_safetensors(path, tensors, load):
    """`tensors` is [(name, shape, dtype)]; load(name) gives each one's bits when its turn comes."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, dtype in tensors:
        begin, end = end, end + int(np.prod(shape)) * STORED[dtype].itemsize
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
