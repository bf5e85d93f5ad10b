"""Tests of docs/quick_start.md and docs/concepts.md: examples can be built, and numbers agree with the code."""

import torch
from examples import blocks, read, run
from mmengine.registry import DefaultScope

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.registry import MODELS, TRANSFORMS, WEIGHT_INITIALIZERS


def build(model, scope):
    with DefaultScope.overwrite_default_scope(scope), torch.device("meta"):
        return MODELS.build(model)


def test_examples_of_the_quick_start_build():
    scopes = iter(("mmpretrain", "mmaction"))
    for code in blocks(read("quick_start.md")):
        model = run(code).get("model")
        if model is not None:
            WEIGHT_INITIALIZERS.build(model["backbone"].pop("init_cfg"))
            build(model, next(scopes))
    assert next(scopes, None) is None


def test_examples_of_the_concepts_build():
    text = read("concepts.md")
    first, second = (run(code) for code in blocks(text))
    model = build(first["model"], "mmaction")
    mask = torch.from_numpy(TRANSFORMS.build(first["mask"])({})["mask"])
    assert model.backbone.token_grid((16, 224, 224)) == mask.shape == (8, 14, 14)
    generator = MODELS.build(first["model"]["target_generator"])
    features = generator(torch.randn(1, 3, 16, 224, 224), mask[None])
    assert features.shape == (mask.sum(), 108) and "**108 numbers**" in text
    WEIGHT_INITIALIZERS.build(second["backbone"].pop("init_cfg"))
    build(second["backbone"], "mmaction")
