"""Koios' HDF5 files, read and written as docs/checkpoints.md says."""

import contextlib
import dataclasses
import datetime
import functools
import math

import h5py
import numpy as np
from h5py import h5a, h5d, h5s, h5t

from koios_tool import ToolError, one_line, open_to_read, refuse_pointer

from .checksum import checksum
from .element_types import STORED
from .model import parse_deck, sizes_of_deck

FORMAT_VERSION = 1
SLAB_BYTES = 64 << 20
# Whatever HDF5 finds wrong with a file comes as one of these.
HDF5_ERRORS = (OSError, RuntimeError, KeyError, ValueError, TypeError)
MOMENTS = ("exp_avg", "exp_avg_sq")
ROOT_ATTRIBUTES = {"format": str, "format_version": int, "kind": str, "koios_version": str,
                   "deck": str, "vocab_size": int, "created": str}
OPTIONAL_ATTRIBUTES = {"mesh": str}
STATE_ATTRIBUTES = {"step": int, "tokens": int}
ARRAY_ATTRIBUTES = {"checksum": int, "dtype": str}
KINDS = {str: "text", int: "a whole number"}
HDF5_CLASSES = {str: h5t.STRING, int: h5t.INTEGER}
MAX_TEXT_BYTES = 16 << 20  # of an attribute: a deck has a few thousand
DEEPEST = 3  # /optimizer/exp_avg/NAME
MOST_DATASETS = 1 << 20


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


def _attribute(owner, name, kind):
    """One attribute, whose type, rank and size are looked at before it is read."""
    attribute = h5a.open(owner.id, name.encode())
    space, stored = attribute.get_space(), attribute.get_type()
    if stored.get_class() != HDF5_CLASSES[kind]:
        raise ToolError(f"{name} is not {KINDS[kind]}")
    if space.get_simple_extent_type() != h5s.SCALAR and space.get_simple_extent_dims() != (1,):
        raise ToolError(f"{name} is not one value")
    if stored.get_size() > MAX_TEXT_BYTES:
        raise ToolError(f"{name} has {stored.get_size():,} bytes, at most {MAX_TEXT_BYTES:,} is "
                        "meant")
    value = np.asarray(owner.attrs[name]).reshape(-1)[0]
    if kind is str:
        return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return kind(value)


