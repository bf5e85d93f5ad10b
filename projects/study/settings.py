"""Studies and their settings. A setting is a list of changes to a pre-training config."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from maskfeat_cli.folders import configs_folder
from maskfeat_plugin.config.training_inputs import mask_generator
from maskfeat_plugin.errors import ConfigError

CONFIGS = configs_folder()
IMAGE, VIDEO = "image", "video"
# Increase this number when the same settings give other results. Results of another version are not reused.
VERSION = 2
# Found by a trial: 0.002, 0.01 and 0.05 gave 26, 30 and 34 % on features of HOG.
PROBING_LR = 0.05
# Placeholder for the path of the classifier's weights, which is known once its run is planned.
CLASSIFIER = "{classifier}"

Change = Callable[[Config], None]


@dataclass(frozen=True)
class Setting:
    """Variant of pre-training.

    Args:
        name (str): Name in the tables.
        description (str): Description in the tables.
        changes (tuple[Change, ...]): Changes to the base config, in this order.
        length (float): Pre-training steps as a multiple of the base's; 0 means no pre-training. Defaults to 1.
        digits_only (bool): Whether the setting works only with the demo's models on MovingDigits. Defaults to False.
        needs_classifier (bool): Whether the setting needs the classifier that the study trains. Defaults to False.
        cost (float): Duration of a pre-training step as a multiple of the base's, for estimates. Defaults to 1.
    """

    name: str
    description: str
    changes: tuple[Change, ...] = ()
    length: float = 1.0
    digits_only: bool = False
    needs_classifier: bool = False
    cost: float = 1.0


@dataclass(frozen=True)
class Study:
    """Settings to compare.

    Args:
        name (str): Name on the command line.
        title (str): Heading of the table.
        text (str): Explanation below the heading.
        settings (dict[str, tuple[Setting, ...]]): Settings by kind of data, "image" or "video".
        finetuning (tuple[Change, ...]): Changes to the config of fine-tuning, for all settings. Defaults to ().
    """

    name: str
    title: str
    text: str
    settings: dict[str, tuple[Setting, ...]]
    finetuning: tuple[Change, ...] = ()


def target_of(pattern: str) -> Change:
    """Return a change that takes target generator and head from another config. The neck is fitted later.

    Args:
        pattern (str): Config file, absolute or relative to ``configs``. ``{model}`` stands for "vit" or "mvit".

    Returns:
        Change: The change.
    """

    def change(cfg: Config) -> None:
        other = Config.fromfile(_path_of(pattern, cfg)).model
        target = copy.deepcopy(other.target_generator)
        if "hog" in target.get("targets", {}):  # use the base's HOG, whose cells fit the base's tokens
            target.targets.hog = copy.deepcopy(cfg.model.target_generator)
        cfg.model.target_generator = target
        cfg.model.head = copy.deepcopy(other.head)

    return change


def model_of(pattern: str) -> Change:
    """Return a change that takes the model and the training pipeline from another config of MovingDigits.

    Args:
        pattern (str): As in :func:`target_of`.

    Returns:
        Change: The change. Optimizer, schedule and batch size stay the base's.
    """

    def change(cfg: Config) -> None:
        other = Config.fromfile(_path_of(pattern, cfg))
        cfg.model = copy.deepcopy(other.model)
        cfg.train_dataloader.dataset.pipeline = copy.deepcopy(other.train_dataloader.dataset.pipeline)

    return change


def _path_of(pattern: str, cfg: Config) -> Path:
    """Return the path of a config file; ``{model}`` in its name stands for the model of ``cfg``."""
    path = CONFIGS / pattern.replace("{model}", {IMAGE: "vit", VIDEO: "mvit"}[kind_of(cfg)])
    if not path.is_file():
        raise ConfigError(f"the config file {path} does not exist. Check the path.")
    return path


def weights_of_target(**init_cfg: object) -> Change:
    """Return a change that sets the weights of the teacher or classifier that gives the target."""

    def change(cfg: Config) -> None:
        generator = cfg.model.target_generator
        network = generator.teacher if "teacher" in generator else generator.classifier
        network.init_cfg = dict(init_cfg)

    return change


def layer_of_teacher(index: int, layers: int = 4) -> Change:
    """Return a change that predicts one layer of the teacher, layer-normalised so that layers can be compared."""

    def change(cfg: Config) -> None:
        cfg.model.target_generator.teacher.out_indices = list(range(layers))
        cfg.model.target_generator.update(layer=index, norm="layer")
        cfg.model.head.loss.kind = "mse"

    return change


def hog(cell_scale: float = 1.0, **options: object) -> Change:
    """Return a change of :class:`HOGGenerator`'s options. ``cell_scale`` multiplies the base's ``cell_size``."""

    def change(cfg: Config) -> None:
        generator = cfg.model.target_generator
        if not generator.type.endswith("HOGGenerator"):
            raise ConfigError(f"model.target_generator.type={generator.type!r}: the setting changes HOG only.")
        generator.update(cell_size=int(generator.get("cell_size", 8) * cell_scale), **options)

    return change


def masks(kind: str) -> Change:
    """Return a change to another mask generator with the same grid and ratio."""

    def change(cfg: Config) -> None:
        mask = _find_masks(cfg)
        kept = {k: mask[k] for k in ("token_grid", "window_size", "mask_ratio", "seed") if k in mask}
        mask.clear()
        mask.update(type=f"maskfeat.{kind}MaskGenerator", **kept)

    return change


def mask_ratio(ratio: float) -> Change:
    """Return a change of the share of masked tokens."""

    def change(cfg: Config) -> None:
        _find_masks(cfg)["mask_ratio"] = ratio

    return change


def two_views(of_target: float = 1.0, of_contrast: float | None = None) -> Change:
    """Return a change that makes two views of each sample of MovingDigits and adds the contrast of the views.

    Args:
        of_target (float): Weight of the loss of the target. Defaults to 1.
        of_contrast (float, optional): Weight of the contrast. Defaults to None, the weight in the contrast's config.

    Returns:
        Change: The change.
    """

    def change(cfg: Config) -> None:
        model = {IMAGE: "vit", VIDEO: "mvit"}[kind_of(cfg)]
        other = Config.fromfile(CONFIGS / "contrast" / f"maskfeat-moco_{model}-tiny_moving-digits.py")
        cfg.model.global_loss = copy.deepcopy(other.model.global_loss)
        if of_contrast is not None:
            cfg.model.global_loss.loss_weight = of_contrast
        cfg.model.head.loss.loss_weight = of_target
        cfg.train_dataloader.dataset.pipeline = copy.deepcopy(other.train_dataloader.dataset.pipeline)

    return change


def continued(of_rate: float) -> Change:
    """Return a change that starts pre-training from the demo's shipped weights.

    Args:
        of_rate (float): Learning rate as a multiple of the base's. With 0 the weights stay as they are.

    Returns:
        Change: The change.
    """

    def change(cfg: Config) -> None:
        weights = _path_of("demo/weights/maskfeat_{model}-tiny_moving-digits.pth", cfg)
        cfg.model.init_cfg = dict(type="maskfeat.Pretrained", checkpoint=str(weights))
        cfg.optim_wrapper.optimizer.lr *= of_rate

    return change


def linear_probing(cfg: Config) -> None:
    """Change a config of fine-tuning to train the head alone, on features of a backbone that stays as it is.

    The learning rate becomes ``PROBING_LR``: a single layer learns with AdamW at much higher rates than a network.
    """
    still = dict(paramwise_cfg=dict(custom_keys=dict(backbone=dict(lr_mult=0.0, decay_mult=0.0))))
    cfg.merge_from_dict(dict(optim_wrapper=dict(still, optimizer=dict(lr=PROBING_LR))))
    cfg.optim_wrapper.clip_grad = None  # the norm would be the norm of all gradients


def kind_of(cfg: Config) -> str:
    """Return the kind of data that a config pre-trains on: images or clips.

    Args:
        cfg (Config): Config of pre-training.

    Returns:
        str: "image" or "video".

    Raises:
        ConfigError: If the config has no mask generator, whose token grid decides the kind.
    """
    return VIDEO if len(mask_generator(cfg)["token_grid"]) == 3 else IMAGE


def _find_masks(cfg: Config) -> dict:
    """Return the config of the mask generator itself, so that the caller can change it."""
    mask_generator(cfg)
    return next(t for t in cfg.train_dataloader.dataset.pipeline if "token_grid" in t)


BASE = Setting("HOG (base)", "the base config")
SCRATCH = Setting("from scratch", "no pre-training", length=0.0)
_PIXEL = Setting("pixels", "normalised pixels", (target_of("targets/maskfeat-pixel_{model}-tiny_moving-digits.py"),))
_BOTH = Setting(
    "pixels + HOG", "half the weight each", (target_of("targets/maskfeat-pixel-hog_{model}-tiny_moving-digits.py"),)
)
_MOTION = Setting(
    "motion", "HOG of frame differences", (target_of("targets/maskfeat-motion_{model}-tiny_moving-digits.py"),)
)
_MOTION_HOG = Setting(
    "motion + HOG", "half the weight each", (target_of("targets/maskfeat-motion-hog_{model}-tiny_moving-digits.py"),)
)
_TOKEN = Setting(
    "tokens",
    "discrete tokens of a tokenizer with random weights instead of DALL-E's",
    (target_of("targets/maskfeat-token_{model}-tiny_moving-digits.py"),),
)
_TEACHER = "mixing/maskfeat_{model}-tiny_teacher_moving-digits.py"
_DEEP = Setting(
    "features, unsupervised",
    "last layer of a frozen ViT with the demo's shipped weights (6000 steps of HOG on the demo's data), cosine loss",
    (target_of(_TEACHER),),
    digits_only=True,
)
_FIRST_LAYER = Setting(
    "first layer",
    "layer-normalised output of the first layer, mean squared error",
    (target_of(_TEACHER), layer_of_teacher(0)),
    digits_only=True,
)
_SEVERAL_LAYERS = Setting(
    "several layers",
    "mean of the layer-normalised outputs of the last three layers, smooth L1 loss",
    (target_of("targets/maskfeat-teacher-layers_{model}-tiny_moving-digits.py"),),
    digits_only=True,
)
# the classifier normalises after mean pooling; the same norm is applied to every token here
_NORM = [(r"^backbone\.ln2\.", "backbone.ln1.")]
_SUPERVISED = Setting(
    "features, supervised",
    "features of a frozen ViT classifier that the study trains on the labels of the whole training split",
    (
        target_of(_TEACHER),
        weights_of_target(type="Pretrained", checkpoint=CLASSIFIER, prefix="backbone.", revise_keys=_NORM),
    ),
    digits_only=True,
    needs_classifier=True,
)
_SELF = Setting(
    "features, its own past",
    "features of the model's own moving average",
    (target_of("targets/maskfeat-self-teacher_{model}-tiny_moving-digits.py"),),
)
_PSEUDO = Setting(
    "pseudo-labels",
    "classes of each token, predicted by the classifier of the supervised features",
    (
        target_of("targets/maskfeat-pseudo-label_{model}-tiny_moving-digits.py"),
        weights_of_target(type="Pretrained", checkpoint=CLASSIFIER, revise_keys=_NORM),
    ),
    digits_only=True,
    needs_classifier=True,
)
_LENGTHS = ((0.25, "1/4 of the steps"), (0.5, "1/2 of the steps"), (1.0, "all steps"))
_ALL = Setting("all steps (base)", "the base config")


def _shortened(name: str, description: str, pattern: str) -> tuple[Setting, ...]:
    """Return the settings of another config of MovingDigits with a quarter, a half and all of the base's steps."""
    return tuple(
        Setting(f"{name}, {text}", description, (model_of(pattern),), length, digits_only=True)
        for length, text in _LENGTHS
    )


