"""What the docs repeat is what the binary prints: the README's deck reference (`readme_test.py --write`
renews it), and the exit codes."""

import os
import pathlib
import re
import subprocess
import sys
import unittest

BEGIN, END = "<!-- deck reference: begin -->\n", "<!-- deck reference: end -->"
BINARY = os.environ.get("KOIOS_BINARY", "build/host/app/koios")
SOURCE = pathlib.Path(__file__).resolve().parents[2]
README = SOURCE / "README.md"


def printed(option="--help-deck"):
    return subprocess.run([BINARY, option], capture_output=True, text=True, check=True).stdout


def parts():
    head, rest = README.read_text().split(BEGIN)
    body, tail = rest.split(END)
    return head, body, tail


class Readme(unittest.TestCase):
    def test_deck_reference_is_current(self):
        self.assertEqual(parts()[1].strip(), printed().strip(),
                         "run: python3 tests/app/readme_test.py --write")

    def test_exit_codes_are_those_of_the_program(self):
        table = printed("--help").split("Exit codes:\n")[1]
        codes = re.findall(r"^ +(\d+|128 \+ n)  (.+)$", table, re.M)
        self.assertEqual(len(codes), len(table.splitlines()))
        page = (SOURCE / "docs/cluster.md").read_text().replace("`", "")
        rows = re.findall(r"^\| (\d+|128 \+ n) \| ([^|]+) \|", page, re.M)
        self.assertEqual(rows, codes)


if __name__ == "__main__":
    if "--write" in sys.argv:
        before, _, after = parts()
        README.write_text(before + BEGIN + printed().strip() + "\n" + END + after)
    else:
        unittest.main()
