"""Tests of the pictures of predictions, with shipped weights and with random weights of fine-tuned models."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DefaultScope
from PIL import Image
from tool_modules import load_tool

from maskfeat_plugin.apis.pictures import Choice, build_fine_tuned, find, read_class_names
from maskfeat_plugin.apis.pictures.fine_tuned import Samples
from maskfeat_plugin.registry import MODELS
from maskfeat_plugin.visualization.masks import MASK_GREY

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo"
IMAGE, CLIP = (DEMO / f"maskfeat_{name}-tiny_moving-digits.py" for name in ("vit", "mvit"))
CLASS, COCO = (DEMO / f"vit-tiny_moving-digits-{task}.py" for task in ("class", "coco"))
MOTION, AVA = (DEMO / f"mvit-tiny_moving-digits-{task}.py" for task in ("motion", "ava"))
DIGITS = [f"digit {number}" for number in range(10)]


def shipped(config):
    return DEMO / "weights" / f"{config.stem}.pth"


@pytest.fixture(scope="module")
def tool():
    return load_tool("visualize").main


@pytest.fixture
def draw(tool, digits, tmp_path, monkeypatch, capsys):
    """Function that runs the tool in the folder of the demo's data and returns the printed files by name."""
    monkeypatch.chdir(digits)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")

    def run(config, checkpoint, *arguments, out="out"):
        out = tmp_path / out
        assert tool([str(a) for a in (config, checkpoint, *arguments, "--out", out, "--device", "cpu")]) == 0
        files = [Path(line) for line in capsys.readouterr().out.splitlines() if line.startswith(str(out))]
        assert sorted(files) == sorted(out.iterdir())  # and no unfinished files
        return {path.name: path for path in files}

    return run