# accuracy on clips depends much on the length, so the order of HOG and pixels may depend on it too
_LONGER = (
    Setting("1.5 x the steps", "the base config", length=1.5),
    _PIXEL,
    Setting("pixels, 1.5 x the steps", _PIXEL.description, _PIXEL.changes, length=1.5),
)
_FEWER = tuple(Setting(text, "the base config", length=length) for length, text in _LENGTHS[:2])
_LOCAL = _shortened(
    "local HOG",
    "three layers predict three cell sizes",
    "efficient/maskfeat-local_{model}-tiny_moving-digits.py",
)
_SMALL = _shortened(
    "24 pixels", "pre-training with images of 24 x 24 pixels", "efficient/maskfeat-24px_{model}-tiny_moving-digits.py"
)
_CONTRAST = tuple(
    Setting(name, description, (change,), digits_only=True, cost=2.0)
    for name, description, change in (
        ("HOG on two views", "the views of the contrast, without its loss", two_views(of_contrast=0.0)),
        ("contrast", "the contrast of two masked views alone", two_views(of_target=0.0)),
        ("HOG + contrast", "both losses", two_views()),
        ("HOG + weak contrast", "both losses, a tenth of the contrast's weight", two_views(of_contrast=0.01)),
    )
)
_SHIPPED = "from the demo's shipped weights (6000 steps on the demo's data)"
_CONTINUED = tuple(
    Setting(name, f"{_SHIPPED}, {rate}", (continued(of_rate),), length=0.25, digits_only=True)
    for name, rate, of_rate in (
        ("not continued", "which stay as they are", 0.0),
        ("continued, whole rate", "the base's learning rate", 1.0),
        ("continued, 1/3 of the rate", "a third of the base's learning rate", 1 / 3),
        ("continued, 1/10 of the rate", "a tenth of the base's learning rate", 0.1),
    )
)
_MASKED_40 = Setting("40% masked (base)", "the base config")
_RATIOS = tuple(Setting(f"{r:.0%} masked", f"mask_ratio={r}", (mask_ratio(r),)) for r in (0.2, 0.6, 0.8))

