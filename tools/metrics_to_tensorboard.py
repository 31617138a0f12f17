#!/usr/bin/env python3
"""Writes a run's metrics.jsonl as TensorBoard event files; tags are the keys, unchanged.

Run it as often as you like: only rows that are not there yet are added. With --follow it keeps
adding rows while the run goes on, and ends with it (or by Ctrl-C).
"""

import argparse
import fcntl
import json
import os
import shlex
import signal
import socket
import struct
import sys
import time
from pathlib import Path

POLL_S = 1.0
EVENT_FILE = "events.out.tfevents.koios"  # TensorBoard reads files with "tfevents" in their name
NOT_METRICS = {"step", "time", "run", "nonfinite"}


class ToolError(Exception):
    """Something the user can mend."""


def import_tensorboard():
    try:
        from tensorboard.compat.proto import event_pb2
        from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
        from tensorboard.summary.writer.record_writer import RecordWriter
    except ImportError as error:
        raise ToolError(f"the Python package tensorboard is not usable here ({error}); "
                        f"{how_to_install()}") from error
    return event_pb2, RecordWriter, masked_crc32c


def how_to_install():
    """Many systems' own Python refuses pip install outside of a virtual environment."""
    requirements = os.path.relpath(Path(__file__).with_name("requirements-tensorboard.txt"))
    if sys.prefix != sys.base_prefix:
        return f"install it with: {sys.executable} -m pip install -r {requirements}"
    return (f"install it with: python3 -m venv .venv && .venv/bin/pip install -r {requirements}\n"
            "and run this tool with .venv/bin/python3")


class MetricsReader:
    """The rows of metrics.jsonl, in order; a half-written last line waits until it is whole."""

    def __init__(self, path):
        self.path = path
        self.offset = 0
        self.line = 0

    def new_rows(self):
        with open(self.path, "rb") as file:
            if os.fstat(file.fileno()).st_size < self.offset:  # somebody replaced the file
                self.offset = self.line = 0
            file.seek(self.offset)
            text = file.read()
        text = text[:text.rfind(b"\n") + 1]
        self.offset += len(text)
        rows = []
        for line in text.splitlines():
            self.line += 1
            row = self.parse(line)
            if row is not None:
                rows.append(row)
        return rows

    def parse(self, line):
        try:
            row = json.loads(line)
            if not 0 <= int(row["step"]) < 1 << 63:
                raise ValueError
            float(row["time"]), metrics_of(row)
            return row
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
            print(f"{self.path}:{self.line}: not a row of metrics; left out", file=sys.stderr)
            return None


def metrics_of(row):
    """The known numbers of a row; NaN and infinities are null there, and named in `nonfinite`."""
    numbers = {key: float(value) for key, value in row.items()
               if key not in NOT_METRICS and isinstance(value, (int, float))}
    return numbers | {key: float(name) for key, name in row.get("nonfinite", {}).items()}


