"""Tests of the benchmark: both sides compute the same. Times are not asserted."""

import json
import random
import re
import sys

import numpy as np
import pytest
import torch

from maskfeat_plugin.engine.process_info import peak_memory
from maskfeat_plugin.registry import MODELS, TRANSFORMS
from projects.benchmark import (
    Comparison,
    Cost,
    Measurement,
    costs,
    cubes_by_loops,
    describe_machine,
    format_costs,
    format_table,
    measure,
)
from projects.benchmark import rows as benchmark_rows
from projects.benchmark.several_processes import measure_processes
from tools.benchmark import main

CPU = torch.device("cpu")


def test_hog_is_the_same_numbers():
    whole, masked = benchmark_rows.hog(CPU)
    for comparison in (whole, masked):
        # if a gradient lies between two bins, its last bit decides which bin the pixel votes for
        ours, theirs = comparison.ours(), comparison.theirs()
        assert ours.shape == theirs.shape
        assert ((ours - theirs).abs() > 1e-4).float().mean() < 1e-3
    assert len(masked.ours()) == 627


def test_the_bandwidth_is_that_of_pixels_and_histograms():
    """Check the row on a CPU. It is meant for a GPU, but its parts are the same."""
    comparison = benchmark_rows.hog_bandwidth(CPU, count=2)
    cells = comparison.ours()
    assert cells.shape == (2, 3, 9, 28, 28)
    moved = 2 * comparison.theirs().nbytes  # read and written
    assert moved == 2 * 3 * 224 * 224 * 4 + cells.nbytes


def test_masks_are_of_the_same_size():
    for masks, shape, count in zip(benchmark_rows.masks(), ((14, 14), (8, 14, 14)), (78, 627), strict=True):
        drawn = masks.ours(), masks.theirs()
        assert len(drawn[0]) == len(drawn[1])
        assert {(m["mask"].shape, int(m["mask"].sum())) for m in drawn[0] + drawn[1]} == {(shape, count)}


@pytest.mark.long
@pytest.mark.parametrize("kind", ["image", "video"])
def test_pretraining_has_the_same_loss(kind):
    """Compare two steps: the weights are the same before and after a step."""
    if kind == "image":
        comparison = benchmark_rows.image_pretraining(CPU, batch_size=1)
    else:
        comparison = benchmark_rows.video_pretraining(CPU)
    for _ in range(2):
        torch.testing.assert_close(comparison.ours(), comparison.theirs(), rtol=1e-4, atol=1e-5)


@pytest.mark.long
def test_inference_has_the_same_features():
    training, inference = benchmark_rows.video_finetuning(CPU)
    torch.testing.assert_close(inference.ours(), inference.theirs(), rtol=1e-4, atol=1e-4)
    assert training.ours() is training.theirs() is None


def test_cubes_by_loops_are_the_generators():
    """Draw both 1000 times, and compare the positions of masked tokens and their sequences in time."""
    random.seed(0)
    loops = np.stack([cubes_by_loops((4, 6, 6), 0.4) for _ in range(1000)])
    generator = TRANSFORMS.build(dict(type="maskfeat.CubeMaskGenerator", token_grid=(4, 6, 6), seed=0))
    ours = np.stack([generator({})["mask"] for _ in range(1000)])
    assert abs(loops.mean(0) - ours.mean(0)).max() < 4.5 * (2 * 0.4 * 0.6 / 1000) ** 0.5
    together = [(masks[:, 1:] & masks[:, :-1]).mean() for masks in (loops, ours)]
    assert abs(together[0] - together[1]) < 0.01


def test_the_table_shows_ratios():
    comparison = Comparison("count", "someone", lambda: (lambda: sum(range(1000)), lambda: sum(range(50000))))
    found = measure(comparison, 3, CPU)
    assert 0 < found.ours < found.theirs
    table = format_table([Measurement("count", "someone", 0.002, 0.005, 10.0, 25.0)])
    assert re.search(r"\| count \| 2\.0 \| 5\.0 \| 2\.50 \| 10 \| 25 \| 2\.5 \| someone \|", table)
    assert "| - | - | - |" in format_table([Measurement("count", "someone", 0.002, 0.005)])
    assert "threads" in describe_machine(CPU)


