"""Variants of key names, converted to their usual form before the names are translated."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from .errors import CheckpointError

# new name -> the names that it was made from
Origins = dict[str, tuple[str, ...]]

_SEPARATE = re.compile(
    r"(?P<attn>.*(?:attn|attention\.attention)\.)(?P<part>q|k|v|query|key|value)(_proj)?\.(?P<p>weight|bias)"
)
_QV_BIAS = re.compile(r"(?P<attn>.*attn\.)q_bias")
_FUSED = re.compile(r"(?P<attn>.*attention\.attention\.)qkv\.(?P<p>weight|bias)")
_CLASS_TOKEN = "pos_encoding.class_token"
_WRAPPER = "module."
_HF_MODEL = "vit."  # prefix of the backbone in transformers' classifier


def unify(state: Mapping[str, Tensor], source: str) -> tuple[dict[str, Tensor], Origins]:
    """Undo changes of the key names by wrappers and options of the projects.

    The prefix of ``DistributedDataParallel`` is removed. Separate linear layers for query, key and value are fused. A
    fused layer with biases for only query and value gets a zero bias for the key, which computes the same. Separate
    absolute positions of space and time are added. A ViT inside a model of transformers loses its prefix. torchvision's
    class token gets the dimensions of this package's.

    Args:
        state (Mapping[str, Tensor]): The state dict of a checkpoint.
        source (str): File of the state dict, for messages.

    Returns:
        tuple[dict[str, Tensor], Origins]: The state, and for each key the keys of the file that it was made from.

    Raises:
        CheckpointError: If a part of a query/key/value triple is missing.
    """
    wrapped = bool(state) and all(key.startswith(_WRAPPER) for key in state)
    cut = len(_WRAPPER) if wrapped else 0
    state = {key[cut:]: value for key, value in state.items()}
    origins: Origins = {key: (f"{_WRAPPER}{key}" if wrapped else key,) for key in state}
    for step in (_cut_prefix, _fuse_qkv, _complete_bias, _join_positions, _widen_class_token):
        state, parts = step(state, source)
        origins = {key: tuple(old for part in parts.get(key, (key,)) for old in origins[part]) for key in state}
    return state, origins


def separate_qkv(name: str, value: Tensor) -> dict[str, Tensor]:
    """Split a fused layer into transformers' layers of query, key and value; return other tensors unchanged."""
    match = _FUSED.fullmatch(name)
    if match is None:
        return {name: value}
    parts = zip(("query", "key", "value"), value.chunk(3), strict=True)
    return {f"{match['attn']}{part}.{match['p']}": third for part, third in parts}


def flat_class_token(name: str, value: Tensor) -> dict[str, Tensor]:
    """Flatten the class token (1, 1, C) to torchvision's (C,); return other tensors unchanged."""
    return {name: value.flatten() if name == _CLASS_TOKEN else value}


def _widen_class_token(state: dict[str, Tensor], source: str) -> tuple[dict[str, Tensor], Origins]:
    return {key: value.view(1, 1, -1) if key == _CLASS_TOKEN else value for key, value in state.items()}, {}


def _cut_prefix(state: dict[str, Tensor], source: str) -> tuple[dict[str, Tensor], Origins]:
    if not any(key.startswith(f"{_HF_MODEL}embeddings.") for key in state):
        return state, {}
    names = {key.removeprefix(_HF_MODEL): key for key in state}
    return {name: state[key] for name, key in names.items()}, {name: (key,) for name, key in names.items()}


def _fuse_qkv(state: dict[str, Tensor], source: str) -> tuple[dict[str, Tensor], Origins]:
    out: dict[str, Tensor] = {}
    triples: dict[str, dict[str, str]] = {}
    for key, value in state.items():
        match = _SEPARATE.fullmatch(key)
        if match is None:
            out[key] = value
            continue
        fused = f"{match['attn']}qkv.{match['p']}"
        triples.setdefault(fused, {})[match["part"][0]] = key
        out[fused] = value  # a placeholder that keeps the order
    for fused, parts in triples.items():
        if set(parts) != set("qkv"):
            raise CheckpointError(
                f"{source}: {fused} needs query, key and value, but the file has only {sorted(parts.values())}."
            )
        out[fused] = torch.cat([state[parts[name]] for name in "qkv"])
    return out, {fused: tuple(parts[n] for n in "qkv") for fused, parts in triples.items()}


def _complete_bias(state: dict[str, Tensor], source: str) -> tuple[dict[str, Tensor], Origins]:
    out = dict(state)
    made: Origins = {}
    for key in state:
        match = _QV_BIAS.fullmatch(key)
        if match is None:
            continue
        v_key, fused = f"{match['attn']}v_bias", f"{match['attn']}qkv.bias"
        if v_key not in state:
            raise CheckpointError(f"{source}: {key} needs {v_key}, which is missing.")
        q, v = out.pop(key), out.pop(v_key)
        out[fused] = torch.cat((q, torch.zeros_like(q), v))
        made[fused] = (key, v_key)
    return out, made


def _join_positions(state: dict[str, Tensor], source: str) -> tuple[dict[str, Tensor], Origins]:
    for key in state:
        if not key.endswith("pos_embed_spatial"):
            continue
        start = key.removesuffix("_spatial")
        names = [f"{start}_{part}" for part in ("spatial", "temporal", "class")]
        if names[1] not in state:
            raise CheckpointError(f"{source}: {key} needs {names[1]}, which is missing.")
        names = [name for name in names if name in state]
        out = {k: v for k, v in state.items() if k not in names}
        space, time = state[names[0]], state[names[1]]  # (1, H*W, C), (1, T, C)
        joint = (time[:, :, None] + space[:, None]).flatten(1, 2)  # (1, T*H*W, C)
        if len(names) == 3:
            joint = torch.cat((state[names[2]], joint), dim=1)
        out[start] = joint
        return out, {start: tuple(names)}
    return state, {}
