"""Losses in the log without waiting for the device."""

import mmengine.hooks
from mmengine.runner import Runner

from maskfeat_plugin.registry import HOOKS

from ..deferred_history import log_deferred


@HOOKS.register_module()
class RuntimeInfoHook(mmengine.hooks.RuntimeInfoHook):
    """``mmengine.hooks.RuntimeInfoHook`` that leaves the losses on the device until they are read.

    mmengine's hook waits in every step until the losses are there. The logged values are the same. Use it as
    ``default_hooks=dict(runtime_info=dict(type='maskfeat.RuntimeInfoHook'))``.
    """

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict | None = None, outputs: dict | None = None
    ) -> None:
        """Log the values that the model returned for the batch, see the parent."""
        for key, value in (outputs or {}).items():
            log_deferred(runner.message_hub, f"train/{key}", value)
