#!/usr/bin/env python3
"""Writes a run's metrics.jsonl as a TensorBoard event file; tags are the keys, unchanged.

Numbers become scalars, lists of one value a rank histograms; the run's deck (effective.ini) is there
as text, and what describes the model and its training as hparams. Run it as often as you like: only
rows that are not there yet are added. With --follow it keeps adding rows while the run goes on, and
ends with it (or by Ctrl-C). Whatever happens to metrics.jsonl meanwhile (repaired, replaced,
shortened), the event file ends as a fresh conversion would write it.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import socket
import struct
import sys
import time
import types
from pathlib import Path

from koios_tool import ToolError, open_to_read, read_file, run, say

POLL_S = 1.0
# TensorBoard reads files with "tfevents" in their name, in the order of the names.
EVENT_FILE = "events.out.tfevents.koios"
NOT_METRICS = {"step", "time", "run", "nonfinite"}
DECK = "effective.ini"
HPARAM_SECTIONS = {"model", "optimizer", "lr_scheduler", "training", "parallel",
                   "activation_checkpoint", "data"}
MAX_DECK_BYTES = 1 << 20
HISTOGRAM_BUCKETS = 30
MAX_LINE_BYTES = 1 << 20  # a row has some 2,000, and 20 for each rank
MOST_COMPLAINTS = 20
BLOCK = 1 << 20


def import_tensorboard():
    try:
        from tensorboard.compat.proto import event_pb2, summary_pb2, types_pb2
        from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
        from tensorboard.plugins.hparams import plugin_data_pb2
    except ImportError as error:
        raise ToolError(f"the Python package tensorboard is not usable here ({error}); "
                        f"{how_to_install()}") from error
    return (types.SimpleNamespace(event=event_pb2, summary=summary_pb2, types=types_pb2,
                                  hparams=plugin_data_pb2), masked_crc32c)


def how_to_install():
    """Many systems' own Python refuses pip install outside of a virtual environment."""
    requirements = os.path.relpath(Path(__file__).with_name("requirements-tensorboard.txt"))
    if sys.prefix != sys.base_prefix:
        return f"install it with: {sys.executable} -m pip install -r {requirements}"
    return (f"install it with: python3 -m venv .venv && .venv/bin/pip install -r {requirements}, "
            "and run this tool with .venv/bin/python3")


# ---- metrics.jsonl -------------------------------------------------------------------------------
def parse_row(line):
    """(step, wall time, {key: number}, {key: numbers of the ranks}) of a line, or None."""
    try:
        row = json.loads(line)
        step, wall_time = row["step"], row["time"]
        if type(step) is not int or not 0 <= step < 1 << 63:
            return None
        if type(wall_time) not in (int, float) or not 0 <= wall_time < 1e12:
            return None
        numbers, lists = metrics_of(row), lists_of(row)
        for key in (*numbers, *lists):
            key.encode()  # a half of a surrogate pair is no text
        return step, float(wall_time), numbers, lists
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def metrics_of(row):
    """The known numbers of a row; NaN and infinities are null there, and named in `nonfinite`."""
    numbers = {key: float(value) for key, value in row.items()
               if key not in NOT_METRICS and isinstance(value, (int, float))}
    return numbers | {key: float(name) for key, name in row.get("nonfinite", {}).items()}


def lists_of(row):
    """Those with a number for every rank."""
    return {key: [float(each) for each in value] for key, value in row.items()
            if key not in NOT_METRICS and isinstance(value, list) and value and
            all(type(each) in (int, float) and abs(each) < 1e300 for each in value)}


