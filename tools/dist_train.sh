#!/usr/bin/env bash
# Train on several GPUs of one machine, or of several with NNODES, NODE_RANK and MASTER_ADDR set. Without a GPU,
# GPUS is the number of processes.
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [arguments of tools/train.py]" >&2
    exit 2
fi
CONFIG=$1
GPUS=$2

if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    MEETING=(--standalone) # at a free port, so that several trainings of one machine do not meet
else
    MEETING=(
        --nnodes="${NNODES:-1}"
        --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:-127.0.0.1}"
        --master_port="${PORT:-29500}"
    )
fi

# exec, so that a signal to this script is one to torchrun
exec python -m torch.distributed.run "${MEETING[@]}" --nproc_per_node="$GPUS" \
    "$(dirname "$0")/train.py" "$CONFIG" --launcher pytorch "${@:3}"
