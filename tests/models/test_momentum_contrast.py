"""MomentumContrast: both losses train the encoder, the teacher follows it, and keys come from all processes."""

import copy
import math
import subprocess

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from warm_python import python

from maskfeat_plugin.config.training_inputs import collate
from maskfeat_plugin.registry import MODELS

BN = dict(type="BN1d")
VIT = dict(arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32), img_size=32, patch_size=8)
MVIT = dict(
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, downscale_indices=[], dim_mul_indices=[]),
    temporal_size=4,
    spatial_size=32,
    patch_cfg=dict(kernel_size=(3, 9, 9), stride=(2, 8, 8), padding=(1, 4, 4)),
    adaptive_kv_stride=(1, 1, 1),
)
DECODER = dict(type="maskfeat.MAEDecoder", in_channels=16, embed_dims=16, num_layers=1, num_heads=2)
VISIBLE = dict(type="maskfeat.VisibleMaskFeat", decoder=DECODER)
# Backbone, settings of the algorithm, size of an input, token grid
KINDS = dict(
    image=(dict(type="maskfeat.MaskedViT", **VIT), {}, (3, 32, 32), (4, 4)),
    clip=(dict(type="maskfeat.MaskedMViT", **MVIT), {}, (3, 4, 32, 32), (2, 4, 4)),
    visible_image=(dict(type="maskfeat.VisibleViT", **VIT), VISIBLE, (3, 32, 32), (4, 4)),
    visible_clip=(dict(type="maskfeat.VisibleMViT", **MVIT), VISIBLE, (3, 4, 32, 32), (2, 4, 4)),
)


@pytest.fixture(autouse=True)
def hub():
    """Return a message hub of this test alone; runners of other tests leave their ``max_iters`` in theirs."""
    before = dict(MessageHub._instance_dict)
    yield MessageHub.get_instance("contrast")
    MessageHub._instance_dict.clear()
    MessageHub._instance_dict.update(before)


def neck(in_channels, out_channels, **settings):
    return dict(
        type="mmpretrain.NonLinearNeck",
        in_channels=in_channels,
        hid_channels=24,
        out_channels=out_channels,
        **dict(dict(with_avg_pool=False, norm_cfg=BN), **settings),
    )


def contrast(head="maskfeat.MoCoV3Head", **settings):
    return dict(
        type="maskfeat.MomentumContrast",
        projector=neck(16, 8),
        head=dict(
            type=head,
            predictor=neck(8, 8),
            loss=dict(type="mmpretrain.CrossEntropyLoss", loss_weight=0.4),
            temperature=0.2,
        ),
        **settings,
    )


def config_of(kind, global_loss):
    backbone, algorithm, _, _ = KINDS[kind]
    return dict(
        dict(type="maskfeat.MaskFeat", global_loss=global_loss),
        backbone=copy.deepcopy(backbone),
        target_generator=dict(type="maskfeat.HOGGenerator", cell_size=4),
        neck=dict(type="maskfeat.RegressionNeck", in_channels=16, out_channels=108),
        head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")),
        **algorithm,
    )


def build(kind="image", global_loss=None):
    torch.manual_seed(0)
    model = MODELS.build(config_of(kind, global_loss))
    model.init_weights()
    return model.train()


def batch(model, kind="image", samples=4, seed=0):
    """Two views of random samples, with a mask of 6 tokens for each view, as the data preprocessor gives them."""
    _, _, size, grid = KINDS[kind]
    random = torch.Generator().manual_seed(seed)
    count = 2 * samples
    inputs = [torch.randint(256, size, generator=random, dtype=torch.uint8) for _ in range(count)]
    places = math.prod(grid)
    masks = [(torch.randperm(places, generator=random) < 6).view(grid) for _ in range(count)]
    pipeline = [dict(type="maskfeat.MultiView", num_views=2)]
    cfg = Config(dict(train_dataloader=dict(dataset=dict(pipeline=pipeline))))
    return collate(cfg, inputs, [DataSample(mask=mask) for mask in masks])


def steps(model, kind="image", count=3, first=0, lr=0.01, optim=None):
    """Train, and return the losses of each step and the optimizer."""
    optim = optim or OptimWrapper(torch.optim.AdamW(model.parameters(), lr=lr))
    found = [model.train_step(batch(model, kind, seed=first + i), optim) for i in range(count)]
    return [{name: value.item() for name, value in losses.items()} for losses in found], optim


