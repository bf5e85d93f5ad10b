"""Height, width, frames and channels of samples, computed from the settings of a config before any data are read."""

from collections.abc import Callable, Mapping, Sequence

import mmcv
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope

Size = tuple[int, int]
"""(H, W) in pixels."""

# This is the only place that knows which number a transform takes first. Keys are the package and the class; subclasses
# behave as their parents. Each of these transforms sets both sides, independent of the size before it.
_WIDTH_FIRST = {
    ("mmcv", "CenterCrop"): "crop_size",  # mmpretrain and mmdet use the same
    ("mmcv", "Resize"): "scale",  # mmpretrain and mmdet use the same
    ("mmaction", "CenterCrop"): "crop_size",
    ("mmaction", "Resize"): "scale",
    ("mmaction", "TenCrop"): "crop_size",
    ("mmaction", "ThreeCrop"): "crop_size",
    ("mmdet", "RandomCrop"): "crop_size",
    ("mmpretrain", "RandomResizedCropAndInterpolationWithTwoPic"): "size",
    ("maskfeat_plugin", "RandomResizedCropFlip"): "scale",
}
_HEIGHT_FIRST = {
    ("mmaction", "RandomCrop"): "size",  # one number
    ("mmpretrain", "EfficientNetCenterCrop"): "crop_size",  # one number
    ("mmpretrain", "RandomCrop"): "crop_size",
    ("mmpretrain", "RandomResizedCrop"): "scale",
    ("torchvision", "CenterCrop"): "size",
    ("torchvision", "FiveCrop"): "size",
    ("torchvision", "RandomCrop"): "size",
    ("torchvision", "RandomResizedCrop"): "size",
    ("torchvision", "Resize"): "size",
    ("torchvision", "TenCrop"): "size",
}
# Crops that do not change a side that is shorter than the crop
_CROPS_OF_AT_MOST = (("mmcv", "CenterCrop"), ("mmdet", "RandomCrop"), ("mmpretrain", "RandomCrop"))
# Transforms whose result is random or depends on the sample, although their settings have no pair of integers
_ANY_SIZE = (("mmaction", "RandomResizedCrop"), ("mmaction", "RandomRescale"), ("mmaction", "MultiScaleCrop"))
# If a transform of an unknown class has integers under these names, the size after it is unknown
_SIZE_NAMES = (
    "scale",
    "scales",
    "scale_range",
    "crop_size",
    "size",
    "img_scale",
    "img_size",
    "input_size",
    "short_edge",
)
_FRAME_SAMPLERS = ("SampleFrames", "DenseSampleFrames", "UniformSample", "UniformSampleFrames")


def input_size(pipeline: Sequence[dict] | None, scope: str | None = None) -> tuple[int, ...] | None:
    """Compute the size of the samples that a pipeline returns, as far as its settings determine it.

    Args:
        pipeline (Sequence[dict], optional): Configs of the transforms.
        scope (str, optional): ``default_scope`` of the config. It determines which package's ``Resize`` or
            ``CenterCrop`` a name without scope means. Defaults to None: the current scope.

    Returns:
        tuple[int, ...] | None: (H, W), or (T, H, W) if frames are sampled, in pixels and frames. None if unknown.
    """
    with DefaultScope.overwrite_default_scope(scope):
        size = _size_after_all(pipeline, None)
        frames = _frames(pipeline)
    if size is None or frames == 0:
        return None
    return size if frames is None else (frames, *size)


def size_after(transform: dict, size: Size | None = None, scope: str | None = None) -> Size | None:
    """Compute the size of a sample after one transform.

    Args:
        transform (dict): Config of the transform.
        size (tuple[int, int], optional): (H, W) of the sample before it. Defaults to None, unknown.
        scope (str, optional): As in :func:`input_size`. Defaults to None.

    Returns:
        tuple[int, int] | None: (H, W). None if it is random, depends on the sample, or is unknown.
    """
    with DefaultScope.overwrite_default_scope(scope):
        return _size_after(transform, size)


def sample_channels(cfg: Config) -> int:
    """Return the number of channels that the backbone of a config takes: its ``in_channels``, else 3.

    Args:
        cfg (Config): The config.

    Returns:
        int: The number.
    """
    backbone = cfg.model.get("backbone")
    while isinstance(backbone, dict):  # maskfeat.MaskableBackbone holds another's
        if isinstance(backbone.get("in_channels"), int):
            return backbone["in_channels"]
        backbone = backbone.get("backbone")
    return 3