class EventWriter:
    """Appends to the one event file in `folder`, which also tells what is there already."""

    def __init__(self, folder):
        self.event_pb2, record_writer, self.checksum = import_tensorboard()
        self.path = folder / EVENT_FILE
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.file = open(self.path, "a+b")
            fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ToolError(f"{self.path} is being written by another metrics_to_tensorboard.py"
                            ) from error
        except OSError as error:
            raise ToolError(f"cannot write {folder}: {error.strerror}; choose another folder with "
                            "--out") from error
        self.written = set()
        self.last_step = None
        self.read_back()
        self.records = record_writer(self.file)
        if os.fstat(self.file.fileno()).st_size == 0:
            now = time.time()
            self.write(self.event_pb2.Event(wall_time=now, file_version="brain.Event:2"))
            self.start_session(now, 0)  # only from the second one on are they taken as restarts

    def read_back(self):
        """Notes the rows in the file, and cuts off what was not written whole."""
        whole = 0
        for event in self.events():
            whole = self.file.tell()
            if event.HasField("summary"):
                self.written.add((event.step, event.wall_time))
                self.last_step = event.step
        if whole < os.fstat(self.file.fileno()).st_size:
            self.file.truncate(whole)

    def events(self):
        """Whole records: length and its checksum, the event and its checksum."""
        self.file.seek(0)
        while len(header := self.file.read(12)) == 12:
            length, checksum = struct.unpack("<QI", header)
            if checksum != self.checksum(header[:8]):
                return
            record = self.file.read(length + 4)
            if len(record) < length + 4:
                return
            yield self.event_pb2.Event.FromString(record[:-4])

    def write(self, event):
        self.records.write(event.SerializeToString())

    def start_session(self, wall_time, step):
        """TensorBoard drops the points it has from this step on."""
        start = self.event_pb2.SessionLog(status=self.event_pb2.SessionLog.START)
        self.write(self.event_pb2.Event(wall_time=wall_time, step=step, session_log=start))

    def add(self, row):
        """True if the row is new. Steps trained again replace those of the run before."""
        step, wall_time = int(row["step"]), float(row["time"])
        if (step, wall_time) in self.written:
            return False
        if self.last_step is not None and step <= self.last_step:
            self.start_session(wall_time, step)
        event = self.event_pb2.Event(wall_time=wall_time, step=step)
        for key, value in metrics_of(row).items():
            event.summary.value.add(tag=key, simple_value=value)
        self.write(event)
        self.written.add((step, wall_time))
        self.last_step = step
        return True

    def flush(self):
        self.file.flush()


def run_state(run_folder):
    """running, ended, or unknown: who holds run.lock (lib/metrics/run_folder.hpp).

    A killed run leaves its host and process in the file, but no lock. The lock of a run on
    another host is not visible on every network file system.
    """
    try:
        with open(run_folder / "run.lock", "rb") as file:
            query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
            answer = struct.unpack("hhqqi4x", fcntl.fcntl(file, fcntl.F_GETLK, query))
            holder = file.read().decode(errors="replace").split()
    except OSError:
        return "unknown"
    if answer[0] != fcntl.F_UNLCK:
        return "running"
    return "ended" if not holder or holder[0] == socket.gethostname() else "unknown"


def convert_new(reader, writer):
    added = sum(writer.add(row) for row in reader.new_rows())
    writer.flush()
    return added


def follow(run_folder, reader, writer):
    """Until the run ends; where that can't be seen, until Ctrl-C."""
    said = False
    while True:
        state = run_state(run_folder)  # before reading: what a run wrote last must not be missed
        added = convert_new(reader, writer) if reader.path.exists() else 0
        if added:
            print(f"step {writer.last_step}: {len(writer.written)} rows", flush=True)
        if state == "ended":
            return
        if state == "unknown" and not said:
            print("cannot see from here when the run ends: press Ctrl-C then", flush=True)
            said = True
        time.sleep(POLL_S)


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
    metrics = run_folder / "metrics.jsonl"
    starting = arguments.follow and run_state(run_folder) == "running"
    if not metrics.exists() and not starting:
        raise ToolError(f"there is no {metrics}: give the run folder (job/dump_folder of the deck) "
                        "of a run that has logged a step")
    reader, writer = MetricsReader(metrics), EventWriter(out)
    before = len(writer.written)
    if arguments.follow:
        try:
            follow(run_folder, reader, writer)
        except KeyboardInterrupt:
            writer.flush()
            print()
    else:
        convert_new(reader, writer)
    print(f"{len(writer.written) - before} rows added, {len(writer.written)} in all. To look: "
          f"tensorboard --logdir {shlex.quote(str(out))}")


def main():
    # Also when started in the background by a script, where interrupts are ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        convert(parse_arguments())
    except (ToolError, OSError) as error:
        sys.exit(f"metrics_to_tensorboard: error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
