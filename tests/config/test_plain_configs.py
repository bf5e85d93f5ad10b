"""A config in YAML or JSON is data: for any content, no code of its author runs."""

import json
import os
import subprocess
from pathlib import Path

import mmengine
import pytest
from warm_python import python

from maskfeat_plugin.apis import ConfigError, MaskFeatInferencer, get_model, load_config
from maskfeat_plugin.running.command_line import build_parser

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "configs" / "demo" / "maskfeat_vit-tiny_moving-digits.py"
COMMAND = "touch RUN"
DEEP = 100_000


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Return an empty folder, in which a command leaves a file if it is run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.py").write_text(f"import os\nos.system('{COMMAND}')\n")
    yield tmp_path
    assert not (tmp_path / "RUN").exists()


APPLY = f"x: !!python/object/apply:os.system ['{COMMAND}']\n"
HOSTILE = {
    "apply.yaml": (APPLY, "python/object/apply:os.system"),
    "apply.yml": (APPLY, "python/object/apply:os.system"),
    "new.yaml": (APPLY.replace("apply", "new"), "python/object/new:os.system"),
    "name.yaml": ("x: !!python/name:os.system\n", "python/name:os.system"),
    "module.yaml": ("x: !!python/module:antigravity\n", "python/module:antigravity"),
    "aliases.yaml": (
        "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "repeat more than",
    ),
    "around.yaml": ("a: &a [*a]\n", "stands inside the part that it repeats"),
    "deep.yaml": (f"a: {'[' * DEEP}{']' * DEEP}\n", "recursion"),
    "deep.json": (f'{{"a": {"[" * DEEP}{"]" * DEEP}}}', "recursion"),
    "digits.yaml": (f"a: {'9' * 6000}\n", r"limit \(4300"),
    "empty.yaml": ("", "holds no settings"),
    "list.json": ("[1]", "holds no settings"),
    "itself.yaml": ("_base_: itself.yaml\n", "is its own _base_"),
    "program.yaml": ("_base_: base.py\n", "base.py is a program"),
    "program.json": ('{"_base_": ["./base.py"]}', "base.py is a program"),
    "variable.yaml": ("_base_: '{{ fileDirname }}/base.py'\n", "base.py is a program"),
    "environment.yaml": ("_base_: {{$NOT_SET_HERE:base.py}}\n", "base.py is a program"),
    "type.yaml": (f"hook: {{type: os.system, command: {COMMAND}}}\n", "hook.type='os.system'.* not a registered"),
    "type.json": (json.dumps(dict(a=[dict(type="subprocess.Popen", args=["touch", "RUN"])])), r"a\[0\].type='subproce"),
    "top.json": (json.dumps(dict(type="os.system", command=COMMAND)), "^type='os.system'.* not a registered"),
    "dataset.yaml": ("d: {dataset_type: os.system}\n", "d.dataset_type='os.system'"),
    "nms.yaml": (f"nms: {{type: \"__import__('os').system('{COMMAND}')\"}}\n", "nms.type=.* is not a name"),
    "dtype.yaml": (f"t: {{dtype: \"float or __import__('os').system('{COMMAND}')\"}}\n", "t.dtype=.* is not a name"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_line(name):
    text, message = HOSTILE[name]
    Path(name).write_text(text)
    for read in (load_config, get_model, MaskFeatInferencer):
        with pytest.raises(ConfigError, match=message) as caught:
            read(name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("child", ["child.yaml", "child.json", "child.py"])
def test_bases_are_read_the_same_way(child):
    Path("apply.yaml").write_text(APPLY)
    Path("between.yaml").write_text("_base_: apply.yaml\n")
    text = {".py": '_base_ = "between.yaml"', ".json": '{"_base_": "between.yaml"}', ".yaml": "_base_: [between.yaml]"}
    Path(child).write_text(text[Path(child).suffix])
    with pytest.raises(ConfigError, match=r"python/object/apply:os\.system"):
        load_config(child)


def test_annotations_of_others_are_read_the_same_way():
    Path("labels.yml").write_text(APPLY)
    with pytest.raises(Exception, match=r"python/object/apply:os\.system"):
        mmengine.load("labels.yml")


def test_the_command_runs_nothing(folder):
    Path("c.yaml").write_text(APPLY)
    command = [python(), "-W", "ignore", str(ROOT / "tools" / "train.py"), "c.yaml"]
    done = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ, PYTHONPATH=str(ROOT)))
    assert done.returncode == 1 and "Traceback" not in done.stderr and not (folder / "RUN").exists()
    assert "error: the config file c.yaml cannot be read" in done.stderr


@pytest.mark.parametrize("ending", ["yaml", "yml", "json"])
def test_a_dumped_config_reads_the_same(ending):
    cfg = load_config(DEMO)
    cfg.dump(f"same.{ending}")
    same = load_config(f"same.{ending}")
    if ending != "json":  # JSON has no tuples
        assert same.model == cfg.model and same.train_dataloader == cfg.train_dataloader
    assert type(get_model(same)) is type(get_model(cfg))


def test_what_plain_configs_can_do():
    """They inherit from installed configs, use variables, and name components in every way that mmengine supports."""
    components = dict(
        a="torch.optim.SGD",
        b="mmengine.hooks.CheckpointHook",
        c="mmpretrain.models.ImageClassifier",
        d="mmpretrain.PackInputs",
        e="maskfeat.MaskFeat",
        f="torchvision/ConvertImageDtype",
        g="maskfeat.NotThere",
    )
    Path("middle.yaml").write_text(f"_base_: {DEMO}\nmax_iters: 7\n")
    lines = ["_base_: [middle.yaml, mmpretrain::_base_/schedules/imagenet_bs256.py]", "title: '{{ fileBasename }}'"]
    lines += [f"{name}: {{type: {kind}}}" for name, kind in components.items()]
    Path("plain.yaml").write_text("\n".join([*lines, "iters: {{ _base_.max_iters }}", "size: [1, 2]"]))
    with pytest.raises(ConfigError, match="Duplicate key"):  # mmengine's message for two bases with an optimizer
        load_config("plain.yaml")
    lines[0] = "_base_: [middle.yaml]"
    Path("plain.yaml").write_text("\n".join([*lines, "iters: {{ _base_.max_iters }}"]))
    cfg = load_config("plain.yaml", options={"a.lr": 0.1})
    assert cfg.iters == 7 and cfg.title == "plain.yaml" and cfg.model.type == "maskfeat.MaskFeat"
    assert {name: cfg[name].type for name in components} == components


@pytest.mark.parametrize("option", ["no_value", "a=[1,2", "a=" + "[" * 5000 + "]" * 5000])
def test_options_that_are_none(option, capsys):
    with pytest.raises(SystemExit) as caught:
        build_parser("", "").parse_args([str(DEMO), "--cfg-options", option])
    assert caught.value.code == 2 and "Give KEY=VALUE" in capsys.readouterr().err
