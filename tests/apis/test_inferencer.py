"""Tests of the inferencer on files, folders and arrays, with the demo's configs and shipped weights."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, DefaultScope
from PIL import Image

from maskfeat_plugin.apis import MaskFeatInferencer, get_model, list_models
from maskfeat_plugin.apis.model_loading import read_model
from maskfeat_plugin.config.input_kinds import input_kind
from maskfeat_plugin.config.input_pipeline import (
    InputPipeline,
    list_inputs,
    training_pipeline,
    without_randomness,
)
from maskfeat_plugin.errors import ConfigError

ROOT = Path(__file__).parents[2]
IMAGE, CLIP = "maskfeat_vit-tiny_moving-digits", "maskfeat_mvit-tiny_moving-digits"


def demo(name):
    return ROOT / "configs" / "demo" / f"{name}.py"


def weights(name):
    return ROOT / "configs" / "demo" / "weights" / f"{name}.pth"


def image(seed, height=48, width=64):
    """Draw a smooth picture, RGB."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def write_video(path, frames):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def images():
    return MaskFeatInferencer(IMAGE, device="cpu", show_progress=False)


@pytest.fixture(scope="module")
def clips():
    return MaskFeatInferencer(demo(CLIP), weights(CLIP), "cpu", show_progress=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write three images (one in a subfolder), two videos and a text file."""
    folder = tmp_path_factory.mktemp("inputs")
    Image.fromarray(image(0)).save(folder / "b.png")
    Image.fromarray(image(1)).save(folder / "a.jpg")
    (folder / "more").mkdir()
    Image.fromarray(image(2, 70, 40)).save(folder / "more" / "b.png")
    (folder / "notes.txt").write_text("no image")
    write_video(folder / "long.mp4", [image(i // 4) for i in range(40)])
    write_video(folder / "more" / "short.mkv", [image(i) for i in range(5)])
    return folder


def test_results(images, folder):
    results = images(folder, return_features=True)
    assert [result["name"] for result in results] == [str(folder / name) for name in ("a.jpg", "b.png", "more/b.png")]
    for result in results:
        assert result["mask"].shape == (1, 5, 5) and result["mask"].dtype == bool and result["mask"].sum() == 10
        assert result["pred_features"].shape == result["target_features"].shape == (10, 108)
        assert result["features"].shape == (96,) and isinstance(result["loss"], float)
        error = ((result["pred_features"] - result["target_features"]) ** 2).mean()
        np.testing.assert_allclose(result["loss"], error, rtol=1e-5)
    assert "features" not in images(folder)[0] and "picture" not in results[0]


def test_results_of_clips(clips, folder):
    results = clips(str(folder), return_features=True)
    assert [Path(result["name"]).name for result in results] == ["long.mp4", "short.mkv"]
    assert all(result["mask"].shape == (4, 4, 4) and result["features"].shape == (64,) for result in results)


def test_the_numbers_are_those_of_the_model_on_the_test_pipeline(images, digits, monkeypatch):
    """The test pipeline of the demo crops the centre too; with its masks, the inferencer's numbers are the same."""
    monkeypatch.chdir(digits)
    cfg = Config.fromfile(demo(IMAGE))
    dataset = dict(cfg.train_dataloader.dataset, pipeline=cfg.test_pipeline)
    with DefaultScope.overwrite_default_scope("mmpretrain"):
        samples = [DATASETS.build(dataset)[i] for i in range(3)]
    data = images.model.data_preprocessor(pseudo_collate(samples))
    expected = images.model.predict(**data)
    paths = [sample["data_samples"].img_path for sample in samples]
    results = images(paths, mask=[sample.mask.numpy() for sample in expected])
    for result, sample in zip(results, expected, strict=True):
        np.testing.assert_allclose(result["pred_features"], sample.pred_features, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(result["target_features"], sample.target_features, rtol=1e-4, atol=1e-5)


def test_files_and_arrays_agree(images, clips, folder):
    from_file = images(folder / "b.png")[0]
    from_array = images(image(0))[0]
    assert from_array["name"] == "array 0"
    np.testing.assert_array_equal(from_array["target_features"], from_file["target_features"])
    with av.open(str(folder / "long.mp4")) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    np.testing.assert_allclose(
        clips(frames)[0]["target_features"], clips(folder / "long.mp4")[0]["target_features"], atol=1e-3
    )


@pytest.mark.parametrize("kind", ["images", "clips"])
def test_same_seed_same_masks_whatever_the_batch(kind, request):
    inferencer = request.getfixturevalue(kind)
    inputs = [image(i) if kind == "images" else np.stack([image(i)] * 16) for i in range(5)]
    state = np.random.get_state()[1].copy(), torch.get_rng_state()
    runs = [inferencer(inputs, batch_size=size, seed=7) for size in (1, 2, 5)]
    assert (np.random.get_state()[1] == state[0]).all() and torch.equal(torch.get_rng_state(), state[1])
    for results in zip(*runs, strict=True):
        for result in results[1:]:
            np.testing.assert_array_equal(result["mask"], results[0]["mask"])
            np.testing.assert_allclose(result["loss"], results[0]["loss"], rtol=1e-4)
    assert len({result["mask"].tobytes() for result in runs[0]}) == 5
    assert any((a["mask"] != b["mask"]).any() for a, b in zip(runs[0], inferencer(inputs, seed=8), strict=True))


@pytest.mark.parametrize("ratio, masked", [(0.1, 2), (0.6, 15), (0.96, 24)])
def test_mask_ratio(images, ratio, masked):
    assert images(image(0), mask_ratio=ratio)[0]["mask"].sum() == masked
    assert images(image(0))[0]["mask"].sum() == 10  # the ratio of an earlier call has no effect


def test_own_masks(images, clips):
    mask = np.zeros((5, 5), bool)
    mask[1, 2] = True
    one, both = images([image(0), image(1)], mask=mask), images([image(0), image(1)], mask=[mask, ~mask])
    assert [result["mask"].sum() for result in one] == [1, 1]
    assert (both[0]["mask"][0] == mask).all() and (both[1]["mask"][0] == ~mask).all()
    again = images([image(0), image(1)], mask=np.stack([result["mask"] for result in both]))
    assert [result["loss"] for result in again] == [result["loss"] for result in both]
    cube = np.zeros((4, 4, 4), bool)
    cube[:2, 1:3] = True
    assert (clips(np.stack([image(0)] * 16), mask=cube)[0]["mask"] == cube).all()


def test_clip_is_in_the_middle(clips):
    """A clip has 8 frames, every second one. Of 31 frames it starts at number 8. A short video is repeated."""
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (31, 36, 36, 3), dtype=np.uint8)
    others = rng.integers(0, 256, (31, 36, 36, 3), dtype=np.uint8)
    others[8:23:2] = frames[8:23:2]
    first, second = clips([frames, others], mask=np.ones((4, 4, 4), bool))
    np.testing.assert_array_equal(first["target_features"], second["target_features"])
    others[20] = 0  # the first frame of the last time step; the target is computed from it
    assert (clips(others, mask=np.ones((4, 4, 4), bool))[0]["target_features"] != first["target_features"]).any()
    assert clips(frames[:3])[0]["mask"].shape == (4, 4, 4)


def test_data_samples(images):
    sample = images(image(0), return_datasamples=True, return_features=True)[0]
    assert isinstance(sample.pred_features, torch.Tensor) and sample.features.shape == (96,)
    assert "frames" not in sample and sample.name == "array 0"


def test_pictures(images, clips, folder, tmp_path):
    out = tmp_path / "new" / "pictures"
    results = images(folder, out_dir=out, batch_size=2) + clips(folder, out_dir=out)
    names = ["a.png", "b_000001.png", "b_000002.png", "long.gif", "short.gif"]
    assert [Path(result["picture"]).name for result in results] == names
    assert sorted(path.name for path in out.iterdir()) == names
    assert [Image.open(out / name).n_frames for name in names[:4]] == [1, 1, 1, 4]
    assert len({(out / name).read_bytes() for name in names}) == 5


def test_colours_of_files_and_arrays_are_not_swapped(images, folder):
    red = np.zeros((44, 44, 3), np.uint8)
    red[..., 0] = 200
    for given in (red, folder.parent / "red.png"):
        if not isinstance(given, np.ndarray):
            Image.fromarray(red).save(given)
        batch = next(iter(images.preprocess(images._inputs_to_list(given))))
        assert images._frames(batch["inputs"])[0][0, 0, 0].tolist() == [200, 0, 0]


@pytest.mark.parametrize(
    "kind, given, message",
    [
        ("images", "nowhere.png", "nowhere.png does not exist"),
        ("images", "long.mp4", "long.mp4 is a video, and .* takes images"),
        ("clips", "b.png", "b.png is an image, and .* takes videos"),
        ("images", "notes.txt", "notes.txt is no image"),
        ("clips", "notes.txt", "notes.txt is no video"),
        ("images", np.zeros((9, 40, 40, 3), np.uint8), "array 0 of the shape .* is a video"),
        ("clips", np.zeros((40, 40, 3), np.uint8), "array 0 of the shape .* is an image"),
        ("images", np.zeros((40, 40, 3), int), r"int64 \(40, 40, 3\); an array has to be RGB, uint8 \(H, W, 3\)"),
        ("images", np.zeros((40, 40, 5), np.uint8), "has to be RGB"),
        (
            "images",
            np.full((40, 40, 3), 1.5),
            "float64 numbers from 1.5 to 1.5. Give floating point numbers",
        ),
        ("images", np.full((40, 40, 3), np.nan), "from nan to nan"),
        ("images", torch.zeros(3, 40, 3), r"tensor 0 .* \(3, 40, 3\): its channels may be in the dimensions 0 and 2"),
        ("clips", torch.zeros(3, 3, 40, 40), "dimensions 0 and 1. Give a numpy array"),
        ("clips", Image.new("RGB", (40, 40)), "image 0 of the shape .* is an image"),
        ("images", [], "the list is empty"),
        ("images", [None], "input 0 is of the type NoneType"),
    ],
)
def test_inputs_that_do_not_fit(kind, given, message, folder, request):
    if isinstance(given, str):
        given = [folder / ("b.png" if kind == "images" else "long.mp4"), folder / given]
    with pytest.raises(ConfigError, match=message):
        request.getfixturevalue(kind)(given)


def test_folder_of_the_other_kind(images, clips, folder, tmp_path):
    write_video(tmp_path / "a.mp4", [image(0)] * 4)
    with pytest.raises(ConfigError, match="a.mp4 is a video"):
        images(tmp_path)
    with pytest.raises(ConfigError, match="has no files that end in .mp4"):
        empty = tmp_path / "empty"
        empty.mkdir()
        clips(empty)


def test_broken_files_are_found_before_any_work(images, clips, folder, tmp_path):
    cut = tmp_path / "cut.mp4"
    cut.write_bytes((folder / "long.mp4").read_bytes()[:2000])
    with pytest.raises(ConfigError, match="cut.mp4 is no video file, or a broken one|cut.mp4 is cut short"):
        clips([folder / "long.mp4", cut], out_dir=tmp_path / "out")
    (tmp_path / "empty.png").touch()
    with pytest.raises(ConfigError, match="empty.png is empty"):
        images([folder / "b.png", tmp_path / "empty.png"], out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()
    for length, message in ((16, "header.png is no image that OpenCV reads"), (60, "header.png cannot be read")):
        (tmp_path / "header.png").write_bytes((folder / "b.png").read_bytes()[:length] + bytes(100))
        with pytest.raises(ConfigError, match=message):
            images([folder / "b.png", tmp_path / "header.png"])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(mask_ratio=1.2), "mask_ratio=1.2 has to be a number between 0 and 1"),
        (dict(mask_ratio=0), "mask_ratio=0 has to be"),
        (dict(mask=np.ones((4, 5), bool)), r"mask has the shape \(4, 5\), but the token grid is \(5, 5\)"),
        (dict(mask=[np.ones((5, 5), bool)] * 3), "one for each of the 2"),
        (dict(mask=np.zeros((5, 5), bool)), "mask number 0 masks no token"),
        (dict(mask=np.ones((5, 5), bool), mask_ratio=0.5), "both given"),
        (dict(batch_size=0), "batch_size=0 has to be"),
        (dict(seed=-1), "seed=-1 has to be"),
    ],
)
def test_arguments_that_do_not_fit(arguments, message, images):
    with pytest.raises(ConfigError, match=message):
        images([image(0), image(1)], **arguments)


