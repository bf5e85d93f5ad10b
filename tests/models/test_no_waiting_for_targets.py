"""No target makes a training step wait for the device, if all samples mask equally many tokens."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from test_compiled import MVIT, VIT, draw_masks
from test_no_waiting import Device
from torch import nn

from maskfeat_plugin.models.target_generators import TargetGenerator
from maskfeat_plugin.models.utils import TokenPlaces
from maskfeat_plugin.registry import MODELS

TINY = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
DALLE = dict(type="mmpretrain.DALL-E", n_hid=8, n_blk_per_group=1, vocab_size=32)
VQKD = dict(
    type="mmpretrain.VQKD",
    encoder_config=dict(arch=TINY, img_size=64, patch_size=16, out_type="featmap", use_shared_rel_pos_bias=False),
    num_embed=32,
    embed_dims=8,
    quantize_kmeans_init=False,
)
RESNET = dict(type="mmpretrain.ResNet", depth=18, base_channels=8)
CLASSIFIER = dict(
    type="mmpretrain.ImageClassifier",
    backbone=dict(type="ResNet", depth=18, base_channels=8),
    head=dict(type="LinearClsHead", num_classes=5, in_channels=64),
)
CLIP_TEACHER = dict(
    type="mmaction.MViT",
    arch=dict(embed_dims=16, num_layers=2, num_heads=1, downscale_indices=[]),
    temporal_size=4,
    spatial_size=64,
)
HOG, PIXELS = dict(type="maskfeat.HOGGenerator"), dict(type="maskfeat.PixelGenerator")
TEACHER, TOKENS = "maskfeat.TeacherGenerator", "maskfeat.TokenGenerator"
IMAGE_TEACHER = dict(type=TEACHER, teacher=RESNET)

# Input, target, and numbers of channels; classes if negative
TARGETS = dict(
    hog=("image", HOG, 108),
    hog_blocks=("image", dict(HOG, block_size=2), 432),
    hog_clip=("clip", HOG, 27),
    motion=("clip", dict(type="maskfeat.MotionHOGGenerator"), 27),
    pixels=("image", PIXELS, 768),
    pixels_clip=("clip", PIXELS, 192),
    dalle=("image", dict(type=TOKENS, tokenizer=DALLE, vocab_size=32), -32),
    dalle_clip=("clip", dict(type=TOKENS, tokenizer=DALLE, vocab_size=32), -32),
    vqkd=("image", dict(type=TOKENS, tokenizer=VQKD, vocab_size=32, stride=16, mean=127.5, std=127.5), -32),
    teacher=("image", IMAGE_TEACHER, 64),
    teacher_frames=("clip", dict(IMAGE_TEACHER, mean=0.0, std=255.0), 64),
    teacher_clip=("clip", dict(type=TEACHER, teacher=CLIP_TEACHER, input_type="clip"), 16),
    labels=("image", dict(type="maskfeat.PseudoLabelGenerator", classifier=CLASSIFIER, num_classes=5), -5),
    labels_clip=("clip", dict(type="maskfeat.PseudoLabelGenerator", classifier=CLASSIFIER, num_classes=5), -5),
    label_maps=("image", dict(type="maskfeat.LabelMapGenerator", num_classes=5), -5),
    label_maps_clip=("clip", dict(type="maskfeat.LabelMapGenerator", num_classes=5), -5),
    self_teacher=("image", dict(type="maskfeat.SelfTeacherGenerator", num_layers=2), 24),
    self_teacher_clip=("clip", dict(type="maskfeat.SelfTeacherGenerator"), 16),
    of_another_package=("image", dict(type="maskfeat.ColoursInTest"), 3),
    several=("image", dict(type="maskfeat.MultiTargetGenerator", targets=dict(a=HOG, b=PIXELS, c=IMAGE_TEACHER)), {}),
)
SEVERAL = dict(a=108, b=768, c=64)


@MODELS.register_module(force=True)
class ColoursInTest(nn.Module):
    """A target as mmpretrain has them: of whole images, without a mask."""

    def forward(self, images):
        return F.avg_pool2d(images, 16).flatten(2).mT


def part(kind, channels, **settings):
    """Config of a neck or a head for a target."""
    if kind == "neck":
        return dict(type="maskfeat.RegressionNeck", out_channels=abs(channels), **settings)
    if channels < 0:
        return dict(type="maskfeat.ClassificationHead")
    return dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss"))


def build(name):
    """A small model with a target, initialised as at the start of a training, and inputs for it."""
    kind, target, channels = TARGETS[name]
    image = kind == "image"
    backbone, width = (
        (dict(type="maskfeat.MaskedViT", **VIT), 24) if image else (dict(type="maskfeat.MaskedMViT", **MVIT), 16)
    )
    if name == "several":
        necks = {key: part("neck", value, in_channels=width) for key, value in SEVERAL.items()}
        heads = {key: part("head", value) for key, value in SEVERAL.items()}
        neck, head = (
            dict(type="maskfeat.MultiTargetNeck", necks=necks),
            dict(type="maskfeat.MultiTargetHead", heads=heads),
        )
    else:
        neck, head = part("neck", channels, in_channels=width), part("head", channels)
    torch.manual_seed(0)
    model = MODELS.build(
        dict(type="maskfeat.MaskFeat", backbone=backbone, target_generator=target, neck=neck, head=head)
    )
    model.target_generator.init_weights()
    return model.train(), torch.randn((2, 3, 64, 64) if image else (2, 3, 4, 64, 64))


def samples_with(mask, seed=0):
    """Samples with masks and label maps of five classes."""
    random = torch.Generator().manual_seed(seed)
    scores, classes = (
        torch.rand(len(mask), 3, *mask.shape[1:], generator=random),
        torch.randint(0, 5, (len(mask), 3, *mask.shape[1:]), generator=random),
    )
    maps = torch.stack((scores, classes.float()), 1)
    return [
        DataSample(mask=m.squeeze(0) if len(m) == 1 else m, label_map=one) for m, one in zip(mask, maps, strict=True)
    ]


def test_all_targets_are_here():
    known = {cls for cls in MODELS.module_dict.values() if isinstance(cls, type) and issubclass(cls, TargetGenerator)}
    assert known == {MODELS.get(target["type"]) for _, target, _ in TARGETS.values()} - {ColoursInTest}


@pytest.mark.parametrize("name", TARGETS)
def test_step_reads_no_value(name):
    model, inputs = build(name)
    mask, _ = draw_masks(model, inputs, 0)
    batch = dict(inputs=[x.to(torch.uint8) for x in inputs], data_samples=samples_with(mask))
    for target in model.target_generator.modules():  # the first classes of a training are checked, with one wait
        target._classes_checked = target._ids_checked = True
    model = model.to("meta")
    if name.startswith("self_teacher"):  # "meta" gets new parameters, other devices get new values of the old ones
        average = model.target_generator.teacher.network
        average.avg_parameters = dict(average.module.named_parameters())
    optim_wrapper = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=1e-3))
    with Device():
        for _ in range(2):
            outputs = model.train_step(batch, optim_wrapper)
    assert all(value.device.type == "meta" for value in outputs.values()) and "loss" in outputs


@pytest.mark.parametrize("name", TARGETS)
def test_known_places_change_no_target(name):
    """One sample of a clip masks no token of its first time step, for which a target without places runs no network."""
    model, inputs = build(name)
    mask, _ = draw_masks(model, inputs, 0)
    if mask.shape[1] > 1:
        mask[0] = False
        mask[0, 1:].view(-1)[: int(mask[1].sum())] = True
    index = mask.flatten(1).to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, : int(mask[0].sum())]
    samples = samples_with(mask)
    model.eval()  # the moving average of SelfTeacherGenerator stays as it is
    expected = model.target_generator(inputs, mask, samples)
    takes = {"places": TokenPlaces(tuple(mask.shape[1:]), index)}
    found = model.target_generator(inputs, mask, samples, **takes)
    for key in expected if isinstance(expected, dict) else [...]:
        ours, theirs = (found, expected) if key is ... else (found[key], expected[key])
        assert len(ours) == mask.sum()
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_classes_beyond_the_number_are_refused_in_each_step():
    """On a CPU, which does not wait for itself."""
    model, inputs = build("label_maps")
    mask, _ = draw_masks(model, inputs, 0)
    samples = samples_with(mask)
    model.target_generator(inputs, mask, samples)
    samples[0].label_map[1] = 7
    with pytest.raises(ValueError, match="classes of 0 to 7"):
        model.target_generator(inputs, mask, samples)


@pytest.mark.parametrize("name", ["label_maps", "vqkd"])
def test_the_first_classes_are_read_on_each_device(name):
    """The test above can fail: the first step of a training waits once."""
    model, inputs = build(name)
    mask, _ = draw_masks(model, inputs, 0)
    batch = dict(inputs=[x.to(torch.uint8) for x in inputs], data_samples=samples_with(mask))
    model = model.to("meta")
    with Device(), pytest.raises(RuntimeError, match="meta"):
        model.train_step(batch, OptimWrapper(torch.optim.AdamW(model.parameters())))