class MetricsReader:
    """The rows of metrics.jsonl, in order; a half-written last line waits until it is whole.

    What was read is remembered by its hash, so that any change of it is seen.
    """

    def __init__(self, path):
        self.path = path
        self.seen = None  # what stat said at the last look
        self.is_cut = False  # whether the last line has no end so far
        self.complaints = set()
        self.rewind()

    def rewind(self):
        self.offset = self.line = self.not_rows = 0
        self.hash = hashlib.blake2b()

    def look(self, thorough):
        """(is what was read before no longer so, the file to read on in or None)"""
        try:
            file = open_to_read(self.path, follow_links=False)
        except FileNotFoundError:
            return False, None  # being replaced, perhaps
        status = os.fstat(file.fileno())
        now = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
        if now == self.seen and not thorough:
            file.close()
            return False, None
        self.seen = now
        changed = self.offset > 0 and self.hash_of(file, self.offset) != self.hash.digest()
        if changed:
            self.rewind()
        file.seek(self.offset)
        return changed, file

    @staticmethod
    def hash_of(file, length):
        found = hashlib.blake2b()
        while length > 0 and (block := file.read(min(BLOCK, length))):
            found.update(block)
            length -= len(block)
        return found.digest()

    def rows(self, file):
        self.is_cut = False
        with file:
            while line := file.readline(MAX_LINE_BYTES):
                seen, length, piece = self.hash.copy(), len(line), line
                seen.update(line)
                while not piece.endswith(b"\n"):  # too long for a row, or not whole yet
                    piece = file.readline(MAX_LINE_BYTES)
                    if not piece:
                        self.is_cut = True
                        return
                    seen.update(piece)
                    length += len(piece)
                self.hash, self.offset, self.line = seen, self.offset + length, self.line + 1
                row = parse_row(line)
                if row is None:
                    self.complain(line)
                else:
                    yield row

    def complain(self, line):
        self.not_rows += 1
        complaint = (self.line, line[:100])
        if len(self.complaints) < MOST_COMPLAINTS and complaint not in self.complaints:
            self.complaints.add(complaint)
            say(f"{self.path}:{self.line}: not a row of metrics; left out", file=sys.stderr)


# ---- the event file ------------------------------------------------------------------------------
class EventFile:
    """An event file that is to become a given sequence of records.

    The records are given in order, from the first on; those that are there already stay. Where the
    file holds other whole records, a TensorBoard that runs has read them: it would not see that they
    change. So the records go into a new file, whose name comes after, and the old one is removed.
    """

    def __init__(self, folder, name, checksum):
        self.folder, self.name, self.checksum = folder, name, checksum
        found = re.compile(re.escape(name) + r"(\.\d{5})?")
        self.paths = sorted(path for path in folder.iterdir() if found.fullmatch(path.name))
        self.file = self.open(self.paths[-1], os.O_RDWR) if self.paths else None
        self.remove_old()
        self.begin()

    @staticmethod
    def open(path, flags):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ToolError(f"{path} is not a file: remove it, or choose another folder with --out")
        return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK, 0o666)

    def close(self):
        if self.file is not None:
            os.close(self.file)

    def remove_old(self):
        for path in self.paths[:-1]:
            path.unlink(missing_ok=True)
        del self.paths[:-1]

    def begin(self):
        """The next record given is the first."""
        self.at = 0  # so far the file is as it is to be
        self.comparing = self.file is not None

    def write(self, payload):
        """True if the record was not there yet."""
        header = struct.pack("<Q", len(payload))
        record = (header + struct.pack("<I", self.checksum(header)) + payload +
                  struct.pack("<I", self.checksum(payload)))
        if self.comparing and self.read(len(record)) == record:
            self.at += len(record)
            return False
        self.stop_comparing()
        if self.file is None:
            self.paths = [self.folder / self.name]
            self.file = self.open(self.paths[0], os.O_RDWR | os.O_CREAT | os.O_EXCL)
        self.append(record)
        return True

    def read(self, length):
        return os.pread(self.file, length, self.at)

    def append(self, data):
        while data:
            written = os.pwrite(self.file, data, self.at)
            data = data[written:]
            self.at += written

    def stop_comparing(self):
        """What the file holds from here on is not what it is to hold."""
        if self.comparing:
            self.comparing = False
            if self.holds_record():
                self.start_new_file()
            else:  # nothing more, or what was not written whole
                os.ftruncate(self.file, self.at)

    def holds_record(self):
        """Whether a whole record comes next: length and its checksum, the event and its checksum."""
        header = self.read(12)
        if len(header) < 12:
            return False
        length, checksum = struct.unpack("<QI", header)
        if checksum != self.checksum(header[:8]) or length > os.fstat(self.file).st_size - self.at:
            return False
        record = self.read(12 + length + 4)
        return record[12 + length:] == struct.pack("<I", self.checksum(record[12:12 + length]))

    def start_new_file(self):
        number = self.paths[-1].name.removeprefix(self.name)
        self.paths.append(self.folder / f"{self.name}.{int(number[1:] or 1) + 1:05}")
        old, same = self.file, self.at
        self.file, self.at = self.open(self.paths[-1], os.O_RDWR | os.O_CREAT | os.O_EXCL), 0
        while self.at < same:
            self.append(os.pread(old, min(BLOCK, same - self.at), self.at))
        os.close(old)
        self.remove_old()


def lock_folder(folder, descriptor):
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ToolError(f"{folder} is being written by another metrics_to_tensorboard.py"
                        ) from error
    except OSError:
        pass  # a file system without locks


