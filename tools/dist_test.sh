#!/usr/bin/env bash
# Test on several GPUs of one machine. For several machines, set NNODES, NODE_RANK and MASTER_ADDR. Without a GPU, GPUS
# is the number of processes.
#   tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG CHECKPOINT GPUS [arguments of tools/test.py]" >&2
    exit 2
fi
TOOLS=$(dirname "$0")
exec "$TOOLS/torchrun.sh" "$3" "$TOOLS/test.py" "$1" "$2" --launcher pytorch "${@:4}"
