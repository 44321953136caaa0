#!/usr/bin/env bash
# One study on SLURM: a Ray cluster of two nodes with four GPUs each that comes with the job and goes with it.
# Once in a virtual environment that all nodes see (pip install -c constraints.txt '.[weights]'), from a shared folder:
#   sbatch scripts/cluster/slurm.sh mine.yaml --storage /shared/studies --data /shared/data
# What follows the script are the arguments of `mmtune run`. A job that is requeued, or handed in again, goes on where it was.
#SBATCH --job-name=mmtune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail
if [ $# -eq 0 ]; then
    echo "usage: sbatch $0 SEARCH_FILE [arguments of mmtune run]" >&2
    exit 2
fi

port=$((20000 + SLURM_JOB_ID % 10000))
mapfile -t nodes < <(scontrol show hostnames "$SLURM_JOB_NODELIST")
head=${nodes[0]}
head_ip=$(srun --nodes=1 --ntasks=1 -w "$head" hostname --ip-address | awk '{print $1}')

# Whoever has the token may run code on all nodes: only you read it. All nodes see the folder that the job starts in.
umask 077
token=$PWD/.mmtune-token-$SLURM_JOB_ID
python -c 'import secrets; print(secrets.token_hex(32), end="")' > "$token"
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN_PATH=$token

start=(--disable-usage-stats --block --num-cpus="${SLURM_CPUS_PER_TASK:-1}" --num-gpus="${SLURM_GPUS_ON_NODE:-0}")
study=
finish() {
    rm -f "$token"
    kill "$(jobs -p)" 2> /dev/null || true
}
trap finish EXIT
# Two minutes before the time is up: trials keep their last epoch, then the job asks to be put back in the queue.
stop() {
    echo "the time is nearly up: stopping, to go on when the job is started again"
    [ -z "$study" ] || kill -INT "$study"
    [ -z "$study" ] || wait "$study" || true
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
}
trap stop USR1

srun --nodes=1 --ntasks=1 --overlap -w "$head" \
    ray start --head --node-ip-address="$head_ip" --port="$port" "${start[@]}" > "ray-$SLURM_JOB_ID-head.log" 2>&1 &
for node in "${nodes[@]:1}"; do
    sleep 2
    srun --nodes=1 --ntasks=1 --overlap -w "$node" \
        ray start --address="$head_ip:$port" "${start[@]}" > "ray-$SLURM_JOB_ID-$node.log" 2>&1 &
done
for _ in $(seq 60); do
    count=$(ray status --address="$head_ip:$port" 2> /dev/null | grep -c '^ 1 node_' || true)
    [ "$count" -ge "${#nodes[@]}" ] && break
    sleep 5
done

mmtune run "$@" --address "$head_ip:$port" --resume auto &
study=$!
wait "$study"