# ---- the deck ------------------------------------------------------------------------------------
def parse_deck(text):
    """{section/key: value} of an effective deck; Koios wrote it, one `key = value` a line."""
    values, section = {}, ""
    for line in text.splitlines():
        line = line.split("  # ")[0].strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif "=" in line and not line.startswith(("#", ";")):
            key, value = line.split("=", 1)
            values[f"{section}/{key.strip()}"] = value.strip()
    return values


class Deck:
    """effective.ini, which each start of a run writes anew."""

    def __init__(self, path):
        self.path = path
        self.text = ""

    def is_new(self):
        """Whether it is another than at the last look. One that cannot be read is none."""
        before = self.text
        try:
            if self.path.is_symlink():
                raise ToolError("a link")
            self.text = read_file(self.path, MAX_DECK_BYTES, "a deck").decode("utf-8", "replace")
        except (OSError, ToolError):
            self.text = ""
        return self.text != before


def buckets(values):
    """[left, right, count] of equal widths."""
    low, high = min(values), max(values)
    if low == high:
        return [(low, high, len(values))]
    width = (high - low) / HISTOGRAM_BUCKETS
    counts = [0] * HISTOGRAM_BUCKETS
    for value in values:
        counts[min(int((value - low) / width), HISTOGRAM_BUCKETS - 1)] += 1
    return [(low + i * width, low + (i + 1) * width, count) for i, count in enumerate(counts)]


class Conversion:
    """Rows to events. Given all rows from the first on, it writes what a fresh conversion does."""

    def __init__(self, folder, deck):
        self.proto, checksum = import_tensorboard()
        self.deck = deck
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as opened:
                lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                opened.callback(os.close, lock)
                lock_folder(folder, lock)
                self.file = EventFile(folder, EVENT_FILE, checksum)
                opened.callback(self.file.close)
                self.opened = opened.pop_all()
        except OSError as error:
            raise ToolError(f"cannot write {folder}: {error.strerror}; choose another folder with "
                            "--out") from error
        self.added = 0  # rows that were not in the file
        self.begin()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.opened.close()

    def begin(self):
        self.file.begin()
        self.seen = set()  # (step, wall time)
        self.last_step = None

    def write(self, event):
        """True if it was not there yet."""
        return self.file.write(event.SerializeToString(deterministic=True))

    def start_session(self, wall_time, step):
        """TensorBoard drops the points it has from this step on."""
        session = self.proto.event.SessionLog
        self.write(self.proto.event.Event(wall_time=wall_time, step=step,
                                          session_log=session(status=session.START)))

    def start_file(self, wall_time):
        self.write(self.proto.event.Event(wall_time=wall_time, file_version="brain.Event:2"))
        self.start_session(wall_time, 0)  # only from the second on are they taken as restarts
        if self.deck.text:
            self.write_deck(wall_time)

    def write_deck(self, wall_time):
        event = self.proto.event.Event(wall_time=wall_time)
        text = self.new_value(event, "deck", "text", self.proto.types.DT_STRING, [1])
        # Four blanks: as it is, for the text is shown as Markdown.
        text.string_val.append("".join(f"    {line}\n" for line in
                                       self.deck.text.splitlines()).encode())
        session = self.proto.hparams.SessionStartInfo(start_time_secs=wall_time)
        for key, value in parse_deck(self.deck.text).items():
            if key.split("/")[0] in HPARAM_SECTIONS:
                self.set_hparam(session.hparams[key], value)
        content = self.proto.hparams.HParamsPluginData(session_start_info=session)
        self.new_value(event, "_hparams_/session_start_info", "hparams", self.proto.types.DT_FLOAT,
                       [0], content.SerializeToString(deterministic=True))
        self.write(event)

    @staticmethod
    def set_hparam(hparam, value):
        if value in ("true", "false"):
            hparam.bool_value = value == "true"
        elif re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", value):
            hparam.number_value = float(value)
        else:
            hparam.string_value = value

    def new_value(self, event, tag, plugin, kind, shape, content=b""):
        """Adds a tensor of a plugin's to an event."""
        value = event.summary.value.add(tag=tag)
        value.metadata.plugin_data.plugin_name = plugin
        value.metadata.plugin_data.content = content
        value.metadata.data_class = self.proto.summary.DATA_CLASS_TENSOR
        value.tensor.dtype = kind
        for extent in shape:
            value.tensor.tensor_shape.dim.add(size=extent)
        return value.tensor

    def add(self, step, wall_time, metrics, lists):
        """Steps trained again replace those of the run before."""
        if (step, wall_time) in self.seen:
            return
        if self.last_step is None:
            self.start_file(wall_time)
        elif step <= self.last_step:
            self.start_session(wall_time, step)
        event = self.proto.event.Event(wall_time=wall_time, step=step)
        for key, value in metrics.items():
            event.summary.value.add(tag=key, simple_value=value)
        for key, values in lists.items():
            found = buckets(values)
            tensor = self.new_value(event, key, "histograms", self.proto.types.DT_DOUBLE,
                                    [len(found), 3])
            tensor.double_val.extend(number for bucket in found for number in bucket)
        self.added += self.write(event)
        self.seen.add((step, wall_time))
        self.last_step = step

    def take(self, reader, thorough=False):
        """Brings the event file up to the metrics."""
        has_other_deck = self.deck.is_new() and bool(self.seen)
        if has_other_deck:
            reader.rewind()
        changed, rows = reader.look(thorough or has_other_deck)
        if rows is None:
            return
        if changed or has_other_deck:
            self.begin()
        for row in reader.rows(rows):
            self.add(*row)
        self.file.stop_comparing()  # the last record was given, so far


