#!/usr/bin/env python3
"""What a person sees in TensorBoard, in a real browser: tensorboard_page_test.py ROOT [RUNS PICTURE]

Two runs side by side, one of which was stopped, went on from a checkpoint, and still runs. With the
folder RUNS, which holds converted runs, it makes a PICTURE of their page instead (that of the docs).
Exits 77 (skipped) where there is no chromium or no tensorboard.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import chromium

ROOT = Path(sys.argv[1])
TOOL = ROOT / "tools/metrics_to_tensorboard.py"
PICTURE = sys.argv[2:]
del sys.argv[1:]

try:
    import tensorboard  # noqa: F401
except ImportError as error:
    venv = ROOT / ".venv/bin/python3"
    if venv.exists() and Path(sys.executable) != venv:
        os.execv(venv, [venv, __file__, ROOT, *PICTURE])
    print(f"SKIPPED: {sys.executable} has no tensorboard ({error}); to run this test: "
          "python3 -m venv .venv && .venv/bin/pip install -r tools/requirements-tensorboard.txt")
    sys.exit(77)
BROWSER = chromium.find()
if BROWSER is None:
    print("SKIPPED: there is no chromium; to run this test: apt-get install chromium")
    sys.exit(77)

LOSS = "loss_metrics/global_avg_loss"
BY_RANK = "time_metrics/end_to_end_by_rank(s)"

# All elements, those in the pages' components among them.
ALL = """
  const all = [];
  const look = (node) => {
    if (node.shadowRoot) look(node.shadowRoot);
    for (const child of node.children || []) { all.push(child); look(child); }
  };
  look(document);
"""
# Every curve: its colour and the places of its points.
CURVES = f"""(() => {{ {ALL}
  return all.filter((e) => e.tagName === 'path' && e.closest('.plot, .render-area'))
    .map((e) => [getComputedStyle(e).stroke, getComputedStyle(e).opacity,
                 [...(e.getAttribute('d') || '').matchAll(/[ML]?(-?[0-9.]+),(-?[0-9.]+)/g)]
                   .map((m) => [+m[1], +m[2]])])
    .filter((curve) => curve[0] !== 'none' && curve[2].length > 1);
}})()"""
TEXT = f"""(() => {{ {ALL}
  return all.filter((e) => !['STYLE', 'SCRIPT', 'TEMPLATE'].includes(e.tagName))
    .map((e) => [...e.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data.trim()).join(' '))
    .filter((t) => t).join('\\n');
}})()"""


@contextlib.contextmanager
def tensorboard_of(folder):
    """Yields the address of a server."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", folder, "--port", "0", "--host",
         "127.0.0.1", "--reload_interval", "1"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        for line in server.stderr:
            if " at http://" in line:
                yield line.split(" at ")[1].split()[0]
                return
        raise AssertionError("TensorBoard did not start")
    finally:
        server.stderr.close()
        server.terminate()
        server.wait()


def row(step, loss, run=1):
    return json.dumps({"step": step, "time": 1.7e9 + 1000 * run + step, "run": run, LOSS: loss,
                       BY_RANK: [0.5, 0.5 + 0.01 * step]}) + "\n"


class Page(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="koios-page-")
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name)

    def write(self, run, text):
        folder = self.folder / run
        folder.mkdir(exist_ok=True)
        with open(folder / "metrics.jsonl", "a") as file:
            file.write(text)
        (folder / "effective.ini").write_text(f"[job]\ndescription = {run}\n\n[optimizer]\n"
                                              f"lr = 0.{len(run)}5  # default\n")
        subprocess.run([sys.executable, TOOL, folder], check=True, capture_output=True, timeout=60)

    def curves_of(self, page, url, counts):
        """The thick curves, once there is one of so many points in each of as many colours.

        The server reads files at its own pace and an open page does not ask again: so it is opened
        again until all is there.
        """
        def drawn(curves):
            return [curve for curve in curves or [] if float(curve[1]) > 0.5]

        def is_drawn(curves):
            by_colour = {colour: len(points) for colour, _, points in drawn(curves)}
            return sorted(by_colour.values()) == sorted(counts)
        for attempt in range(6):
            page.open(f"{url}?darkMode=false&attempt={counts[1]}-{attempt}#scalars&tagFilter=loss_metrics")
            with contextlib.suppress(AssertionError):
                return drawn(page.wait_for(CURVES, is_drawn, 30))
        return drawn(page.wait_for(CURVES, is_drawn, 30))

    def test_curves_deck_hparams_and_histograms(self):
        self.write("one", "".join(row(step, 10 / step) for step in range(1, 21)))
        self.write("other", "".join(row(step, 8 / step) for step in range(1, 11)) +
                   "".join(row(step, 7 / step, run=2) for step in range(6, 16)))
        with tensorboard_of(self.folder) as url, chromium.browser(BROWSER) as page:
            for colour, _, points in self.curves_of(page, url, [20, 15]):
                across = [x for x, _ in points]
                self.assertEqual(across, sorted(set(across)), f"{colour}: no step twice")
                self.assertTrue(all(here[1] < there[1] for here, there in zip(points, points[1:])),
                                "the loss falls all the way")
            self.write("other", row(16, 0.4, run=2))
            self.curves_of(page, url, [20, 16])
            for tab, parts in (("text", ["description = other", "one/tensorboard"]),
                               ("hparams", ["optimizer/lr", "0.35000", "0.55000"]),
                               ("histograms", [BY_RANK])):
                page.open(f"{url}?darkMode=false&{tab}#{tab}")
                page.wait_for(TEXT, lambda text, parts=parts: text and all(
                    part in text for part in parts), 90)


def make_picture(runs, path):
    with tensorboard_of(runs) as url, chromium.browser(BROWSER, 1100, 580) as page:
        page.open(f"{url}?darkMode=false#scalars&tagFilter=loss_metrics")
        page.wait_for(CURVES, lambda curves: len(curves or []) >= 8, 60)
        time.sleep(2)  # they are drawn bit by bit
        page.picture(Path(path))


if __name__ == "__main__":
    if PICTURE:
        make_picture(*PICTURE)
    else:
        unittest.main(verbosity=2)
