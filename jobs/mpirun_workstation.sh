#!/usr/bin/env bash
# One machine without Slurm, from the repository's top folder:
#   jobs/mpirun_workstation.sh input/debug.ini [section/key=value ...]
set -euo pipefail
[[ -f jobs/launch.sh ]] || { echo "run this in the repository's top folder" >&2; exit 2; }

# ---- edit, or set in the environment -------------------------------------------------------------
: "${RANKS:=2}"   # CUDA build: the number of GPUs
: "${OMP_NUM_THREADS:=$(($(nproc) > RANKS ? $(nproc) / RANKS : 1))}"
# ---- (modules: jobs/env.sh) ----------------------------------------------------------------------
source jobs/env.sh
source jobs/launch.sh

# mpirun would bind each of one or two ranks to a single core, with all its threads.
export OMP_NUM_THREADS
launch mpirun --bind-to none -n "$RANKS" "$KOIOS" "$@"
