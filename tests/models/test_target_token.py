"""TokenGenerator: the tokenizer's tokens on the token grid, its weights from a file, clear errors."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from maskfeat_plugin.checkpoints import CheckpointError
from maskfeat_plugin.registry import MODELS

DALLE = dict(type="mmpretrain.DALL-E", n_hid=8, n_blk_per_group=1, vocab_size=32)
VIT = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
VQKD = dict(
    type="mmpretrain.VQKD",
    encoder_config=dict(arch=VIT, img_size=64, patch_size=16, out_type="featmap", use_shared_rel_pos_bias=False),
    num_embed=24,
    embed_dims=8,
    quantize_kmeans_init=False,
)
BATCH = dict(image=(2, 3, 32, 32), clip=(2, 3, 4, 32, 32))
GRID = dict(image=(1, 4, 4), clip=(2, 4, 4))


def build(tokenizer=DALLE, **kwargs):
    kwargs = dict(dict(vocab_size=32, mean=None, std=None), **kwargs)
    torch.manual_seed(0)
    return MODELS.build(dict(type="maskfeat.TokenGenerator", tokenizer=dict(tokenizer), patch_size=8, **kwargs))


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Write a file with DALL-E's names, as in the released file."""
    torch.manual_seed(1)
    encoder = MODELS.build(dict(DALLE))
    file = tmp_path_factory.mktemp("dalle") / "dalle_encoder.pth"
    torch.save(encoder.state_dict(), file)
    return encoder, file


def pretrained(file, **kwargs):
    return dict(DALLE, init_cfg=dict(type="Pretrained", checkpoint=str(file), **kwargs))


