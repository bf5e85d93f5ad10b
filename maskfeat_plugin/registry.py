"""Registries of scope ``maskfeat``, children of mmengine's root registries.

A component registered here is named ``maskfeat.<Name>`` in any OpenMMLab config, independently of ``default_scope``.
"""

from mmengine import registry as _root
from mmengine.registry import Registry

__all__ = [
    "DATASETS",
    "DATA_SAMPLERS",
    "FUNCTIONS",
    "HOOKS",
    "LOOPS",
    "METRICS",
    "MODELS",
    "OPTIM_WRAPPERS",
    "OPTIM_WRAPPER_CONSTRUCTORS",
    "STRATEGIES",
    "TRANSFORMS",
    "VISUALIZERS",
    "WEIGHT_INITIALIZERS",
]

_SCOPE = "maskfeat"

DATASETS = Registry("dataset", parent=_root.DATASETS, scope=_SCOPE, locations=["maskfeat_plugin.datasets"])
DATA_SAMPLERS = Registry(
    "data sampler", parent=_root.DATA_SAMPLERS, scope=_SCOPE, locations=["maskfeat_plugin.datasets"]
)
TRANSFORMS = Registry(
    "transform",
    parent=_root.TRANSFORMS,
    scope=_SCOPE,
    locations=["maskfeat_plugin.datasets.transforms"],
)
MODELS = Registry("model", parent=_root.MODELS, scope=_SCOPE, locations=["maskfeat_plugin.models"])
WEIGHT_INITIALIZERS = Registry(
    "weight initializer",
    parent=_root.WEIGHT_INITIALIZERS,
    scope=_SCOPE,
    locations=["maskfeat_plugin.checkpoints"],
)
HOOKS = Registry("hook", parent=_root.HOOKS, scope=_SCOPE, locations=["maskfeat_plugin.engine"])
LOOPS = Registry("loop", parent=_root.LOOPS, scope=_SCOPE, locations=["maskfeat_plugin.engine"])
OPTIM_WRAPPERS = Registry(
    "optimizer wrapper", parent=_root.OPTIM_WRAPPERS, scope=_SCOPE, locations=["maskfeat_plugin.engine"]
)
OPTIM_WRAPPER_CONSTRUCTORS = Registry(
    "optimizer wrapper constructor",
    parent=_root.OPTIM_WRAPPER_CONSTRUCTORS,
    scope=_SCOPE,
    locations=["maskfeat_plugin.engine"],
)
STRATEGIES = Registry("strategy", parent=_root.STRATEGIES, scope=_SCOPE, locations=["maskfeat_plugin.engine"])
FUNCTIONS = Registry("function", parent=_root.FUNCTIONS, scope=_SCOPE, locations=["maskfeat_plugin.engine"])
METRICS = Registry("metric", parent=_root.METRICS, scope=_SCOPE, locations=["maskfeat_plugin.evaluation"])
VISUALIZERS = Registry(
    "visualizer",
    parent=_root.VISUALIZERS,
    scope=_SCOPE,
    locations=["maskfeat_plugin.visualization"],
)
