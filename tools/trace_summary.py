#!/usr/bin/env python3
"""Says where the time of traced steps went: trace_summary.py RUN_DIR, or trace files.

Reads the Chrome traces that [profiling] writes, one for each rank, and tells: the parts of a step,
with the rate of operations and bytes each reached; how long each lane was at work, and how much of it
no computation covered (exposed communication); and which rank the others wait for. Times are means
over the ranks unless they are said to be of one. The timelines themselves open in ui.perfetto.dev.
"""

import argparse
import dataclasses
import json
import math
import re
from pathlib import Path

from koios_tool import ToolError, read_file, run, say

COMPUTE = "compute"
# In this order; those of the links between stages, which have names of their own, come last.
LANES = (COMPUTE, "gather", "reduce", "replicate", "exchange", "data", "checkpoint")
NO_COMMUNICATION = {COMPUTE, "data", "checkpoint"}
MAX_TRACE_BYTES = 1 << 30


# ---- intervals: sorted, disjoint lists of (begin, end) -------------------------------------------
def union(intervals):
    found = []
    for begin, end in sorted(intervals):
        if found and begin <= found[-1][1]:
            found[-1][1] = max(found[-1][1], end)
        elif end > begin:
            found.append([begin, end])
    return found


def length(intervals):
    return sum(end - begin for begin, end in intervals)


def overlap(first, second):
    """Time that both cover."""
    at = total = 0
    for begin, end in first:
        while at < len(second) and second[at][1] <= begin:
            at += 1
        look = at
        while look < len(second) and second[look][0] < end:
            total += min(end, second[look][1]) - max(begin, second[look][0])
            look += 1
    return total


# ---- traces --------------------------------------------------------------------------------------
@dataclasses.dataclass
class Span:
    lane: str
    name: str
    begin: float  # microseconds
    end: float
    flops: float
    bytes: float
    own: float = 0  # time that no span inside of it has

    @property
    def is_wait(self):
        """The compute lane stands still for another: such a span is no computation."""
        return self.name.startswith("wait")


def number(value, otherwise=0.0):
    good = type(value) in (int, float) and math.isfinite(value)
    return float(value) if good else otherwise


class Trace:
    """What one rank did."""

    def __init__(self, path):
        self.path = path
        events = self._events(path)
        names = {event.get("tid"): event["args"]["name"] for event in events
                 if event.get("ph") == "M" and event.get("name") == "thread_name" and
                 isinstance(event.get("args"), dict) and isinstance(event["args"].get("name"), str)
                 and isinstance(event.get("tid"), (int, str))}
        self.spans = [self._span(event, names) for event in events if event.get("ph") == "X"]
        if not self.spans:
            raise ToolError(f"{path} holds no spans (events with ph = X)")
        found = re.search(r"rank(\d+)_trace\.json$", path.name)
        self.rank = int(found[1]) if found else 0
        self.begin = min(span.begin for span in self.spans)
        self.end = max(span.end for span in self.spans)
        self.lanes = {}
        for span in sorted(self.spans, key=lambda span: (span.begin, -span.end)):
            self.lanes.setdefault(span.lane, []).append(span)
        for spans in self.lanes.values():
            count_own_time(spans)
        self.computing = union((span.begin, span.end) for span in self.lanes.get(COMPUTE, [])
                               if not span.is_wait)
        self.waits = union((span.begin, span.end) for span in self.lanes.get(COMPUTE, [])
                           if span.is_wait)
        self.computing = without(self.computing, self.waits)

    @staticmethod
    def _events(path):
        try:
            value = json.loads(read_file(path, MAX_TRACE_BYTES, "a trace"))
        except (ValueError, RecursionError) as error:
            raise ToolError(f"{path} is not JSON: {error}") from None
        events = value.get("traceEvents") if isinstance(value, dict) else value
        if not isinstance(events, list) or not all(isinstance(event, dict) for event in events):
            raise ToolError(f"{path} is not a Chrome trace: it has no list traceEvents of "
                            "objects")
        return events

    def _span(self, event, names):
        begin, duration = number(event.get("ts"), None), number(event.get("dur"), None)
        if begin is None or duration is None or duration < 0:
            raise ToolError(f"{self.path}: a span {str(event.get('name'))[:50]} has no ts and dur")
        tid = event.get("tid")
        lane = names.get(tid, tid) if isinstance(tid, (int, str)) else None
        work = event.get("args") if isinstance(event.get("args"), dict) else {}
        return Span(str(lane), str(event.get("name")), begin, begin + duration,
                    number(work.get("flops")), number(work.get("bytes")))

    @property
    def seconds(self):
        return (self.end - self.begin) * 1e-6

    def busy(self, lane):
        return union((span.begin, span.end) for span in self.lanes.get(lane, [])
                     if lane != COMPUTE or not span.is_wait)

    def exposed_communication(self):
        return self.exposed(lane for lane in self.lanes if lane not in NO_COMMUNICATION)

    def exposed(self, lanes):
        """Microseconds in which one of these lanes was at work and nothing was computed."""
        at_work = union(interval for lane in lanes for interval in self.busy(lane))
        return length(at_work) - overlap(at_work, self.computing)

    def at_work(self):
        return union(interval for lane in self.lanes for interval in
                     (self.computing if lane == COMPUTE else self.busy(lane)))

    def waiting(self):
        """Microseconds of waits during which no lane was at work: for other ranks, for the data."""
        return length(self.waits) - overlap(self.waits, self.at_work())

    def idle(self):
        """Microseconds of which no span says anything."""
        return self.end - self.begin - length(self.at_work()) - self.waiting()


