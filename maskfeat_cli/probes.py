"""Checks that import packages which may be broken. Each check runs in its own process, so that a crash ends only one.

``python probes.py NAME`` prints the findings as JSON in its last line.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the package itself may be broken
    from maskfeat_plugin.compat import Entry

if __name__ == "__main__":
    # do not import the modules beside this file; add the parent folder, since a checkout may not be installed
    _HERE = Path(__file__).resolve().parent
    sys.path = [*(path for path in sys.path if Path(path).resolve() != _HERE), str(_HERE.parent)]

from maskfeat_cli.check_results import ERROR, OK, WARNING, Finding

REMEDIES = {
    "torch": "install torch and torchvision together, from one index: "
    "pip install --force-reinstall torch torchvision (with the versions of requirements/runtime.txt)",
    "mmcv": "pip install --force-reinstall --no-deps mmcv-lite==2.1.0, which compiles nothing. If a compiled mmcv is "
    "installed, run pip uninstall mmcv before. In a checkout, also run pip install ./projects/mmcv_ops",
    "opencv": "pip install --force-reinstall opencv-python (opencv-python-headless where libGL is missing)",
    "av": "pip install --force-reinstall 'av>=17,<19'",
    "decord": "pip install --force-reinstall decord, or pip uninstall decord: clips are then read with av",
    "plugin": "fix the problems above, then reinstall: pip install -r requirements/openmmlab.txt, "
    "pip install --no-deps --no-build-isolation -e .",
    "gpu": "check that nvidia-smi works and that the driver is new enough for torch's CUDA",
}
"""Remedies for probes that fail; ``{tools}`` stands for the folder of the tools."""

_FRAMES, _SIDE = 8, 64


def check_torch() -> Iterator[Finding]:
    """Check that torch computes and that torchvision's operators are built for the same CUDA."""
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 9.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5)
    assert kept.tolist() == [0, 2], "torchvision's NMS is wrong"
    number = torch.ops.torchvision._cuda_version()  # 13000 for 13.0, -1 for none
    built, other = torch.version.cuda, None if number < 0 else f"{number // 1000}.{number % 1000 // 10}"
    versions = f"torch {torch.__version__}, torchvision {torchvision.__version__}"
    if built == other:
        yield Finding(OK, "torch", f"{versions}: both are built for {_cuda(built)}, NMS runs")
    else:
        text = f"{versions}: torch is built for {_cuda(built)}, torchvision for {_cuda(other)}"
        yield Finding(ERROR, "torch", text, REMEDIES["torch"])
    threads, cores = torch.get_num_threads(), count_cores()
    text = f"{threads} {'thread' if threads == 1 else 'threads'} on {cores} {'core' if cores == 1 else 'cores'}"
    limit = os.environ.get("OMP_NUM_THREADS")
    yield Finding(OK, "threads", f"{text}, set by OMP_NUM_THREADS={limit}" if limit else text)


