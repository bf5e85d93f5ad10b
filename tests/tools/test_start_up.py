"""Tests of the start: help, wrong arguments and missing files are handled before imports that take seconds."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from tool_modules import TOOLS, load_tool

import maskfeat_cli
import maskfeat_plugin
from maskfeat_cli import given_files
from maskfeat_cli.arguments import LEVELS
from maskfeat_plugin import checkpoints, registry
from maskfeat_plugin.apis import ConfigError, estimate, get_model, pictures
from maskfeat_plugin.apis.features import extraction, search
from maskfeat_plugin.apis.folder_training import look_into
from maskfeat_plugin.config.checks import check_config
from maskfeat_plugin.config.input_kinds import IMAGES
from maskfeat_plugin.config.input_pipeline import list_inputs
from maskfeat_plugin.config.load import load_config
from maskfeat_plugin.datasets.manifest import read_manifest
from maskfeat_plugin.preparation import kinetics, near_duplicates, readable, shrinking
from maskfeat_plugin.preparation.manifest_index import index_folder
from maskfeat_plugin.training_report import write_training_report

TINY = "maskfeat_vit-tiny_moving-digits"
OUT = ["--out", "out.npz"]
# Arguments of each command with one missing file or folder, and a part of the error message
MISSING = [
    (["train", "none.py"], "the config file none.py does not exist"),
    (["train", "vit-tiny_moving-digit"], "there is no config of the name 'vit-tiny_moving-digit'; did you mean"),
    (["train", TINY, "--resume", "none.pth"], "load_from='none.pth': the file is not there"),
    (["test", "none.py", "none.pth"], "none.py does not exist"),
    (["test", TINY, "none.pth"], "load_from='none.pth': the file is not there"),
    (["convert", "none.pth", "out.pth", "--to", "maskfeat"], "The checkpoint none.pth does not exist"),
    (["visualize", "none.py", "none.pth", ".", *OUT], "none.py does not exist"),
    (["visualize", TINY, "none.pth", ".", *OUT], "The checkpoint none.pth does not exist"),
    (["visualize", TINY, "https://host/x.pth", "none.png", *OUT], "the input none.png does not exist"),
    (["visualize", TINY, "https://host/x.pth", *OUT], "give either files and folders, or --dataset"),
    (["report", "none"], "none does not exist. Give the work directory"),
    (["index", "none", "--out", "out.parquet"], "none is not there. Give the folder"),
    (["shards", "none.py", "out"], "the config file none.py does not exist"),
    (["deduplicate", "none.parquet"], "the manifest none.parquet does not exist"),
    (["shrink", "none", "out"], "SOURCE none is not there"),
    (["shrink", "none.parquet", "out"], "the manifest none.parquet does not exist"),
    (["knn", "none.py", "none.pth"], "none.py does not exist"),
    (["knn", TINY, "none.pth"], "The checkpoint none.pth does not exist"),
    (["knn", TINY], "CHECKPOINT is missing"),
    (["knn", "none", "--from", TINY], "FOLDER: none does not exist"),
    (["knn", ".", "--from", "none"], "there is no config of the name 'none'"),
    (["extract", "none.py", "none.pth", ".", *OUT], "none.py does not exist"),
    (["extract", TINY, "none.pth", ".", *OUT], "The checkpoint none.pth does not exist"),
    (["extract", TINY, "https://host/x.pth", "none.parquet", *OUT], "the manifest none.parquet does not exist"),
    (["extract", TINY, "https://host/x.pth", *OUT], "give either INPUTS or --dataset"),
    (["search", "none.png", "--in", "none.npz"], "none.npz does not exist"),
    (["export", "none.py", "none.pth", "out.onnx"], "none.py does not exist"),
    (["export", TINY, "none.pth", "out.onnx"], "The checkpoint none.pth does not exist"),
    (["web", "none.py", "none.pth"], "none.py does not exist"),
    (["web", TINY], "CHECKPOINT is missing"),
    (["estimate", TINY, "none.py"], "none.py does not exist"),
    (["estimate", TINY, "--measure", "sharded"], "--measure: the input size is missing. Add --size"),
    (["finetune", ".", "--from", "none/run"], "none/run does not exist"),
    (["predict", "none.png", "--from", TINY], "the input none.png does not exist"),
    (["predict", ".", "--from", "none/run"], "none/run does not exist"),
]
# Program that prints for each command line: exit status, errors, and the heavy packages imported so far
PROGRAM = """
import contextlib, io, json, sys
from pathlib import Path
import maskfeat_cli
from maskfeat_cli.commands import load_main
answers = []
for arguments in json.load(sys.stdin):
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as errors:
        try:
            if arguments[0].endswith(".py"):
                status = load_main(Path(arguments[0]))(arguments[1:])
            else:
                status = maskfeat_cli.main(arguments)
        except SystemExit as end:
            status = end.code
    answers.append([status, errors.getvalue(), sorted({"torch", "mmengine", "numpy"} & set(sys.modules))])
