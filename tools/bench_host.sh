#!/usr/bin/env bash
# The host step against PyTorch on the CPU, in one run: same model (debugmodel, 23.2 M parameters),
# same batch, same threads, float32, forward + backward + clip + AdamW. The two take turns; PyTorch
# runs with glibc's allocator as it is and told to keep its memory, and the better one counts.
#
#   tools/bench_host.sh PYTHON_WITH_TORCH [BATCH SEQ THREADS ROUNDS]     default 4 512 <cores> 3
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
fail() { echo "error: $*" >&2; exit 1; }
[[ $# -ge 1 ]] || fail 'usage: tools/bench_host.sh PYTHON_WITH_TORCH [BATCH SEQ THREADS ROUNDS]'
python=$1 batch=${2:-4} seq=${3:-512} threads=${4:-$(nproc)} rounds=${5:-3}
steps=10
[[ -x build/host/app/koios ]] || fail 'build/host/app/koios is not there: cmake --build --preset host'
[[ -f build/assets/kjv.txt ]] || fail 'build/assets is not there: tools/setup.sh'
"$python" -c 'import torch' 2>/dev/null || fail "$python has no torch"

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
koios() {
  OMP_NUM_THREADS=$threads build/host/app/koios input/debug.ini "job/dump_folder=$results/koios$1" \
    "training/batch_size=$batch" "training/seq_len=$seq" "training/steps=$steps" \
    training/warmup_steps=2 metrics/log_freq=1 >/dev/null
}
pytorch() { # NAME [VARIABLE=VALUE ...]
  local name=$1
  shift
  env "$@" "$python" tools/bench_host_pytorch.py --batch "$batch" --seq "$seq" \
    --threads "$threads" --steps "$steps" >>"$results/$name"
}
for ((round = 1; round <= rounds; ++round)); do
  koios "$round"
  pytorch default
  pytorch keeps MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=17179869184
done

"$python" - "$results" "$rounds" <<'PY'
import json, pathlib, statistics, sys
folder, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2])
def koios(r):
    rows = [json.loads(l) for l in (folder / f"koios{r}/metrics.jsonl").read_text().splitlines()]
    return statistics.median(row["wps"] for row in rows[2:])
def torch(name):
    return [json.loads(l)["tokens_per_s"] for l in (folder / name).read_text().splitlines()]
ours = [koios(r) for r in range(1, rounds + 1)]
peers = {"PyTorch, allocator as it is": torch("default"), "PyTorch, keeping memory": torch("keeps")}
print("tokens/s, median of the steps of each round")
print(f"  {'koios':28s}", *(f"{x:8.0f}" for x in ours))
for name, values in peers.items():
    print(f"  {name:28s}", *(f"{x:8.0f}" for x in values))
best = [max(v[r] for v in peers.values()) for r in range(rounds)]
ratios = sorted(a / b for a, b in zip(ours, best))
print(f"koios / better PyTorch, round by round: min {ratios[0]:.2f}, median "
      f"{statistics.median(ratios):.2f}, max {ratios[-1]:.2f}")
PY
