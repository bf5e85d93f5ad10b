"""Tests of configs by name or file, and of models with and without weights."""

import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.logging import MMLogger

from maskfeat_plugin.apis import load_config
from maskfeat_plugin.apis.model_loading import find_model, from_pretrained, get_model, list_models
from maskfeat_plugin.config.load import find_config
from maskfeat_plugin.errors import ConfigError

ROOT = Path(__file__).parents[2]
IMAGE = "maskfeat_vit-tiny_moving-digits"
WEIGHTS = ROOT / "configs" / "demo" / "weights" / f"{IMAGE}.pth"


def test_every_config_has_a_name_of_its_own():
    configs = [path for path in (ROOT / "configs").rglob("*.py") if "_base_" not in path.parts]
    names = {path.stem for path in configs if "Old name" not in path.read_text()}
    assert list_models() == sorted(names)
    assert len({path.stem for path in configs}) == len(configs) > len(names)


def test_old_names_of_configs_are_found():
    old = [path for path in (ROOT / "configs").rglob("*.py") if path.read_text().startswith('"""Old name of')]
    assert len(old) == 15
    for path in old:
        assert find_config(path.stem) == path
        new = find_config(re.search("``(.*)``", path.read_text())[1])
        assert Config.fromfile(path).to_dict() == Config.fromfile(new).to_dict()


def test_patterns_and_tasks():
    names = list_models("maskfeat_mvit")
    assert names and all(name.startswith("maskfeat_mvit") for name in names)
    assert list_models("*ava22") == list_models(task="Action Detection") != []
    assert list_models("maskfeat", task="Action Detection") == []


def test_metafiles_describe_models():
    entries = yaml.safe_load((ROOT / "configs" / "recognition" / "metafile.yml").read_text())["Models"]
    model = find_model(entries[0]["Name"])
    assert model.config == ROOT / entries[0]["Config"]
    assert model.metadata == entries[0]["Metadata"]
    assert model.tasks == ("Action Recognition",) and model.weights is None
    assert find_model(IMAGE).weights == WEIGHTS


@pytest.mark.parametrize(
    "name, near", [("maskfeat_vit-tiny_moving-digit", IMAGE), ("maskfeat_vit-bse", "maskfeat_vit-base-p16_8xb256")]
)
def test_unknown_name(name, near):
    with pytest.raises(ConfigError, match=f"no config of the name '{name}'; did you mean .*{near}"):
        get_model(name)


def test_nothing_like_it():
    with pytest.raises(ConfigError, match="list_models") as error:
        get_model("qqqq")
    assert "did you mean" not in str(error.value)


def test_weights():
    saved = torch.load(WEIGHTS, weights_only=True)["state_dict"]
    for model in (
        get_model(IMAGE, pretrained=True),
        get_model(ROOT / "configs" / "demo" / f"{IMAGE}.py", pretrained=WEIGHTS),
        get_model(Config.fromfile(ROOT / "configs" / "demo" / f"{IMAGE}.py"), pretrained=str(WEIGHTS)),
    ):
        assert not model.training
        torch.testing.assert_close(model.state_dict(), saved, rtol=0, atol=0, check_dtype=False)
    initial = get_model(IMAGE).state_dict()
    assert not torch.equal(initial["neck.fc.weight"], saved["neck.fc.weight"])


@pytest.fixture
def logged():
    """Collect the warnings of the log."""
    lines, handler = [], logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


def test_pretrained_weights_in_a_fine_tuning_model(logged):
    """The backbone gets the weights, and a warning names the parameters that get none."""
    model = get_model("vit-tiny_moving-digits-class", pretrained=WEIGHTS)
    saved = torch.load(WEIGHTS, weights_only=True)["state_dict"]
    assert torch.equal(model.backbone.layers[0].attn.qkv.weight, saved["backbone.layers.0.attn.qkv.weight"].float())
    assert len(logged) == 1
    assert "has no weights of: " in logged[0] and "head.fc.weight" in logged[0]


