"""Tables (Parquet, Arrow, folders of datasets.save_to_disk) as JSON lines."""

import base64
import contextlib
import gzip
import json
import math
import os
import re

from koios_tool import ToolError, one_line, open_to_read, read_file, refuse_pointer

from . import say, say_deck, whole

PART = re.compile(r"(train|validation|valid|val|dev|test)[-_.]")
ALPACA = ("instruction", "input", "output")


def arrow():
    try:
        import pyarrow
        import pyarrow.compute
        import pyarrow.parquet
    except ImportError:
        raise ToolError("pyarrow is not installed: "
                      "pip install -r tools/requirements-data.txt") from None
    return pyarrow


def part_of(path):
    """train, validation, ... by the name of a table or of its folder; none where neither says."""
    found = PART.match(path.name) or PART.match(path.parent.name + "-")
    return found and found[1]


def files_in(path, part=None):
    """The tables of a folder, in their order; those of save_to_disk are listed in state.json."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise ToolError(f"{path}: is neither a file nor a folder" if path.exists() else
                        f"{path}: no such file or folder")
    state = path / "state.json"
    if state.exists():
        try:
            names = [entry["filename"] for entry in
                     json.loads(read_file(state, 64 << 20, "such a file"))["_data_files"]]
            if not all(name and os.path.basename(name) == name for name in names):
                raise ToolError(f"{state}: _data_files names files outside of the folder")
        except (ValueError, KeyError, TypeError, RecursionError):
            raise ToolError(f"{state}: does not list _data_files, as datasets writes them") from None
        return [path / name for name in names]
    found = sorted(p for p in path.rglob("*") if p.suffix in (".parquet", ".arrow"))
    if not found:
        raise ToolError(f"{path}: no *.parquet or *.arrow in it")
    splits = sorted({p.parent.name for p in found if (p.parent / "state.json").exists()})
    if splits:
        raise ToolError(f"{path}: holds several parts; name one: {', '.join(splits)}")
    parts = sorted({part_of(p) or "others" for p in found})
    if part is not None:
        found = [p for p in found if part_of(p) == part]
        if not found:
            raise ToolError(f"{path}: holds no part {part}, but {', '.join(parts)}")
    elif len(parts) > 1:
        raise ToolError(f"{path}: holds several parts ({', '.join(parts)}); choose one by --part, or "
                      "name a file")
    return found


def require_table(path):
    with open_to_read(path) as file:
        begin = file.read(64)
    refuse_pointer(path, begin)
    is_parquet, is_arrow_file = begin.startswith(b"PAR1"), begin.startswith(b"ARROW1")
    if path.suffix == ".parquet" and not is_parquet:
        raise ToolError(f"{path}: is no Parquet table; it begins with {begin[:16]!r}")
    # A stream begins with the length of its schema; in old ones nothing stands before that.
    length = int.from_bytes(begin[4:8] if begin.startswith(b"\xff" * 4) else begin[:4], "little")
    if not is_parquet and not is_arrow_file and not 0 < length < 1 << 26:
        raise ToolError(f"{path}: is neither an Arrow nor a Parquet table; it begins with "
                        f"{begin[:16]!r}")


def batches(path):
    require_table(path)
    pa = arrow()
    try:
        if path.suffix == ".parquet":
            yield from pa.parquet.ParquetFile(path).iter_batches(1024)
            return
        with pa.memory_map(str(path)) as source:
            try:
                reader = pa.ipc.open_stream(source)  # as datasets writes them
            except pa.ArrowInvalid:
                file = pa.ipc.open_file(source)
                reader = (file.get_batch(i) for i in range(file.num_record_batches))
            yield from reader
    except (pa.ArrowException, OSError) as error:
        raise ToolError(f"{path}: {one_line(error)}") from None


# ---- values --------------------------------------------------------------------------------------
def json_values(array):
    """An Arrow array as values that JSON can hold; which form each type takes is in docs/data.md."""
    pa = arrow()
    kind, types = array.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return json_values(array.storage)
    if types.is_dictionary(kind):
        return json_values(array.dictionary.take(array.indices))
    if types.is_run_end_encoded(kind):
        return json_values(pa.compute.run_end_decode(array))
    if types.is_floating(kind):  # NaN and infinities have no form in JSON
        return [value if value is None or math.isfinite(value) else None
                for value in array.to_pylist()]
    if types.is_decimal(kind) or types.is_date(kind) or types.is_time(kind):
        return array.cast(pa.string()).to_pylist()
    if types.is_timestamp(kind):
        return times(array)
    if types.is_duration(kind):
        return array.cast(pa.int64()).to_pylist()
    if types.is_interval(kind):
        return [value if value is None else list(value) for value in array.to_pylist()]
    if is_bytes(kind):
        return [value if value is None else base64.b64encode(value).decode()
                for value in array.to_pylist()]
    if types.is_struct(kind):
        columns = {field.name: json_values(column) for field, column in zip(kind, array.flatten())}
        rows_of = zip(*columns.values()) if columns else [()] * len(array)
        return where_valid(array, [dict(zip(columns, row)) for row in rows_of])
    if types.is_union(kind):
        return [json_values(pa.repeat(scalar.value, 1))[0] for scalar in array]
    if types.is_map(kind):
        pairs = array.cast(pa.list_(pa.struct([("key", kind.key_type), ("value", kind.item_type)])))
        return [each and [[pair["key"], pair["value"]] for pair in each]
                for each in json_values(pairs)]
    if types.is_nested(kind):  # lists of all kinds
        return lists(array)
    return array.to_pylist()  # null, true and false, integers, text


def is_bytes(kind):
    types = arrow().types
    return (types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind) or
            types.is_fixed_size_binary(kind)) and not types.is_decimal(kind)


def where_valid(array, values):
    return [value if valid else None for value, valid in zip(values, array.is_valid().to_pylist())]


def lists(array):
    flat, begin, found = json_values(array.flatten()), 0, []
    for length in arrow().compute.list_value_length(array).to_pylist():
        found.append(None if length is None else flat[begin:begin + length])
        begin += length or 0
    return found


def times(array):
    pa = arrow()
    try:
        return array.cast(pa.string()).to_pylist()
    except pa.ArrowException:  # a time zone that this machine does not know: UTC, which is stored
        plain = array.cast(pa.timestamp(array.type.unit)).cast(pa.string())
        return [value and value + "Z" for value in plain.to_pylist()]


def texts(array, path, column):
    """A column that must be text, also where a table holds it as bytes; none where it is null."""
    pa = arrow()
    kind = array.type
    if pa.types.is_dictionary(kind):
        return texts(array.dictionary.take(array.indices), path, column)
    if pa.types.is_run_end_encoded(kind):
        return texts(pa.compute.run_end_decode(array), path, column)
    if isinstance(kind, pa.BaseExtensionType):
        return texts(array.storage, path, column)
    if not (is_bytes(kind) or pa.types.is_null(kind) or pa.types.is_string(kind) or
            pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise ToolError(f"{path}: column {column} holds {kind}, not text")
    try:
        return [value.decode() if isinstance(value, bytes) else value
                for value in array.to_pylist()]
    except UnicodeDecodeError as error:
        raise ToolError(f"{path}: column {column} holds bytes that are not UTF-8: {error}"
                        ) from None


class Columns:
    """Batches as {column: values}; says once of each column that cannot be written."""

    def __init__(self, needed):
        self.needed = needed
        self.left_out = set()

    def of(self, batch, path):
        names = batch.schema.names
        for name in self.needed:
            if names.count(name) != 1:
                raise ToolError(f"{path}: " + (f"two columns {name}" if name in names else
                                               f"no column {name}; it has {', '.join(names)}"))
        return {name: values for name, array in zip(names, batch.columns)
                if (values := self.values(name, array, path, names.count(name) > 1)) is not None}

    def values(self, name, array, path, twice):
        errors = (arrow().ArrowException, ValueError, TypeError, KeyError, NotImplementedError,
                  OverflowError, RecursionError)
        if name in self.left_out:
            return None
        if twice:
            self.left_out.add(name)
            say(f"{path}: column {name} is left out: there are several of this name")
            return None
        try:
            array.validate(full=True)  # offsets and lengths that lead out of the file
            if name not in self.needed:
                return json_values(array)
        except errors as error:
            if name in self.needed:
                raise ToolError(f"{path}: column {name}: {one_line(error)}") from None
            self.left_out.add(name)
            say(f"{path}: column {name} ({one_line(array.type)}) is left out: {one_line(error)}")
            return None
        return texts(array, path, name)


def rows(paths, needed):
    columns = Columns(needed)
    for path in paths:
        for batch in batches(path):
            values = columns.of(batch, path)
            for row in zip(*values.values()):
                yield dict(zip(values, row))


def write_json_lines(paths, folder, documents_per_file):
    """documents-00000-of-0000N.jsonl.gz ...: every column that JSON can hold, the text among them.

    They get these names once all are written, in place of those of an earlier run; Koios reads no
    *.part, and misses what such a series lacks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("documents-*.part"):
        old.unlink()
    count = empty = 0
    parts = []
    with contextlib.ExitStack() as current:
        for row in rows(paths, ["text"]):
            if row["text"] is None:
                empty += 1
                continue
            if count % documents_per_file == 0:
                current.close()
                parts.append(folder / f"documents-{len(parts):05d}.part")
                out = current.enter_context(gzip.open(parts[-1], "wt", encoding="utf-8",
                                                      compresslevel=4))
                say(f"{folder}: file {len(parts)}, from document {count:,}")
            out.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    if empty:
        say(f"{empty:,} rows without text left out")
    if count == 0:
        raise ToolError("the tables hold no text")
    for old in folder.glob("documents-*.jsonl.gz"):
        old.unlink()
    for number, part in enumerate(parts):
        part.rename(folder / f"documents-{number:05d}-of-{len(parts):05d}.jsonl.gz")
    say(f"{count:,} documents in {len(parts)} files")


def write_alpaca(paths, target):
    """The array of the original alpaca_data.json."""
    objects = [{name: row[name] or "" for name in ALPACA} for row in rows(paths, ALPACA)]
    with whole(target) as part:
        part.write_text(json.dumps(objects, indent=4))
    say(f"{len(objects):,} instructions")


def convert(options):
    write_json_lines(files_in(options.input, options.part), options.out, options.documents_per_file)
    say_deck("jsonl", options.out)
