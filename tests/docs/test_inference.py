"""docs/inference.md is run, block by block."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from doc_blocks import ROOT, code_blocks, commands, link_checkout
from tool_modules import load_tool

PAGE = ROOT / "docs" / "inference.md"


@pytest.mark.slow
def test_page(digits, tmp_path, monkeypatch):
    project = link_checkout(tmp_path / "project")
    (project / "data").symlink_to(digits / "data")
    (project / "work_dirs").mkdir()
    monkeypatch.chdir(project)
    scope = {}
    for block in code_blocks(PAGE):
        if block.language == "python":
            exec(compile(block.text, str(PAGE), "exec"), scope)
            continue
        for command in commands(block):
            _, tool, *arguments = shlex.split(command)
            assert load_tool(Path(tool).stem, project / "tools").main(arguments) == 0, command
    assert len(scope["results"]) == len(list((project / "work_dirs" / "pictures").glob("*.png"))) == 24
    assert scope["result"]["mask"].sum() == 9
    assert scope["motions"].features.shape == (8, 64) and (np.asarray(scope["motions"].labels) >= 0).all()
    assert scope["classifier"].head.fc.out_features == 10
