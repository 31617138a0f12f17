"""The README's deck reference is what the binary prints. `readme_test.py --write` renews it."""

import os
import pathlib
import subprocess
import sys
import unittest

BEGIN, END = "<!-- deck reference: begin -->\n", "<!-- deck reference: end -->"
BINARY = os.environ.get("KOIOS_BINARY", "build/host/app/koios")
README = pathlib.Path(__file__).resolve().parents[2] / "README.md"


def printed():
    return subprocess.run([BINARY, "--help-deck"], capture_output=True, text=True,
                          check=True).stdout


def parts():
    head, rest = README.read_text().split(BEGIN)
    body, tail = rest.split(END)
    return head, body, tail


class Readme(unittest.TestCase):
    def test_deck_reference_is_current(self):
        self.assertEqual(parts()[1].strip(), printed().strip(),
                         "run: python3 tests/app/readme_test.py --write")


if __name__ == "__main__":
    if "--write" in sys.argv:
        before, _, after = parts()
        README.write_text(before + BEGIN + printed().strip() + "\n" + END + after)
    else:
        unittest.main()