@pytest.mark.parametrize(
    "model, checkpoint, message",
    [
        ("maskfeat_vit-tiny_moving-digit", None, f"did you mean {IMAGE}"),
        ("maskfeat-pixel_vit-tiny_moving-digits", None, "no weights come with"),
        ("vit-tiny_moving-digits-class", weights(IMAGE), "is a ImageClassifier; give a config of pre-training"),
        (IMAGE, weights(CLIP), "no weights of one fit the other"),
        ("maskfeat-pixel_vit-tiny_moving-digits", weights(IMAGE), "has no neck"),
    ],
)
def test_models_that_do_not_fit(model, checkpoint, message):
    with pytest.raises(ConfigError, match=message):
        MaskFeatInferencer(model, checkpoint, "cpu")


def test_weights_of_a_fine_tuned_model_predict_nothing(tmp_path):
    state = torch.load(weights(IMAGE), weights_only=True)["state_dict"]
    torch.save(dict(state_dict={k: v for k, v in state.items() if not k.startswith("neck.")}), tmp_path / "tuned.pth")
    with pytest.raises(ConfigError, match="tuned.pth has no neck.fc.weight, which predictions need"):
        MaskFeatInferencer(IMAGE, tmp_path / "tuned.pth", "cpu")


def test_work_directory_of_a_training(images, tmp_path):
    Config.fromfile(demo(IMAGE)).dump(tmp_path / "run.py")
    content = torch.load(weights(IMAGE), weights_only=True)
    torch.save(dict(state_dict=content["state_dict"], meta=dict(iter=10)), tmp_path / "iter_10.pth")
    result = MaskFeatInferencer(tmp_path, device="cpu", show_progress=False)(image(0))[0]
    assert result["loss"] == images(image(0))[0]["loss"]


