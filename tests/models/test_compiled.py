"""torch.compile: one graph, the results of eager mode, and no second compilation for other masks."""

import copy

import pytest
import torch
from torch.utils._pytree import tree_leaves

from maskfeat_plugin.models.utils import masked_places
from maskfeat_plugin.registry import MODELS

VIT = dict(
    arch=dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48),
    img_size=64,
    patch_size=16,
    drop_path_rate=0.1,
)
MVIT = dict(
    arch=dict(embed_dims=8, num_layers=2, num_heads=1, downscale_indices=[1], dim_mul_indices=[1]), drop_path_rate=0.1
)
IMAGES, CLIPS = (2, 3, 64, 64), (2, 3, 4, 64, 64)


def decoder(in_channels):
    return dict(type="maskfeat.MAEDecoder", in_channels=in_channels, embed_dims=24, num_layers=1, num_heads=2)


# Backbone, settings of the algorithm, channels before the neck, channels of HOG, inputs
PRETRAINING = dict(
    image=(dict(type="maskfeat.MaskedViT", **VIT), {}, 24, 108, IMAGES),
    clip=(dict(type="maskfeat.MaskedMViT", **MVIT), {}, 16, 27, CLIPS),
    clip_motion=(
        dict(type="maskfeat.MaskedMViT", **MVIT),
        dict(target_generator=dict(type="maskfeat.MotionHOGGenerator")),
        16,
        27,
        CLIPS,
    ),
    visible_image=(
        dict(type="maskfeat.VisibleViT", **VIT),
        dict(type="maskfeat.VisibleMaskFeat", decoder=decoder(24)),
        24,
        108,
        IMAGES,
    ),
    visible_clip=(
        dict(type="maskfeat.VisibleMViT", **MVIT),
        dict(type="maskfeat.VisibleMaskFeat", decoder=decoder(16)),
        24,
        27,
        CLIPS,
    ),
)
FINE_TUNING = dict(
    image=(dict(type="maskfeat.VisionTransformer", out_type="avg_featmap", final_norm=False, **VIT), IMAGES),
    windows=(dict(type="maskfeat.WindowedViT", window_size=2, global_attn_indexes=(1,), **VIT), IMAGES),
    clip=(dict(type="maskfeat.MViT", out_type="avg_featmap", **MVIT), CLIPS),
    clip_as_torchvision=(dict(type="maskfeat.MViT", dim_mul_in_attention=True, **MVIT), CLIPS),
    image_mvit=(dict(type="maskfeat.ImageMViT", out_scales=(0, 1), **MVIT), IMAGES),
)


def build(name):
    """A model of pre-training, and its inputs."""
    backbone, settings, channels, hog, shape = PRETRAINING[name]
    settings = dict(dict(type="maskfeat.MaskFeat", target_generator=dict(type="maskfeat.HOGGenerator")), **settings)
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            backbone=backbone,
            neck=dict(type="maskfeat.RegressionNeck", in_channels=channels, out_channels=hog),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")),
            **settings,
        )
    )
    return model.train(), torch.randn(shape)


