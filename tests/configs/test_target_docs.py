"""The examples of docs/targets.md build, and configs that name weights can read these weights."""

import re
from contextlib import nullcontext

import pytest
import torch
from compared import backbones_of_timm
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope
from pages import ROOT, missing_links, python_blocks, read_page, run_block

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.config.checks import check_config
from maskfeat_plugin.errors import ConfigError
from maskfeat_plugin.registry import MODELS

TEXT = read_page("targets.md")
EXAMPLES = python_blocks(TEXT)
PRETRAIN = ROOT / "configs" / "pretrain"
WITH_WEIGHTS = sorted(
    p.name for p in PRETRAIN.glob("maskfeat-*.py") if "data/targets/" in str(Config.fromfile(p).model.target_generator)
)


@pytest.mark.parametrize("section", EXAMPLES)
def test_example_builds(section, tmp_path, monkeypatch):
    scope = run_block(EXAMPLES[section])
    teacher = scope["target_generator"].get("teacher", {}).get("type", "")
    libraries = backbones_of_timm() if "TIMM" in teacher or "Transformers" in teacher else nullcontext()
    with libraries, DefaultScope.overwrite_default_scope("mmpretrain"):
        if "Transformers" in teacher:  # its folder has to exist
            monkeypatch.chdir(tmp_path)
            write_clip(scope["target_generator"]["teacher"]["folder"])
        generator, neck, head = (MODELS.build(scope[name]) for name in ("target_generator", "neck", "head"))
        for transform in scope.get("train_pipeline", ()):
            TRANSFORMS.build(transform)
    assert callable(generator.generate) and callable(neck) and callable(head.loss)
    classes = generator.num_classes
    assert not isinstance(classes, int) or classes == neck.out_channels


def write_clip(folder):
    from transformers import CLIPVisionConfig, CLIPVisionModel

    sizes = dict(hidden_size=48, num_hidden_layers=1, num_attention_heads=3, intermediate_size=96)
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=224, patch_size=16)).save_pretrained(folder)


def test_every_generator_has_its_example():
    from maskfeat_plugin.models import target_generators

    documented = set(re.findall(r"maskfeat\.(\w+Generator)\"", "".join(EXAMPLES.values())))
    registered = {name for name in target_generators.__all__ if name in MODELS.module_dict}
    assert len(registered) > 5 and registered <= documented


def test_links_and_names_of_the_page_exist():
    assert not missing_links(TEXT)
    for pattern in set(re.findall(r"`(maskfeat[-_]\w*[-\w]*_?\*[\w*]*)`", TEXT)):
        assert any((ROOT / "configs").glob(f"*/{pattern}.py")), pattern


@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_missing_weights_are_named_before_training(name, use_data):
    cfg = Config.fromfile(PRETRAIN / name)
    cfg.optim_wrapper.type = "OptimWrapper"
    use_data(cfg.train_dataloader.dataset)
    with pytest.raises(
        ConfigError, match=r"model\.target_generator\.\w+\.init_cfg\.checkpoint='data/targets/.*not there"
    ):
        check_config(cfg, ["train_dataloader"])


def dino_names(depth, width):
    """Return the names and shapes of DINO's released ViT, of any size."""
    shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 197, width)}
    layers = {"patch_embed.proj": (width, 3, 16, 16), "norm": (width,)}
    for i in range(depth):
        block = {"norm1": (width,), "attn.qkv": (3 * width, width), "attn.proj": (width, width), "norm2": (width,)}
        block.update({"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)})
        layers.update({f"blocks.{i}.{name}": shape for name, shape in block.items()})
    for name, shape in layers.items():
        shapes.update({f"{name}.weight": shape, f"{name}.bias": shape[:1]})
    return shapes


@pytest.mark.parametrize("name", [n for n in WITH_WEIGHTS if "-dino_" in n])
def test_dinos_names_are_read(name, tmp_path):
    generator = Config.fromfile(PRETRAIN / name).model.target_generator
    width = 16
    generator.teacher.arch = dict(embed_dims=width, num_layers=2, num_heads=2, feedforward_channels=4 * width)
    generator.teacher.init_cfg.checkpoint = str(tmp_path / "dino.pth")
    state = {key: torch.randn(shape) for key, shape in dino_names(2, width).items()}
    torch.save(state, tmp_path / "dino.pth")
    built = MODELS.build(generator)
    built.init_weights()
    own = built.teacher.network.state_dict()
    assert len(own) == len(state)
    for ours, theirs in (
        ("layers.1.ffn.layers.1.weight", "blocks.1.mlp.fc2.weight"),
        ("layers.0.ln2.bias", "blocks.0.norm2.bias"),
        ("ln1.weight", "norm.weight"),
        ("patch_embed.projection.weight", "patch_embed.proj.weight"),
    ):
        assert torch.equal(own[ours], state[theirs])