def class_name(transform: dict) -> str:
    """Return the name of a transform's class without its scope.

    Args:
        transform (dict): Config of the transform. Its ``type`` is a name or a class.

    Returns:
        str: The name, "" if there is no type.
    """
    kind = transform.get("type", "")
    return kind.__name__ if isinstance(kind, type) else str(kind).rpartition(".")[2]


def known_class(transform: dict, scope: str | None = None) -> tuple[str, str] | None:
    """Return the package and the name of a transform's class, or of its nearest parent class with known sizes.

    Args:
        transform (dict): Config of the transform.
        scope (str, optional): As in :func:`input_size`. Defaults to None.

    Returns:
        tuple[str, str] | None: For example ("mmaction", "Resize"). None if no parent of the class is known.
    """
    with DefaultScope.overwrite_default_scope(scope):
        return _find_class(transform)


def _find_class(transform: dict) -> tuple[str, str] | None:
    kind = transform.get("type", "")
    if not isinstance(kind, type):
        name = class_name(transform)
        if name.startswith("torchvision/"):
            key = ("torchvision", name.partition("/")[2])
            return key if key in _KNOWN else None
        try:
            with TRANSFORMS.switch_scope_and_registry(None) as registry:
                kind = registry.get(str(kind))
        except (KeyError, ImportError, AttributeError):  # building the transform reports the error
            return None
    for parent in getattr(kind, "__mro__", ()):
        key = (parent.__module__.partition(".")[0], parent.__name__)
        if key in _KNOWN:
            return key
    return None


def _size_after_all(pipeline: Sequence[dict] | None, size: Size | None) -> Size | None:
    for transform in pipeline if isinstance(pipeline, list | tuple) else ():
        if isinstance(transform, dict):
            size = _size_after(transform, size)
    return size


def _size_after(transform: dict, size: Size | None) -> Size | None:
    name = class_name(transform)
    inner = transform.get("transforms")
    if inner:
        return _size_after_nested(transform, inner, size)
    if name.endswith("MaskGenerator"):  # its sizes are the sizes of the mask
        return size
    key = _find_class(transform)
    if key is not None:
        return _size_after_known(transform, key, size)
    namesakes = {_size_after_known(transform, known, size) for known in _KNOWN if known[1] == name} - {None}
    if len(namesakes) == 1:  # a config without default_scope, and all classes of this name give the same size
        return namesakes.pop()
    return None if any(_pair(transform.get(n)) for n in _SIZE_NAMES) else size


def _size_after_known(transform: dict, key: tuple[str, str], size: Size | None) -> Size | None:
    if key in _ANY_SIZE:
        return None
    if key in _OTHERS:
        return _OTHERS[key](transform, size)
    given = _given_size(transform, key)
    if given is not None and size is not None and key in _CROPS_OF_AT_MOST and not _pads(transform):
        return min(given[0], size[0]), min(given[1], size[1])
    return given


def _size_after_nested(transform: dict, inner: Sequence, size: Size | None) -> Size | None:
    """Return the size after a wrapper of transforms, None if its outcomes differ in size."""
    if isinstance(inner, dict):
        inner = [inner]
    choices = inner if all(isinstance(item, list | tuple) for item in inner) else [inner]
    sizes = {_size_after_all(choice, size) for choice in choices}
    if class_name(transform) == "RandomApply":
        sizes.add(size)
    return sizes.pop() if len(sizes) == 1 else None


def _given_size(transform: dict, key: tuple[str, str]) -> Size | None:
    """Return the (H, W) in the settings, which does not depend on the size before."""
    if key in _WIDTH_FIRST:
        pair = _pair(transform.get(_WIDTH_FIRST[key]))
        return None if pair is None else pair[::-1]
    return _pair(transform.get(_HEIGHT_FIRST[key]))


def _pads(transform: dict) -> bool:
    return bool(transform.get("auto_pad") or transform.get("pad_if_needed") or transform.get("padding"))


