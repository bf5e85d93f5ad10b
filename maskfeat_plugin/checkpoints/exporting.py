"""Export of converted weights, with the further files that users of the weights need."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor

from maskfeat_plugin.files import writing

from .architecture import ViTSettings, vit_settings
from .errors import CheckpointError
from .model_card import WRITER, model_card
from .reader import Checkpoint
from .writer import Conversion, convert, write_checkpoint

_HF_FILE = "model.safetensors"


def export_checkpoint(
    checkpoint: Checkpoint,
    path: str | Path,
    to: str,
    source: Path | None = None,
    config: Config | None = None,
) -> Conversion:
    """Convert and write a checkpoint and a model card, which has the name of the file with the ending ``.md``.

    "hf" also gets a ``config.json``. "maskfeat" also gets the config, if there is one, under the name of the file with
    the ending ``.py``; :func:`.from_pretrained` reads it.

    Args:
        checkpoint (Checkpoint): The weights.
        path (str | Path): File to write, see :func:`write_checkpoint`; for "hf" ``FOLDER/model.safetensors``.
        to (str): One of :data:`TARGETS`.
        source (Path, optional): The file that the weights were read from, to store its hash. Defaults to None: no hash.
        config (Config, optional): Config of the model, for the model card and the number of
            heads. Defaults to None.

    Returns:
        Conversion: The tensors that were written, and a row for each.

    Raises:
        CheckpointError: As :func:`write_checkpoint` and :func:`vit_settings`, or if an additional file would replace
            an existing one. Then nothing is written.
        FileNotFoundError: If the folder does not exist.
        WriteError: If a file cannot be written, as on a full disk.
    """
    path = Path(path)
    if path.suffix in (".md", ".py"):
        raise CheckpointError(f"{path} cannot be the name of weights. Give one that ends in .pth or .safetensors.")
    state = convert(checkpoint, to).state
    if to == "torchvision":
        _check_size(state, checkpoint.source)
    beside: dict[Path, str] = {}
    vit = vit_settings(checkpoint, config) if to in ("timm", "hf") else None
    if to == "hf" and vit:
        if path.name != _HF_FILE:
            raise CheckpointError(f"transformers reads folders with a {_HF_FILE}. Give FOLDER/{_HF_FILE}, not {path}.")
        beside[path.with_name("config.json")] = json.dumps(_hf_config(vit), indent=2) + "\n"
    own = path.with_suffix(".py")
    if to == "maskfeat" and config is not None and own.resolve() != Path(config.filename or "").resolve():
        beside[own] = f"# Written by {WRITER}\n{config.pretty_text}\n"
    card = path.with_suffix(".md")
    for file in (*beside, card):
        if file.exists() and WRITER not in file.read_text(errors="replace"):
            raise CheckpointError(f"{file} exists and was not written by {WRITER}. Give the output another name.")
    conversion = write_checkpoint(checkpoint, path, to, source)
    beside[card] = model_card(checkpoint, path, conversion.block, config, vit)
    for file, text in beside.items():
        with writing(file) as unfinished:
            unfinished.write_text(text)
    return conversion


def _check_size(state: Mapping[str, Tensor], source: str) -> None:
    """Refuse weights of another size than ``mvit_v2_s``. The head may have any number of classes, or be missing."""
    from torchvision.models.video import mvit_v2_s

    with torch.device("meta"):
        wanted = {name: tuple(value.shape) for name, value in mvit_v2_s().state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    other = [name for name in wanted if not name.startswith("head.") and found.get(name) != wanted[name]]
    if other or not found.keys() <= wanted.keys():
        name = other[0] if other else next(name for name in found if name not in wanted)
        raise CheckpointError(
            f"{source} is of another size than torchvision's mvit_v2_s: {name} is {found.get(name)} instead of "
            f"{wanted.get(name)}. Only arch='small' for 16 frames of 224 x 224 pixels can be converted."
        )


def _hf_config(vit: ViTSettings) -> dict[str, Any]:
    config: dict[str, Any] = dict(
        architectures=["ViTForImageClassification" if vit.num_classes else "ViTModel"],
        model_type="vit",
        image_size=vit.image_size,
        patch_size=vit.patch_size,
        num_channels=vit.in_channels,
        hidden_size=vit.width,
        num_hidden_layers=vit.depth,
        num_attention_heads=vit.num_heads,
        intermediate_size=vit.mlp_width,
        hidden_act="gelu",
        layer_norm_eps=1e-6,
        qkv_bias=vit.qkv_bias,
        written_by=WRITER,
    )
    if vit.num_classes:
        config["id2label"] = {str(i): f"LABEL_{i}" for i in range(vit.num_classes)}
    return config
