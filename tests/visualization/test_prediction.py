"""Tests of pictures of predictions for every kind of target: masked input, prediction, target and original."""

import numpy as np
import pytest
import torch
from mmpretrain.structures import DataSample
from skimage.data import astronaut, camera
from skimage.feature import hog as skimage_hog
from skimage.transform import resize

from maskfeat_plugin.models.target_generators import BaseTargetGenerator, HOGGenerator
from maskfeat_plugin.registry import MODELS
from maskfeat_plugin.visualization import draw_hog, draw_prediction, unnormalize
from maskfeat_plugin.visualization.masks import MASK_GREY
from maskfeat_plugin.visualization.painters import PREDICTED_COLOR, ClassPainter, FeaturePainter, Scene, painter_of
from maskfeat_plugin.visualization.prediction import VISIBLE_BRIGHTNESS

DEMO = ["demo/maskfeat_vit-tiny_moving-digits.py", "demo/maskfeat_mvit-tiny_moving-digits.py"]
TITLES = ["masked input", "prediction", "target", "original"]
KINDS = ["hog-blocks", "pixel", "pixel-hog", "pseudo-label", "self-teacher", "token"]
# its classifier is trained by another config of the demo
UNTRAINED = {"model.target_generator.classifier.init_cfg": None}
CONFIGS = [
    *((path, {}) for path in DEMO),
    *(
        (f"targets/maskfeat-{kind}_{backbone}-tiny_moving-digits.py", UNTRAINED if kind == "pseudo-label" else {})
        for kind in KINDS
        for backbone in ("vit", "mvit")
    ),
    *((f"mixing/maskfeat_{backbone}-tiny_teacher_moving-digits.py", {}) for backbone in ("vit", "mvit")),
]