def values(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("kind", KINDS)
def test_both_losses_train_the_encoder(kind):
    model = build(kind, contrast(loss_weight=0.5))
    data = model.data_preprocessor(batch(model, kind), training=True)
    losses = model(**data, mode="loss")
    assert losses.keys() == {"loss_maskfeat", "baseline_maskfeat", "loss_global"}
    gradients = {}
    for name in ("loss_maskfeat", "loss_global"):
        model.zero_grad()
        losses[name].backward(retain_graph=True)
        gradients[name] = {key for key, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    encoder = {key for key, _ in model.named_parameters() if key.startswith("backbone.")}
    for name, found in gradients.items():
        assert len(encoder & found) > 0.9 * len(encoder), name
    assert not any(key.startswith("global_loss") for key in gradients["loss_maskfeat"])
    assert not any(key.startswith(("neck", "decoder")) for key in gradients["loss_global"])
    own = {key for key, _ in model.named_parameters() if key.startswith("global_loss")}
    assert own and own <= gradients["loss_global"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_loss_of_the_target_stays_the_same(kind):
    """The predictions come from all tokens here, and from the masked tokens of the last layer in MaskFeat alone."""
    model, alone = build(kind, contrast()), build(kind)
    alone.load_state_dict(model.state_dict(), strict=False)
    data = model.data_preprocessor(batch(model, kind), training=True)
    losses, expected = model(**data, mode="loss"), alone(**data, mode="loss")
    torch.testing.assert_close(losses["loss_maskfeat"], expected["loss"])
    losses["loss_maskfeat"].backward()
    expected["loss"].backward()
    others = dict(alone.named_parameters())
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(p.grad, others[name].grad, msg=name)


@pytest.mark.parametrize("kind", ["image", "visible_clip"])
def test_a_weight_of_zero_is_maskfeat_alone_bit_for_bit(kind):
    model, alone = build(kind, contrast(loss_weight=0)), build(kind)
    assert steps(model, kind)[0] == steps(alone, kind)[0]
    found, expected = model.state_dict(), alone.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def by_hand(model, data):
    """Compute the loss of MoCo v3 with mmpretrain's head."""
    inputs, mask = data["inputs"], data["mask"]
    loss = model.global_loss
    head = MODELS.build(contrast("mmpretrain.MoCoV3Head")["head"])
    head.load_state_dict(loss.head.state_dict())
    backbone, projector = copy.deepcopy(model.backbone), copy.deepcopy(loss.projector)
    visible = [x[~m.flatten()].mean(0) for x, m in zip(backbone(inputs, mask), mask, strict=True)]
    queries = [projector((torch.stack(visible[view::2]),))[0] for view in range(2)]
    whole = backbone(inputs, torch.zeros_like(mask)).mean(1)
    keys = [projector((whole[view::2],))[0] for view in range(2)]
    return head.loss(queries[0], keys[1]) + head.loss(queries[1], keys[0])


@pytest.mark.parametrize("kind", ["image", "clip"])
def test_queries_of_a_view_meet_keys_of_the_other(kind):
    """In the first step, the teacher has the weights of the student."""
    model = build(kind, contrast(loss_weight=0.5))
    data = model.data_preprocessor(batch(model, kind), training=True)
    expected = by_hand(model, data)
    torch.testing.assert_close(model(**data, mode="loss")["loss_global"], 0.5 * expected)
    # rows 2i and 2i + 1 are the views of a sample, so pairing others changes the loss
    data["inputs"] = data["inputs"][[1, 2, 3, 4, 5, 6, 7, 0]]
    assert not torch.isclose(model(**data, mode="loss")["loss_global"], 0.5 * expected, rtol=1e-3)


def test_the_head_of_byol_fits_too():
    head = dict(type="mmpretrain.LatentPredictHead", predictor=neck(8, 8), loss=dict(type="CosineSimilarityLoss"))
    model = build("image", dict(contrast(), head=head))
    losses, _ = steps(model, count=8, lr=0.003)
    assert losses[-1]["loss_global"] < losses[0]["loss_global"]


def test_the_contrast_is_learned():
    """Learn to distinguish four samples. The loss of equal cosines is log(4) for each view, times the weight of 0.4."""
    model = build("image", contrast())
    optim = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.003))
    data = batch(model)
    found = [model.train_step(data, optim)["loss_global"].item() for _ in range(20)]
    assert found[-1] < 0.6 * found[0] and found[-1] < 0.6 * 0.8 * math.log(4)


def follow(model, shares):
    """Train, and check that the teacher takes these shares of the student."""
    optim = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.01))
    teacher = model.global_loss.teacher.network.module
    expected = values(teacher)
    for seed, share in enumerate(shares):
        student = torch.cat([values(model.backbone), values(model.global_loss.projector)])
        expected = (1 - share) * expected + share * student
        model.train_step(batch(model, seed=seed), optim)
        torch.testing.assert_close(values(teacher), expected)
    assert not torch.allclose(values(teacher[0]), values(model.backbone))