@settings(max_examples=10, deadline=None)
@given(kind=st.sampled_from(["image", "clip"]), seed=st.integers(0, 2**16))
def test_masked_tokens_equal_the_same_tokens_of_the_whole(kind, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(BATCH[kind], generator=generator)
    mask = torch.rand(2, *GRID[kind], generator=generator) < 0.3
    tokens = build()
    everything = tokens(inputs)
    assert everything.shape == (2, mask[0].numel()) and everything.dtype == torch.int64
    assert 0 <= everything.min() and everything.max() < 32 and len(everything.unique()) > 1
    # a convolution over fewer frames may round differently, which may change the best of nearly equal scores
    same = tokens(inputs, mask) == everything[mask.flatten(1)]
    assert len(same) == mask.sum() and (~same).sum() <= 0.05 * len(same)


def test_tokens_of_dalle(weights):
    """The tokenizer gets 0.1 to 0.9 for black to white and 8 pixels per token, for any normalisation of the model."""
    encoder, file = weights
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor"),
            backbone=dict(type="maskfeat.MaskedViT", arch=VIT, img_size=48, patch_size=16),
            target_generator=dict(type="maskfeat.TokenGenerator", tokenizer=pretrained(file), vocab_size=32),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=16, out_channels=32),
            head=dict(type="maskfeat.ClassificationHead"),
        )
    )
    images = torch.randint(0, 256, (2, 3, 48, 48), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    inputs = model.data_preprocessor(dict(inputs=images))["inputs"]
    found = model.target_generator(inputs)
    small = F.interpolate(images / 255 * 0.8 + 0.1, (24, 24), mode="bicubic", antialias=True)
    with torch.no_grad():
        expected = encoder(small).argmax(1)
    assert expected.shape == (2, 3, 3)
    assert torch.equal(found, expected.flatten(1))


def test_autocast_changes_no_token(weights):
    tokens = build(pretrained(weights[1]))
    images = torch.randn(BATCH["image"], generator=torch.Generator().manual_seed(0))
    full = tokens(images)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(tokens(images), full)


def test_clip_uses_every_second_frame(weights):
    tokens = build(pretrained(weights[1]))
    clips = torch.randn(BATCH["clip"], generator=torch.Generator().manual_seed(0))
    frames = clips[:, :, ::2].transpose(1, 2).flatten(0, 1)
    assert torch.equal(tokens(clips).flatten(), tokens(frames).flatten())


@pytest.mark.parametrize("kind", ["image", "clip"])
def test_vqkd_gives_its_own_tokens(kind):
    tokens = build(VQKD, vocab_size=24, stride=16)
    inputs = torch.randn(BATCH[kind], generator=torch.Generator().manual_seed(0))
    found = tokens(inputs)
    frames = inputs if kind == "image" else inputs[:, :, ::2].transpose(1, 2).flatten(0, 1)
    larger = F.interpolate(frames, (64, 64), mode="bicubic", antialias=True)
    expected = tokens.tokenizer.network.get_tokens(larger)["token"]
    assert torch.equal(found.view_as(expected), expected) and found.max() < 24


def test_the_tokenizer_is_no_part_of_what_is_trained(weights, tmp_path):
    encoder, file = weights
    tokens = build(pretrained(file))
    tokens.init_weights()
    assert not list(tokens.parameters()) and not tokens.state_dict()
    network = tokens.tokenizer.network
    tokens.train()
    assert not network.training and not any(p.requires_grad for p in network.parameters())
    for name, value in encoder.state_dict().items():
        assert torch.equal(network.state_dict()[name], value), name
    assert next(tokens.double().tokenizer.network.parameters()).dtype == torch.float64

    kept = build(pretrained(file), in_checkpoint=True)
    kept.init_weights()
    state = {k: v for k, v in kept.state_dict().items()}
    assert set(state) == {f"tokenizer.{name}" for name in encoder.state_dict()}
    other = build(in_checkpoint=True)
    other.load_state_dict(state)
    inputs = torch.randn(BATCH["image"], generator=torch.Generator().manual_seed(0))
    assert torch.equal(other(inputs), kept(inputs))
    del state["tokenizer.blocks.input.w"]
    with pytest.raises(RuntimeError, match="tokenizer.blocks.input.w"):
        other.load_state_dict(state)


def test_weights_are_read_at_first_use_too(weights):
    inputs = torch.randn(BATCH["image"], generator=torch.Generator().manual_seed(0))
    late = build(pretrained(weights[1]))
    early = build(pretrained(weights[1]))
    early.init_weights()
    assert torch.equal(late(inputs), early(inputs))
    assert not torch.equal(late(inputs), build()(inputs))


def test_bad_weights_are_named(weights, tmp_path):
    encoder, _ = weights
    key = "tokenizer.init_cfg.checkpoint"
    with pytest.raises(FileNotFoundError, match=rf"{key}: .*missing.pth does not exist"):
        build(pretrained(tmp_path / "missing.pth")).init_weights()
    state = encoder.state_dict()
    torch.save({f"target_generator.{k}": v for k, v in state.items()}, tmp_path / "prefixed.pth")
    with pytest.raises(CheckpointError, match=rf"{key}.*Set prefix='target_generator\.' beside the checkpoint"):
        build(pretrained(tmp_path / "prefixed.pth")).init_weights()
    build(pretrained(tmp_path / "prefixed.pth", prefix="target_generator.")).init_weights()
    torch.save({k: v for k, v in state.items() if "group_4" not in k}, tmp_path / "part.pth")
    with pytest.raises(
        CheckpointError, match=r"lacks \d+ of the \d+ parameters of DALLEEncoder, such as 'blocks.group_4"
    ):
        build(pretrained(tmp_path / "part.pth")).init_weights()
    state["blocks.input.b"] = torch.zeros(7)
    torch.save(state, tmp_path / "wide.pth")
    with pytest.raises(CheckpointError, match=r"'blocks.input.b' of the shape \(7,\), but DALLEEncoder needs \(8,\)"):
        build(pretrained(tmp_path / "wide.pth")).init_weights()


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(vocab_size=8192), r"tokenizer\.vocab_size=32, but vocab_size=8192; set .*vocab_size=32"),
        (dict(stride=0), r"^stride must be a positive integer"),
        (dict(mean=0.0, std=None), "^mean and std belong together"),
        (dict(mean=[], std=1.0), "need one number per channel, or one number for all"),
    ],
)
def test_bad_config_is_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_numbers_for_other_channels_are_refused():
    generator = build(mean=[1.0, 2.0], std=[1.0, 2.0])
    preprocessor = MODELS.build(dict(type="maskfeat.MaskFeatDataPreprocessor"))
    with pytest.raises(ValueError, match=r"^mean has 2 numbers .*data_preprocessor 3 and 3"):
        generator.tokenizer.connect(preprocessor)


def test_bad_grids_and_vocabularies_are_named():
    inputs = torch.randn(BATCH["image"])
    with pytest.raises(ValueError, match=r"\(16, 16\) .*the token grid is \(4, 4\); set stride"):
        build(stride=32)(inputs)
    unnamed = {k: v for k, v in DALLE.items() if k != "vocab_size"}
    with pytest.raises(ValueError, match="gives 8192 scores, but vocab_size=32"):
        build(unnamed)(inputs)
    with pytest.raises(ValueError, match=r"Call connect\(\)"):
        build(mean=-31.875, std=318.75)(inputs)


def test_a_neck_of_another_vocabulary_is_named():
    with pytest.raises(ValueError, match="`neck.out_channels` is 108, .* 32 classes. Set `neck.out_channels=32`"):
        MODELS.build(
            dict(
                type="maskfeat.MaskFeat",
                backbone=dict(type="maskfeat.MaskedViT", arch=VIT, img_size=32, patch_size=8),
                target_generator=dict(type="maskfeat.TokenGenerator", tokenizer=dict(DALLE), vocab_size=32),
                neck=dict(type="maskfeat.RegressionNeck", in_channels=16, out_channels=108),
                head=dict(type="maskfeat.ClassificationHead"),
            )
        )
