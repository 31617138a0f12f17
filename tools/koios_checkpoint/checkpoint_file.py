"""Koios' HDF5 files, read and written as docs/checkpoints.md says."""

import contextlib
import dataclasses
import datetime

import h5py
import numpy as np
from h5py import h5a, h5s, h5t

from . import ToolError
from .checksum import checksum
from .element_types import STORED
from .model import parse_deck, sizes_of_deck

FORMAT_VERSION = 1
SLAB_BYTES = 64 << 20
# Whatever HDF5 finds wrong with a file comes as one of these.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)
MOMENTS = ("exp_avg", "exp_avg_sq")
ROOT_ATTRIBUTES = ("format", "format_version", "kind", "koios_version", "deck", "vocab_size",
                   "created")
STATE_ATTRIBUTES = ("step", "tokens", "seed", "steps", "warmup_steps", "samples_per_step", "lr")


def _bfloat16():
    """The 2-byte floating-point type of docs/checkpoints.md; HDF5 converts it like any other."""
    kind = h5t.IEEE_F32LE.copy()
    kind.set_fields(15, 7, 8, 0, 7)
    kind.set_size(2)
    kind.set_ebias(127)
    return kind


TYPES = {"float32": h5t.IEEE_F32LE, "float16": h5t.IEEE_F16LE, "bfloat16": _bfloat16(),
         "float64": h5t.IEEE_F64LE, "int64": h5t.STD_I64LE}
NUMPY = STORED | {"float64": np.dtype("<f8"), "int64": np.dtype("<i8")}


def one_line(error):
    """HDF5's message without its many lines."""
    return " ".join(str(error).split()) or type(error).__name__


