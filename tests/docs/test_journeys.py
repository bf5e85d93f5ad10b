"""Tests of whole pages: the commands are run in an empty folder, in a fresh environment with the wheel."""

import os
import re
import subprocess
import sysconfig
import venv

import numpy as np
import pytest
from doc_blocks import ROOT, code_blocks, commands, missing_line
from own_data import write_images, write_photos, write_videos


@pytest.fixture(scope="module")
def environment(installed_wheel, tmp_path_factory):
    """Fresh virtual environment with the wheel and its dependencies, but without the checkout."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder)
    python = folder / "bin" / "python"
    [packages] = folder.glob("lib/python*/site-packages")
    # Python does not read .pth files in these folders, such as the checkout's
    (packages / "wheel.pth").write_text(f"{installed_wheel}\n{sysconfig.get_path('purelib')}\n")
    command = (installed_wheel / "bin" / "maskfeat").read_text().split("\n", 1)[1]
    (folder / "bin" / "maskfeat").write_text(f"#!{python}\n{command}")
    (folder / "bin" / "maskfeat").chmod(0o755)
    found = subprocess.run(
        [python, "-c", "import importlib.util as u; print(u.find_spec('maskfeat_plugin').origin)"],
        capture_output=True,
        text=True,
        cwd=folder,
    )
    assert found.stdout.startswith(str(installed_wheel)), found
    return folder


@pytest.mark.slow
def test_from_a_folder_to_a_model(environment, tmp_path):
    rng = np.random.default_rng(0)
    write_images(tmp_path / "my_images", rng)
    write_videos(tmp_path / "my_videos", rng)
    write_photos(tmp_path / "my_photos", rng)
    paths = os.pathsep.join((str(environment / "bin"), os.environ["PATH"]))
    settings = dict(os.environ, PATH=paths, OMP_NUM_THREADS="1", PYTHONWARNINGS="ignore")
    page, output, run = ROOT / "docs" / "first_model.md", "", []
    for block in code_blocks(page):
        if block.language == "shell":
            [command] = commands(block)
            done = subprocess.run(
                command.split(), cwd=tmp_path, env=settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
            )
            output = done.stdout
            assert done.returncode == 0, f"{command}\n{output[-4000:]}"
            run.append(command.split()[1])
        else:
            missing = missing_line(block.text, output)
            assert missing is None, f"line {block.line}: {missing!r} is not printed:\n{output[-4000:]}"
    assert run == ["pretrain", "knn", "finetune", "predict", "pretrain", "train"]
    table = (tmp_path / "predictions.csv").read_text().splitlines()
    assert table[0] == "file,class_1,score_1,class_2,score_2" and len(table) == 9
    assert {re.split(",", row)[1] for row in table[1:]} <= {"china", "flower"}
    assert list((tmp_path / "work_dirs" / "my_images_pretrain").glob("*/vis_data/vis_image/*.png"))
    assert (tmp_path / "work_dirs" / "changed" / "iter_2.pth").is_file()
