"""PseudoLabelGenerator and LabelMapGenerator: class distributions of masked tokens."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample

from maskfeat_plugin.registry import MODELS

RESNET = dict(
    type="mmpretrain.ImageClassifier",
    backbone=dict(type="ResNet", depth=18, base_channels=8),
    neck=dict(type="GlobalAveragePooling"),
    head=dict(type="LinearClsHead", num_classes=5, in_channels=64),
)
VIT_ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
VIT = dict(
    type="mmpretrain.ImageClassifier",
    backbone=dict(type="VisionTransformer", arch=VIT_ARCH, img_size=32, patch_size=8, out_type="featmap"),
    head=dict(
        type="VisionTransformerClsHead", num_classes=5, in_channels=16, init_cfg=dict(type="Normal", layer="Linear")
    ),
)
MVIT = dict(
    type="mmaction.Recognizer3D",
    backbone=dict(
        type="MViT",
        arch=dict(embed_dims=16, num_layers=2, num_heads=1, downscale_indices=[]),
        temporal_size=4,
        spatial_size=32,
    ),
    cls_head=dict(type="MViTHead", num_classes=5, in_channels=16),
)
SHAPE = dict(image=(2, 3, 32, 32), clip=(2, 3, 4, 32, 32))
GRID = dict(image=(1, 4, 4), clip=(2, 4, 4))


def build(classifier, **kwargs):
    torch.manual_seed(0)
    kwargs = dict(dict(num_classes=5, patch_size=8), **kwargs)
    generator = MODELS.build(dict(type="maskfeat.PseudoLabelGenerator", classifier=classifier, **kwargs))
    generator.init_weights()
    return generator


def randn(kind, seed=0):
    return torch.randn(SHAPE[kind], generator=torch.Generator().manual_seed(seed))


@settings(max_examples=12, deadline=None)
@given(
    case=st.sampled_from([("image", RESNET, "image"), ("clip", VIT, "image"), ("clip", MVIT, "clip")]),
    seed=st.integers(0, 2**16),
)
def test_masked_tokens_equal_the_same_tokens_of_the_whole(case, seed):
    kind, classifier, input_type = case
    labels = build(classifier, input_type=input_type)
    inputs = randn(kind, seed)
    mask = torch.rand(2, *GRID[kind], generator=torch.Generator().manual_seed(seed)) < 0.3
    everything = labels(inputs)
    assert everything.shape == (2, mask[0].numel(), 5)
    torch.testing.assert_close(everything.sum(-1), torch.ones(everything.shape[:2]))
    torch.testing.assert_close(labels(inputs, mask), everything[mask.flatten(1)], atol=1e-5, rtol=1e-4)
    assert everything.flatten(0, 1).std(0).max() > 1e-4


@pytest.mark.parametrize("scope", ["mmpretrain", "mmaction", "mmdet"])
def test_pooled_it_is_the_classifier_itself(scope):
    """On a grid of one token, the token is the whole image, and the result is the classifier's usual output."""
    with DefaultScope.overwrite_default_scope(scope):
        labels = build(RESNET)
    images = randn("image")
    found = labels(images, torch.ones(2, 1, 1, 1, dtype=torch.bool))
    with torch.no_grad():
        expected = labels.classifier.network(images, mode="tensor").softmax(-1)
    torch.testing.assert_close(found, expected)


def test_places_of_a_vit_by_hand():
    labels = build(VIT, temperature=0.5)
    images = randn("image")
    network = labels.classifier.network
    with torch.no_grad():
        (features,) = network.backbone(images)  # (2, 16, 4, 4)
        logits = network.head.layers.head(features.flatten(2).mT)
    torch.testing.assert_close(labels(images), (logits / 0.5).softmax(-1))


def test_a_coarser_map_is_spread_over_the_tokens():
    labels = build(RESNET)
    images = randn("image")
    assert labels.classifier.network.backbone(images)[-1].shape[-2:] == (1, 1)
    found = labels(images)
    torch.testing.assert_close(found, found[:, :1].expand_as(found))


