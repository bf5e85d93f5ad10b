#!/usr/bin/env bash
# Run a Python tool on several GPUs of one machine; dist_train.sh and dist_test.sh use it. For several machines, set
# NNODES, NODE_RANK and MASTER_ADDR. Without a GPU, GPUS is the number of processes.
#   tools/torchrun.sh GPUS TOOL.py [arguments of the tool]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 GPUS TOOL.py [arguments of the tool]" >&2
    exit 2
fi

if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    MEETING=(--standalone) # a free port, so that several runs on one machine do not share one
else
    MEETING=(
        --nnodes="${NNODES:-1}"
        --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:-127.0.0.1}"
        --master_port="${PORT:-29500}"
    )
fi

# PYTHON if it is set, else the Python of the checkout's .venv, else `python`
ROOT=$(cd "$(dirname "$0")/.." && pwd)
[ -n "${PYTHON:-}" ] || { [ -x "$ROOT/.venv/bin/python" ] && PYTHON=$ROOT/.venv/bin/python; } || PYTHON=python

# exec, so that torchrun receives the signals that are sent to this script
exec "$PYTHON" -m torch.distributed.run "${MEETING[@]}" --nproc_per_node="$1" "${@:2}"
