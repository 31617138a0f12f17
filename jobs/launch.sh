# Sourced by the job scripts: `launch COMMAND...` says what runs, where and how, then runs it.

launch() {
  local hosts
  hosts=$(scontrol show hostnames "${SLURM_JOB_NODELIST:-}" 2>/dev/null) || hosts=$(hostname)
  echo "[job] started  $(date -u +%Y-%m-%dT%H:%M:%SZ)${SLURM_JOB_ID:+, Slurm job $SLURM_JOB_ID}"
  echo "[job] source   $(git describe --always --abbrev=12 --dirty --exclude='*' 2>/dev/null || echo unknown)"
  echo "[job] hosts    $(echo $hosts)"
  echo "[job] threads  $OMP_NUM_THREADS a rank"
  echo "[job] command $(printf ' %q' "$@")"
  "$@"
}
