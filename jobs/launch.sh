# Sourced by the job scripts.
#   launch COMMAND...   says what runs, where and how, runs it, says how it ended; its exit code
#   time_left           how long the job may still run, for koios -t; nothing where no one says
#
# koios saves and stops before that time is over and ends with code 99: the same command goes on.

hosts() {
  if [[ -n ${SLURM_JOB_NODELIST:-} ]]; then
    scontrol show hostnames "$SLURM_JOB_NODELIST"
  elif [[ -n ${PBS_NODEFILE:-} ]]; then
    uniq "$PBS_NODEFILE"
  elif [[ -n ${FLUX_URI:-} ]]; then
    flux hostlist --expand --delimiter=' ' instance
  else
    hostname
  fi
}

job() {
  if [[ -n ${SLURM_JOB_ID:-} ]]; then
    echo ", Slurm job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1))"
  elif [[ -n ${PBS_JOBID:-} ]]; then
    echo ", PBS job $PBS_JOBID"
  elif [[ -n ${FLUX_URI:-} ]]; then
    echo ", Flux job $(flux getattr jobid)"
  fi
}

launch() {
  echo "[job] started  $(date -u +%Y-%m-%dT%H:%M:%SZ)$(job)"
  echo "[job] source   $(git describe --always --abbrev=12 --dirty --exclude='*' 2>/dev/null || echo unknown)"
  echo "[job] hosts    $(echo $(hosts))"
  echo "[job] threads  $OMP_NUM_THREADS a rank"
  echo "[job] command $(printf ' %q' "$@")"
  local code=0
  "$@" || code=$?
  echo "[job] ended    $(date -u +%Y-%m-%dT%H:%M:%SZ), exit code $code"
  return $code
}

# Slurm: koios reads SLURM_JOB_END_TIME by itself; releases before 22.05 do not set it.
if [[ -n ${SLURM_JOB_ID:-} && -z ${SLURM_JOB_END_TIME:-} ]]; then
  end=$(date -d "$(squeue --noheader --job="$SLURM_JOB_ID" --format=%e 2>/dev/null)" +%s 2>/dev/null) &&
    export SLURM_JOB_END_TIME=$end
fi

time_left() {
  local limit
  if [[ -n ${PBS_JOBID:-} ]]; then
    limit=$(qstat -f "$PBS_JOBID" | sed -n 's/^ *Resource_List.walltime = //p')
    [[ $limit =~ ^([0-9]+):([0-9]+):([0-9]+)$ ]] || return 0
    # $SECONDS: what this script has taken of it so far.
    limit=$((10#${BASH_REMATCH[1]} * 3600 + 10#${BASH_REMATCH[2]} * 60 + 10#${BASH_REMATCH[3]} - SECONDS))
  elif [[ -n ${FLUX_URI:-} ]]; then
    limit=$(flux job timeleft 2>/dev/null) || return 0
    [[ $limit =~ ^[0-9]+ ]] || return 0
    limit=${BASH_REMATCH[0]}
  else
    return 0
  fi
  ((limit > 0)) || limit=1
  echo "$((limit / 60)):$(printf %02d $((limit % 60)))"
}
