#!/usr/bin/env bash
# The first run: sets up, builds, and trains a small Llama 2 on real text with two MPI ranks.
#
#   tools/demo.sh [section/key=value ...]     changes keys of input/debug.ini
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
for argument in "$@"; do
  case $argument in
    -h | --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' tools/demo.sh; exit ;;
    *=*) ;;
    *) echo "[demo] error: '$argument' is not section/key=value; tools/demo.sh --help" >&2; exit 2 ;;
  esac
done

tools/setup.sh --host-only
started=$SECONDS
echo '[demo] building build/host'
mkdir -p build
cmake --preset host >build/host-configure.log 2>&1 || { tail -n 20 build/host-configure.log; exit 1; }
cmake --build --preset host --target koios
echo "[demo] built in $((SECONDS - started)) s"

ranks=2
cores=$(env -u OMP_NUM_THREADS nproc)
export OMP_NUM_THREADS=$((cores > ranks ? cores / ranks : 1))
# Open MPI counts cores, and two hardware threads are one: it would refuse two ranks there.
launch=(mpirun --oversubscribe --bind-to none -np "$ranks")
((EUID != 0)) || export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

echo "[demo] OMP_NUM_THREADS=$OMP_NUM_THREADS ${launch[*]} build/host/app/koios input/debug.ini $*"
"${launch[@]}" build/host/app/koios input/debug.ini "$@"

# The folder of the run: job/dump_folder, from the arguments or else from the deck.
folder=$(sed -n 's/^ *dump_folder *= *\([^ #;]*\).*/\1/p' input/debug.ini)
for argument in "$@"; do
  case $argument in job/dump_folder=* | job.dump_folder=*) folder=${argument#*=} ;; esac
done
printf -v folder %q "${folder:-outputs}"
cat <<TEXT
[demo] metrics: $folder/metrics.jsonl (one JSON object a line); the deck as it ran: $folder/effective.ini
[demo] to look at the curves:
    python3 -m venv .venv
    .venv/bin/pip install -r tools/requirements-tensorboard.txt
    .venv/bin/python tools/metrics_to_tensorboard.py $folder
    .venv/bin/tensorboard --logdir $folder
  then open http://localhost:6006; from another machine, first: ssh -L 6006:localhost:6006 $(hostname)
TEXT