def test_the_teacher_moves_by_its_momentum():
    model = build("image", contrast(momentum=0.1))
    follow(model, [1, 0.1, 0.1])
    teacher = values(model.global_loss.teacher.network.module)
    model.eval()
    model(**model.data_preprocessor(batch(model)), mode="loss")
    assert torch.equal(values(model.global_loss.teacher.network.module), teacher)  # it moves only in training


def test_the_momentum_falls_by_half_a_cosine(hub):
    hub.update_info("max_iters", 4)
    model = build("image", contrast(momentum=0.1, end_momentum=0.02))
    share = [0.02 + 0.08 * (math.cos(math.pi * step / 4) + 1) / 2 for step in range(4)]
    follow(model, [1, *share[1:]])
    assert share[2] == pytest.approx(0.06)


def test_the_teacher_starts_with_weights_that_are_loaded_later():
    model, other = build("image", contrast()), build("image", contrast())
    steps(other)
    model.backbone.load_state_dict(other.backbone.state_dict())
    model(**model.data_preprocessor(batch(model)), mode="loss")
    assert torch.equal(values(model.global_loss.teacher.network.module[0]), values(other.backbone))


def test_training_goes_on_from_a_checkpoint(hub):
    hub.update_info("max_iters", 8)
    model = build("image", contrast(momentum=0.1))
    _, optim = steps(model, count=2)
    state = copy.deepcopy(dict(model=model.state_dict(), optim=optim.state_dict()))
    assert any(name.startswith("global_loss.teacher.module.0.layers.1.") for name in state["model"])
    resumed = build("image", contrast(momentum=0.1))
    resumed_optim = OptimWrapper(torch.optim.AdamW(resumed.parameters(), lr=0.01))
    resumed.load_state_dict(state["model"])
    resumed_optim.load_state_dict(state["optim"])
    ours, _ = steps(resumed, count=3, first=2, optim=resumed_optim)
    assert ours == steps(model, count=3, first=2, optim=optim)[0]
    found = resumed.state_dict()
    assert all(torch.equal(found[name], value) for name, value in model.state_dict().items())


def test_no_optimizer_has_the_teacher():
    model = build("image", contrast())
    teacher = {id(p) for p in model.global_loss.teacher.network.parameters()}
    assert teacher and not teacher & {id(p) for p in model.parameters()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_reads_no_value(kind):
    """Run steps on the "meta" device, whose tensors have no values to read."""
    model = build(kind, contrast())
    for backbone in (model.backbone, model.global_loss.teacher.network.module[0]):
        if hasattr(backbone, "_units_checked"):
            backbone._units_checked = True  # the first mask of a training is checked, with one wait
    data = batch(model, kind)
    model = model.to("meta")
    optim = OptimWrapper(torch.optim.AdamW(model.parameters(), lr=0.01))
    MessageHub.get_current_instance().update_info("max_iters", 4)
    for _ in range(2):
        losses = model.train_step(data, optim)
        assert losses["loss_global"].device.type == "meta"


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="^momentum must be between 0 and 1, got 0"):
        build("image", contrast(momentum=0))
    with pytest.raises(ValueError, match="^end_momentum must be 0 or between"):
        build("image", contrast(end_momentum=1.0))
    with pytest.raises(ValueError, match="^loss_weight must be positive"):
        build("image", contrast(loss_weight=-1))
    model = build("image", dict(contrast(), projector=neck(16, 8, with_avg_pool=True)))
    with pytest.raises(ValueError, match=r"global_loss.projector: mmpretrain.NonLinearNeck.*with_avg_pool=False"):
        steps(model, count=1)
    model = build(
        "image",
        dict(
            contrast(),
            head=dict(type="mmpretrain.MAEPretrainHead", loss=dict(type="PixelReconstructionLoss", criterion="L2")),
        ),
    )
    with pytest.raises(ValueError, match=r"global_loss.head: mmpretrain.MAEPretrainHead.*Use maskfeat.MoCoV3Head"):
        steps(model, count=1)