def test_bad_config_is_named():
    with pytest.raises(ValueError, match="input_type='video' is unknown"):
        build(RESNET, input_type="video")
    with pytest.raises(ValueError, match="temperature must be positive"):
        build(RESNET, temperature=0)
    with pytest.raises(ValueError, match=r"classifier \(ResNet\) must have a backbone and a head"):
        build(dict(type="mmpretrain.ResNet", depth=18))
    with pytest.raises(ValueError, match="has 5 classes, but num_classes=1000; set .*num_classes=5"):
        build(RESNET, num_classes=1000)(randn("image"))
    pooled = dict(VIT, backbone=dict(VIT["backbone"], out_type="cls_token"))
    with pytest.raises(ValueError, match="which has no grid to map onto the token grid; .*out_type='featmap'"):
        build(pooled)(randn("image"))
    with pytest.raises(ValueError, match="wants clips .* set input_type='image'"):
        build(MVIT, input_type="clip")(randn("image"))
    with pytest.raises(ValueError, match="token grid"):
        build(RESNET)(randn("image"), torch.ones(2, 1, 5, 4, dtype=torch.bool))


def samples(maps):
    return [DataSample(label_map=m) for m in maps]


@settings(max_examples=20, deadline=None)
@given(clips=st.integers(1, 2), seed=st.integers(0, 2**16))
def test_label_maps_are_the_normalised_sums_of_their_scores(clips, seed):
    generator = torch.Generator().manual_seed(seed)
    grid, entries = (2, 3, 4), 3
    scores = torch.rand(2, clips, entries, *grid, generator=generator)
    classes = torch.randint(0, 5, (2, clips, entries, *grid), generator=generator)
    scores[0, 0, :, 0, 0, 0] = 0  # a token without a label
    maps = torch.stack((scores, classes.float()), 2)
    labels = MODELS.build(dict(type="maskfeat.LabelMapGenerator", num_classes=5))
    inputs = torch.zeros(2 * clips, 3, 4, 24, 32)
    mask = torch.rand(2 * clips, *grid, generator=generator) < 0.5
    mask[0, 0, 0, 0] = True
    found = labels(inputs, mask, samples(maps if clips > 1 else maps[:, 0]))
    expected = torch.zeros(2 * clips, *grid, 5)
    for n, t, r, c in mask.nonzero().tolist():
        for e in range(entries):
            place = (n // clips, n % clips, e, t, r, c)
            expected[n, t, r, c, classes[place]] += scores[place]
    expected = expected[mask]
    assert found[0].sum() == 0
    torch.testing.assert_close(found[1:], expected[1:] / expected[1:].sum(-1, keepdim=True))
    everything = labels(inputs, None, samples(maps if clips > 1 else maps[:, 0]))
    torch.testing.assert_close(everything[mask.flatten(1)], found)


def test_bad_label_maps_are_named():
    labels = MODELS.build(dict(type="maskfeat.LabelMapGenerator", num_classes=5))
    inputs, mask = torch.zeros(1, 3, 32, 32), torch.ones(1, 1, 4, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="no 'label_map'; add maskfeat.LoadLabelMap to the pipeline"):
        labels(inputs, mask)
    with pytest.raises(ValueError, match="no 'label_map'"):
        labels(inputs, mask, [DataSample()])
    with pytest.raises(ValueError, match=r"token grid is \(1, 1, 2, 2\).*set token_grid of maskfeat.LoadLabelMap"):
        labels(inputs, mask, samples(torch.zeros(1, 2, 1, 1, 2, 2)))
    with pytest.raises(ValueError, match="classes of 7 to 7, but num_classes=5"):
        labels(inputs, mask, samples(torch.full((1, 2, 1, 1, 4, 4), 7.0)))