def without(intervals, holes):
    found = []
    for begin, end in intervals:
        for hole_begin, hole_end in holes:
            if hole_end <= begin or hole_begin >= end:
                continue
            if hole_begin > begin:
                found.append([begin, hole_begin])
            begin = max(begin, hole_end)
        if begin < end:
            found.append([begin, end])
    return found


def count_own_time(spans):
    """Spans of a lane, by their beginnings, may lie in one another."""
    inside = []
    for span in spans:
        span.own = span.end - span.begin
        while inside and inside[-1].end <= span.begin:
            inside.pop()
        if inside:
            inside[-1].own -= min(span.end, inside[-1].end) - span.begin
        inside.append(span)


# ---- where they are ------------------------------------------------------------------------------
def iteration_of(folder):
    found = re.fullmatch(r"iteration_(\d+)", folder.resolve().name)  # which may be "."
    return int(found[1]) if found else -1


def trace_files(places, iteration):
    """Files themselves; of a folder the traces of one iteration, the last one if none is named."""
    files = [place for place in places if not place.is_dir()]
    for place in places:
        if not place.is_dir():
            continue
        folders = {path.parent for path in place.rglob("rank*_trace.json")}
        if not folders:
            raise ToolError(f"{place} holds no traces (iteration_N/rank0_trace.json): set "
                            "[profiling] run_profiler = true")
        there = sorted({iteration_of(folder) for folder in folders})
        if iteration is not None:
            folders = {folder for folder in folders if iteration_of(folder) == iteration}
        if not folders:
            raise ToolError(f"{place} holds no traces of iteration {iteration}, but of "
                            f"{', '.join(map(str, there))}")
        files += max(folders, key=lambda folder: (iteration_of(folder), folder)).glob(
            "rank*_trace.json")
    return sorted(files, key=lambda path: [int(part) if part.isdecimal() else part for part in
                                           re.split(r"(\d+)", str(path))])


# ---- the summary ---------------------------------------------------------------------------------
def table(heading, rows):
    """Columns: the first to the left, the others to the right."""
    rows = [heading, *rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(heading))]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in
                                            zip(row[1:], widths[1:]))]
        say("  ".join(cells).rstrip())
    say()


def ms(microseconds):
    return f"{microseconds * 1e-3:.3f}"


def percent(part, whole):
    return f"{100 * part / whole:.1f}" if whole > 0 else "-"


def rate(work, microseconds, unit, limit):
    """What was reached, and its share of the limit where that is known."""
    if not work or microseconds <= 0:
        return "", ""
    reached = work / (microseconds * 1e-6) / unit
    return f"{reached:.1f}", percent(reached, limit) if limit else ""


def parts(traces):
    """{(lane, name): [calls, own time, flops, bytes]}, summed over the ranks."""
    found = {}
    for trace in traces:
        for span in trace.spans:
            sums = found.setdefault((span.lane, span.name), [0, 0.0, 0.0, 0.0])
            for i, value in enumerate((1, span.own, span.flops, span.bytes)):
                sums[i] += value
    return found


