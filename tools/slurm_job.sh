#!/usr/bin/env bash
# Job for sbatch that trains until the end, also if the time limit is shorter or a machine fails. Submit it in the
# checkout, with one task for each GPU:
#   sbatch --partition=gpu --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 --cpus-per-task=8 --time=24:00:00 \
#       tools/slurm_job.sh CONFIG [arguments of tools/train.py]
# Five minutes before the end, srun's processes get SIGTERM, save a checkpoint and exit with 75. The job then goes back
# to the queue. Slurm also puts it back if a machine fails. It continues from the newest undamaged checkpoint.
# If a process is killed, the job fails. With MAX_RESTARTS=N in the environment it goes back to the queue instead, as
# long as it was there less than N times, for any reason.
#SBATCH --signal=TERM@300
#SBATCH --requeue
#SBATCH --open-mode=append
export GPUS=$SLURM_NTASKS GPUS_PER_NODE=$SLURM_NTASKS_PER_NODE CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}
tools/slurm_train.sh "$SLURM_JOB_PARTITION" "$SLURM_JOB_NAME" "$1" --resume "${@:2}"
status=$?
if [ "$status" -eq 75 ] || { [ "$status" -gt 128 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "${MAX_RESTARTS:-0}" ]; }; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
