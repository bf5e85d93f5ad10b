"""docs/inference.md is run, block by block, and docs/inference.ipynb, cell by cell."""

import ast
import json
import shlex
from pathlib import Path

import numpy as np
from doc_blocks import ROOT, code_blocks, commands, link_checkout
from tool_modules import load_tool

PAGE = ROOT / "docs" / "inference.md"
NOTEBOOK = PAGE.with_suffix(".ipynb")


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


def shown(cell, scope):
    """Run a cell without Jupyter. Return the value of its last line, or None if the last line is not an expression."""
    tree = ast.parse("".join(cell["source"]), str(NOTEBOOK))
    last = ast.Expression(tree.body.pop().value) if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), scope)
    return last and eval(compile(last, str(NOTEBOOK), "eval"), scope)


def test_notebook(monkeypatch, capsys):
    monkeypatch.chdir(NOTEBOOK.parent)
    scope = {}
    cells = {cell["id"]: cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"}
    assert not any(cell["outputs"] or cell["execution_count"] for cell in cells.values())
    values = {name: shown(cell, scope) for name, cell in cells.items()}
    assert "maskfeat_vit-tiny_moving-digits" in repr(values["model"])
    assert [values[name]._repr_html_().count("data:image/png;base64,") for name in ("one", "kinds")] == [1, 3]
    assert values["mask"]._repr_png_().startswith(b"\x89PNG") and values["mask"]["mask"].sum() == 9
    losses = [result["loss"] for result in values["kinds"]]
    assert losses[0] == losses[2] and abs(losses[0] - losses[1]) < 0.05
    assert "(1, 5, 5) (15, 108)" in capsys.readouterr().out
