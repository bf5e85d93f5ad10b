"""Tests of the command line of the studies."""

import pytest
from tool_modules import load_tool

from projects.study import STUDIES


@pytest.fixture(scope="module")
def ablate():
    return load_tool("ablate").main


def test_help_and_list_name_every_study(ablate, capsys):
    with pytest.raises(SystemExit) as stop:
        ablate(["--help"])
    assert stop.value.code == 0
    helped = capsys.readouterr().out
    assert "example" in helped and all(name in helped for name in STUDIES)
    assert ablate(["--list"]) == 0
    listed = capsys.readouterr().out
    for study in STUDIES.values():
        for settings in study.settings.values():
            assert all(setting.name in listed for setting in settings)


def test_dry_run_writes_nothing(ablate, capsys, digits, tmp_path):
    root = str(digits / "data" / "moving_digits")
    arguments = ["masks", "--dry-run", "--work-dir", str(tmp_path / "new"), "--data-root", root, "--workers", "2"]
    assert ablate(arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6 * 5 + 1 and sum("cubes (base)" in line for line in lines) == 5
    assert lines[-1].startswith("30 of 30 runs left, 2 processes, about ") and not (tmp_path / "new").exists()
    assert ablate([*arguments[:1], "--report", *arguments[2:]]) == 0
    assert "no run is finished" in capsys.readouterr().out and not (tmp_path / "new").exists()
    assert ablate([*arguments, "--kinds", "image", "--seeds", "7"]) == 0
    assert "2 of 2 runs left" in capsys.readouterr().out


def test_mistakes_are_one_line(ablate, capsys, tmp_path):
    for arguments, message in (
        ([], "no study is given"),
        (["colours"], "there is no study colours"),
        (["masks", "--steps", "0"], "has to be at least 1"),
    ):
        with pytest.raises(SystemExit) as stop:
            ablate(arguments)
        assert stop.value.code == 2 and message in capsys.readouterr().err
    for arguments, message in (
        (["masks", "--config", "a.py"], "--config and --finetune-config go together"),
        (["masks", "--config", "a.py", "--finetune-config", "b.py"], "a.py does not exist"),
        (["masks", "--docs", str(tmp_path / "none.md")], "tables go between"),
        (["targets", "--target", "dino"], "give NAME=CONFIG"),
        (["masks", "--data-root", str(tmp_path / "none")], "the folder does not exist"),
    ):
        assert ablate(arguments) == 1
        errors = capsys.readouterr().err
        assert message in errors and errors.count("\n") == 1


def test_a_study_ends_in_a_page_a_csv_and_the_docs(ablate, capsys, digits, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# Page\n\n<!-- tools/ablate.py begin -->\n<!-- tools/ablate.py end -->\n")
    arguments = ["masks", "--kinds", "image", "--seeds", "0", "--steps", "2", "--finetune-steps", "2"]
    arguments += ["--work-dir", str(tmp_path / "work"), "--out", str(tmp_path / "out"), "--docs", str(page)]
    arguments += ["--data-root", str(digits / "data" / "moving_digits"), "--workers", "1"]
    arguments += ["--cfg-options", "train_dataloader.batch_size=4"]
    assert ablate(arguments) == 0
    assert "2 of 2 runs done" in capsys.readouterr().out
    assert len((tmp_path / "out" / "study.csv").read_text().splitlines()) == 3
    assert "<svg" in (tmp_path / "out" / "study.html").read_text()
    assert "| blocks (base) |" in page.read_text() and "2 x batches of 4" in page.read_text()
    written = page.read_text()
    page.write_text("<!-- tools/ablate.py begin -->\n<!-- tools/ablate.py end -->\n")
    assert ablate([*arguments, "--report"]) == 0 and "runs done" not in capsys.readouterr().out
    assert page.read_text() == written.removeprefix("# Page\n\n")
