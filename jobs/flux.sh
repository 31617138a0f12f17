#!/usr/bin/env bash
# Flux, submitted from the repository's top folder:
#   flux batch jobs/flux.sh input/llama2_7b.ini checkpoint/folder=checkpoints [section/key=value ...]
# koios saves and stops before the job's time is over; the script then submits itself again, until the
# last step is done. To end it: `touch STOP` in the run folder, or flux cancel.
# The run folder (job/dump_folder) has to be on a file system that all nodes share.
#
# ---- edit ----------------------------------------------------------------------------------------
# flux: --job-name=koios
# flux: --nodes=2
# flux: --exclusive
# flux: --time-limit=24h
# flux: --output=koios-{{id}}.log
: "${RANKS_PER_NODE:=8}"            # CUDA build: one for each GPU of a node
: "${OMP_NUM_THREADS:=12}"          # threads of a rank: cores of a node / ranks a node
: "${GPUS_PER_RANK:=0}"             # CUDA build: 1
: "${PMI:=pmix}"                    # what the MPI was built with: flux run -o pmi=
# ---- (modules, network: jobs/env.sh) -------------------------------------------------------------
set -euo pipefail
[[ -f jobs/launch.sh ]] || { echo "submit from the repository's top folder" >&2; exit 2; }
source jobs/env.sh
source jobs/launch.sh

# gpu-affinity=off: GPUs stay visible to all ranks of a node, which talk to each other's directly.
export OMP_NUM_THREADS
nodes=$(flux resource list --no-header --states=up --format='{nnodes}')
left=$(time_left)
code=0
launch flux run -N "$nodes" -n "$((nodes * RANKS_PER_NODE))" -c "$OMP_NUM_THREADS" \
  -g "$GPUS_PER_RANK" -o pmi="$PMI" -o gpu-affinity=off -o exit-on-error \
  "$KOIOS" "$@" ${left:+-t "$left"} || code=$?

if ((code == 99)); then
  echo "[job] submits itself again"
  # From the enclosing instance: this one ends with the job.
  flux --parent batch jobs/flux.sh "$@"
fi
exit "$code"
