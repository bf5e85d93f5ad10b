"""Losses and heads of masked tokens: torch's means over the tokens, whole batches or parts, classes, clear errors."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper

from maskfeat_plugin.registry import MODELS

VIT = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)


def loss(kind, **kwargs):
    return MODELS.build(dict(type="maskfeat.MaskedLoss", kind=kind, **kwargs))


def tokens(count=6, channels=5, seed=0):
    return torch.randn(2, count, channels, generator=torch.Generator().manual_seed(seed)).unbind(0)


def classes(kind, count=6, channels=5):
    generator = torch.Generator().manual_seed(1)
    if kind == "hard":
        return torch.randint(0, channels, (count,), generator=generator)
    return torch.randn(count, channels, generator=generator).softmax(-1)


@pytest.mark.parametrize(("kind", "peer"), [("mse", F.mse_loss), ("l1", F.l1_loss), ("smooth_l1", F.smooth_l1_loss)])
def test_regression_losses_are_torchs_means(kind, peer):
    pred, target = tokens()
    torch.testing.assert_close(loss(kind)(pred, target), peer(pred, target))


def test_cosine_ignores_length():
    pred, target = tokens()
    found = loss("cosine")(pred * 7, target * 0.1)
    expected = 1 - (F.normalize(pred) * F.normalize(target)).sum(-1).mean()
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_cross_entropy_of_classes_and_of_distributions(kind):
    pred, _ = tokens()
    target = classes(kind)
    shares = F.one_hot(target, 5).float() if kind == "hard" else target
    expected = -(shares * pred.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(loss("cross_entropy")(pred, target), expected)
    torch.testing.assert_close(loss("cross_entropy", loss_weight=3.0)(pred.double(), target), 3 * expected)


@pytest.mark.parametrize("kind", ["mse", "l1", "smooth_l1", "cosine", "cross_entropy"])
def test_no_masked_token_is_no_loss_and_no_gradient(kind):
    pred = torch.zeros(0, 5, requires_grad=True)
    value = loss(kind)(pred, torch.zeros(0, 5))
    value.backward()
    assert value == 0 and pred.grad.shape == (0, 5)


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_classification_baseline_is_that_of_the_frequencies(kind):
    """No constant prediction is better: gradient descent finds the same loss."""
    pred, _ = tokens(count=40)
    target = classes(kind, count=40)
    head = MODELS.build(dict(type="maskfeat.ClassificationHead"))
    logits = torch.zeros(5, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=100)

    def closure():
        optimizer.zero_grad()
        value = F.cross_entropy(logits.expand(40, -1), target)
        value.backward()
        return value

    optimizer.step(closure)
    torch.testing.assert_close(head.baseline(pred, target), closure().detach(), atol=1e-4, rtol=1e-4)


def test_heads_name_what_does_not_fit():
    regression = MODELS.build(dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")))
    classification = MODELS.build(dict(type="maskfeat.ClassificationHead"))
    pred, target = tokens()
    with pytest.raises(ValueError, match=r"\(6, 5\), but the target is \(6, 4\); set out_channels=4 of the neck"):
        regression.loss(pred, target[:, :4])
    with pytest.raises(ValueError, match="use maskfeat.ClassificationHead"):
        regression.loss(pred, classes("hard"))
    with pytest.raises(ValueError, match="has 4 classes; set out_channels=4 of the neck"):
        classification.loss(pred, target[:, :4])
    with pytest.raises(ValueError, match=r"Classes must be \(M,\) int64"):
        classification.loss(pred, target[:, 0])


@pytest.mark.parametrize("kind", ["mse", "cosine"])
def test_accumulated_gradients_are_those_of_the_whole_batch(kind):
    torch.manual_seed(0)
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            backbone=dict(type="maskfeat.MaskedViT", arch=VIT, img_size=32, patch_size=8),
            target_generator=dict(type="maskfeat.PixelGenerator"),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=16, out_channels=192),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind=kind)),
        )
    )
    model.init_weights()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(4, 1, 16, dtype=torch.bool)
    for i in range(4):
        mask[i, 0, torch.randperm(16, generator=torch.Generator().manual_seed(i))[:6]] = True
    mask = mask.view(4, 1, 4, 4)

    def gradients(parts):
        optim = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.0), accumulative_counts=parts)
        optim.initialize_count_status(model, 0, parts)
        model.zero_grad()
        for part in range(parts):
            rows = slice(part * 4 // parts, (part + 1) * 4 // parts)
            value = model(images[rows], mask=mask[rows], mode="loss")["loss"]
            optim.backward(optim.scale_loss(value))
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    whole, halves = gradients(1), gradients(2)
    assert whole.keys() == halves.keys()
    for name, gradient in whole.items():
        torch.testing.assert_close(halves[name], gradient, atol=1e-6, rtol=1e-4)
