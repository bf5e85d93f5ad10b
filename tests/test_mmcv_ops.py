"""mmcv's compiled ops, as tools/setup/install_mmcv.py builds them, against torchvision's."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from mmcv.ops import RoIAlign, batched_nms, nms
from tool_modules import load_tool

TOOL = Path(__file__).parents[1] / "tools" / "setup" / "install_mmcv.py"


def random_boxes(count, generator):
    corner = torch.rand(count, 2, generator=generator) * 50
    return torch.cat((corner, corner + 1 + torch.rand(count, 2, generator=generator) * 30), dim=1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 200), st.floats(0.1, 0.9), st.integers(0, 2**31))
def test_nms_keeps_what_torchvisions_keeps(count, threshold, seed):
    generator = torch.Generator().manual_seed(seed)
    boxes, scores = random_boxes(count, generator), torch.rand(count, generator=generator)
    _, kept = nms(boxes, scores, threshold)
    assert torch.equal(kept, torchvision.ops.nms(boxes, scores, threshold))


def test_batched_nms_is_torchvisions():
    generator = torch.Generator().manual_seed(0)
    boxes, scores = random_boxes(300, generator), torch.rand(300, generator=generator)
    labels = torch.randint(0, 4, (300,), generator=generator)
    _, kept = batched_nms(boxes, scores, labels, dict(type="nms", iou_threshold=0.5))
    assert torch.equal(kept, torchvision.ops.batched_nms(boxes, scores, labels, 0.5))


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling_ratio", [0, 2])
def test_roi_align_forward_and_backward_are_torchvisions(aligned, sampling_ratio):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 5, 20, 24, generator=generator)
    boxes = random_boxes(12, generator)
    rois = torch.cat((torch.arange(12).remainder(2).float()[:, None], boxes), dim=1)
    ours = features.clone().requires_grad_()
    theirs = features.clone().requires_grad_()
    out = RoIAlign((7, 5), spatial_scale=0.25, sampling_ratio=sampling_ratio, aligned=aligned)(ours, rois)
    expected = torchvision.ops.roi_align(
        theirs, rois, (7, 5), spatial_scale=0.25, sampling_ratio=max(sampling_ratio, 0), aligned=aligned
    )
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)
    weight = torch.randn(out.shape, generator=generator)
    (out * weight).sum().backward()
    (expected * weight).sum().backward()
    assert theirs.grad.abs().sum() > 0
    torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-4, rtol=1e-4)


def run_tool(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(TOOL), *arguments], capture_output=True, text=True, env={**os.environ, **environment}
    )


def test_an_mmcv_that_works_is_kept():
    done = run_tool()
    assert done.returncode == 0, done.stderr
    assert "is installed and its ops work" in done.stdout


def test_without_a_compiler_one_line_says_what_to_install(tmp_path):
    done = run_tool("--force", PATH=str(tmp_path), XDG_CACHE_HOME=str(tmp_path), CXX="")
    assert done.returncode == 1
    assert len(done.stderr.strip().splitlines()) == 1
    assert "C++ compiler" in done.stderr and "apt install g++" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_has_an_example():
    assert "example:" in run_tool("--help").stdout


@pytest.fixture(scope="module")
def tool():
    return load_tool("setup/install_mmcv")


def test_a_broken_wheel_in_the_cache_is_deleted(tool, tmp_path, capsys):
    assert tool.cached_wheel(tmp_path) is None
    broken = tmp_path / "mmcv-2.1.0-a.whl"
    broken.write_bytes(b"PK not a zip")
    sound = tmp_path / "mmcv-2.1.0-b.whl"
    with zipfile.ZipFile(sound, "w") as archive:
        archive.writestr("mmcv/version.py", "")
    assert tool.cached_wheel(tmp_path) == sound
    assert not broken.exists() and "is broken" in capsys.readouterr().out


def test_the_cache_tells_builds_apart(tool):
    common = dict(mmcv="2.1.0", torch="2.13.0", cuda="13.0", python="cpython-311", platform="linux_x86_64", gpu=False)
    target = tool.Target(**common, flags="-O1")
    others = [
        tool.Target(**{**common, key: value}, flags="-O1")
        for key, value in dict(torch="2.12.0", cuda=None, python="cpython-312", gpu=True).items()
    ]
    others.append(tool.Target(**common, flags="-O2"))
    assert len({target.key, *(t.key for t in others)}) == 6
    # builds of the same release for the same CUDA share their wheel
    assert tool.Target(**{**common, "torch": "2.13.0+cu130"}, flags="-O1").key == target.key


def test_joined_units_hold_every_source_once(tool, tmp_path):
    kernels = tmp_path / "cpu"
    kernels.mkdir()
    for name in ("pybind", "nms", "roi_align", "psamask"):
        (tmp_path / f"{name}.cpp").write_text(f"// {name}\n")
    for name in ("nms", "roi_pool", "psamask"):
        (kernels / f"{name}.cpp").write_text(f"// cpu {name}\n")
    units = tool.join_sources(tmp_path)
    included = [line.split('"')[1] for unit in units for line in unit.read_text().splitlines()]
    assert sorted(Path(i).name for i in included) == [
        "nms.cpp", "nms.cpp", "psamask.cpp", "roi_align.cpp", "roi_pool.cpp"
    ]  # fmt: skip
    assert all((unit.parent / i).is_file() for unit in units for i in [unit.read_text().split('"')[1]])
    # pybind stays where it is, and what clashes stays a unit of its own
    assert (tmp_path / "pybind.cpp").is_file() and (kernels / "psamask.cpp").is_file()


def test_the_standard_is_left_to_torch(tool, tmp_path):
    """torch 2.15 does not compile in C++17, which mmcv asks for."""
    setup = tmp_path / "setup.py"
    setup.write_text("if new:\n    extra_compile_args['cxx'] = ['-std=c++17']\n")
    tool.leave_standard_to_torch(setup)
    assert setup.read_text() == "if new:\n    extra_compile_args['cxx'] = []\n"
