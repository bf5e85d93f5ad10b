#!/usr/bin/env bash
# What dist_train.sh and dist_test.sh share: a Python tool on several GPUs of one machine, or of several with NNODES,
# NODE_RANK and MASTER_ADDR set. Without a GPU, GPUS is the number of processes.
#   tools/torchrun.sh GPUS TOOL.py [arguments of the tool]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 GPUS TOOL.py [arguments of the tool]" >&2
    exit 2
fi

if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    MEETING=(--standalone) # at a free port, so that several runs on one machine do not meet
else
    MEETING=(
        --nnodes="${NNODES:-1}"
        --node_rank="${NODE_RANK:-0}"
        --master_addr="${MASTER_ADDR:-127.0.0.1}"
        --master_port="${PORT:-29500}"
    )
fi

# The Python of the checkout's own environment, if there is one; PYTHON=... for another
ROOT=$(cd "$(dirname "$0")/.." && pwd)
[ -n "${PYTHON:-}" ] || { [ -x "$ROOT/.venv/bin/python" ] && PYTHON=$ROOT/.venv/bin/python; } || PYTHON=python

# exec, so that a signal to this script is one to torchrun
exec "$PYTHON" -m torch.distributed.run "${MEETING[@]}" --nproc_per_node="$1" "${@:2}"