print(json.dumps(answers))
"""
# Program that prints the frameworks that the plugin imports, and the components missing in the registries
KNOWN = """
import json, sys
import maskfeat_plugin
from mmengine import registry
heavy = {"mmaction.models", "mmdet", "mmpretrain.models", "matplotlib", "pandas", "scipy", "sklearn", "torchvision"}
imported = sorted(heavy & set(sys.modules))
names = json.load(sys.stdin)
unknown = [key for root in names for key in names[root] if getattr(registry, root).get(f"maskfeat.{key}") is None]
print(json.dumps([imported, unknown]))
"""


@pytest.fixture(scope="module")
def ask(tmp_path_factory):
    """Run command lines one after another in a new Python process, in an empty folder."""

    def run(lines):
        folder = tmp_path_factory.mktemp("empty")
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, input=json.dumps(lines), capture_output=True, text=True, cwd=folder, check=True)
        assert not list(folder.iterdir())
        return list(zip(lines, json.loads(done.stdout), strict=True))

    return run


def test_help_and_wrong_arguments_import_nothing_heavy(ask):
    names = [name for name, command in maskfeat_cli.COMMANDS.items() if command.tool]
    for line, (status, _, imported) in ask([[name, "--help"] for name in names]):
        assert (status, imported) == (0, []), line
    for line, (status, errors, imported) in ask([[name, "--unknown-option"] for name in names]):
        assert (status, imported) == (2, []) and f"maskfeat {line[0]}: error: " in errors, line


def test_help_of_the_data_sets_imports_nothing_heavy(ask):
    tools = [TOOLS / "data" / f"{name}.py" for name in ("ava", "coco", "imagenet", "kinetics", "sthv2")]
    for line, (status, _, imported) in ask([[str(tool), "--help"] for tool in tools]):
        assert (status, imported) == (0, []), line


def test_missing_files_are_told_before_anything_heavy_is_imported(ask):
    told = {line[0] for line, _ in MISSING}
    assert told | {"pretrain", "configs"} == {name for name, command in maskfeat_cli.COMMANDS.items() if command.tool}
    for (line, (status, errors, imported)), (_, says) in zip(ask([line for line, _ in MISSING]), MISSING, strict=True):
        assert (status, imported) == (1, []), line
        assert errors.startswith("error: ") and says in errors and len(errors.splitlines()) == 1, (line, errors)


def test_options_of_the_config_are_read_before_torch_is_imported(ask):
    lines = [["train", TINY, "--cfg-options", option] for option in ("no_pair", "a=[1,2")]
    for line, (status, errors, imported) in ask(lines):
        assert status == 2 and "Give KEY=VALUE" in errors and "torch" not in imported, line


@pytest.mark.parametrize(
    "light, work",
    [
        (given_files.missing_config("none.py"), lambda: load_config("none.py")),
        (given_files.missing_config("no-name"), lambda: load_config("no-name")),
        (given_files.missing_config("."), lambda: load_config(".")),
        (given_files.missing_run("none"), lambda: get_model("none")),
        (given_files.missing_checkpoint("none.pth"), lambda: checkpoints.local_file("none.pth")),
        (given_files.missing_checkpoint("~/none.pth"), lambda: checkpoints.local_file("~/none.pth")),
        (given_files.missing_start("none.pth"), lambda: check_config(load_config(TINY, resume="none.pth"), ())),
        (given_files.missing_input("none.png"), lambda: list_inputs("none.png", IMAGES, "")),
        (given_files.missing_input("none.parquet"), lambda: list_inputs("none.parquet", IMAGES, "")),
        (given_files.missing_manifest("none.parquet"), lambda: read_manifest("none.parquet")),
        (given_files.missing_folder("none"), lambda: look_into("none")),
    ],
)
def test_the_work_says_the_same(light, work):
    with pytest.raises((ConfigError, FileNotFoundError)) as error:
        work()
    assert str(error.value) == light


@pytest.mark.parametrize(
    "arguments, work",
    [
        (["index", "none", "--out", "a.parquet"], lambda: index_folder("none", "a.parquet")),
        (["shrink", "none", "out"], lambda: shrinking.shrink_archive("none", "out", shrinking.ShrinkSettings())),
        (["report", "none"], lambda: write_training_report(Path("none"), None)),
        (["search", "a.png", "--in", "a.npz"], lambda: search.search_features("a.npz", "a.png")),
    ],
)
def test_the_work_says_the_same_as_the_command(arguments, work, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["maskfeat"])  # the command changes it; monkeypatch restores it
    assert maskfeat_cli.main(arguments) == 1
    with pytest.raises(ConfigError) as error:
        work()
    assert capsys.readouterr().err == f"error: {error.value}\n"


def test_what_is_there_or_is_no_local_file_is_left_to_the_work(tmp_path):
    (tmp_path / "a.pth").write_text("")
    for checkpoint in (None, str(tmp_path / "a.pth"), "https://host/a.pth", "s3://bucket/a.pth", "x/epoch_3.sharded"):
        assert given_files.missing_checkpoint(checkpoint) is None
    assert given_files.missing_run(str(tmp_path)) is None and given_files.missing_run(TINY) is None
    assert given_files.missing_config(None) is None and given_files.missing_input(tmp_path) is None


def test_importing_the_plugin_makes_its_components_known_without_importing_them():
    names = {}
    for root in registry.__all__:
        entries = getattr(registry, root)
        entries.import_from_location()
        names[root] = [key for key, part in entries.module_dict.items() if part.__module__.startswith("maskfeat_")]
    assert sum(map(len, names.values())) > 60
    command = [sys.executable, "-W", "ignore", "-c", KNOWN]
    done = subprocess.run(command, input=json.dumps(names), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == [[], []]


def test_parts_of_the_package_are_its_attributes():
    assert maskfeat_plugin.models.MaskedViT is registry.MODELS.get("MaskedViT")
    assert {getattr(maskfeat_plugin, name) for name in maskfeat_plugin.__all__}
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        maskfeat_plugin.nothing  # noqa: B018


def test_choices_are_those_of_the_work():
    assert load_tool("convert_checkpoint").TARGETS == tuple(checkpoints.TARGETS)
    assert load_tool("deduplicate_archive").MOST_BITS == near_duplicates.MOST_BITS
    assert load_tool("shrink_archive").CODECS == tuple(shrinking.CODECS)
    assert load_tool("search_features").INDEXES == search.INDEXES
    assert load_tool("estimate").WAYS == estimate.WAYS
    assert load_tool("data/kinetics").VERSIONS == kinetics.VERSIONS
    assert LEVELS == readable.LEVELS
    visualize, extract = load_tool("visualize"), load_tool("extract_features")
    assert (visualize.SPLITS, visualize.CLIPS) == (pictures.SPLITS, pictures.CLIPS)
    assert (extract.SPLITS, extract.PRECISIONS, extract.TYPES) == (
        extraction.SPLITS,
        extraction.PRECISIONS,
        extraction.TYPES,
    )