def test_list_models():
    assert IMAGE in MaskFeatInferencer.list_models() and MaskFeatInferencer.list_models("maskfeat_mvit-tiny")[0] == CLIP
    assert not any("faster" in name for name in MaskFeatInferencer.list_models())


@pytest.mark.parametrize(
    "name", [n for n in list_models("*maskfeat") if n.endswith(("_in1k", "_k400", "moving-digits"))]
)
def test_pipelines_of_our_configs(name):
    """Each pipeline takes a picture of any shape, gives a square input, and gives the same input each time."""
    cfg, _ = read_model(name)
    pipeline = without_randomness(training_pipeline(cfg))
    kind = input_kind(pipeline, name)
    given = np.stack([image(i, 90, 130) for i in range(20)]) if kind.is_clip else image(0, 90, 130)
    item = list_inputs(given, kind, name)[0]
    run = InputPipeline(cfg, pipeline)
    first, second = run(item, 0), run(item, 0)
    assert torch.equal(first["inputs"], second["inputs"])
    assert first["inputs"].shape[-1] == first["inputs"].shape[-2]


def test_several_targets(tmp_path):
    """Losses and features are dicts by the name of the target."""
    name = "maskfeat-pixel-hog_vit-tiny_moving-digits"
    torch.save(dict(state_dict=get_model(name).state_dict()), tmp_path / "start.pth")
    inferencer = MaskFeatInferencer(name, tmp_path / "start.pth", "cpu", show_progress=False)
    result = inferencer([image(0), image(1)], out_dir=tmp_path)[1]
    assert set(result["loss"]) == set(result["pred_features"]) == set(result["target_features"]) == {"pixel", "hog"}
    assert all(isinstance(loss, float) for loss in result["loss"].values())


def test_encoder_of_visible_tokens(tmp_path):
    name = "maskfeat-visible_vit-tiny_moving-digits"
    torch.save(dict(state_dict=get_model(name).state_dict()), tmp_path / "start.pth")
    result = MaskFeatInferencer(name, tmp_path / "start.pth", "cpu")(image(0), return_features=True)[0]
    assert result["pred_features"].shape == result["target_features"].shape
