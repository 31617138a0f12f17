#!/usr/bin/env python3
"""docs/outputs.md explains every key of metrics.jsonl, and no other: outputs_doc_test.py ROOT"""

import re
import sys
from pathlib import Path

root = Path(sys.argv[1])
source = (root / "lib/metrics/metric_keys.hpp").read_text()
in_code = set(re.findall(r'std::string_view k\w+ = "([^"]+)";', source)) | {
    "step", "time", "run", "nonfinite"}

section = (root / "docs/outputs.md").read_text().split("\n## ")[1]
in_docs = set(re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE))

for key in sorted(in_code ^ in_docs):
    print(f"{key}: only in {'lib/metrics' if key in in_code else 'docs/outputs.md'}")
sys.exit(in_code != in_docs or not in_code)