def test_a_batch_needs_two_views():
    model = build("image", contrast())
    random = torch.Generator().manual_seed(0)
    inputs = [torch.randint(256, (3, 32, 32), generator=random, dtype=torch.uint8) for _ in range(4)]
    samples = [DataSample(mask=torch.rand(4, 4, generator=random) < 0.5) for _ in inputs]
    data = model.data_preprocessor(dict(inputs=inputs, data_samples=samples))
    with pytest.raises(ValueError, match=r"4 inputs of 4 samples.*maskfeat.MultiView with num_views=2"):
        model(**data, mode="loss")
    assert len(model(**data, mode="predict")) == 4  # validation needs no views
    data.update(data_samples=None, inputs=data["inputs"][:3], mask=data["mask"][:3])
    data.pop("masked_index", None)
    with pytest.raises(ValueError, match="3 inputs of 1.5 samples"):
        model(**data, mode="loss")


def test_the_head_is_mmpretrains():
    torch.manual_seed(0)
    theirs = MODELS.build(contrast("mmpretrain.MoCoV3Head")["head"])
    ours = MODELS.build(contrast()["head"])
    ours.load_state_dict(theirs.state_dict())
    queries, keys = torch.randn(2, 6, 8)
    assert torch.equal(ours.loss(queries, keys), theirs.loss(queries, keys))


SCRIPT = """
import sys, torch
from torch.distributed import get_rank, init_process_group
from torch.nn.parallel import DistributedDataParallel
from maskfeat_plugin.registry import MODELS

init_process_group("gloo")
config, state, data = torch.load(sys.argv[1], weights_only=True)
model = MODELS.build(config)
model.load_state_dict(state)
share = slice(0, 4) if get_rank() == 0 else slice(4, 8)
parallel = DistributedDataParallel(model.train())
losses = parallel(**{key: value[share] for key, value in data.items()}, mode="loss")
sum(losses[name] for name in ("loss_maskfeat", "loss_global")).backward()
found = [torch.zeros(()) for _ in range(2)]
torch.distributed.all_gather(found, losses["loss_global"].detach())
if get_rank() == 0:
    torch.save((torch.stack(found), {name: p.grad for name, p in model.named_parameters()}), sys.argv[2])
"""


def test_two_processes_gather_their_keys(tmp_path):
    """Compare with one process that has the samples of both. Layer norm replaces batch norm, which depends on them."""
    norm = dict(norm_cfg=dict(type="LN"), with_last_bn=False)
    loss = contrast()
    loss["projector"].update(norm)
    loss["head"]["predictor"].update(norm)
    config, model = config_of("image", loss), build("image", loss)
    data = model.data_preprocessor(batch(model), training=True)
    data.pop("data_samples")
    torch.save((config, model.state_dict(), data), tmp_path / "data.pth")
    (tmp_path / "script.py").write_text(SCRIPT)
    command = [python(), "-W", "ignore", "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    done = subprocess.run(
        [*command, tmp_path / "script.py", tmp_path / "data.pth", tmp_path / "found.pth"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    losses, gradients = torch.load(tmp_path / "found.pth", weights_only=True)
    expected = model(**data, mode="loss")
    (expected["loss_maskfeat"] + expected["loss_global"]).backward()
    torch.testing.assert_close(losses.mean(), expected["loss_global"].detach())
    for name, p in model.named_parameters():
        torch.testing.assert_close(gradients[name], p.grad, rtol=1e-4, atol=1e-5)
    # keys of one process alone would make the task easier
    alone = model(**{key: value[:4] for key, value in data.items()}, mode="loss")["loss_global"]
    assert losses[0] > alone + 0.1


def test_pretrained_weights_flow_into_fine_tuning(tmp_path):
    model = build("image", contrast())
    steps(model)
    torch.save(dict(state_dict=model.state_dict()), tmp_path / "model.pth")
    for kind, settings in (("maskfeat.Pretrained", {}), ("Pretrained", dict(prefix="backbone."))):
        init_cfg = dict(type=kind, checkpoint=str(tmp_path / "model.pth"), **settings)
        backbone = MODELS.build(dict(type="mmpretrain.VisionTransformer", **VIT, init_cfg=init_cfg))
        backbone.init_weights()
        trained = dict(model.backbone.named_parameters())
        for name, p in backbone.named_parameters():
            torch.testing.assert_close(p, trained[name], msg=name)
