"""Tests of bad input: one line before training names the key or the file, and a value that works."""

from pathlib import Path

import pytest
from mmengine.config import Config

from maskfeat_plugin.apis import ConfigError, check_config
from maskfeat_plugin.config import checks as checks_module
from maskfeat_plugin.config.checks import input_size

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def fails(project, train, capsys):
    """Function that runs the training with bad options and returns the one line of error."""

    def run(*options, config="pretrain.py"):
        assert train([config, *(["--cfg-options", *options] if options else [])]) == 1
        lines = capsys.readouterr().err.strip().splitlines()
        errors = [line for line in lines if line.startswith("error: ")]
        assert len(errors) == 1 and lines[-1] == errors[0]
        assert not list(project.glob("work_dirs/*/*.pth"))
        return errors[0]

    return run


def test_missing_config(fails):
    assert "missing.py does not exist" in fails(config="missing.py")


def test_broken_config(fails, project):
    (project / "broken.py").write_text("model = dict(\n")
    assert "broken.py cannot be read" in fails(config="broken.py")


def test_missing_data_root(fails):
    line = fails("train_dataloader.dataset.data_root=nowhere")
    assert "train_dataloader.dataset.data_root='nowhere' is not there" in line


def test_missing_annotation_file(fails):
    line = fails("train_dataloader.dataset.ann_file=other.txt")
    assert "train_dataloader.dataset.ann_file='other.txt'" in line and "data/other.txt" in line


def test_missing_folder(fails):
    line = fails("train_dataloader.dataset.data_prefix=pictures")
    assert "train_dataloader.dataset.data_prefix='pictures'" in line and "data/pictures" in line


def test_empty_annotation_file(fails, project):
    (project / "data" / "empty.txt").write_text("\n")
    line = fails("train_dataloader.dataset.ann_file=empty.txt")
    assert "data/empty.txt lists no samples" in line


def test_data_set_that_is_empty_once_built(fails):
    line = fails("train_dataloader.dataset.indices=[]")
    assert "train_dataloader.dataset is empty" in line and "train.txt" in line


def test_image_that_does_not_decode(fails, project):
    (project / "data" / "images" / "0.jpg").write_bytes(b"no image")
    line = fails()
    assert "train_dataloader.dataset.pipeline" in line and "0.jpg" in line


def test_video_that_does_not_decode(fails, project):
    (project / "data" / "0.mp4").write_bytes(b"no video")
    (project / "data" / "videos.txt").write_text("0.mp4 0\n")
    line = fails(
        "train_dataloader.dataset.ann_file=data/videos.txt",
        "train_dataloader.dataset.data_prefix.video=data",
        config=str(CONFIGS / "demo/maskfeat_mvit-tiny_moving-digits.py"),
    )
    assert "train_dataloader.dataset.pipeline" in line and "data/0.mp4" in line


def test_mask_grid_that_does_not_fit(fails):
    line = fails("train_dataloader.dataset.pipeline.2.token_grid=(7,7)")
    assert "train_dataloader.dataset.pipeline[2].token_grid=(7, 7)" in line and "set token_grid=(4, 4)" in line


def test_crop_not_divisible_by_the_patch(fails):
    line = fails("train_dataloader.dataset.pipeline.1.crop_size=36")
    assert "(36, 36) is not a multiple of the token stride (8, 8)" in line


@pytest.mark.parametrize("ratio", ["0.0", "1.0", "-0.5"])
def test_ratio_out_of_range(fails, ratio):
    line = fails(f"train_dataloader.dataset.pipeline.2.mask_ratio={ratio}")
    assert f"mask_ratio={ratio} is outside (0, 1)" in line


def test_unknown_arch(fails):
    line = fails("model.backbone.arch=enormous")
    assert "backbone.arch='enormous' is unknown" in line and "base" in line


def test_unknown_component(fails):
    assert "maskfeat.Missing" in fails("model.type=maskfeat.Missing")