def _text(value):
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value if isinstance(value, (str, int, float)) else value.item()


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """One dataset: its bits by slabs, and what its attributes say of it."""

    path: str  # /model/norm.weight
    dataset: h5py.Dataset
    dtype: str
    checksum: int

    @property
    def name(self):
        return self.path.rsplit("/", 1)[1]

    @property
    def shape(self):
        return self.dataset.shape

    @property
    def bytes(self):
        return self.dataset.size * NUMPY[self.dtype].itemsize

    def rows(self, first, count):
        """The stored bits, untouched by any conversion of HDF5's (bfloat16 as uint16)."""
        shape = (count, *self.shape[1:])
        out = np.empty(shape, NUMPY[self.dtype])
        if out.size:
            selected = self.dataset.id.get_space()
            selected.select_hyperslab((first,) + (0,) * (len(shape) - 1), shape)
            self.dataset.id.read(h5s.create_simple(shape), selected, out,
                                 mtype=self.dataset.id.get_type())
        return out

    def slabs(self):
        """(first row, rows) pieces of at most about 64 MiB."""
        row_bytes = max(1, self.bytes // max(1, self.shape[0]))
        step = max(1, SLAB_BYTES // row_bytes)
        for first in range(0, self.shape[0], step):
            yield first, self.rows(first, min(step, self.shape[0] - first))

    def computed_checksum(self):
        row_elements = self.dataset.size // max(1, self.shape[0])
        return sum(checksum(slab, first * row_elements)
                   for first, slab in self.slabs()) % (1 << 64)

    def read(self):
        """All of it, verified."""
        try:
            bits = self.rows(0, self.shape[0])
        except HDF5_ERRORS as error:
            raise ToolError(f"{self.where()} cannot be read: {one_line(error)}") from None
        found = checksum(bits)
        if found != self.checksum:
            raise ToolError(f"{self.where()} is damaged: its checksum says {self.checksum:#018x}, "
                            f"its data give {found:#018x}")
        return bits

    def where(self):
        return f"{self.dataset.file.filename}: {self.path}"


class CheckpointFile:
    """A checkpoint or weights-only file, open for reading."""

    def __init__(self, path):
        self.path = path
        if not path.is_file():
            raise ToolError(f"{path} is " + ("a folder" if path.is_dir() else "not there"))
        if path.suffix == ".partial":
            raise ToolError(f"{path} was not finished: what ends in .partial is no checkpoint")
        try:
            self.file = h5py.File(path, "r", locking="best-effort")
        except HDF5_ERRORS as error:
            raise ToolError(f"{path} cannot be opened as HDF5: {one_line(error)}") from None
        self.attributes = self._attributes(self.file)
        if self.attributes.get("format") != "koios":
            raise ToolError(f"{path} is HDF5, but not a checkpoint of Koios (its attribute format "
                            "does not say koios)")
        version = self.attributes.get("format_version")
        if version is None or version > FORMAT_VERSION:
            raise ToolError(f"{path} has format version {version}; this tool reads up to "
                            f"{FORMAT_VERSION}: take the tool of the Koios that wrote it")
        self.is_weights_only = self.attributes.get("kind") == "weights"
        self.deck = parse_deck(self.attributes.get("deck", ""))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    def _attributes(self, owner):
        try:
            return {name: _text(value) for name, value in owner.attrs.items()}
        except HDF5_ERRORS as error:
            raise ToolError(f"{self.path}: attributes of {owner.name} cannot be read: "
                            f"{one_line(error)}") from None

    def train_state(self):
        if self.is_weights_only:
            return {}
        try:
            group = self.file["train_state"]
        except HDF5_ERRORS as error:
            raise ToolError(f"{self.path}: /train_state cannot be read: {one_line(error)}"
                            ) from None
        return self._attributes(group)

    def dataset_paths(self):
        """Every dataset, in the file's order."""
        paths = []

        def note(path, item):
            if isinstance(item, h5py.Dataset):
                paths.append("/" + path)
        try:
            self.file.visititems(note)
        except HDF5_ERRORS as error:
            raise ToolError(f"{self.path}: its list of datasets cannot be read: "
                            f"{one_line(error)}") from None
        return paths

    def array(self, path):
        where = f"{self.path}: {path}"
        try:
            dataset = self.file[path]
            attributes = {name: _text(value) for name, value in dataset.attrs.items()}
            stored_type = dataset.id.get_type()
        except HDF5_ERRORS as error:
            raise ToolError(f"{where} cannot be read: {one_line(error)}") from None
        if not isinstance(dataset, h5py.Dataset):
            raise ToolError(f"{where} is not a dataset")
        dtype = attributes.get("dtype")
        if dtype not in TYPES or not stored_type.equal(TYPES[dtype]):
            raise ToolError(f"{where}: its attribute dtype says {dtype}, which its HDF5 type is not")
        if "checksum" not in attributes:
            raise ToolError(f"{where} has no checksum")
        return StoredArray(path, dataset, dtype, int(attributes["checksum"]))

    def parameter_path(self, name):
        return f"/{name}" if self.is_weights_only else f"/model/{name}"

    def parameter(self, name):
        return self.array(self.parameter_path(name))

    def sizes(self):
        """Of the model, as the deck in the file says; the shapes are checked against them."""
        vocab_size = self.attributes.get("vocab_size") or int(self.deck.get("model/vocab_size", 0))
        if not vocab_size:
            raise ToolError(f"{self.path} does not say vocab_size")
        return sizes_of_deck(self.deck, int(vocab_size), self.path)

    def parameters(self):
        """[(name, StoredArray)] of the whole model; complains of the first that does not fit."""
        found = []
        for name, shape in self.sizes().shapes().items():
            array = self.parameter(name)
            if array.shape != shape:
                raise ToolError(f"{array.where()} is {array.shape}, the deck in the file says "
                                f"{shape}")
            found.append((name, array))
        return found


def _write_text(owner, name, value):
    """A fixed-length, null-terminated UTF-8 string."""
    data = value.encode()
    kind = h5t.C_S1.copy()
    kind.set_size(len(data) + 1)
    kind.set_strpad(h5t.STR_NULLTERM)
    kind.set_cset(h5t.CSET_UTF8)
    attribute = h5a.create(owner.id, name.encode(), kind, h5s.create(h5s.SCALAR))
    attribute.write(np.array(data, dtype=f"S{len(data) + 1}"), mtype=kind)


@contextlib.contextmanager
def new_weights_file(path, sizes, origin, seq_len, tokenizer_path):
    """Yields add(name, stored bits, dtype) for a file as koios exports model weights."""
    try:
        with h5py.File(path, "w", libver=("v110", "v110"), locking="best-effort") as file:
            _write_text(file, "format", "koios")
            file.attrs.create("format_version", FORMAT_VERSION, dtype="<i8")
            _write_text(file, "kind", "weights")
            _write_text(file, "koios_version", origin)
            _write_text(file, "deck", sizes.deck(seq_len, tokenizer_path))
            file.attrs.create("vocab_size", sizes.vocab_size, dtype="<i8")
            now = datetime.datetime.now(datetime.timezone.utc)
            _write_text(file, "created", now.strftime("%Y-%m-%dT%H:%M:%SZ"))

            def add(name, bits, dtype):
                created = h5py.h5d.create(file.id, name.encode(), TYPES[dtype],
                                          h5s.create_simple(bits.shape))
                created.write(h5s.ALL, h5s.ALL, np.ascontiguousarray(bits), mtype=TYPES[dtype])
                dataset = h5py.Dataset(created)
                dataset.attrs.create("checksum", np.uint64(checksum(bits)), dtype="<u8")
                _write_text(dataset, "dtype", dtype)

            yield add
    except OSError as error:
        raise ToolError(f"{path} cannot be written: {one_line(error)}") from None