def _attributes(owner, kinds, where):
    """Those of `kinds` that are there; what else a file may hold is of no interest."""
    found = {}
    try:
        for name, kind in kinds.items():
            if h5a.exists(owner.id, name.encode()):
                found[name] = _attribute(owner, name, kind)
    except ToolError as error:
        raise ToolError(f"{where}: its attribute {error}") from None
    except (*HDF5_ERRORS, IndexError, OverflowError) as error:
        raise ToolError(f"{where}: its attributes cannot be read: {one_line(error)}") from None
    return found


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
            raise ToolError(f"{path} is " + ("a folder" if path.is_dir() else
                                             "not a file" if path.exists() else "not there"))
        if path.suffix == ".partial":
            raise ToolError(f"{path} was not finished: what ends in .partial is no checkpoint")
        with open_to_read(path) as file:
            refuse_pointer(path, file.read(100))
        try:
            self.file = h5py.File(path, "r", locking="best-effort")
        except HDF5_ERRORS as error:
            raise ToolError(f"{path} cannot be opened as HDF5: {one_line(error)}") from None
        try:
            self._read_head()
        except BaseException:
            self.file.close()
            raise

    def _read_head(self):
        path = self.path
        self.attributes = _attributes(self.file, ROOT_ATTRIBUTES | OPTIONAL_ATTRIBUTES, path)
        if self.attributes.get("format") != "koios":
            raise ToolError(f"{path} is HDF5, but not a checkpoint of Koios (its attribute format "
                            "does not say koios)")
        version = self.attributes.get("format_version")
        if version is None or not 1 <= version <= FORMAT_VERSION:
            raise ToolError(f"{path} has format version {version}; this tool reads up to "
                            f"{FORMAT_VERSION}: take the tool of the Koios that wrote it")
        kind = self.attributes.get("kind")
        if kind not in ("checkpoint", "weights"):
            raise ToolError(f"{path}: its attribute kind says {str(kind)[:100]}, which is neither "
                            "checkpoint nor weights")
        self.is_weights_only = kind == "weights"
        self.deck = parse_deck(self.attributes.get("deck", ""))
        self.paths = self._dataset_paths()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()

    @functools.cached_property
    def known_paths(self):
        return frozenset(self.paths)

    def _members(self, group, path):
        """[(path, is it a group)]; links are not followed: they may lead to any file."""
        for name in group:
            inner = f"{path}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ToolError(f"{self.path}: {inner} is a link, which no checkpoint has")
            kind = group.get(name, getclass=True)
            if kind not in (h5py.Group, h5py.Dataset):
                raise ToolError(f"{self.path}: {inner} is neither a group nor a dataset")
            yield inner, kind is h5py.Group

    def _dataset_paths(self):
        """Every dataset, in the file's order."""
        paths, groups = [], [""]
        try:
            while groups:
                group = groups.pop()
                for path, is_group in self._members(self.file[group or "/"], group):
                    if not is_group:
                        paths.append(path)
                    elif path.count("/") < DEEPEST:
                        groups.append(path)
                    else:
                        raise ToolError(f"{self.path}: {path} is deeper than any group of a "
                                        "checkpoint")
                    if len(paths) + len(groups) > MOST_DATASETS:
                        raise ToolError(f"{self.path} holds more than {MOST_DATASETS:,} datasets")
        except HDF5_ERRORS as error:
            raise ToolError(f"{self.path}: its list of datasets cannot be read: "
                            f"{one_line(error)}") from None
        return paths

    def train_state(self):
        if self.is_weights_only:
            return {}
        if "train_state" not in self.file or \
                self.file.get("train_state", getclass=True) is not h5py.Group:
            raise ToolError(f"{self.path} has no group /train_state")
        return _attributes(self.file["train_state"], STATE_ATTRIBUTES, f"{self.path}: /train_state")

    def array(self, path):
        where = f"{self.path}: {path}"
        if path not in self.known_paths:
            raise ToolError(f"{where} is not there")
        try:
            dataset = self.file[path]
            stored_type = dataset.id.get_type()
            self._check_storage(dataset, where)
        except HDF5_ERRORS as error:
            raise ToolError(f"{where} cannot be read: {one_line(error)}") from None
        attributes = _attributes(dataset, ARRAY_ATTRIBUTES, where)
        dtype = attributes.get("dtype")
        if dtype is None:
            raise ToolError(f"{where} has no attribute dtype")
        if dtype not in TYPES or not stored_type.equal(TYPES[dtype]):
            raise ToolError(f"{where}: its attribute dtype says {dtype}, which its HDF5 type is not")
        if "checksum" not in attributes:
            raise ToolError(f"{where} has no checksum")
        return StoredArray(path, dataset, dtype, attributes["checksum"])

    def _check_storage(self, dataset, where):
        """Plain bytes inside of the file, as many as the shape needs: nothing that unpacks to more."""
        creation, shape = dataset.id.get_create_plist(), dataset.shape
        if not shape:
            raise ToolError(f"{where} has no rows")
        if creation.get_layout() != h5d.CONTIGUOUS or creation.get_nfilters() or \
                creation.get_external_count():
            raise ToolError(f"{where} is packed, in pieces or in another file; Koios' datasets are "
                            "contiguous")
        needed = math.prod(shape) * dataset.id.get_type().get_size()
        stored, offset = dataset.id.get_storage_size(), dataset.id.get_offset()
        if needed and (stored != needed or offset is None or
                       offset + needed > self.path.stat().st_size):
            raise ToolError(f"{where} is declared as {shape}, {needed:,} bytes, which the file does "
                            "not hold")

    def parameter_path(self, name):
        return f"/{name}" if self.is_weights_only else f"/model/{name}"

    def parameter(self, name):
        return self.array(self.parameter_path(name))

    def sizes(self):
        """Of the model, as the deck in the file says; the shapes are checked against them."""
        vocab_size = self.attributes.get("vocab_size", 0)
        if not vocab_size:
            vocab_size = self.deck.get("model/vocab_size", "0")
            if not vocab_size.isascii() or not vocab_size.isdecimal() or len(vocab_size) > 10:
                raise ToolError(f"{self.path}: [model] vocab_size = {vocab_size[:100]} of its deck "
                                "is not a number")
        if not int(vocab_size):
            raise ToolError(f"{self.path} does not say vocab_size")
        sizes = sizes_of_deck(self.deck, int(vocab_size), self.path)
        if sizes.n_layers > len(self.paths):  # before a list of them is made
            raise ToolError(f"{self.path}: its deck says n_layers = {sizes.n_layers}, but it holds "
                            f"only {len(self.paths)} datasets")
        return sizes

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
