"""DeepSpeed's ZeRO, stage 2: gradients and optimizer state sharded over all GPUs. See docs/scaling.md.

Mixed precision uses torch's autocast, so targets are computed in float32. DeepSpeed clips the gradients, and not the
optimizer wrapper. mmengine does not apply ``auto_scale_lr`` with this strategy, so set ``lr`` for the batch size
yourself.
"""

runner_type = "FlexibleRunner"
strategy = dict(
    type="DeepSpeedStrategy",
    zero_optimization=dict(stage=2, overlap_comm=True, contiguous_gradients=True),
    gradient_clipping=0.02,
    config=dict(torch_autocast=dict(enabled=True, dtype="bfloat16")),
)