def draw_masks(model, inputs, seed):
    """Masks of half of the units of each sample, and the places of the masked tokens."""
    grid = model.backbone.token_grid(tuple(inputs.shape[2:]))
    unit = getattr(model.backbone, "mask_unit", (1, 1, 1))
    size = tuple(g // u for g, u in zip(grid, unit, strict=True))
    count = torch.Size(size).numel()
    random = torch.Generator().manual_seed(seed)
    mask = torch.stack([torch.randperm(count, generator=random) < count // 2 for _ in inputs]).unflatten(1, size)
    for dim, repeats in enumerate(unit, start=1):
        mask = mask.repeat_interleave(repeats, dim)
    return mask, masked_places(mask).index


def compile_copy(model):
    """As the config key ``compile`` does."""
    compiled = copy.deepcopy(model)
    compiled.compile(backend="aot_eager", fullgraph=True)
    return compiled


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def check_equal(found, expected, bound):
    assert found.keys() == expected.keys() and len(found) > 10
    largest = max(float(value.abs().max()) for value in expected.values())
    for name, value in expected.items():
        assert float((found[name] - value).abs().max()) <= bound * largest, name


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def cases(names, *quick):
    """All names in both types; those that are not quick are compiled in the long tests."""
    for name in names:
        for precision in ("float32", "bfloat16"):
            long = (name, precision) not in quick
            yield pytest.param(name, precision, marks=[pytest.mark.long] if long else [], id=f"{name}-{precision}")


@pytest.mark.parametrize(
    ("name", "precision"),
    cases(PRETRAINING, ("image", "float32"), ("clip", "bfloat16"), ("visible_clip", "float32")),
)
def test_pre_training_is_one_graph_for_all_masks(name, precision):
    model, inputs = build(name)
    compiled = compile_copy(model)
    # gradients of bfloat16 are rounded to 8 bits in each operation, in another order
    bound = 1e-4 if precision == "float32" else 0.05
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(2):
            mask, index = draw_masks(model, inputs, seed)
            results = []
            for either in (model, compiled):
                torch.manual_seed(seed)  # stochastic depth
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                    losses = either(inputs, mask=mask, masked_index=index, mode="loss")
                results.append((losses, gradients(either, losses["loss"])))
            (eager, eager_gradients), (found, found_gradients) = results
            assert found.keys() == eager.keys() == {"loss", "baseline"}
            for key, value in eager.items():
                torch.testing.assert_close(found[key], value, rtol=1e-5 if precision == "float32" else 1e-2, atol=1e-6)
            check_equal(found_gradients, eager_gradients, bound)


@pytest.mark.parametrize(
    ("name", "precision"), cases(FINE_TUNING, ("clip", "float32"), ("windows", "float32"), ("image_mvit", "bfloat16"))
)
def test_fine_tuning_is_one_graph(name, precision):
    settings, shape = FINE_TUNING[name]
    torch.manual_seed(0)
    model = MODELS.build(settings)
    inputs = torch.randn(shape)
    compiled = compile_copy(model)
    bound = 1e-4 if precision == "float32" else 0.05
    with torch._dynamo.config.patch(error_on_recompile=True):
        for seed in range(2):
            results = []
            for either in (model, compiled):
                torch.manual_seed(seed)  # stochastic depth
                with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                    outs = [out.float() for out in tree_leaves(either(inputs))]
                loss = sum(out.square().mean() for out in outs)
                results.append(([out.detach() for out in outs], gradients(either, loss)))
            (eager, eager_gradients), (found, found_gradients) = results
            tolerance = dict(rtol=1e-4, atol=1e-5) if precision == "float32" else dict(rtol=0.05, atol=0.05)
            torch.testing.assert_close(found, eager, **tolerance)
            check_equal(found_gradients, eager_gradients, bound)


@pytest.mark.parametrize("name", PRETRAINING)
def test_known_places_change_nothing(name):
    """The places of the masked tokens say no more than the mask."""
    model, inputs = build(name)
    mask, index = draw_masks(model, inputs, 0)
    results = []
    for known in (index, None):
        torch.manual_seed(0)
        losses = model(inputs, mask=mask, masked_index=known, mode="loss")
        results.append((losses, gradients(model, losses["loss"])))
    (found, found_gradients), (expected, expected_gradients) = results
    assert {key: float(value) for key, value in found.items()} == {key: float(v) for key, v in expected.items()}
    check_equal(found_gradients, expected_gradients, 0)


def test_a_unit_that_is_masked_in_part_is_refused_in_each_step():
    """Check that a known number of masked tokens does not hide a wrong mask, after a good one either."""
    model, inputs = build("visible_clip")
    mask, index = draw_masks(model, inputs, 0)
    model(inputs, mask=mask, masked_index=index, mode="loss")
    torn = mask.flatten(1).roll(1, 1).view_as(mask)
    with pytest.raises(ValueError, match="only in part"):
        model(inputs, mask=torn, masked_index=masked_places(torn).index, mode="loss")