def run_state(run_folder):
    """running, ended, or unknown: who holds run.lock (lib/metrics/run_folder.hpp).

    A killed run leaves its host and process in the file, but no lock. The lock of a run on
    another host is not visible on every network file system.
    """
    try:
        with open_to_read(run_folder / "run.lock", follow_links=False) as file:
            query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            answer = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, query))
            holder = file.read(4096).decode(errors="replace").split()
    except (OSError, ToolError):
        return "unknown"
    if answer[0] != fcntl.F_UNLCK:
        return "running"
    return "ended" if not holder or holder[0] == socket.gethostname() else "unknown"


def follow(run_folder, reader, conversion):
    """Until the run ends; where that can't be seen, until Ctrl-C."""
    said, before = False, 0
    while True:
        state = run_state(run_folder)  # before reading: what a run wrote last must not be missed
        conversion.take(reader, thorough=state == "ended")
        if conversion.added > before:
            say(f"step {conversion.last_step}: {len(conversion.seen)} rows")
            before = conversion.added
        if state == "ended":
            return
        if state == "unknown" and not said:
            say("cannot see from here when the run ends: press Ctrl-C then")
            said = True
        time.sleep(POLL_S)


def follow_until_interrupted(run_folder, reader, conversion):
    try:
        follow(run_folder, reader, conversion)
    except KeyboardInterrupt:
        say()
        reader.rewind()  # wherever it was interrupted
        conversion.begin()
        conversion.take(reader, thorough=True)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run_folder", type=Path, metavar="RUN_DIR",
                        help="the run folder (job/dump_folder of the deck)")
    parser.add_argument("--out", type=Path, metavar="DIR",
                        help="where the event file goes (default: RUN_DIR/tensorboard)")
    parser.add_argument("--follow", action="store_true",
                        help="go on adding rows until the run ends, or Ctrl-C")
    return parser.parse_args()


def convert(arguments):
    run_folder = arguments.run_folder
    out = arguments.out or run_folder / "tensorboard"
    if not arguments.out and out.is_symlink():
        raise ToolError(f"{out} is a link: name the folder it leads to with --out if that is meant")
    metrics = run_folder / "metrics.jsonl"
    starting = arguments.follow and run_state(run_folder) == "running"
    if not metrics.exists() and not starting:
        raise ToolError(f"there is no {metrics}: give the run folder (job/dump_folder of the deck) "
                        "of a run that has logged a step")
    reader = MetricsReader(metrics)
    with Conversion(out, Deck(run_folder / DECK)) as conversion:
        if arguments.follow:
            follow_until_interrupted(run_folder, reader, conversion)
        else:
            conversion.take(reader)
    if reader.not_rows > MOST_COMPLAINTS:
        say(f"{metrics}: {reader.not_rows:,} lines are not rows of metrics", file=sys.stderr)
    if reader.is_cut:
        say(f"{metrics}:{reader.line + 1}: the last line has no end (yet); left out",
            file=sys.stderr)
    say(f"{conversion.added} rows added, {len(conversion.seen)} in all. To look: tensorboard "
        f"--logdir {shlex.quote(str(out))}")


def main():
    arguments = parse_arguments()
    run("metrics_to_tensorboard", lambda: convert(arguments))


if __name__ == "__main__":
    main()
