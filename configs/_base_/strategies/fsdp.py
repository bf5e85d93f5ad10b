"""Parameters, gradients and optimizer state sharded over all GPUs, one unit per block; needs several processes.

Blocks are gathered in bfloat16, gradients are averaged in float32, activations are recomputed block by block. Weights,
residuals and targets stay in float32, because only the autocast of ``maskfeat.BFloat16OptimWrapper`` casts.
"""

runner_type = "FlexibleRunner"
strategy = dict(
    type="maskfeat.FSDPStrategy",
    model_wrapper=dict(
        auto_wrap_policy="maskfeat.is_block",
        mixed_precision=dict(
            param_dtype="bfloat16",
            reduce_dtype="float32",
            cast_forward_inputs=False,
        ),
    ),
    activation_checkpointing=dict(check_fn="maskfeat.is_block"),
)
