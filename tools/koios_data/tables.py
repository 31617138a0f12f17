"""Tables (Parquet, Arrow, folders of datasets.save_to_disk) as JSON lines."""

import gzip
import json

from . import Failure, say, say_deck

ALPACA = ("instruction", "input", "output")


def arrow():
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise Failure("pyarrow is not installed: "
                      "pip install -r tools/requirements-data.txt") from None
    return pyarrow


def files_in(path):
    """The tables of a folder, in their order; those of save_to_disk are listed in state.json."""
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise Failure(f"{path}: no such file or folder")
    state = path / "state.json"
    if state.exists():
        listed = json.loads(state.read_text())["_data_files"]
        return [path / entry["filename"] for entry in listed]
    found = sorted(p for p in path.rglob("*") if p.suffix in (".parquet", ".arrow"))
    if not found:
        raise Failure(f"{path}: no *.parquet or *.arrow in it")
    splits = sorted({p.parent.name for p in found if (p.parent / "state.json").exists()})
    if splits:
        raise Failure(f"{path}: holds several parts; name one: {', '.join(splits)}")
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


def rows(paths, needed):
    for path in paths:
        for batch in batches(path):
            missing = [name for name in needed if name not in batch.schema.names]
            if missing:
                raise Failure(f"{path}: no column {missing[0]}; it has "
                              f"{', '.join(batch.schema.names)}")
            yield from batch.to_pylist()


def write_json_lines(paths, folder, documents_per_file):
    """documents-00000.jsonl.gz ...: every column that JSON can hold, the text among them."""
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    out = None
    try:
        for row in rows(paths, ["text"]):
            if count % documents_per_file == 0:
                if out:
                    out.close()
                name = f"documents-{count // documents_per_file:05d}.jsonl.gz"
                out = gzip.open(folder / name, "wt", encoding="utf-8", compresslevel=4)
                say(f"{folder / name}: from document {count:,}")
            out.write(json.dumps(row, ensure_ascii=False, default=str) + "\n")
            count += 1
    finally:
        if out:
            out.close()
    if count == 0:
        raise Failure("the tables hold no rows")
    say(f"{count:,} documents")


def write_alpaca(paths, target):
    """The array of the original alpaca_data.json."""
    target.parent.mkdir(parents=True, exist_ok=True)
    objects = [{name: row[name] for name in ALPACA} for row in rows(paths, ALPACA)]
    target.write_text(json.dumps(objects, indent=4))
    say(f"{len(objects):,} instructions")


def convert(options):
    write_json_lines(files_in(options.input), options.out, options.documents_per_file)
    say_deck("jsonl", options.out)
