"""Key names of other projects, each as a table of pairs with the canonical names.

The canonical names are the names of this package's own models: ``backbone.`` followed by the parameter names of
``mmpretrain.VisionTransformer`` or ``mmaction.MViT`` and ``mask_token``; ``neck.fc.`` for the prediction layer of
pre-training; ``head.fc.`` (images) or ``cls_head.fc_cls.`` (clips) for a classifier. In a ViT, ``ln1`` is the final
norm of the tokens and ``ln2`` the norm after mean pooling. In an MViT, the final norm is the norm of the last scale.

Tables are one-to-one, so each of them serves reading and writing. Foreign names have no prefix ``backbone.``.
"""

import re
from collections.abc import Iterable
from functools import lru_cache

Pairs = tuple[tuple[str, str], ...]
LAYER = "\0"  # stands for the number of a layer in a collapsed name

_FIELDS = {"i": r"\d+", "k": r"\d+", "p": "weight|bias", "s": "[qkv]", "axis": "[hwt]", "qv": "[qv]"}


@lru_cache(maxsize=1024)
def _pattern(template: str) -> re.Pattern:
    parts = re.split(r"\{(\w+)\}", template)
    text = "".join(
        f"(?P<{part}>{_FIELDS[part]})" if odd else re.escape(part)
        for part, odd in zip(parts, (i % 2 for i in range(len(parts))), strict=True)
    )
    return re.compile(text)


