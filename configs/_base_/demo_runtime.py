"""Runtime of all configs on MovingDigits: hooks, log and seed of a training that counts steps."""

custom_imports = dict(imports=["maskfeat_plugin"], allow_failed_imports=False)

default_hooks = dict(
    runtime_info=dict(type="maskfeat.RuntimeInfoHook"),
    training_state=dict(type="maskfeat.TrainingStateHook"),
    logger=dict(type="LoggerHook", interval=50),
    checkpoint=dict(type="maskfeat.CheckpointHook", by_epoch=False, save_optimizer=False),
    non_finite_loss=dict(type="maskfeat.NonFiniteLossHook", action="stop"),
    termination=dict(type="maskfeat.TerminationHook"),
)
log_processor = dict(by_epoch=False)
visualizer = dict(type="Visualizer", vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")])
randomness = dict(seed=0)
