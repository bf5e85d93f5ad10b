#!/usr/bin/env bash
# Train under Slurm with GPUS processes of one GPU each.
#   GPUS=16 tools/slurm_train.sh PARTITION JOB_NAME CONFIG [arguments of tools/train.py]
# Exit status 75 means that SIGTERM stopped the training and that a checkpoint is there. Start again with --resume, see
# docs/robustness.md.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [arguments of tools/train.py]" >&2
    exit 2
fi
PARTITION=$1
JOB_NAME=$2
CONFIG=$3
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-$((GPUS < 8 ? GPUS : 8))}
# the port where the processes meet; it is random, so that two jobs on one machine have different ports
export MASTER_PORT=${MASTER_PORT:-$((20000 + RANDOM % 10000))}

# PYTHON if it is set, else the Python of the checkout's .venv, else `python`
ROOT=$(cd "$(dirname "$0")/.." && pwd)
[ -n "${PYTHON:-}" ] || { [ -x "$ROOT/.venv/bin/python" ] && PYTHON=$ROOT/.venv/bin/python; } || PYTHON=python

# SRUN_ARGS may hold several arguments and overrides those above, such as SRUN_ARGS=--gres=none on machines without GPU
# shellcheck disable=SC2086
exec srun -p "$PARTITION" \
    --job-name="$JOB_NAME" \
    --gres="gpu:$GPUS_PER_NODE" \
    --ntasks="$GPUS" \
    --ntasks-per-node="$GPUS_PER_NODE" \
    --cpus-per-task="${CPUS_PER_TASK:-8}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "$PYTHON" -u "$(dirname "$0")/train.py" "$CONFIG" --launcher slurm "${@:4}"