def _pair(value: object) -> tuple[int, int] | None:
    """Return a pair of positive integers from one or two of them; None for any other value."""
    if isinstance(value, int) and not isinstance(value, bool):
        value = (value, value)
    if isinstance(value, list | tuple) and [type(side) for side in value] == [int, int] and min(value) > 0:
        return tuple(value)
    return None


def _after_mmcv_resize(transform: dict, size: Size | None) -> Size | None:
    scale, factor = transform.get("scale"), transform.get("scale_factor")
    if scale is None:
        if size is None or not isinstance(factor, float | list | tuple):
            return None
        x, y = (factor, factor) if isinstance(factor, float) else factor
        return int(size[0] * float(y) + 0.5), int(size[1] * float(x) + 0.5)
    return _resized(scale, bool(transform.get("keep_ratio")), size)


def _after_mmaction_resize(transform: dict, size: Size | None) -> Size | None:
    return _resized(transform.get("scale"), transform.get("keep_ratio", True), size)


def _resized(scale: object, keep_ratio: bool, size: Size | None) -> Size | None:
    if not keep_ratio:
        pair = _pair(scale)
        return None if pair is None else pair[::-1]
    if size is None:
        return None
    if isinstance(scale, list | tuple) and len(scale) == 2:
        scale = (float("inf"), max(scale)) if min(scale) == -1 else tuple(scale)
    elif isinstance(scale, int):
        scale = (scale, scale)
    elif not isinstance(scale, float):
        return None
    return mmcv.rescale_size(size[::-1], scale)[::-1]


def _after_edge(transform: dict, size: Size | None) -> Size | None:
    """Compute the size after mmpretrain's ``ResizeEdge``."""
    if size is None or not isinstance(transform.get("scale"), int):
        return None
    (height, width), scale, edge = size, transform["scale"], transform.get("edge", "short")
    if edge == "width" or (edge == "short" and width < height) or (edge == "long" and width > height):
        return int(scale * height / width), scale
    return scale, int(scale * width / height)


def _after_pad(transform: dict, size: Size | None) -> Size | None:
    given, divisor = _pair(transform.get("size")), transform.get("size_divisor")
    if given is not None:
        given = given[::-1]
        return given if size is None else (max(given[0], size[0]), max(given[1], size[1]))
    if size is None:
        return None
    if transform.get("pad_to_square"):
        size = (max(size), max(size))
    if isinstance(divisor, int):
        height, width = (-(-side // divisor) * divisor for side in size)
        return height, width
    return size


def _after_detection_crop(transform: dict, size: Size | None) -> Size | None:
    if transform.get("crop_type", "absolute") != "absolute":
        return None
    given = _given_size(transform, ("mmdet", "RandomCrop"))
    return given if size is None or given is None else (min(given[0], size[0]), min(given[1], size[1]))


def _after_torchvision_resize(transform: dict, size: Size | None) -> Size | None:
    if not isinstance(transform.get("size"), int):
        return _pair(transform.get("size"))
    return _after_edge(dict(scale=transform["size"]), size)  # the shorter edge


_OTHERS: Mapping[tuple[str, str], Callable[[dict, Size | None], Size | None]] = {
    ("mmaction", "Resize"): _after_mmaction_resize,
    ("mmcv", "Pad"): _after_pad,
    ("mmcv", "Resize"): _after_mmcv_resize,
    ("mmdet", "FixShapeResize"): lambda transform, size: _pair([transform.get("height"), transform.get("width")]),
    ("mmdet", "RandomCrop"): _after_detection_crop,
    ("mmpretrain", "ResizeEdge"): _after_edge,
    ("torchvision", "Resize"): _after_torchvision_resize,
}
_KNOWN = {*_WIDTH_FIRST, *_HEIGHT_FIRST, *_ANY_SIZE, *_OTHERS}


def _frames(pipeline: Sequence[dict] | None) -> int | None:
    """Return the number of frames of a clip; None for images, 0 if it is unknown."""
    frames = None
    for transform in pipeline if isinstance(pipeline, list | tuple) else ():
        if not isinstance(transform, dict):
            continue
        if class_name(transform) in _FRAME_SAMPLERS:
            length = transform.get("clip_len")
            frames = length if isinstance(length, int) else 0
        elif isinstance(transform.get("transforms"), list | tuple):
            inner = _frames(transform["transforms"])
            frames = frames if inner is None else inner
    return frames