def count_cores() -> int:
    """Return the number of cores that this process may use; all cores if the system does not say."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _cuda(release: str | None) -> str:
    return f"CUDA {release}" if release else "the CPU alone"


def check_mmcv() -> Iterator[Finding]:
    """Check that mmcv's operators load and compute, compiled or on top of torchvision's."""
    import mmcv

    both = [name for name in ("mmcv", "mmcv-lite") if is_installed(name)]
    if len(both) > 1:
        text = "mmcv and mmcv-lite are both installed, into the same folder, and overwrite each other's files"
        yield Finding(WARNING, "mmcv", text, "pip uninstall mmcv mmcv-lite, then install one of them")
    if find_spec("mmcv._ext") is None:
        import maskfeat_plugin  # noqa: F401, supplies the operators

        text = (
            "mmcv has no operators of its own. maskfeat_plugin supplies them if imported before mmcv.ops, but the "
            "frameworks' own tools do not import it first"
        )
        remedy = "run pip install ./projects/mmcv_ops in a checkout, which puts the operators into mmcv's folder"
        yield Finding(WARNING, "mmcv ops", text, remedy)
    import torch
    from mmcv import _ext
    from mmcv.ops import nms, roi_align

    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 9.0, 10.0], [20.0, 20.0, 30.0, 30.0]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    assert nms(boxes, scores, 0.5)[1].tolist() == [0, 2], "its NMS is wrong"
    image = torch.full((1, 1, 8, 8), 3.0)
    crops = roi_align(image, torch.tensor([[0.0, 1.0, 1.0, 6.0, 6.0]]), (2, 2), 1.0, 2, "avg", True)
    assert torch.allclose(crops, torch.full((1, 1, 2, 2), 3.0)), "its RoIAlign is wrong"
    origin = "on top of torchvision's" if _ext.__file__.endswith(".py") else "compiled"
    yield Finding(OK, "mmcv ops", f"mmcv {mmcv.__version__}, {origin}: NMS and RoIAlign run")
    if torch.cuda.is_available():
        import maskfeat_plugin  # noqa: F401, its compat module runs the operators on the GPU if mmcv has no CUDA

        nms(boxes.cuda(), scores.cuda(), 0.5)
        yield Finding(OK, "mmcv ops", "they run on the GPU too")


def is_installed(name: str) -> bool:
    """Return whether a distribution is installed."""
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def check_opencv() -> Iterator[Finding]:
    """Check that OpenCV writes and reads a JPEG."""
    import cv2
    import numpy as np

    image = np.full((16, 16, 3), 128, np.uint8)
    written, data = cv2.imencode(".jpg", image)
    read = cv2.imdecode(data, cv2.IMREAD_COLOR) if written else None
    assert read is not None and read.shape == image.shape, "it does not read the JPEG that it wrote"
    yield Finding(OK, "opencv", f"{cv2.__version__}, numpy {np.__version__}: a JPEG is written and read")


def check_av() -> Iterator[Finding]:
    """Check that PyAV writes and reads an H.264 clip."""
    import av

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        codec = _write_clip(path)
        with av.open(str(path)) as container:
            count = sum(1 for _ in container.decode(video=0))
    assert count == _FRAMES, f"{count} frames of {_FRAMES} were decoded"
    text = f"{av.__version__}: {_FRAMES} frames of {codec} are written and read"
    if codec == "H.264":
        yield Finding(OK, "av", text)
    else:
        remedy = (
            "the demo's data and the drawn videos need H.264. Install av from its wheel: "
            "pip install --force-reinstall av"
        )
        yield Finding(WARNING, "av", f"{text}; this av has no H.264 encoder", remedy)


def check_decord() -> Iterator[Finding]:
    """Check that decord, if it is installed, reads an H.264 clip."""
    if find_spec("decord") is None:
        yield Finding(OK, "decord", "not installed: clips are read with av")
        return
    import decord

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "clip.mp4")
        try:
            codec = _write_clip(path)
        except ImportError:
            yield Finding(WARNING, "decord", f"{decord.__version__} imports; it was not tried, since av is missing")
            return
        shape = decord.VideoReader(str(path), num_threads=1).get_batch(range(_FRAMES)).asnumpy().shape
    assert shape == (_FRAMES, _SIDE, _SIDE, 3), f"it reads a clip as {shape}"
    yield Finding(OK, "decord", f"{decord.__version__}: {_FRAMES} frames of {codec} are read")


def _write_clip(path: Path) -> str:
    """Write a clip in H.264, or in MPEG-4 if there is no H.264 encoder, and return the codec."""
    import av
    import numpy as np

    with av.open(str(path), mode="w") as container:
        try:
            stream, codec = container.add_stream("libx264", rate=8), "H.264"
        except ValueError:
            stream, codec = container.add_stream("mpeg4", rate=8), "MPEG-4"
        stream.width = stream.height = _SIDE
        stream.pix_fmt = "yuv420p"
        for i in range(_FRAMES):
            frame = np.full((_SIDE, _SIDE, 3), 16 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return codec


def check_plugin() -> Iterator[Finding]:
    """Check that the package imports, which compat entries are active, that models build, and the fast path."""
    import maskfeat_plugin
    from maskfeat_plugin import compat

    folder = Path(maskfeat_plugin.__file__).parent
    yield Finding(OK, "maskfeat_plugin", f"{maskfeat_plugin.__version__} imports, from {folder}")
    for entry in compat.ENTRIES:
        yield Finding(OK, "compat", f"{entry.name} is {_explain(entry)}")
    yield _check_registry()
    yield _check_fast_path()


def _explain(entry: Entry) -> str:
    from packaging.specifiers import SpecifierSet

    issue = entry.issue or "not reported"
    if entry.is_active():
        return f"active: {', '.join(f'{name} {version(name)}' for name in entry.affected)} ({issue})"
    for name, versions in entry.affected.items():
        if not is_installed(name):
            return f"not needed: {name} is not installed ({issue})"
        if not SpecifierSet(versions).contains(version(name), prereleases=True):
            return f"not needed: {name} {version(name)} is not {versions} ({issue})"
    return f"not needed: the fault does not occur ({issue})"


def _check_registry() -> Finding:
    import torch

    from maskfeat_plugin.registry import MODELS

    arch = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=32)
    model = MODELS.build(
        dict(
            type="maskfeat.MaskFeat",
            data_preprocessor=dict(type="maskfeat.MaskFeatDataPreprocessor"),
            backbone=dict(type="maskfeat.MaskedViT", arch=arch, img_size=32, patch_size=8),
            target_generator=dict(type="maskfeat.HOGGenerator", nbins=9, cell_size=4),
            neck=dict(type="maskfeat.RegressionNeck", in_channels=16, out_channels=108),
            head=dict(type="maskfeat.RegressionHead", loss=dict(type="maskfeat.MaskedLoss", kind="mse")),
        )
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    images, mask = torch.rand(2, 3, 32, 32, device=device), torch.ones(2, 1, 4, 4, dtype=torch.bool, device=device)
    loss = model.to(device)(images, mask=mask, mode="loss")["loss"]
    loss.backward()
    assert torch.isfinite(loss), f"the loss of a tiny MaskFeat is {loss.item()}"
    others = ["mmpretrain.VisionTransformer", "mmaction.MViT", "mmdet.FasterRCNN"]
    missing = [name for name in others if MODELS.get(name) is None]
    if missing:
        return Finding(ERROR, "registry", f"not found: {', '.join(missing)}", REMEDIES["plugin"])
    return Finding(
        OK, "registry", f"a tiny MaskFeat is built and takes a step on {device}; {', '.join(others)} are found"
    )


def _check_fast_path() -> Finding:
    import torch

    from maskfeat_plugin.ops.gate import runs_on_onednn
    from maskfeat_plugin.ops.linear import product

    a, b = torch.randn(8, 16), torch.randn(4, 16)
    if not runs_on_onednn(a, b):
        text = "linear layers in float32 run on torch's own path: this torch has no oneDNN, or it is switched off"
        return Finding(WARNING, "oneDNN", text, "install torch from PyPI; see docs/performance.md")
    torch.testing.assert_close(product(a, b), a @ b.t())
    return Finding(OK, "oneDNN", "linear layers in float32 on the CPU use it")


def check_gpu() -> Iterator[Finding]:
    """Check the GPU, bfloat16, and Triton, in which HOG's kernel is written."""
    import torch

    if not torch.cuda.is_available():
        if Path("/dev/nvidiactl").exists():
            built = torch.version.cuda
            text = f"torch (CUDA {built}) cannot use this machine's GPU" if built else "torch is built without CUDA"
            yield Finding(ERROR, "GPU", text, REMEDIES["gpu"])
        else:
            yield Finding(OK, "GPU", "none; everything runs on the CPU")
        return
    name, capability = torch.cuda.get_device_name(), ".".join(map(str, torch.cuda.get_device_capability()))
    ones = torch.ones(64, 64, device="cuda")
    assert (ones @ ones).sum().item() == 64**3, "a matrix product comes out wrong"
    yield Finding(
        OK, "GPU", f"{torch.cuda.device_count()} x {name}, capability {capability}, CUDA {torch.version.cuda}"
    )
    if torch.cuda.is_bf16_supported():
        yield Finding(OK, "bfloat16", "the GPU supports it")
    else:
        remedy = "train with --cfg-options optim_wrapper.dtype=float16"
        yield Finding(
            WARNING, "bfloat16", "the GPU does not support it, but configs of mixed precision may need it", remedy
        )
    try:
        import triton
    except ImportError:
        remedy = f"install the triton version of torch {torch.__version__}: pip install --force-reinstall torch"
        yield Finding(WARNING, "triton", "missing: HOG is computed without its kernel", remedy)
    else:
        yield Finding(OK, "triton", triton.__version__)


PROBES: dict[str, Callable[[], Iterator[Finding]]] = {
    "torch": check_torch,
    "mmcv": check_mmcv,
    "opencv": check_opencv,
    "av": check_av,
    "decord": check_decord,
    "plugin": check_plugin,
    "gpu": check_gpu,
}


def describe(error: BaseException) -> str:
    """Describe an exception in one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def main() -> None:
    """Run the probe named on the command line."""
    name = sys.argv[1]
    findings: list[Finding] = []
    try:
        findings.extend(PROBES[name]())
    except Exception as error:
        # keep the findings from before the failure
        findings.append(Finding(ERROR, name, describe(error), REMEDIES[name]))
    print("\n" + json.dumps(findings))


if __name__ == "__main__":
    main()
