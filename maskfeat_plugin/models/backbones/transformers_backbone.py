"""Vision models of Hugging Face's transformers, read from a local folder."""

import inspect
from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModule
from torch import Tensor

from maskfeat_plugin.checkpoints import CheckpointError
from maskfeat_plugin.registry import MODELS


@MODELS.register_module()
class TransformersBackbone(BaseModule):
    """A vision model of transformers as a teacher, such as DINOv2, DINOv3, CLIP or SigLIP.

    Its folder has the files ``config.json`` and ``model.safetensors``, as ``save_pretrained`` and the Hugging Face Hub
    have them. Nothing is downloaded, and no pickle is read. If the model also encodes text, its vision part is used::

        teacher=dict(type='maskfeat.TransformersBackbone', folder='data/targets/clip-vit-base-patch16')

    Args:
        folder (str | Path): The folder.

    Raises:
        ImportError: If transformers is not installed.
        FileNotFoundError: If the folder has no ``config.json``.
        CheckpointError: If the folder has no weights of the model, or lacks some of them.
    """

    def __init__(self, folder: str | Path) -> None:
        super().__init__()
        if not Path(folder, "config.json").is_file():
            raise FileNotFoundError(f"{folder} has no config.json. Give the folder of a downloaded model.")
        try:
            from transformers import AutoModel
        except ImportError as error:
            raise ImportError(
                "maskfeat.TransformersBackbone needs transformers. Run pip install transformers."
            ) from error
        options: dict[str, Any] = dict(local_files_only=True, use_safetensors=True, output_loading_info=True)
        try:
            model, found = AutoModel.from_pretrained(str(folder), dtype=torch.float32, **options)
        except OSError as error:
            raise CheckpointError(f"{folder} has no weights in the format safetensors: {error}") from error
        model = getattr(model, "vision_model", model)
        missing = set(found["missing_keys"])
        lacking = sorted(name for name, _ in model.named_parameters() if missing & {name, f"vision_model.{name}"})
        if lacking:
            raise CheckpointError(
                f"{folder} lacks {len(lacking)} parameters of {type(model).__name__}, such as {lacking[0]!r}."
            )
        self.model = model
        # CLIP and SigLIP take images of other sizes than their own only on request
        resizes = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters
        self.options = dict(interpolate_pos_encoding=True) if resizes else {}
        self._is_init = True  # BaseModule would report weights that were not initialized

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Encode images.

        Args:
            x (Tensor): Images (N, 3, H, W), normalised for the model.

        Returns:
            tuple[Tensor, ...]: The tokens (N, L, C) of each block, with a class token and registers first if the model
            has them. The tokens of the last block have passed the model's final norm, if it has one for tokens.
        """
        output = self.model(x, output_hidden_states=True, **self.options)
        return (*output.hidden_states[1:-1], output.last_hidden_state)  # hidden_states[0] is the embedding
