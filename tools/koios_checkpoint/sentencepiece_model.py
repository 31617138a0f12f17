"""The few things a Hugging Face config needs of a SentencePiece model, read from its protobuf.

ModelProto: 1 = pieces {1 = piece}, 2 = trainer_spec {40 unk_id, 41 bos_id, 42 eos_id, 43 pad_id}.
"""

import dataclasses

from koios_tool import ToolError, read_file

MAX_BYTES = 64 << 20  # of Llama's 0.5 MB


@dataclasses.dataclass(frozen=True)
class Pieces:
    names: list
    unk: int
    bos: int
    eos: int
    pad: int

    def name(self, number):
        return self.names[number] if 0 <= number < len(self.names) else None


def _varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7f) << shift
        shift += 7
        if shift > 70:
            raise ValueError
        if byte < 0x80:
            return value, at


def _fields(data):
    """(field number, value) of one message; length-delimited values are bytes."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(data, at)
        elif wire in (1, 5):
            width = 8 if wire == 1 else 4
            value, at = data[at:at + width], at + width
        elif wire == 2:
            length, at = _varint(data, at)
            value, at = data[at:at + length], at + length
            if len(value) < length:
                raise IndexError
        else:
            raise ValueError(wire)
        yield key >> 3, value


def read_pieces(path):
    names, ids = [], {40: 0, 41: 1, 42: 2, 43: -1}
    data = read_file(path, MAX_BYTES, "a SentencePiece model")
    try:
        for number, value in _fields(data):
            if number == 1:
                names.append(dict(_fields(value))[1].decode())
            elif number == 2:
                ids |= {key: v if v < 1 << 63 else v - (1 << 64)
                        for key, v in _fields(value) if key in ids}
    except (IndexError, ValueError, KeyError, AttributeError, TypeError):
        raise ToolError(f"{path} is not a SentencePiece model") from None
    if not names:
        raise ToolError(f"{path} is not a SentencePiece model")
    return Pieces(names, ids[40], ids[41], ids[42], ids[43])