class NameTable:
    """One-to-one table of key names, written as templates such as ``blocks.{i}.norm1.{p}``.

    Args:
        pairs (Iterable[tuple[str, str]]): Foreign template and canonical template, with the same fields.
        aliases (Iterable[tuple[str, str]]): Further foreign templates that are read but never written.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]], aliases: Iterable[tuple[str, str]] = ()) -> None:
        self._pairs = tuple(pairs)
        self._aliases = tuple(aliases)

    def to_canonical(self, key: str) -> str | None:
        """Return the canonical name of a foreign key, None if the table has no such key."""
        return _translate(key, (*self._pairs, *self._aliases))

    def from_canonical(self, key: str) -> str | None:
        """Return the foreign name of a canonical key, None if that project has no such key."""
        return _translate(key, ((canonical, foreign) for foreign, canonical in self._pairs))


def _translate(key: str, pairs: Iterable[tuple[str, str]]) -> str | None:
    for source, target in pairs:
        match = _pattern(source).fullmatch(key)
        if match:
            return target.format(**match.groupdict())
    return None


def _backbone(*names: str) -> Pairs:
    """Pair names with the canonical names, which differ only in the prefix."""
    return tuple((name, f"backbone.{name}") for name in names)


_TOKENS = _backbone("cls_token", "mask_token", "pos_embed")
_MVIT_BLOCKS = _backbone(
    "blocks.{i}.norm1.{p}",
    "blocks.{i}.norm2.{p}",
    "blocks.{i}.attn.qkv.{p}",
    "blocks.{i}.attn.proj.{p}",
    "blocks.{i}.attn.pool_{s}.weight",
    "blocks.{i}.attn.norm_{s}.{p}",
    "blocks.{i}.attn.rel_pos_{axis}",
    "blocks.{i}.mlp.fc1.{p}",
    "blocks.{i}.mlp.fc2.{p}",
    "blocks.{i}.proj.{p}",
)
_SLOWFAST_VIT = (
    *_TOKENS,
    ("patch_embed.proj.{p}", "backbone.patch_embed.projection.{p}"),
    ("blocks.{i}.norm1.{p}", "backbone.layers.{i}.ln1.{p}"),
    ("blocks.{i}.attn.qkv.{p}", "backbone.layers.{i}.attn.qkv.{p}"),
    ("blocks.{i}.attn.proj.{p}", "backbone.layers.{i}.attn.proj.{p}"),
    ("blocks.{i}.norm2.{p}", "backbone.layers.{i}.ln2.{p}"),
    ("blocks.{i}.mlp.fc1.{p}", "backbone.layers.{i}.ffn.layers.0.0.{p}"),
    ("blocks.{i}.mlp.fc2.{p}", "backbone.layers.{i}.ffn.layers.1.{p}"),
)
_SLOWFAST_PREDICTION = (("pred_head.projections.0.{p}", "neck.fc.{p}"),)
# mmselfsup 0.x and its first release candidates of 1.0 had the prediction layer in the head
_MMSELFSUP_ALIASES = (("head.head.{p}", "neck.fc.{p}"), ("head.predictor.fc.{p}", "neck.fc.{p}"))

SLOWFAST_VIT_PRETRAIN = NameTable(
    (*_SLOWFAST_VIT, ("pred_head.transforms.0.0.{p}", "backbone.ln1.{p}"), *_SLOWFAST_PREDICTION)
)
SLOWFAST_VIT_FINETUNE = NameTable(
    (*_SLOWFAST_VIT, ("norm.{p}", "backbone.ln2.{p}"), ("head.projection.{p}", "head.fc.{p}"))
)
# timm and the projects that use its names: ``norm`` is the norm before pooling, ``fc_norm`` the norm after it
TIMM_VIT = NameTable(
    (
        *(pair for pair in _SLOWFAST_VIT if pair[0] != "mask_token"),
        ("blocks.{i}.ls1.gamma", "backbone.layers.{i}.attn.gamma1.weight"),
        ("blocks.{i}.ls2.gamma", "backbone.layers.{i}.ffn.gamma2.weight"),
        ("norm.{p}", "backbone.ln1.{p}"),
        ("fc_norm.{p}", "backbone.ln2.{p}"),
        ("head.{p}", "head.fc.{p}"),
    ),
    (
        ("blocks.{i}.gamma_1", "backbone.layers.{i}.attn.gamma1.weight"),
        ("blocks.{i}.gamma_2", "backbone.layers.{i}.ffn.gamma2.weight"),
    ),
)
_TORCHVISION_LAYER = "encoder.layers.encoder_layer_{i}"
TORCHVISION_VIT = NameTable(
    (
        ("class_token", "backbone.cls_token"),
        ("encoder.pos_embedding", "backbone.pos_embed"),
        ("conv_proj.{p}", "backbone.patch_embed.projection.{p}"),
        (f"{_TORCHVISION_LAYER}.ln_1.{{p}}", "backbone.layers.{i}.ln1.{p}"),
        (f"{_TORCHVISION_LAYER}.self_attention.in_proj_{{p}}", "backbone.layers.{i}.attn.qkv.{p}"),
        (f"{_TORCHVISION_LAYER}.self_attention.out_proj.{{p}}", "backbone.layers.{i}.attn.proj.{p}"),
        (f"{_TORCHVISION_LAYER}.ln_2.{{p}}", "backbone.layers.{i}.ln2.{p}"),
        (f"{_TORCHVISION_LAYER}.mlp.0.{{p}}", "backbone.layers.{i}.ffn.layers.0.0.{p}"),
        (f"{_TORCHVISION_LAYER}.mlp.3.{{p}}", "backbone.layers.{i}.ffn.layers.1.{p}"),
        ("encoder.ln.{p}", "backbone.ln1.{p}"),
        ("heads.head.{p}", "head.fc.{p}"),
    ),
    (
        (f"{_TORCHVISION_LAYER}.mlp.linear_1.{{p}}", "backbone.layers.{i}.ffn.layers.0.0.{p}"),
        (f"{_TORCHVISION_LAYER}.mlp.linear_2.{{p}}", "backbone.layers.{i}.ffn.layers.1.{p}"),
    ),
)
_HF_LAYER = "encoder.layer.{i}"
# As in the files of the Hub. transformers 5 uses other names in memory, and converts them when it reads and writes.
# Query, key and value are separate layers in a file.
HF_VIT = NameTable(
    (
        ("embeddings.cls_token", "backbone.cls_token"),
        ("embeddings.mask_token", "backbone.mask_token"),
        ("embeddings.position_embeddings", "backbone.pos_embed"),
        ("embeddings.patch_embeddings.projection.{p}", "backbone.patch_embed.projection.{p}"),
        (f"{_HF_LAYER}.layernorm_before.{{p}}", "backbone.layers.{i}.ln1.{p}"),
        (f"{_HF_LAYER}.attention.attention.qkv.{{p}}", "backbone.layers.{i}.attn.qkv.{p}"),
        (f"{_HF_LAYER}.attention.output.dense.{{p}}", "backbone.layers.{i}.attn.proj.{p}"),
        (f"{_HF_LAYER}.layernorm_after.{{p}}", "backbone.layers.{i}.ln2.{p}"),
        (f"{_HF_LAYER}.intermediate.dense.{{p}}", "backbone.layers.{i}.ffn.layers.0.0.{p}"),
        (f"{_HF_LAYER}.output.dense.{{p}}", "backbone.layers.{i}.ffn.layers.1.{p}"),
        ("layernorm.{p}", "backbone.ln1.{p}"),
        ("classifier.{p}", "head.fc.{p}"),
    )
)
OPENMMLAB_VIT = NameTable(
    (
        *_TOKENS,
        *_backbone(
            "patch_embed.projection.{p}",
            "layers.{i}.ln1.{p}",
            "layers.{i}.attn.qkv.{p}",
            "layers.{i}.attn.proj.{p}",
            "layers.{i}.ln2.{p}",
            "layers.{i}.ffn.layers.0.0.{p}",
            "layers.{i}.ffn.layers.1.{p}",
            "layers.{i}.attn.gamma1.weight",
            "layers.{i}.ffn.gamma2.weight",
            "ln1.{p}",
            "ln2.{p}",
        ),
        ("neck.fc.{p}", "neck.fc.{p}"),
        ("head.fc.{p}", "head.fc.{p}"),
    ),
    _MMSELFSUP_ALIASES,
)
OPENMMLAB_MVIT = NameTable(
    (
        *_TOKENS,
        *_backbone("patch_embed.projection.{p}"),
        *_MVIT_BLOCKS,
        *_backbone("norm{k}.{p}"),
        ("neck.fc.{p}", "neck.fc.{p}"),
        ("cls_head.fc_cls.{p}", "cls_head.fc_cls.{p}"),
    ),
    _MMSELFSUP_ALIASES,
)
MMACTION2_VIT = NameTable(
    (
        *_backbone("pos_embed", "patch_embed.projection.{p}"),
        ("blocks.{i}.norm1.{p}", "backbone.layers.{i}.ln1.{p}"),
        ("blocks.{i}.attn.qkv.{p}", "backbone.layers.{i}.attn.qkv.{p}"),
        ("blocks.{i}.attn.{qv}_bias", "backbone.layers.{i}.attn.{qv}_bias"),
        ("blocks.{i}.attn.proj.{p}", "backbone.layers.{i}.attn.proj.{p}"),
        ("blocks.{i}.norm2.{p}", "backbone.layers.{i}.ln2.{p}"),
        ("blocks.{i}.mlp.layers.0.0.{p}", "backbone.layers.{i}.ffn.layers.0.0.{p}"),
        ("blocks.{i}.mlp.layers.1.{p}", "backbone.layers.{i}.ffn.layers.1.{p}"),
        ("norm.{p}", "backbone.ln1.{p}"),
        ("fc_norm.{p}", "backbone.ln2.{p}"),
        ("cls_head.fc_cls.{p}", "cls_head.fc_cls.{p}"),
    )
)


def slowfast_mvit(task: str, last_scale: int) -> NameTable:
    """Build the name table of PySlowFast's MViT, whose final norm has no scale in its name.

    Args:
        task (str): "pretrain" or "finetune".
        last_scale (int): Index of the model's last scale: the number of spatial strides after the patch embedding.

    Returns:
        NameTable: The table.
    """
    final_norm = f"backbone.norm{last_scale}.{{p}}"
    if task == "pretrain":
        ends = (("pred_head.transforms.0.0.{p}", final_norm), *_SLOWFAST_PREDICTION)
    else:
        ends = (("norm.{p}", final_norm), ("head.projection.{p}", "cls_head.fc_cls.{p}"))
    patch_embed = ("patch_embed.proj.{p}", "backbone.patch_embed.projection.{p}")
    return NameTable((*_TOKENS, patch_embed, *_MVIT_BLOCKS, *ends))


def torchvision_mvit(last_scale: int) -> NameTable:
    """Build the name table of torchvision's MViTv2, whose final norm has no scale in its name.

    Args:
        last_scale (int): Index of the model's last scale.

    Returns:
        NameTable: The table.
    """
    return NameTable(
        (
            ("pos_encoding.class_token", "backbone.cls_token"),
            ("conv_proj.{p}", "backbone.patch_embed.projection.{p}"),
            ("blocks.{i}.attn.project.0.{p}", "backbone.blocks.{i}.attn.proj.{p}"),
            ("blocks.{i}.attn.pool_{s}.pool.weight", "backbone.blocks.{i}.attn.pool_{s}.weight"),
            ("blocks.{i}.attn.pool_{s}.norm_act.0.{p}", "backbone.blocks.{i}.attn.norm_{s}.{p}"),
            ("blocks.{i}.mlp.0.{p}", "backbone.blocks.{i}.mlp.fc1.{p}"),
            ("blocks.{i}.mlp.3.{p}", "backbone.blocks.{i}.mlp.fc2.{p}"),
            ("blocks.{i}.project.{p}", "backbone.blocks.{i}.proj.{p}"),
            *_backbone(
                "blocks.{i}.norm1.{p}",
                "blocks.{i}.norm2.{p}",
                "blocks.{i}.attn.qkv.{p}",
                "blocks.{i}.attn.rel_pos_{axis}",
            ),
            ("norm.{p}", f"backbone.norm{last_scale}.{{p}}"),
            ("head.1.{p}", "cls_head.fc_cls.{p}"),
        )
    )


def inner_name(key: str) -> str:
    """Remove the prefix ``backbone.``, which some projects write and others do not."""
    return key.removeprefix("backbone.")


def collapse(names: Iterable[str]) -> list[str]:
    """Shorten lists of names: names that differ only in the layer become one, ``blocks.{0-3}.norm1.bias``.

    Args:
        names (Iterable[str]): Key names.

    Returns:
        list[str]: Shortened names, in the order of their first appearance.
    """
    groups: dict[str, list[int]] = {}
    for name in names:
        template, layer = split_layer(name)
        groups.setdefault(template, []).extend([] if layer is None else [layer])
    return [template.replace(LAYER, ranges(layers)) for template, layers in groups.items()]


def split_layer(name: str) -> tuple[str, int | None]:
    """Replace the layer number in a name by :data:`LAYER`; return the name and the number, None if there is none."""
    match = re.search(_NUMBER.format(number=r"\d+"), name)
    if match is None:
        return name, None
    # a fused tensor lists several names of the same layer
    return re.sub(_NUMBER.format(number=match.group()), LAYER, name), int(match.group())


_NUMBER = r"(?<=blocks\.){number}\b|(?<=encoder\.layer\.){number}\b|(?<=layers\.){number}(?=\.(?:ln|attn|ffn))"


def ranges(numbers: list[int]) -> str:
    """Format numbers as ``3`` or ``{0-3,5}``."""
    runs: list[list[int]] = []
    for n in sorted(set(numbers)):
        if runs and n == runs[-1][1] + 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    text = ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs)
    return text if text.isdigit() else f"{{{text}}}"
