"""Sounds and volumes go through the tools that look at a model: inferencer, pictures, features, export, predictions."""

from pathlib import Path

import av
import numpy as np
import pytest
import torch
from gradio_client import Client, handle_file
from mmengine.registry import TRANSFORMS
from PIL import Image

from maskfeat_plugin.apis import ConfigError, MaskFeatInferencer, build_trainer, get_model, load_config
from maskfeat_plugin.apis.export import export_model
from maskfeat_plugin.apis.features.extraction import extract_features
from maskfeat_plugin.apis.features.files import read_features
from maskfeat_plugin.apis.model_loading import read_model
from maskfeat_plugin.apis.pictures.visualize import Wishes, visualize
from maskfeat_plugin.apis.prediction import predict
from maskfeat_plugin.apis.web_demo import HOST, build_page
from maskfeat_plugin.datasets.synthetic_signals import SOLIDS, SOUNDS, build_solids, build_sounds

PRETRAINED = dict(sounds="maskfeat_vit-tiny_sounds", solids="maskfeat_mvit-tiny_solids")
CLASSES = dict(sounds="vit-tiny_sounds-class", solids="mvit-tiny_solids-class")
ENDINGS = dict(sounds=".wav", solids=".npy")
SIZES = dict(sounds=(1, 40, 64), solids=(1, 8, 32, 32))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    for build in (build_sounds, build_solids):
        build(root / build.__name__.removeprefix("build_"), num_train=8, num_test=8, num_labelled=8)
    return root


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Function that saves weights of a config once and returns their path."""
    folder = tmp_path_factory.mktemp("weights")

    def save(name):
        path = folder / f"{name}.pth"
        if not path.exists():
            torch.manual_seed(0)
            torch.save(dict(state_dict=get_model(name).state_dict()), path)
        return path

    return save


def files(root, kind):
    return sorted(str(path) for path in (root / kind / "test").rglob(f"*{ENDINGS[kind]}"))


@pytest.mark.parametrize("kind", PRETRAINED)
def test_the_inferencer(kind, root, weights, tmp_path):
    name = PRETRAINED[kind]
    inferencer = MaskFeatInferencer(name, weights(name), "cpu", show_progress=False)
    results = inferencer(root / kind / "test", out_dir=tmp_path / "pictures", return_features=True)
    assert len(results) == 8 and all(0 < result["loss"] < 10 for result in results)
    assert len({result["features"].tobytes() for result in results}) == 8
    ending = ".png" if kind == "sounds" else ".gif"
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert len(pictures) == 8 and {path.suffix for path in pictures} == {ending}
    with Image.open(pictures[0]) as picture:
        assert len(set(picture.convert("L").getdata())) > 20
    # the decoded sample of a file gives the same prediction as the file
    pipeline = inferencer.pipeline
    path = files(root, kind)[0]
    if kind == "sounds":
        array = read_first(pipeline, dict(img_path=path))["img"]
    else:
        array = np.stack(read_first(pipeline, dict(filename=path))["video_reader"].read(range(12)))
    assert inferencer(array)[0]["loss"] == results[0]["loss"]


def read_first(pipeline, sample):
    return TRANSFORMS.build(pipeline[0])(sample)


@pytest.mark.parametrize("kind", PRETRAINED)
def test_features_and_export(kind, root, weights, tmp_path):
    name = PRETRAINED[kind]
    cfg, _ = read_model(name)
    for out in ("a.npz", "b.npz"):
        extract_features(cfg, weights(name), tmp_path / out, inputs=str(root / kind / "test"))
    first, second = (read_features(tmp_path / out) for out in ("a.npz", "b.npz"))
    assert list(first.names) == files(root, kind)
    np.testing.assert_array_equal(first.features, second.features)
    assert len(np.unique(first.features, axis=0)) == 8
    export = export_model(cfg, str(weights(name)), tmp_path / "model.pt2", backbone=True)
    assert export.shape == SIZES[kind] and export.difference <= export.tolerance


@pytest.mark.parametrize("kind", PRETRAINED)
def test_pictures_and_predictions(kind, root, weights, tmp_path):
    cfg, _ = read_model(PRETRAINED[kind])
    found = files(root, kind)
    neighbours = Wishes(found[:1], neighbours=2, among=str(root / kind / "test"))
    for folder, wishes in (("masked", Wishes(found[:1], mask_ratio=0.6)), ("neighbours", neighbours)):
        (tmp_path / folder).mkdir()
        written = visualize(cfg, str(weights(PRETRAINED[kind])), tmp_path / folder, wishes)
        assert written and all(path.stat().st_size for path in written)

    name = CLASSES[kind]
    cfg, _ = read_model(name)
    rows = list(predict(name, found, weights(name), top=8))
    assert [row.file for row in rows] == found
    for row in rows:
        assert len({label for label, _ in row.best}) == 8 == len(SOUNDS) == len(SOLIDS)
        assert sum(score for _, score in row.best) == pytest.approx(1, abs=1e-4)
    (tmp_path / "classes").mkdir()
    written = visualize(cfg, str(weights(name)), tmp_path / "classes", Wishes(found[:1]))
    assert written and all(path.stat().st_size for path in written)


def test_the_sound_of_a_video_and_short_sounds(root, weights, tmp_path):
    """A video is read for its sound. A sound that is shorter than the crop is padded if the config pads."""
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        stream = file.add_stream("pcm_s16le", rate=8000, layout="mono")
        samples = (np.random.default_rng(0).standard_normal(2000) * 3000).astype("<i2")
        frame = av.AudioFrame.from_ndarray(samples[None], "s16", "mono")
        frame.sample_rate, frame.pts = 8000, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            file.mux(packet)
    cfg, _ = read_model(PRETRAINED["sounds"])
    cfg.train_dataloader.dataset.pipeline[1].pad_if_needed = True
    inferencer = MaskFeatInferencer(cfg, weights(PRETRAINED["sounds"]), "cpu", show_progress=False)
    assert inferencer(path)[0]["mask"].shape == (1, 5, 8)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.wav", b"", "a.wav is empty"),
        ("a.wav", b"abc" * 100, "a.wav is no sound file, or a broken one"),
        ("a.png", b"abc", "a.png is an image, and .* takes sounds; give sounds, or a config that takes images"),
        ("a.npy", b"abc", "a.npy is a volume, and .* takes sounds"),
        ("a.parquet", b"PAR1", "lists images and videos, and .* takes sounds"),
        ("folder/a.npy", b"abc", "a.npy is a volume, and .* takes sounds"),
        ("folder/a.txt", b"abc", "folder has no files that end in .wav, .flac"),
    ],
)
def test_files_that_are_no_sounds(name, content, message, weights, tmp_path):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    inferencer = MaskFeatInferencer(PRETRAINED["sounds"], weights(PRETRAINED["sounds"]), "cpu")
    with pytest.raises(ConfigError, match=message):
        inferencer(path if path.parent == tmp_path else path.parent)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros(5), "a.npy is float64 .5,.. A volume has numbers"),
        (np.array([None]), "a.npy is no volume, or a broken one"),
        (None, "a.wav is a sound, and .* takes volumes"),
    ],
)
def test_files_that_are_no_volumes(array, message, weights, tmp_path):
    if array is None:
        (tmp_path / "a.wav").write_bytes(b"abc")
    else:
        np.save(tmp_path / "a.npy", array, allow_pickle=True)
    inferencer = MaskFeatInferencer(PRETRAINED["solids"], weights(PRETRAINED["solids"]), "cpu")
    with pytest.raises(ConfigError, match=message):
        inferencer(next(tmp_path.iterdir()))


def test_a_folder_of_sounds_needs_no_endings(root, tmp_path):
    options = dict(data_root=str(root / "sounds" / "test"), ann_file="", data_prefix="", with_label=False)
    options = {f"train_dataloader.dataset.{key}": value for key, value in options.items()}
    config = Path(__file__).parents[2] / "configs" / "signals" / "maskfeat_vit-tiny_sounds.py"
    trainer = build_trainer(load_config(config, tmp_path, options))
    assert len(trainer.train_dataloader.dataset) == 8


def test_sounds_are_no_videos(tmp_path):
    (tmp_path / "a.wav").write_bytes(b"abc")
    inferencer = MaskFeatInferencer("maskfeat_mvit-tiny_moving-digits", device="cpu")
    with pytest.raises(
        ConfigError, match="a.wav is a sound, and .* takes videos; give videos, or a config that takes s"
    ):
        inferencer(tmp_path / "a.wav")


def test_the_web_page(root, weights, monkeypatch, tmp_path):
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    inferencers = [MaskFeatInferencer(name, weights(name), "cpu", show_progress=False) for name in PRETRAINED.values()]
    page = build_page(inferencers)
    page.launch(server_name=HOST, prevent_thread_lock=True, quiet=True, ssr_mode=False)
    try:
        client = Client(page.local_url, download_files=str(tmp_path), verbose=False)
        for kind, function, count in (("sounds", "/sound", 4), ("solids", "/volume", 5)):
            path = files(root, kind)[0]
            *pictures, loss, baseline = client.predict(handle_file(path), 0.4, 0, api_name=function)
            assert len(pictures) == count and all(Path(picture).stat().st_size for picture in pictures)
            expected = inferencers[kind == "solids"](path, mask_ratio=0.4)[0]["loss"]
            assert loss == f"{expected:.4f}" and 0 < float(baseline) < 10
        client.close()
    finally:
        page.close()