def test_missing_pretrained_weights(fails):
    line = fails(config="finetune.py")
    assert "model.backbone.init_cfg.checkpoint='work_dirs/pretrain/epoch_3.pth': the file is not there" in line


def test_missing_checkpoint_to_resume(project, train, capsys):
    assert train(["pretrain.py", "--resume", "gone.pth"]) == 1
    assert "load_from='gone.pth'" in capsys.readouterr().err


def test_mixed_precision_without_a_gpu(fails, monkeypatch):
    for name in ("is_cuda_available", "is_npu_available", "is_mlu_available", "is_musa_available"):
        monkeypatch.setattr(checks_module, name, lambda: False)
    line = fails("optim_wrapper.type=AmpOptimWrapper")
    assert "optim_wrapper.type=OptimWrapper" in line


def test_nothing_to_test(project, test, capsys):
    (project / "any.pth").touch()
    assert test(["pretrain.py", "any.pth"]) == 1
    assert "no test_dataloader" in capsys.readouterr().err


def test_option_that_does_not_fit(fails):
    assert "--cfg-options" in fails("train_dataloader.dataset.pipeline.9.crop_size=3")


def test_keys_inside_wrappers(project):
    cfg = Config.fromfile("pretrain.py")
    cfg.train_dataloader.dataset = dict(
        type="ConcatDataset",
        datasets=[
            dict(type="RepeatDataset", times=2, dataset=cfg.train_dataloader.dataset),
            dict(type="CustomDataset", data_root="nowhere", pipeline=[]),
        ],
    )
    with pytest.raises(ConfigError, match=r"train_dataloader.dataset.datasets\[1\].data_root='nowhere'"):
        check_config(cfg, ("train_dataloader",))


def test_wrapper_around_itself(project):
    """Test a wrapper that contains itself. This happens because ``update`` merges it with the data set it replaces."""
    cfg = Config.fromfile("pretrain.py")
    loader = cfg.train_dataloader
    loader.update(dataset=dict(type="RepeatDataset", times=2, dataset=loader.dataset))
    with pytest.raises(ConfigError, match=r"^train_dataloader.dataset.dataset of the config holds itself"):
        check_config(cfg, ("train_dataloader",))


def test_remote_files_are_not_looked_for(project):
    cfg = Config.fromfile("finetune.py")
    cfg.model.backbone.init_cfg.checkpoint = "https://example.com/model.pth"
    cfg.train_dataloader.dataset.update(data_root="s3://bucket/data")
    check_config(cfg, ("train_dataloader",))


@pytest.mark.parametrize(
    ("pipeline", "size"),
    [
        ([dict(type="RandomResizedCrop", scale=224)], (224, 224)),
        ([dict(type="Resize", scale=256), dict(type="CenterCrop", crop_size=(96, 64))], (64, 96)),  # (W, H)
        ([dict(type="CenterCrop", crop_size=64), dict(type="Resize", scale=(-1, 256))], None),
        ([dict(type="RandomResizedCrop", area_range=(0.5, 1.0))], None),
        ([dict(type="maskfeat.RandomResizedCropFlip", scale=(224, 224))], (224, 224)),
        (
            [
                dict(
                    type="maskfeat.Cached",
                    transforms=[
                        dict(type="SampleFrames", clip_len=8),
                        dict(type="Resize", scale=(36, 36), keep_ratio=False),
                    ],
                ),
                dict(type="RandomCrop", size=32),
            ],
            (8, 32, 32),
        ),
    ],
)
def test_input_size(pipeline, size):
    assert input_size(pipeline) == size


def test_full_size_configs_fit_their_masks():
    """Check that a wrong token grid is found in each full-size config."""
    cfg = Config.fromfile(CONFIGS / "pretrain/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py")
    assert input_size(cfg.train_dataloader.dataset.pipeline, cfg.default_scope) == (16, 224, 224)