@pytest.mark.parametrize("megabytes", [200, 400])
def test_peak_memory_is_what_a_run_allocates(megabytes):
    def run():
        kept = [torch.ones(megabytes << 18) for _ in range(2)]  # two at the same time
        del kept
        torch.ones(megabytes << 18)

    run()
    assert peak_memory(run, CPU) == pytest.approx(2 * megabytes, rel=0.1, abs=4)


def test_linear_layers_are_the_same_numbers():
    comparison = benchmark_rows.linear_layers()
    torch.testing.assert_close(comparison.ours(), comparison.theirs(), rtol=1e-5, atol=1e-4)


def test_costs_are_of_the_settings_they_name(monkeypatch):
    """Check that every row measures a step of a different size. Most steps are skipped; one is run."""
    asked = []

    def skip(model, size, *_):
        asked.append((model, *size.values()))
        return 1.0, 2.0

    module = sys.modules[costs.__module__]
    monkeypatch.setattr(module, "_measure_step", skip)
    monkeypatch.setattr(module, "measure_processes", lambda count, size, repeats: skip(f"{count} processes", size))
    rows = list(costs(1, CPU))
    assert len(rows) == len(asked) == len(set(asked))
    assert {row.what.split(", ")[-1] for row in rows} == {
        *("clips", "frames", "side", "masked", "images", "a clip each")
    }
    monkeypatch.undo()
    seconds, memory = module._measure_step("ViT-B", dict(frames=1, side=64, batch=1, ratio=0.5), 1, CPU)
    assert seconds > 0 and memory > 0
    assert "| ViT-B | side | 288 | 500 | 250 | 7 |" in format_costs([Cost("ViT-B", "side", "288", 2, 0.5, 7.0)])


@pytest.mark.long
def test_steps_of_two_processes_are_measured():
    seconds, memory = measure_processes(2, dict(frames=4, side=64, batch=1, ratio=0.5), repeats=1)
    assert seconds > 0 and memory > 0
    with pytest.raises(RuntimeError, match="2 processes: .*"):
        measure_processes(2, dict(frames=4, side=60, batch=1, ratio=0.5), repeats=1)


def test_only_the_chosen_rows_are_built(tmp_path, monkeypatch, capsys):
    def build(self, *args, **kwargs):
        raise AssertionError("a row that nobody asked for is built")

    monkeypatch.setattr(type(MODELS), "build", build)
    rows = list(benchmark_rows.comparisons(CPU, tmp_path))
    assert len(rows) == len({row.job for row in rows}) > 15
    assert not any(tmp_path.iterdir())
    assert main(["--only", "linear", "--repeats", "1"]) == 0
    assert "| 20 linear layers" in capsys.readouterr().out


def test_without_a_compiler_the_compiled_row_is_left_out(monkeypatch, capsys):
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("no_such_compiler",))
    assert main(["--only", "compiled", "--repeats", "1"]) == 0
    printed = capsys.readouterr()
    assert "left out: ViT of 2 layers" in printed.err and "no C++ compiler for torch.compile" in printed.err
    assert "compiled" not in printed.out


@pytest.mark.long
def test_runs_are_written_and_compared(tmp_path, capsys):
    file = tmp_path / "run.json"
    assert main(["--only", "masks", "--repeats", "1", "--json", str(file)]) == 0
    run = json.loads(file.read_text())
    assert [row["job"] for row in run["rows"]] == ["1000 block-wise masks of 14 x 14", "100 cube masks of 8 x 14 x 14"]
    assert run["repeats"] == 1 and "torch" in run["machine"]
    assert main(["--only", "cube", "--repeats", "1", "--against", str(file)]) == 0
    printed = capsys.readouterr().out
    assert printed.count("| 100 cube masks of 8 x 14 x 14 |") == 3 and "against the peer, before" in printed


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--only", "nothing"], "--only nothing: no row"),
        (["--against", "missing.json"], "--against missing.json: give a file that --json wrote"),
        (["--json", "missing/run.json"], "does not exist"),
        *([] if torch.cuda.is_available() else [(["--gpu"], "--gpu: torch sees no GPU")]),
    ],
)
def test_mistakes_are_said_before_anything_is_timed(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr("tools.benchmark.comparisons", lambda device, folder: iter(()))
    assert main(arguments) == 1
    assert message in capsys.readouterr().err