def pixels_of(mask, picture):
    """Return the mask of a picture, bool (T', height, width)."""
    rows, cols = (picture.shape[axis] // mask.shape[axis] for axis in (1, 2))
    return np.asarray(mask).repeat(rows, 1).repeat(cols, 2)


def perfect(sample):
    """Return the sample of a model whose prediction is exactly the target."""

    def exact(target, pred):
        if target.dim() == 1:
            return 50 * torch.nn.functional.one_hot(target, pred.shape[1]).float()
        is_distribution = target.min() >= 0 and torch.allclose(target.sum(1), torch.ones(len(target)))
        return target.log() if is_distribution else target

    target, pred = sample.target_features, sample.pred_features
    sample = sample.clone()
    several = isinstance(target, dict)
    sample.pred_features = {k: exact(target[k], pred[k]) for k in target} if several else exact(target, pred)
    return sample


@pytest.mark.parametrize("path", DEMO)
def test_inputs_are_shown_as_they_are(predict, path):
    found = predict(path)
    for frames, sample in zip(found.frames, found.samples, strict=True):
        pictures = draw_prediction(frames, sample, found.model.target_generator)
        steps = len(sample.mask)
        assert list(pictures) == TITLES
        sizes = {picture.shape for picture in pictures.values()}
        assert len(sizes) == 1 and all(picture.dtype == np.uint8 for picture in pictures.values())
        height = pictures["original"].shape[1]
        assert len(pictures["original"]) == steps and height >= 224
        scale = height // frames.shape[1]
        shown = frames[:: len(frames) // steps].repeat(scale, 1).repeat(scale, 2)
        np.testing.assert_array_equal(pictures["original"], shown)
        masked = pixels_of(sample.mask, shown)
        np.testing.assert_array_equal(pictures["masked input"][~masked], shown[~masked])
        assert (pictures["masked input"][masked] == MASK_GREY).all()


@pytest.mark.parametrize("path", DEMO)
def test_frames_come_back_from_what_the_model_is_given(predict, path):
    found = predict(path)
    for inputs, frames in zip(found.batch["inputs"], found.frames, strict=True):
        preprocessor = found.model.data_preprocessor
        np.testing.assert_array_equal(unnormalize(inputs, preprocessor.mean, preprocessor.std), frames)


@pytest.mark.parametrize(("path", "options"), CONFIGS, ids=[path.split("/")[1] for path, _ in CONFIGS])
def test_every_target_is_drawn_as_the_truth_where_the_prediction_is_perfect(predict, path, options):
    found = predict(path, **options)
    generator, sample, frames = found.model.target_generator, found.samples[1], found.frames[1]
    real, ideal = (draw_prediction(frames, s, generator) for s in (sample, perfect(sample)))
    masked = pixels_of(sample.mask, real["original"])
    names = ["pixel ", "hog "] if "pixel-hog" in path else [""]
    expected = [f"{name}{title}" for name in names for title in ("prediction", "target")]
    assert list(real) == ["masked input", *expected, "original"]
    for name in names:
        prediction, target = real[f"{name}prediction"], real[f"{name}target"]
        np.testing.assert_array_equal(target, ideal[f"{name}target"])
        assert target[masked].std() > 10 and target[~masked].std() > 10
        # amber strokes of HOG have the same red value as white strokes
        np.testing.assert_allclose(ideal[f"{name}prediction"][masked][:, 0], target[masked][:, 0].astype(float), atol=1)
        assert np.abs(prediction[masked].astype(float) - target[masked]).mean() > 3
        np.testing.assert_array_equal(prediction[~masked], ideal[f"{name}prediction"][~masked])


def test_what_is_predicted_is_told_from_what_is_visible(predict):
    found = predict(DEMO[0])
    sample = perfect(found.samples[0])
    pictures = draw_prediction(found.frames[0], sample, found.model.target_generator)
    prediction, target = pictures["prediction"].astype(float), pictures["target"].astype(float)
    masked = pixels_of(sample.mask, prediction)
    frame = (prediction == PREDICTED_COLOR).all(-1) & ~masked
    assert 0 < frame.sum() < 0.1 * frame.size
    # amber has a blue value of 64
    np.testing.assert_allclose(prediction[masked], target[masked] * (1, 196 / 255, 64 / 255), atol=1)
    context = ~masked & ~frame
    np.testing.assert_allclose(prediction[context], target[context] * VISIBLE_BRIGHTNESS, atol=1)


def test_visible_features_are_the_target_of_the_visible_tokens(predict):
    found = predict("targets/maskfeat-pixel_mvit-tiny_moving-digits.py")
    with torch.no_grad():
        every = found.model.target_generator(found.batch["inputs"], torch.ones_like(found.batch["mask"]))
    for sample, whole in zip(found.samples, every.unflatten(0, (3, -1)), strict=True):
        masked = sample.mask.flatten()
        torch.testing.assert_close(sample.target_features, whole[masked])
        torch.testing.assert_close(sample.visible_features, whole[~masked])


def test_without_visible_features_the_frame_is_shown_in_grey(predict):
    found = predict(DEMO[1])
    sample = found.samples[0].clone()
    del sample.visible_features
    pictures = draw_prediction(found.frames[0], sample, found.model.target_generator)
    whole = draw_prediction(found.frames[0], found.samples[0], found.model.target_generator)
    masked = pixels_of(sample.mask, pictures["target"])
    for title in ("prediction", "target"):
        np.testing.assert_array_equal(pictures[title][masked], whole[title][masked])
    context = pictures["target"][~masked]
    assert (context == context[:, :1]).all() and 0 < context.mean() < 0.5 * pictures["original"][~masked].mean()


def dominant_angles(picture, cell):
    """Return the direction of the brightest line through the centre of each cell of a picture, in degrees.

    The picture is (H, W), the result (rows, cols).
    """
    angles = np.arange(0, 180, 5)
    radius = np.linspace(-0.45, 0.45, 41) * cell
    radius = radius[np.abs(radius) > 0.15 * cell]  # all lines cross in the middle
    x, y = (np.round(cell / 2 - 0.5 + f(np.radians(angles))[:, None] * radius).astype(int) for f in (np.cos, np.sin))
    cells = picture.reshape(len(picture) // cell, cell, -1, cell).astype(float)
    lines = cells[:, y, :, x]  # (angles, points, rows, cols)
    return angles[lines.mean(1).argmax(0)]


# The bins of skimage begin at the other axis: with 9 bins ours are between theirs, with 18 they are the same
@pytest.mark.parametrize(("nbins", "tolerance", "least"), [(9, 15, 0.9), (18, 10, 0.95)])
@pytest.mark.parametrize("photograph", [camera, lambda: astronaut().mean(-1)], ids=["camera", "astronaut"])
def test_strokes_have_the_dominant_orientations_of_skimages_picture(photograph, nbins, tolerance, least):
    image = photograph()[::2, ::2].astype(np.float32)[:224, :224]
    inputs = torch.from_numpy(image)[None].expand(3, -1, -1) / 255
    mask = torch.arange(196).view(1, 14, 14) % 3 == 0
    generator = MODELS.build(dict(type="maskfeat.HOGGenerator", cell_size=16, nbins=nbins, gradient="central"))
    features, others = (generator(inputs[None], m[None]) for m in (mask, ~mask))
    sample = DataSample(mask=mask, pred_features=features, target_features=features, visible_features=others)
    frames = np.repeat(image[None, ..., None], 3, -1).astype(np.uint8)
    pictures = draw_prediction(frames, sample, generator)

    histograms, theirs = skimage_hog(image, nbins, (16, 16), (1, 1), "L2", visualize=True, feature_vector=False)
    # as large as our picture; the lines of skimage are one pixel wide
    expected = dominant_angles(resize(theirs, (448, 448), order=1), 32)
    ordered = np.sort(histograms.reshape(14, 14, nbins), axis=-1)
    clear = ordered[..., -1] > 1.2 * ordered[..., -2]  # one direction dominates
    assert clear.sum() > 80
    for title, places in (("target", clear), ("prediction", clear & mask[0].numpy())):
        found = dominant_angles(resize(pictures[title][0, ..., 0], (448, 448), order=1), 32)
        error = np.abs((found - expected + 90) % 180 - 90)[places]
        assert (error <= tolerance).mean() > least, title


@pytest.mark.parametrize("options", [dict(signed=True, nbins=18), dict(color_space="gray"), dict(norm="none")], ids=str)
def test_hog_of_any_options_is_drawn_alike(options):
    image = torch.from_numpy(astronaut()[:224, 100:324].copy())
    inputs = image.permute(2, 0, 1)[None] / 57.0
    mask = torch.ones(1, 1, 14, 14, dtype=torch.bool)

    def target(**kwargs):
        generator = MODELS.build(dict(type="maskfeat.HOGGenerator", cell_size=16, **kwargs))
        features = generator(inputs, mask)
        sample = DataSample(mask=mask[0], pred_features=features, target_features=features)
        return draw_prediction(image[None].numpy(), sample, generator)["target"][0, ..., 0]

    ours, usual = target(**options), target()
    assert ours.max() > 150
    blurred = [picture.reshape(56, 4, 56, 4).mean((1, 3)).ravel() for picture in (ours, usual)]
    assert np.corrcoef(*blurred)[0, 1] > (0.3 if "norm" in options else 0.7)


def test_opposite_bins_share_a_stroke():
    hog = np.zeros((18, 1, 1), np.float32)
    hog[13] = 1  # 270 degrees
    folded = np.zeros((9, 1, 1), np.float32)
    folded[4] = 1  # 90 degrees
    np.testing.assert_array_equal(draw_hog(hog, 15, signed=True), draw_hog(folded, 15))


@pytest.mark.parametrize("norm", [True, False])
def test_pixels_are_those_of_the_picture(norm):
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            backbone=dict(type="maskfeat.MaskedViT", arch="deit-tiny", img_size=32, patch_size=8),
            target_generator=dict(type="maskfeat.PixelGenerator", norm=norm),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=192, out_channels=192),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss")),
        )
    ).eval()  # normalises each channel by its own mean and deviation
    image = torch.from_numpy(astronaut()[100:132, 200:232].copy())
    mask = torch.arange(16).view(1, 4, 4) % 2 == 0
    data = model.data_preprocessor(dict(inputs=[image.permute(2, 0, 1)], data_samples=[DataSample(mask=mask)]))
    sample = model(**data, mode="predict")[0]
    sample.pred_features = sample.target_features
    pictures = draw_prediction(image[None].numpy(), sample, model.target_generator)
    np.testing.assert_allclose(pictures["target"].astype(int), pictures["original"], atol=1)
    masked = pixels_of(mask, pictures["original"])
    np.testing.assert_allclose(pictures["prediction"][masked].astype(int), pictures["original"][masked], atol=1)
    if not norm:
        return
    # a prediction of zeros is the mean of each token, over the colours that are normalised together
    sample.pred_features = torch.zeros_like(sample.target_features)
    flat = draw_prediction(image[None].numpy(), sample, model.target_generator)["prediction"]
    token = flat[0, :56, :56].reshape(-1, 3)
    assert (token == token[0]).all()
    expected = data["inputs"][0, :, :8, :8].mean() * model.data_preprocessor.std + model.data_preprocessor.mean
    np.testing.assert_allclose(token[0], expected.flatten().clamp(0, 255), atol=1)


