"""Tests of docs/faq.md: our own messages are raised, examples run, and links to threads have the right names."""

import re

import pytest
import torch
from examples import ROOT, blocks, read, run, section
from mmengine.config import Config

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.checkpoints import from_state_dict, load_into
from maskfeat_plugin.config.checks import check_config
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import MODELS, TRANSFORMS, WEIGHT_INITIALIZERS

PAGE = read("faq.md")
HEADINGS = re.findall(r"^### (.+)$", PAGE, re.MULTILINE)


def heading(start):
    """Return the message in a heading as a pattern. Its placeholders match any text."""
    (found,) = (h for h in HEADINGS if h.lstrip("`").startswith(start))
    return re.escape(re.match(r"`(.+?)`", found)[1]).replace(r"\.\.\.", ".+")


@pytest.fixture
def config(digits, monkeypatch):
    monkeypatch.chdir(digits)
    return Config.fromfile(ROOT / "configs" / "demo" / "maskfeat_vit-tiny_moving-digits.py")


def test_mask_that_does_not_fit(config):
    config.train_dataloader.dataset.pipeline[2].token_grid = (7, 7)
    with pytest.raises(ConfigError, match=heading("model.backbone, whose tokens")):
        check_config(config, ["train_dataloader"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="mixed precision works on a GPU")
def test_mixed_precision_without_a_gpu(config):
    config.optim_wrapper.type = "AmpOptimWrapper"
    with pytest.raises(ConfigError, match=heading("optim_wrapper.type='AmpOptimWrapper'")):
        check_config(config, ["train_dataloader"])


def test_checkpoint_of_another_architecture():
    with torch.device("meta"):
        small, large = (
            MODELS.build(dict(type="maskfeat.MViT", arch=dict(embed_dims=96, num_layers=n, num_heads=1, **indices)))
            for n, indices in ((2, {}), (9, {}))
            for indices in [dict(downscale_indices=[1], dim_mul_indices=[1])]
        )
    state = {f"backbone.{k}": torch.empty(v.shape) for k, v in small.state_dict().items()}
    with pytest.raises(ValueError, match=heading("Only ...% of the parameters").replace("%", "%", 1)):
        load_into(large, from_state_dict(state, "small.pth"))


def test_component_that_was_not_imported():
    with pytest.raises(KeyError, match="is not in the .* registry"):
        MODELS.build(dict(type="maskfeat.MaskFeet"))
    (code,) = blocks(section(PAGE, "`KeyError: 'maskfeat.MaskFeat is not in the ... registry`"))
    assert run(code)["custom_imports"]["imports"] == ["maskfeat_plugin"]


def test_examples():
    _, checkpoint, grid, hog = (run(code) for code in blocks(PAGE))
    assert WEIGHT_INITIALIZERS.build(checkpoint["init_cfg"]).checkpoint.endswith(".pyth")
    with torch.device("meta"):
        backbone = MODELS.build(grid["backbone"])
    mask = TRANSFORMS.build(grid["mask"])({})["mask"]
    assert backbone.token_grid((256, 256))[-2:] == mask.shape == (16, 16)
    assert hog["picture"].shape == (448, 448, 3) and hog["picture"].any()


def test_shapes_and_sizes_of_the_page():
    generator = MODELS.build(dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=8))
    image = torch.randn(1, 3, 64, 64)
    assert generator(image, torch.ones(1, 1, 4, 4, dtype=torch.bool)).shape == (16, 108)
    assert generator(image, torch.ones(1, 1, 2, 2, dtype=torch.bool)).shape == (4, 432)


def test_threads_have_the_number_of_their_address():
    links = re.findall(r"\[(?:[\w-]+ )?#(\d+)\]\(https://github\.com/[\w-]+/[\w.-]+/(?:issues|pull)/(\d+)\)", PAGE)
    assert len(links) >= 25 and all(text == address for text, address in links)
