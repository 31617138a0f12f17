"""Finds a Python that has what a test needs and runs tools/checkpoint.py as a user does."""

import contextlib
import functools
import importlib.util
import io
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest
import unittest.mock

ROOT = pathlib.Path(os.environ.get("KOIOS_SOURCE_DIR") or pathlib.Path(__file__).parents[2])
TOOL = ROOT / "tools/checkpoint.py"


def use_python_with(modules, requirements, *others):
    """Starts the test again where another Python has the modules; skips aloud where none has."""
    probe = f"import {modules}"
    if subprocess.run([sys.executable, "-c", probe], capture_output=True, check=False).returncode == 0:
        return
    for python in (*others, ROOT / ".venv/bin/python3"):
        if python and pathlib.Path(python).exists() and os.environ.get("KOIOS_TEST_PYTHON") != "set" \
                and subprocess.run([python, "-c", probe], capture_output=True,
                                   check=False).returncode == 0:
            os.environ["KOIOS_TEST_PYTHON"] = "set"
            os.execv(python, [str(python), *sys.argv])
    print(f"SKIPPED: no Python with {modules} found; to run this test: "
          f"python3 -m venv .venv && .venv/bin/pip install -r tools/{requirements}")
    sys.exit(77)


class ToolTest(unittest.TestCase):
    def setUp(self):
        scratch = tempfile.TemporaryDirectory(prefix="koios-test-")
        self.addCleanup(scratch.cleanup)
        self.folder = pathlib.Path(scratch.name)

    def tool(self, *arguments, code=0, codes=None):
        """What it printed; a failure is one line on stderr, never a traceback. codes: may end so."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), \
                unittest.mock.patch.object(sys, "argv", [str(TOOL), *map(str, arguments)]):
            ended = 0
            try:
                _tool_main()()
            except SystemExit as stop:
                ended = 1 if isinstance(stop.code, str) else stop.code or 0
                err.write(f"{stop.code}\n" if isinstance(stop.code, str) else "")
        said = out.getvalue() + err.getvalue()
        self.assertIn(ended, codes or (code,), said)
        if ended:
            self.assertRegex(err.getvalue(), r"\Acheckpoint: error: [^\n]+\n\Z")
        self.assertNotIn("this is a fault of the tool", said)
        return said


@functools.cache
def _tool_main():
    """In this process: starting Python and h5py takes ten times as long as what is tested."""
    spec = importlib.util.spec_from_file_location("checkpoint", TOOL)
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(TOOL.parent))
    spec.loader.exec_module(module)
    return module.main