def test_equal_features_have_equal_colours_whatever_their_length(predict):
    found = predict("mixing/maskfeat_vit-tiny_teacher_moving-digits.py")
    generator = found.model.target_generator
    assert generator.norm == "l2"
    sample = perfect(found.samples[0])
    sample.pred_features = 3 * sample.target_features  # the cosine loss does not depend on the length of the prediction
    pictures = draw_prediction(found.frames[0], sample, generator)
    masked = pixels_of(sample.mask, pictures["target"])
    np.testing.assert_allclose(pictures["prediction"][masked].astype(int), pictures["target"][masked], atol=1)


def scene(mask):
    frames = np.zeros((*np.multiply(mask.shape, (1, 16, 16)), 3), np.uint8)
    return Scene(frames, mask, token=(16, 16), scale=2)


def test_colours_are_principal_components():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(8, 8)))[0][:3]
    weights = rng.normal(size=(100, 3)) * (9, 4, 1)
    rows = (weights @ directions + 5).astype(np.float32)
    painter = FeaturePainter(None, scene(np.ones((1, 10, 10), bool)))
    painter.fit(rows)
    colors = painter.paint(rows.reshape(1, 10, 10, 8))[0, ::32, ::32].reshape(100, 3)
    for channel in range(3):  # red has the largest variance, then green, then blue; signs are arbitrary
        inside = (colors[:, channel] > 0) & (colors[:, channel] < 255)
        assert inside.mean() > 0.9
        assert abs(np.corrcoef(colors[inside, channel], weights[inside, channel])[0, 1]) > 0.9


