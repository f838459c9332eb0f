#!/usr/bin/env bash
# Twelve tiny runs as jobs of a real Slurm on this machine; three of them are stopped while they train.
#
#   sudo PYTHON=.venv/bin/python benchmarks/reproduce/slurm_check.sh
#
# As root on Debian or Ubuntu: installs slurm-wlm and munge where they are missing, starts a Slurm of one node with its
# files in a temporary folder, and stops it at the end. Takes 5 to 10 minutes on 2 cores.
#   full-s0  is requeued, which is what preemption does: it resumes by itself
#   full-s1  gets the signal of a time limit: submitit queues it again, and it resumes
#   full-s2  is killed (SIGKILL): the command names it, and the same command resumes it
set -euo pipefail
cd "$(dirname "$0")/../.."
PYTHON=$(command -v "${PYTHON:-.venv/bin/python}")
[ "$(id -u)" = 0 ] || { echo "error: this starts the daemons of Slurm: run it as root" >&2; exit 2; }
if ! command -v slurmctld slurmd munged >/dev/null; then
  apt-get update -q && apt-get install -yq --no-install-recommends slurm-wlm munge
fi

FOLDER=$(mktemp -d); chmod 755 "$FOLDER"
export SLURM_CONF=$FOLDER/slurm.conf REID_RUNS=$FOLDER/runs REID_DATA=$FOLDER/data
stop() {
  scancel --user root >/dev/null 2>&1 || true
  for daemon in slurmd slurmctld munged; do
    if [ -f "$FOLDER/$daemon.pid" ]; then kill "$(cat "$FOLDER/$daemon.pid")" || true; fi
  done
  sleep 2; rm -rf "$FOLDER"
}
trap stop EXIT

# proctrack/linuxproc and task/none work in a container, where cgroups often do not.
NODE=$(hostname -s)
cat > "$SLURM_CONF" <<CONF
ClusterName=check
SlurmctldHost=$NODE(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$FOLDER/munge.socket,cred_expire=10
SlurmctldPort=26817
SlurmdPort=26818
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd.pid
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdLogFile=$FOLDER/slurmd.log
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
ReturnToService=2
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=check Nodes=ALL Default=YES MaxTime=60 State=UP
CONF
mkdir "$FOLDER/state" "$FOLDER/spool"
head -c 128 /dev/urandom > "$FOLDER/munge.key"; chmod 400 "$FOLDER/munge.key"
munged --force --key-file="$FOLDER/munge.key" --socket="$FOLDER/munge.socket" --pid-file="$FOLDER/munged.pid" \
  --log-file="$FOLDER/munged.log" --seed-file="$FOLDER/munged.seed"
slurmctld; slurmd
for _ in $(seq 30); do sinfo --noheader --format %T 2>/dev/null | grep -q idle && break; sleep 1; done
slurmd -V; sinfo

# Tiny pedestrians in the place of the demo's: a run takes seconds.
"$PYTHON" - <<'PROGRAM'
import json
from common.datasets import synthetic_folder
from common.datasets.synthetic import make_dataset
mark = make_dataset(synthetic_folder("market1501", "demo"), size="tiny") / "synthetic.json"
mark.write_text(json.dumps(json.loads(mark.read_text()) | {"size": "demo"}))
PROGRAM

sweep() {
  "$PYTHON" -m benchmarks reproduce ndmf_net --demo --device cpu --only baseline pcam sam full --seeds 0 1 2 \
    --launcher slurm --partition check --time 20 --cpus-per-job 1 </dev/null
}
RUNS=$FOLDER/runs/ndmf_net
epochs() { cat "$RUNS/market1501-demo-full-s$1/log.jsonl" 2>/dev/null | wc -l; }
training() {  # wait until full-s$1 has finished three epochs
  until [ "$(epochs "$1")" -ge 3 ]; do sleep 0.05; done
}
process() { sed 's/process \([0-9]*\).*/\1/' "$RUNS/.market1501-demo-full-s$1.lock"; }
job() { grep -o '[0-9]*' "$RUNS/jobs/market1501-demo-full-s$1.json"; }

echo; echo "== twelve runs; three of them are stopped"
sweep > "$FOLDER/sweep.out" 2> >(tee "$FOLDER/sweep.err" >&2) & SWEEP=$!
(training 0; echo ">>> full-s0: scontrol requeue after epoch $(epochs 0)"; scontrol requeue "$(job 0)") &
(training 1; echo ">>> full-s1: the signal of a time limit after epoch $(epochs 1)"; scancel --signal=USR2 "$(job 1)") &
(training 2; echo ">>> full-s2: kill -9 after epoch $(epochs 2)"
 kill -9 "$(process 2)") &
CODE=0; wait $SWEEP || CODE=$?
wait
echo "exit code $CODE, $(ls "$RUNS"/*/result.json | wc -l) of 12 records"

echo; echo "== the same command"
sweep | tail -n 20

echo; echo "== what was started when, and where it resumed"
PROBLEM=0
for seed in 0 1 2; do
  run=market1501-demo-full-s$seed
  echo "$run:"
  grep -E '^---|epoch|mAP|interrupted' "$RUNS/logs/$run.log" | cut -c 1-150 | sed 's/^/    /'
  [ "$(grep -c '^---' "$RUNS/logs/$run.log")" -ge 2 ] || { echo "error: $run was not started twice"; PROBLEM=1; }
  [ "$(grep -c 'epoch 1  ' "$RUNS/logs/$run.log")" = 1 ] || { echo "error: $run began at epoch 1 twice"; PROBLEM=1; }
done
[ "$(ls "$RUNS"/*/result.json | wc -l)" = 12 ] || { echo "error: a record is missing"; PROBLEM=1; }
squeue
[ $PROBLEM = 0 ] && echo "all 12 records are there; the three stopped runs resumed"
exit $PROBLEM