def test_settings_of_the_model():
    assert len(get_model(IMAGE, backbone=dict(arch=dict(num_layers=2))).backbone.layers) == 2


def test_work_directory(tmp_path):
    cfg = Config.fromfile(ROOT / "configs" / "demo" / f"{IMAGE}.py")
    with pytest.raises(ConfigError, match="no config file"):
        get_model(tmp_path)
    cfg.dump(tmp_path / "run.py")
    with pytest.raises(ConfigError, match="no weights come with"):
        get_model(tmp_path, pretrained=True)
    content = torch.load(WEIGHTS, weights_only=True)
    for step in (2, 10):
        state = {name: value + step for name, value in content["state_dict"].items()}
        torch.save(dict(state_dict=state, meta=dict(iter=step)), tmp_path / f"iter_{step}.pth")
    model = get_model(tmp_path, pretrained=True)
    torch.testing.assert_close(model.neck.fc.bias.data, content["state_dict"]["neck.fc.bias"] + 10, check_dtype=False)


@pytest.mark.parametrize(
    "weights, message",
    [("nowhere.pth", "nowhere.pth does not exist"), (__file__, "test_model_loading.py"), (True, "no weights")],
)
def test_bad_weights(weights, message):
    name = "vit-tiny_moving-digits-class"
    with pytest.raises(ConfigError, match=message):
        get_model(name, pretrained=weights)


def test_other_family():
    with pytest.raises(ConfigError, match="no weights of one fit the other"):
        get_model("mvit-tiny_moving-digits-motion", pretrained=WEIGHTS)


def test_a_name_is_read_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(IMAGE)
    assert cfg.filename == str(ROOT / "configs" / "demo" / f"{IMAGE}.py")
    assert cfg.work_dir == f"work_dirs/{IMAGE}"
    assert cfg.train_dataloader.dataset.data_root == "data/moving_digits/"


def test_a_file_wins_over_a_name_and_a_folder_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path(IMAGE).mkdir()  # as --work-dir may have made it
    assert find_config(IMAGE) == ROOT / "configs" / "demo" / f"{IMAGE}.py"
    Path(IMAGE).rmdir()
    Path(IMAGE).write_text("")
    assert find_config(IMAGE) == Path(IMAGE)


@pytest.mark.parametrize(
    "config, message",
    [
        ("maskfeat_vit-tiny_moving-digit", f"no config of the name .*did you mean .*{IMAGE}.* list_models"),
        (f"configs/demo/{IMAGE}.py", f"configs/demo/{IMAGE}.py does not exist; did you mean {IMAGE}"),
        ("nowhere.py", "nowhere.py does not exist. list_models"),
        ("folder", "the config folder is a folder"),
    ],
)
def test_neither_file_nor_name(config, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    with pytest.raises(ConfigError, match=message):
        load_config(config)


def test_from_pretrained(tmp_path):
    """The weights come with the name, or the model is a checkpoint whose config is in the same folder."""
    expected = get_model(IMAGE, pretrained=True).state_dict()
    (tmp_path / "only.py").write_text(load_config(IMAGE).pretty_text)
    checkpoint = tmp_path / "epoch_1.pth"
    shutil.copy(WEIGHTS, checkpoint)
    for model in (IMAGE, checkpoint):
        built = from_pretrained(model)
        assert not built.training
        assert all(torch.equal(value, expected[name]) for name, value in built.state_dict().items())
    (tmp_path / "another.py").write_text("")
    with pytest.raises(ConfigError, match=r"epoch_1.pth: its folder holds 2 configs.*epoch_1.py, or use get_model"):
        from_pretrained(checkpoint)
    (tmp_path / "epoch_1.py").write_text(load_config(IMAGE).pretty_text)
    assert from_pretrained(checkpoint, backbone=dict(drop_path_rate=0.1))._config.model.backbone.drop_path_rate == 0.1
    with pytest.raises(ConfigError, match="no weights come with maskfeat_vit-base"):
        from_pretrained("maskfeat_vit-base-p16_8xb256-amp-coslr-300e_in1k")
