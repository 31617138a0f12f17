"""Element types as bits and as float32.

bfloat16 has no numpy type: its arrays are uint16 here, the upper halves of float32's bits.
"""

import numpy as np

from koios_tool import ToolError

STORED = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2"), "bfloat16": np.dtype("<u2")}


def to_float32(stored, dtype):
    """Exact."""
    if dtype == "bfloat16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return stored.astype(np.float32, copy=False)


def from_float32(values, dtype, name):
    """Rounded to nearest even."""
    if dtype == "float32":
        return values
    if dtype == "float16":
        with np.errstate(over="ignore"):
            rounded = values.astype(np.float16)
        if np.isinf(rounded).sum() > np.isinf(values).sum():
            raise ToolError(f"{name} has values beyond float16's range (65504): choose bfloat16 "
                            "or float32")
        return rounded
    bits = values.view(np.uint32)
    is_nan = (bits & np.uint32(0x7fffffff)) > np.uint32(0x7f800000)
    half = np.uint32(0x7fff) + ((bits >> np.uint32(16)) & np.uint32(1))
    quiet = bits | np.uint32(0x400000)
    return (np.where(is_nan, quiet, bits + half) >> np.uint32(16)).astype(np.uint16)


def convert(stored, dtype, wanted, name):
    """Bits of one type to bits of another; equal types stay untouched, NaN payloads too."""
    return stored if dtype == wanted else from_float32(to_float32(stored, dtype), wanted, name)


def count_nonfinite(stored, dtype):
    values = to_float32(stored, dtype)
    return values.size - int(np.isfinite(values).sum())


def refuse_nonfinite(stored, dtype, where):
    """Weights with NaN or infinities are of no use anywhere, and poison what they are put into."""
    if count := count_nonfinite(stored, dtype):
        raise ToolError(f"{where}: {count:,} of its values are NaN or infinite: these weights are of "
                        "no use")