STUDIES = {
    study.name: study
    for study in (
        Study(
            "targets",
            "Targets",
            "The settings differ only in the target of pre-training.",
            {
                IMAGE: (SCRATCH, BASE, _PIXEL, _BOTH, _TOKEN, _DEEP, _SUPERVISED, _SELF, _PSEUDO),
                VIDEO: (SCRATCH, BASE, _PIXEL, _BOTH, _DEEP),
            },
        ),
        Study(
            "motion",
            "Motion targets",
            "The target is HOG, HOG of frame differences, or both. Only clips have this target.",
            {VIDEO: (SCRATCH, BASE, _MOTION, _MOTION_HOG)},
        ),
        Study(
            "efficient",
            "Pre-training in less time",
            "The settings are HOG at several layers, smaller images, and the base, each with a quarter, a half and all "
            "of the base's steps (clips without a quarter). Compare the scores with the seconds of pre-training.",
            {IMAGE: (SCRATCH, *_FEWER, _ALL, *_LOCAL, *_SMALL), VIDEO: (SCRATCH, *_FEWER[1:], _ALL, *_LOCAL[1:])},
        ),
        Study(
            "contrast",
            "Contrast of two views",
            "The settings differ in the losses of pre-training. A step with two views encodes twice as many inputs as "
            "a step of the base. The scores are from linear probing: only the head is trained.",
            {IMAGE: (SCRATCH, BASE, *_CONTRAST)},  # clips would take a quarter of the time of all studies
            (linear_probing,),
        ),
        Study(
            "hog",
            "HOG options",
            "Each setting changes one option of HOG.",
            {
                IMAGE: (
                    BASE,
                    Setting("no normalisation", "norm='none'", (hog(norm="none"),)),
                    Setting("L1", "norm='l1'", (hog(norm="l1"),)),
                    Setting("signed, 18 bins", "signed=True, nbins=18", (hog(signed=True, nbins=18),)),
                    Setting("cells of half the side", "cell_size, halved", (hog(cell_scale=0.5),)),
                    Setting("cells of twice the side", "cell_size, doubled", (hog(cell_scale=2.0),)),
                    Setting("gray", "color_space='gray'", (hog(color_space="gray"),)),
                )
            },
        ),
        Study(
            "masks",
            "Kinds of masks",
            "The settings differ in the kind of mask. The ratio is the same as far as possible: a frame mask can only "
            "mask whole time steps.",
            {
                IMAGE: (
                    Setting("blocks (base)", "the base config"),
                    Setting("random", "each token on its own", (masks("Random"),)),
                ),
                VIDEO: (
                    Setting("cubes (base)", "the base config"),
                    Setting("tubes", "a block, the same at all times", (masks("Tube"),)),
                    Setting("frames", "whole time steps", (masks("Frame"),)),
                    Setting("random", "each token on its own", (masks("Random"),)),
                ),
            },
        ),
        Study(
            "ratios",
            "Mask ratios",
            "The settings differ in the share of masked tokens. The base masks 40 %.",
            {
                IMAGE: (_RATIOS[0], _MASKED_40, *_RATIOS[1:]),
                VIDEO: (_MASKED_40, *_RATIOS[1:]),
            },
        ),
        Study(
            "schedule",
            "Length of pre-training",
            "The settings differ in the number of pre-training steps, relative to the base. Each has its own cosine "
            "schedule.",
            {
                IMAGE: (
                    SCRATCH,
                    Setting("1/4 of the steps", "", length=0.25),
                    Setting("1/2 of the steps", "", length=0.5),
                    _ALL,
                    Setting("2 x the steps", "", length=2.0),
                ),
                VIDEO: (SCRATCH, _ALL, *_LONGER),
            },
        ),
        Study(
            "teachers",
            "Layers of the teacher",
            "The target is features of a frozen ViT with the demo's shipped MaskFeat weights. The ViT has four layers.",
            {IMAGE: (BASE, _DEEP, _FIRST_LAYER, _SEVERAL_LAYERS)},
        ),
        Study(
            "continued",
            "Continued pre-training",
            "Pre-training starts from weights that were trained on other data, or from random weights, and has a "
            "quarter of the base's steps. The settings differ in the learning rate.",
            {IMAGE: (SCRATCH, _ALL, _FEWER[0], *_CONTINUED)},
        ),
    )
}


def own_target(text: str) -> Setting:
    """Build a setting from an argument of the command line.

    Args:
        text (str): ``NAME=CONFIG``. The setting takes target generator and head of this pre-training config.

    Returns:
        Setting: The setting, for the study of targets.

    Raises:
        ConfigError: If the text does not have this form, or the file does not exist.
    """
    name, _, path = text.partition("=")
    if not name or not path:
        raise ConfigError(f"--target {text}: give NAME=CONFIG, a name and a pre-training config with the target.")
    if not Path(path).is_file():
        raise ConfigError(f"--target {text}: the config file {path} does not exist. Check the path.")
    return Setting(name, f"the target of {path}", (target_of(str(Path(path).resolve())),))
