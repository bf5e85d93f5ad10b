#!/usr/bin/env bash
# Train on several GPUs of one machine. For several machines, set NNODES, NODE_RANK and MASTER_ADDR. Without a GPU, GPUS
# is the number of processes.
#   tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
set -euo pipefail
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG GPUS [arguments of tools/train.py]" >&2
    exit 2
fi
TOOLS=$(dirname "$0")
exec "$TOOLS/torchrun.sh" "$2" "$TOOLS/train.py" "$1" --launcher pytorch "${@:3}"