@pytest.fixture
def error_of(tool, digits, tmp_path, monkeypatch, capsys):
    """Function that runs the tool, checks that it fails without writing files, and returns its one line of error."""
    monkeypatch.chdir(digits)

    def run(config, checkpoint, *arguments):
        out = tmp_path / "none"
        given = (config, checkpoint, *arguments)
        out_option = () if "--out" in given else ("--out", out)
        assert tool([str(a) for a in (*given, *out_option, "--device", "cpu")]) == 1
        assert not out.exists() or not list(out.iterdir())
        (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return line

    return run


@pytest.fixture(scope="module")
def fine_tuned(tmp_path_factory):
    """Checkpoints of the demo's fine-tuning configs, with weights that distinguish samples."""
    made = {}

    def checkpoint(config):
        if config not in made:
            cfg = Config.fromfile(config)
            with DefaultScope.overwrite_default_scope(cfg.default_scope):
                model = MODELS.build(cfg.model)
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
            made[config] = tmp_path_factory.mktemp("weights") / f"{config.stem}.pth"
            meta = dict(dataset_meta=dict(classes=DIGITS)) if config == CLASS else {}
            torch.save(dict(state_dict=model.state_dict(), meta=meta), made[config])
        return made[config]

    return checkpoint


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB"))


def masked_tokens(page, side=240, grid=5, left=8, top=34):
    """Count the grey tokens in the first picture of a panel."""
    token = side // grid
    tokens = page[top : top + side, left : left + side].reshape(grid, token, grid, token, 3)
    return int((tokens == MASK_GREY).all((1, 3, 4)).sum())


def test_a_file_several_and_a_folder(draw, digits):
    frames = sorted((digits / "data" / "moving_digits" / "frames" / "test").iterdir())[:2]
    of_one = draw(IMAGE, shipped(IMAGE), frames[0], out="one")
    assert list(of_one) == [f"{frames[0].stem}.png"]
    of_two = draw(IMAGE, shipped(IMAGE), *frames, out="two")
    assert list(of_two) == [f"{frame.stem}.png" for frame in frames]
    assert of_one[f"{frames[0].stem}.png"].read_bytes() == of_two[f"{frames[0].stem}.png"].read_bytes()
    folder = digits / "data" / "moving_digits" / "frames" / "val"
    assert len(draw(IMAGE, shipped(IMAGE), folder, out="folder")) == len(list(folder.iterdir()))


def test_a_photograph_of_any_size(draw, tmp_path):
    cv2.imwrite(str(tmp_path / "some.jpg"), np.random.default_rng(0).integers(0, 256, (90, 121, 3), dtype=np.uint8))
    page = pixels(draw(IMAGE, shipped(IMAGE), tmp_path / "some.jpg")["some.png"])
    assert page.shape == (282, 4 * 248 + 8, 3)  # four pictures of 40 pixels, 6 times enlarged


def test_mask_ratio_and_seed(draw, digits):
    frame = next((digits / "data" / "moving_digits" / "frames" / "test").iterdir())

    def page(*options, out):
        return pixels(draw(IMAGE, shipped(IMAGE), frame, *options, out=out)[f"{frame.stem}.png"])

    default = page(out="default")
    assert masked_tokens(default) == 10  # 0.4 of 25
    assert masked_tokens(page("--mask-ratio", 0.8, out="most")) == 20
    other = page("--seed", 1, out="seed")
    assert masked_tokens(other) == 10 and not np.array_equal(default[:, :248], other[:, :248])
    np.testing.assert_array_equal(default, page("--seed", 0, out="again"))


def test_clips_stand_and_move(draw, digits):
    found = draw(CLIP, shipped(CLIP), "--dataset", "train", "--indices", 3, out="gif")
    assert list(found) == ["train_000003.png", "train_000003.gif"]
    with Image.open(found["train_000003.gif"]) as moving:
        assert moving.n_frames == 4  # time steps of the token grid
    # a sample of the data set and its file give the same picture
    line = (digits / "data/moving_digits/annotations/motion_train.txt").read_text().splitlines()[3]
    video = digits / "data/moving_digits/videos/train" / line.split()[0]
    of_file = draw(CLIP, shipped(CLIP), video, "--clips", "mp4", out="mp4")
    assert of_file[f"{video.stem}.png"].read_bytes() == found["train_000003.png"].read_bytes()
    with av.open(str(of_file[f"{video.stem}.mp4"])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4


def test_samples_are_spread_over_the_data_set(draw):
    assert list(draw(IMAGE, shipped(IMAGE), "--dataset", "train", "--count", 2)) == [
        "train_000000.png",
        "train_000095.png",  # of 32 clips with 3 frames each
    ]


@pytest.mark.parametrize("config", [IMAGE, CLIP])
def test_attention_is_one_more_picture(draw, config):
    options = ("--dataset", "train", "--indices", 0)
    plain = pixels(draw(config, shipped(config), *options, out="plain")["train_000000.png"])
    page = pixels(draw(config, shipped(config), *options, "--attention", out="attention")["train_000000.png"])
    larger = [a - b for a, b in zip(page.shape, plain.shape, strict=True)]
    assert larger == ([0, 248, 0] if config == IMAGE else [258, 0, 0])


def test_the_nearest_neighbour_is_the_like(draw, tmp_path):
    """Check that the nearest neighbour of a picture is its slightly changed copy, not the picture itself."""
    rng = np.random.default_rng(0)
    bank = tmp_path / "bank"
    bank.mkdir()
    for name in "abcd":
        coarse = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
        cv2.imwrite(str(bank / f"{name}.png"), cv2.resize(coarse, (48, 48), interpolation=cv2.INTER_CUBIC))
    copy = cv2.imread(str(bank / "b.png")) // 2 + 20
    cv2.imwrite(str(bank / "copy.png"), copy)
    options = ("--neighbours", 2, "--among", bank)
    page = pixels(draw(IMAGE, shipped(IMAGE), bank / "b.png", *options)["b_neighbours.png"])
    assert page.shape[1] == 3 * 168 + 8
    own, nearest, next_one = (page[8:168, 8 + 168 * i : 168 + 168 * i].astype(int) for i in range(3))
    assert abs(own // 2 + 20 - nearest).max() <= 3  # two roundings
    assert abs(own // 2 + 20 - next_one).mean() > 10


def test_neighbours_among_the_training_data(draw, fine_tuned, digits):
    videos = digits / "data/moving_digits/videos"
    first = sorted((videos / "test").iterdir())[0]
    found = draw(CLIP, shipped(CLIP), first, "--neighbours", 3, out="pre")
    assert list(found) == [f"{first.stem}_neighbours.png", f"{first.stem}_neighbours.gif"]
    with Image.open(found[f"{first.stem}_neighbours.gif"]) as moving:
        assert moving.n_frames == 8 and moving.size == (4 * 168 + 8, 196)
    # neighbours with a fine-tuned backbone
    assert draw(CLASS, fine_tuned(CLASS), "--dataset", "test", "--indices", 0, "--neighbours", 3, out="fine")


@pytest.mark.parametrize(("config", "split"), [(CLASS, "test"), (MOTION, "val")])
def test_classes_are_those_of_the_frameworks_test_step(fine_tuned, digits, monkeypatch, config, split):
    monkeypatch.chdir(digits)
    cfg = Config.fromfile(config)
    names = read_class_names(cfg, fine_tuned(config))
    model = build_fine_tuned(cfg, fine_tuned(config))
    samples = Samples(cfg, (), Choice(split, (0, 5)))
    for sample in samples:
        packed = sample.read()
        frames, finding = find(model, packed, names, not samples.takes_clips, top=2)
        assert frames.shape == ((8, 32, 32, 3) if config == MOTION else (1, 40, 40, 3))
        with torch.no_grad(), DefaultScope.overwrite_default_scope(cfg.default_scope):
            scores = model.test_step(pseudo_collate([packed]))[0].pred_score
        best = scores.argsort(descending=True)[:2].tolist()
        assert finding.best == [(names[number], pytest.approx(float(scores[number]))) for number in best]
        assert finding.true == [names[int(packed["data_samples"].gt_label)]]
    assert finding.true[0].startswith("digit" if config == CLASS else "class")


def test_classes_are_drawn(draw, fine_tuned, digits, tmp_path):
    root = digits / "data/moving_digits"
    frame, clip = (sorted((root / kind / "test").iterdir())[0] for kind in ("frames", "videos"))
    page = pixels(draw(CLASS, fine_tuned(CLASS), frame, "--top", 4, out="class")[f"{frame.stem}.png"])
    assert page.shape == (240 + 4 * 18 + 6 + 24, 240, 3)
    options = ("--class-names", root / "annotations/motion_classes.txt", "--clips", "mp4")
    found = draw(MOTION, fine_tuned(MOTION), clip, *options, out="motion")
    assert list(found) == [f"{clip.stem}.png", f"{clip.stem}.mp4"]
    with av.open(str(found[f"{clip.stem}.mp4"])) as container:
        assert sum(1 for _ in container.decode(video=0)) == 8
    # the names differ from the numbers
    numbered = draw(MOTION, fine_tuned(MOTION), clip, out="numbers")[f"{clip.stem}.png"]
    assert not np.array_equal(pixels(numbered), pixels(found[f"{clip.stem}.png"]))


def lines_of(page, color, left, side):
    """Return first and last row and column of a colour, within a square picture of a page."""
    rows, columns = np.nonzero((page[34 : 34 + side, left : left + side] == color).all(-1))
    return rows.min(), columns.min(), rows.max(), columns.max()


@pytest.mark.parametrize("config", [COCO, AVA])
def test_boxes_are_drawn_where_they_are(draw, fine_tuned, digits, monkeypatch, config):
    options = ("--dataset", "test", "--indices", 2, "--least-score", 0)
    found = draw(config, fine_tuned(config), *options)
    page = pixels(found["test_000002.png"])
    cfg = Config.fromfile(config)
    (sample,) = Samples(cfg, (), Choice("test", (2,)))
    model = build_fine_tuned(cfg, fine_tuned(config))
    frames, finding = find(model, sample.read(), read_class_names(cfg), config == COCO, least_score=0.0)
    # actions are drawn on frames of 64 x 64, enlarged 4 times; objects are drawn on the model's 40 x 40
    scale, side = (8, 256) if config == AVA else (6, 240)
    x1, y1, x2, y2 = (finding.true.boxes[0] * scale).round().astype(int)
    drawn = lines_of(page, (255, 255, 255), 8 + side + 8, side)
    assert abs(np.subtract(drawn, (y1, x1, y2 - 1, x2 - 1))).max() <= 1
    if config == AVA:
        assert finding.key_frame == 4 and not any("class" in label for label in finding.found.labels)
        assert all(line.count("score") == 3 for line in finding.found.labels)
        with Image.open(found["test_000002.gif"]) as moving:
            assert moving.n_frames == len(frames) == 8
    else:
        # a file gives the same picture, without annotations
        (alone,) = Samples(cfg, [sample.read()["data_samples"].img_path])
        again = find(model, alone.read(), read_class_names(cfg), True, least_score=0.0)[1]
        np.testing.assert_allclose(again.found.boxes, finding.found.boxes, atol=1e-4)
        assert again.true is None and len(again.found.boxes)


@pytest.mark.parametrize(
    ("config", "arguments", "says"),
    [
        (IMAGE, (), "give either files and folders, or --dataset"),
        (IMAGE, ("data", "--dataset", "train"), "and not both"),
        (IMAGE, ("data", "--indices", 1), "--indices chooses samples of a data set"),
        (IMAGE, ("--dataset", "train", "--indices", 0, "--count", 1), "--indices and --count are both given"),
        (IMAGE, ("--dataset", "train", "--indices", 96), "has samples 0 to 95, not 96"),
        (IMAGE, ("--dataset", "val"), "has no val_dataloader; it has train"),
        (IMAGE, ("data", "--top", 2), "--top needs a config of fine-tuning"),
        (IMAGE, ("data", "--clips", "gif"), "--clips gif needs a config of clips"),
        (IMAGE, ("data", "--among", "data"), "give --neighbours K too"),
        (IMAGE, ("data", "--neighbours", 2, "--seed", 1), "--seed has no meaning with --neighbours"),
        (
            IMAGE,
            ("data/moving_digits/frames", "--mask-ratio", 1.5),
            "mask_ratio=1.5 has to be a number between 0 and 1",
        ),
        (IMAGE, ("data/moving_digits/videos",), "is a video, and"),
        (IMAGE, ("data/moving_digits/annotations",), "has no files that end in"),
        (IMAGE, ("nowhere.png",), "nowhere.png does not exist"),
        (CLASS, ("--dataset", "test", "--mask-ratio", 0.5), "--mask-ratio needs a config of pre-training"),
        (CLASS, ("--dataset", "test"), "it is not a checkpoint of"),
        (CLASS, ("--dataset", "test", "--class-names", "none.txt"), "none.txt does not exist"),
        (AVA, ("data/moving_digits/videos/test",), "give samples of its data set: --dataset test"),
    ],
)
def test_wrong_wishes_are_one_line(error_of, config, arguments, says):
    weights = shipped(IMAGE if config in (IMAGE, CLASS) else CLIP)
    assert says in error_of(config, weights, *arguments)


def test_wrong_files_are_one_line(error_of, fine_tuned, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "file").write_text("")
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    (tmp_path / "cut.png").write_bytes(cv2.imencode(".png", noise)[1].tobytes()[:60])
    (tmp_path / "two.txt").write_text("a\nb\n")
    cv2.imwrite(str(tmp_path / "whole.png"), np.full((48, 48, 3), 90, np.uint8))
    assert "has no files that end in" in error_of(IMAGE, shipped(IMAGE), tmp_path / "empty")
    assert "text.png is no image" in error_of(IMAGE, shipped(IMAGE), tmp_path / "whole.png", tmp_path / "text.png")
    assert "cut.png cannot be read" in error_of(IMAGE, shipped(IMAGE), tmp_path / "whole.png", tmp_path / "cut.png")
    assert "missing.pth does not exist" in error_of(IMAGE, tmp_path / "missing.pth", tmp_path / "whole.png")
    assert "which predictions need" in error_of(IMAGE, fine_tuned(CLASS), tmp_path / "whole.png")
    options = (tmp_path / "whole.png", "--out", tmp_path / "file" / "below")
    assert "below': cannot write there" in error_of(IMAGE, shipped(IMAGE), *options)
    options = (tmp_path / "whole.png", "--class-names", tmp_path / "two.txt")
    assert "has 2 lines, the model of" in error_of(CLASS, fine_tuned(CLASS), *options)


def test_help_has_an_example(tool, capsys):
    with pytest.raises(SystemExit):
        tool(["--help"])
    text = capsys.readouterr().out
    assert "examples:\n  python tools/visualize.py configs/demo/" in text and "--neighbours" in text
