#!/usr/bin/env bash
# Run a Python tool on several GPUs of one machine; dist_train.sh and dist_test.sh use it. For several machines, set
# NNODES, NODE_RANK and MASTER_ADDR. Without a GPU, GPUS is the number of processes. If a process fails, all processes
# start again, MAX_RESTARTS times (0).
#   tools/torchrun.sh GPUS TOOL.py [arguments of the tool]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 GPUS TOOL.py [arguments of the tool]" >&2
    exit 2
fi

if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    MEETING=(--standalone) # a free port, so that several runs on one machine do not share one
else
    # the machines meet at the one with NODE_RANK=0; torchrun gives the ranks
    # a new store for every start: after a restart, a shared one may give the addresses of processes that have ended
    export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
    MEETING=(
        --nnodes="${NNODES:-1}"
        --rdzv_backend=c10d
        --rdzv_endpoint="${MASTER_ADDR:-127.0.0.1}:${PORT:-29500}"
        --rdzv_id="${RDZV_ID:-maskfeat}"
        --rdzv_conf="is_host=$([ "${NODE_RANK:-0}" = 0 ] && echo 1 || echo 0)"
    )
fi

# PYTHON if it is set, else the Python of the checkout's .venv, else `python`
ROOT=$(cd "$(dirname "$0")/.." && pwd)
[ -n "${PYTHON:-}" ] || { [ -x "$ROOT/.venv/bin/python" ] && PYTHON=$ROOT/.venv/bin/python; } || PYTHON=python

# exec, so that torchrun receives the signals that are sent to this script
exec "$PYTHON" -m torch.distributed.run "${MEETING[@]}" --max_restarts="${MAX_RESTARTS:-0}" --nproc_per_node="$1" "${@:2}"
