"""Tables (Parquet, Arrow, folders of datasets.save_to_disk) as JSON lines."""

import contextlib
import gzip
import json
import math
import re

from . import Failure, say, say_deck, whole

PART = re.compile(r"(train|validation|valid|val|dev|test)[-_.]")
ALPACA = ("instruction", "input", "output")


def arrow():
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Failure("pyarrow is not installed: "
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
        raise Failure(f"{path}: no such file or folder")
    state = path / "state.json"
    if state.exists():
        try:
            return [path / entry["filename"] for entry in json.loads(state.read_text())["_data_files"]]
        except (ValueError, KeyError, TypeError):
            raise Failure(f"{state}: does not list _data_files, as datasets writes them") from None
    found = sorted(p for p in path.rglob("*") if p.suffix in (".parquet", ".arrow"))
    if not found:
        raise Failure(f"{path}: no *.parquet or *.arrow in it")
    splits = sorted({p.parent.name for p in found if (p.parent / "state.json").exists()})
    if splits:
        raise Failure(f"{path}: holds several parts; name one: {', '.join(splits)}")
    parts = sorted({part_of(p) or "others" for p in found})
    if part is not None:
        found = [p for p in found if part_of(p) == part]
        if not found:
            raise Failure(f"{path}: holds no part {part}, but {', '.join(parts)}")
    elif len(parts) > 1:
        raise Failure(f"{path}: holds several parts ({', '.join(parts)}); choose one by --part, or "
                      "name a file")
    return found


def batches(path):
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
    except (pa.ArrowInvalid, OSError) as error:
        raise Failure(f"{path}: {error}") from None


def as_text(value, path, column):
    """Text, also where a table holds it as bytes; none where it holds nothing."""
    if value is None or isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise Failure(f"{path}: column {column} holds {type(value).__name__}, not text")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise Failure(f"{path}: column {column} holds bytes that are not UTF-8: {error}") from None


def rows(paths, needed):
    for path in paths:
        for batch in batches(path):
            missing = [name for name in needed if name not in batch.schema.names]
            if missing:
                raise Failure(f"{path}: no column {missing[0]}; it has "
                              f"{', '.join(batch.schema.names)}")
            for row in batch.to_pylist():
                yield row | {name: as_text(row[name], path, name) for name in needed}


def without_infinities(value):
    """NaN and infinities have no form in JSON."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: without_infinities(each) for key, each in value.items()}
    return [without_infinities(each) for each in value] if isinstance(value, list) else value


def json_line(row):
    try:
        return json.dumps(row, ensure_ascii=False, default=str, allow_nan=False)
    except ValueError:
        return json.dumps(without_infinities(row), ensure_ascii=False, default=str)


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
            out.write(json_line(row) + "\n")
            count += 1
    if empty:
        say(f"{empty:,} rows without text left out")
    if count == 0:
        raise Failure("the tables hold no text")
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