def test_features_of_few_kinds_are_drawn():
    painter = FeaturePainter(None, scene(np.ones((1, 2, 2), bool)))
    rows = np.array([[0, 1], [0, 1], [1, 1], [1, 1]], np.float32)  # one component with two values
    painter.fit(rows)
    colors = painter.paint(rows.reshape(1, 2, 2, 2))[0, ::32, ::32]
    assert sorted(colors[:, 0, 0].tolist()) == [0, 255]
    assert (colors[..., 1:] == 128).all()
    assert (colors[0] == colors[0, :1]).all()


def test_classes_have_a_colour_each_and_are_pale_where_unlikely():
    painter = ClassPainter(None, scene(np.ones((1, 1, 5), bool)))
    likely = [0.97, 0.01, 0.01, 0.01]
    unlikely = [0.4, 0.2, 0.2, 0.2]
    other = [0.01, 0.97, 0.01, 0.01]
    rows = painter.read(torch.tensor([likely, unlikely, other, [0.0] * 4, likely]))
    assert rows[:, 0].tolist() == [0, 0, 1, -1, 0]
    picture = painter.paint(rows.reshape(1, 1, 5, 2))[0]
    colors = picture[2, ::32].astype(float)  # pixels without numbers

    def saturation(color):
        return color.max() - color.min()

    assert saturation(colors[0]) > 1.5 * saturation(colors[1]) > 0
    assert saturation(colors[3]) == 0  # no class
    assert np.abs(colors[0] - colors[2]).max() > 50
    np.testing.assert_array_equal(colors[0], colors[4])
    assert [(picture[:, i * 32 : i * 32 + 32] < 40).all(-1).any() for i in range(5)] == [True, True, True, False, True]


def test_targets_of_ones_own_are_drawn_by_their_class():
    class Own(HOGGenerator):
        pass

    class Other(BaseTargetGenerator):
        def generate(self, inputs, mask):
            raise NotImplementedError

    class OwnPainter(FeaturePainter):
        pass

    place = scene(np.ones((1, 2, 2), bool))
    assert type(painter_of(Own(), place)).__name__ == "HOGPainter"
    assert type(painter_of(Other(), place)) is FeaturePainter
    painter_of.register(Other, OwnPainter)
    assert type(painter_of(Other(), place)) is OwnPainter


def test_misfits_are_named(predict):
    found = predict(DEMO[0])
    sample, frames, generator = found.samples[0], found.frames[0], found.model.target_generator
    with pytest.raises(ValueError, match=r"uint8 \(T, H, W, 3\) for RGB, got float64"):
        draw_prediction(frames / 255, sample, generator)
    with pytest.raises(ValueError, match=r"token grid \(1, 5, 5\) does not divide frames of \(1, 36, 40\)"):
        draw_prediction(frames[:, :36], sample, generator)
    with pytest.raises(ValueError, match="nbins and cell_size"):
        draw_prediction(frames, sample, MODELS.build(dict(type="maskfeat.HOGGenerator", nbins=8, cell_size=4)))
    with pytest.raises(ValueError, match="inputs must be"):
        unnormalize(np.zeros((40, 40)), 0, 1)
