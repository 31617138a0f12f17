#!/usr/bin/env bash
# Runs a command beside a real Slurm of its own: with_slurm.sh NODES COMMAND...
#
# Brings up munged, slurmctld and a slurmd for each of NODES emulated nodes n1, n2, ... (8 CPUs
# each) and runs COMMAND with SLURM_CONF set. All of it lives in its own process, network, mount and
# host name namespaces, so ports and hosts never collide with anybody's, and whatever happens, also
# SIGKILL, nothing is left: the kernel ends all processes with the first one.
#
# Exit code: COMMAND's; 77 (CTest: skipped), with the reason, where this cannot be done: not root,
# packages missing, no namespaces (a container without CAP_SYS_ADMIN); 1 if Slurm does not come up.
set -euo pipefail

skip() { echo "SKIPPED: $*"; exit 77; }
fail() { echo "with_slurm: $*" >&2; exit 1; }

nodes=$1
shift

if [[ ${WITH_SLURM_INSIDE:-} != "$nodes" ]]; then
  ((EUID == 0)) || skip "a private Slurm needs root"
  PATH=$PATH:/usr/sbin:/sbin
  for program in slurmctld slurmd sbatch munged; do
    command -v "$program" >/dev/null || skip "no $program; on Debian: apt-get install slurm-wlm munge"
  done
  namespaces=(--mount --pid --fork --kill-child --mount-proc --net --uts)
  reason=$(unshare "${namespaces[@]}" true 2>&1) || skip "no namespaces here: $reason"
  exec env WITH_SLURM_INSIDE="$nodes" PATH="$PATH" unshare "${namespaces[@]}" "$0" "$nodes" "$@"
fi

# ---- inside: this is process 1 -------------------------------------------------------------------
unset WITH_SLURM_INSIDE
trap 'exit 143' TERM
trap 'exit 130' INT

# Folders of its own, gone with the namespace: state, and what MPI ranks share.
dir=/media
mount -t tmpfs -o mode=755 koios-slurm $dir
mount -t tmpfs -o mode=1777 koios-shm /dev/shm
mkdir -p $dir/{state,spool,log,tmp}
hostname ctl
names=(ctl)
for ((i = 1; i <= nodes; ++i)); do names+=("n$i"); done
echo "127.0.0.2 localhost ${names[*]}" >$dir/hosts
mount --bind $dir/hosts /etc/hosts
# Loopback up, with 127.0.0.2 in place of 127.0.0.1, which a resolver that is asked for the kinds of
# address this machine has would not count. (ip can do that too, where it is installed.)
python3 - <<'PYTHON'
import fcntl, socket, struct
any_socket = socket.socket()
fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh22x", b"lo", 0x41))  # SIOCSIFFLAGS, up
address = struct.pack("HH4s8x", socket.AF_INET, 0, socket.inet_aton("127.0.0.2"))
fcntl.ioctl(any_socket, 0x8916, struct.pack("16s16s8x", b"lo", address))  # SIOCSIFADDR
PYTHON

head -c 1024 /dev/urandom >$dir/munge.key
chmod 400 $dir/munge.key
munged --key-file=$dir/munge.key --socket=$dir/munge.sock --pid-file=$dir/munged.pid \
  --log-file=$dir/log/munged --seed-file=$dir/munge.seed --force 2>$dir/log/munged.start \
  || fail "munged: $(cat $dir/log/munged.start)"

export SLURM_CONF=$dir/slurm.conf
cat >$SLURM_CONF <<CONF
ClusterName=koios
SlurmctldHost=ctl(127.0.0.2)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.sock
SlurmctldPort=16817
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd-%n.pid
SlurmctldLogFile=$dir/log/slurmctld
SlurmdLogFile=$dir/log/slurmd-%n
# A folder for each node: the PMIx servers of two nodes cannot share one.
TmpFS=$dir/tmp/%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
KillWait=5
# More CPUs than there are.
SlurmdParameters=config_overrides
CONF
for ((i = 1; i <= nodes; ++i)); do
  echo "NodeName=n$i NodeHostname=ctl NodeAddr=127.0.0.2 Port=$((17000 + i)) CPUs=8 State=UNKNOWN"
done >>$SLURM_CONF
echo "PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES" >>$SLURM_CONF

show_logs() { tail -n 10 $dir/log/* >&2; }

slurmctld -f $SLURM_CONF || fail "slurmctld did not start"
for ((i = 1; i <= nodes; ++i)); do
  mkdir -p $dir/tmp/n$i $dir/spool/n$i
  # A host name for each, or MPI ranks of two nodes would share memory.
  unshare --uts sh -c "hostname n$i && exec slurmd -N n$i -f $SLURM_CONF" || fail "slurmd $i did not start"
done
for ((tries = 0; ; ++tries)); do
  idle=$(sinfo --noheader --Node --format=%T 2>/dev/null | grep -c '^idle$' || true)
  ((idle == nodes)) && break
  ((tries < 300)) || { show_logs; sinfo --Node >&2 || true; fail "nodes not idle after 30 s"; }
  sleep 0.1
done

# The nodes of this Slurm reach each other over loopback; ranks outnumber cores.
export OMPI_MCA_btl_tcp_if_include=lo OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_mpi_yield_when_idle=1
export TMPDIR=$dir/tmp

"$@" &
wait $! && code=0 || code=$?
((code == 0)) || tail -n 10 $dir/log/slurmctld >&2
exit $code