def tell_parts(traces, options):
    ranks, whole = len(traces), sum(trace.end - trace.begin for trace in traces) / len(traces)
    rows = []
    order = {lane: number for number, lane in enumerate(LANES)}
    found = sorted(parts(traces).items(),
                   key=lambda item: (order.get(item[0][0], len(order)), -item[1][1]))
    for (lane, name), (calls, own, flops, count) in found:
        rows.append([name, lane, f"{calls / ranks:g}", ms(own / ranks), percent(own / ranks, whole),
                     *rate(flops, own, 1e12, options.peak_tflops),
                     *rate(count, own, 1e9, options.memory_gbs)])
    heading = ["part", "lane", "calls", "ms", "%", "TFLOP/s", "% of it", "GB/s", "% of it"]
    keep = [i for i in range(len(heading)) if i < 5 or any(row[i] for row in rows)]
    table([heading[i] for i in keep], [[row[i] for i in keep] for row in rows])


def tell_lanes(traces):
    ranks, whole = len(traces), sum(trace.end - trace.begin for trace in traces) / len(traces)
    lanes = [lane for lane in LANES if any(lane in trace.lanes for trace in traces)]
    lanes += sorted({lane for trace in traces for lane in trace.lanes} - set(LANES))
    rows = []
    for lane in lanes:
        busy = sum(length(trace.computing if lane == COMPUTE else trace.busy(lane))
                   for trace in traces) / ranks
        alone = sum(trace.exposed([lane]) for trace in traces) / ranks
        rows.append([lane, ms(busy), percent(busy, whole),
                     *(["", ""] if lane == COMPUTE else [ms(alone), percent(alone, whole)])])
    table(["lane", "busy ms", "%", "exposed ms", "%"], rows)


def tell_ranks(traces):
    rows = [[str(trace.rank), ms(trace.end - trace.begin), ms(length(trace.computing)),
             ms(trace.exposed_communication()), ms(trace.waiting()), ms(trace.idle())]
            for trace in traces]
    table(["rank", "traced ms", "computing ms", "exposed communication ms", "other waits ms",
           "idle ms"], rows)


def summarize(options):
    files = trace_files(options.places, options.iteration)
    if {iteration_of(path.parent) for path in files} - {iteration_of(files[0].parent)}:
        raise ToolError("these traces are of several iterations: name the files of one")
    traces = [Trace(path) for path in files]
    whole = sum(trace.end - trace.begin for trace in traces) / len(traces)
    exposed = sum(trace.exposed_communication() for trace in traces) / len(traces)
    waiting = sum(trace.waiting() for trace in traces) / len(traces)
    idle = sum(trace.idle() for trace in traces) / len(traces)
    slowest = max(traces, key=lambda trace: length(trace.computing))
    fastest = min(length(trace.computing) for trace in traces)
    say(f"{files[0].parent}: {len(traces)} rank{'s' if len(traces) > 1 else ''}, {ms(whole)} ms "
        "traced")
    say(f"exposed communication: {ms(exposed)} ms, {percent(exposed, whole)}%; other waits: "
        f"{ms(waiting)} ms, {percent(waiting, whole)}%; no lane at work: {ms(idle)} ms, "
        f"{percent(idle, whole)}%")
    if len(traces) > 1:
        say(f"slowest rank: {slowest.rank}, it computes for {ms(length(slowest.computing))} ms, the "
            f"fastest for {ms(fastest)} ms")
    say()
    tell_parts(traces, options)
    tell_lanes(traces)
    if len(traces) > 1:
        tell_ranks(traces)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("places", type=Path, nargs="+", metavar="RUN_DIR|FILE",
                        help="the run folder, a folder of traces, or the traces themselves")
    parser.add_argument("--iteration", type=int, metavar="N",
                        help="of a folder with several (default: the last)")
    parser.add_argument("--peak-tflops", type=float, metavar="X",
                        help="the device's peak, to compare TFLOP/s with (H100, H200 SXM: 989)")
    parser.add_argument("--memory-gbs", type=float, metavar="X",
                        help="its memory's GB/s, to compare GB/s with (H100: 3350, H200: 4800)")
    return parser.parse_args()


def main():
    options = parse_arguments()
    run("trace_summary", lambda: summarize(options))


if __name__ == "__main__":
    main()
