"""Runtime of all full-size configs: hooks, checkpoints, seeds."""

custom_imports = dict(imports=["maskfeat_plugin"], allow_failed_imports=False)

default_hooks = dict(
    runtime_info=dict(type="maskfeat.RuntimeInfoHook"),
    timer=dict(type="IterTimerHook"),
    training_state=dict(type="maskfeat.TrainingStateHook"),
    logger=dict(type="LoggerHook", interval=100),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="maskfeat.CheckpointHook", interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    non_finite_loss=dict(type="maskfeat.NonFiniteLossHook", action="stop"),
    termination=dict(type="maskfeat.TerminationHook"),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl", timeout=1800),
)
randomness = dict(seed=0, diff_rank_seed=True)
log_level = "INFO"
load_from = None
resume = False
