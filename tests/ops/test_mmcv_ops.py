"""mmcv's operators with torchvision: equal to mmcv's compiled ones, in any order of imports, on any device."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmcv import ops
from mmcv_cases import COUNT, RUNS, make_boxes, read
from mmengine.config import Config

from maskfeat_plugin.ops import mmcv_ops

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def ours(monkeypatch):
    """Let ``mmcv.ops`` call this package's operators, also if a compiled mmcv is installed."""
    for name in ("nms", "roi_align", "roi_pool", "focal_loss", "deform_conv"):
        monkeypatch.setattr(sys.modules[f"mmcv.ops.{name}"], "ext_module", mmcv_ops)


@pytest.mark.parametrize("op", list(RUNS))
def test_results_and_gradients_are_those_of_the_compiled_operator(op):
    """Compare on 200 random cases, recorded by ``python tests/ops/mmcv_cases.py`` with a compiled mmcv 2.1.0."""
    recorded = read(op)
    assert len(recorded) == COUNT == 200
    for seed, expected in enumerate(recorded):
        found = RUNS[op](np.random.RandomState(seed))
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            if value.dtype.kind == "i":
                np.testing.assert_array_equal(found[name].numpy().ravel(), value, f"case {seed}, {name}")
            else:
                np.testing.assert_allclose(
                    found[name].numpy().ravel(), value, atol=1e-5, rtol=1e-5, err_msg=f"case {seed}, {name}"
                )


def pool_slowly(features, roi, size, scale):
    """Compute RoIPool of one region by its definition, bin by bin; mmcv compiles it only for GPUs."""
    height, width = features.shape[2:]
    index, x1, y1, x2, y2 = (np.float32(v) for v in roi)
    x1, y1, x2, y2 = x1 * scale, y1 * scale, (x2 + 1) * scale, (y2 + 1) * scale
    rows = []
    for i in range(size[0]):
        top, bottom = np.floor(i * ((y2 - y1) / size[0]) + y1), np.ceil((i + 1) * ((y2 - y1) / size[0]) + y1)
        for j in range(size[1]):
            left, right = np.floor(j * ((x2 - x1) / size[1]) + x1), np.ceil((j + 1) * ((x2 - x1) / size[1]) + x1)
            ys = slice(*(int(np.clip(v, 0, height)) for v in (top, bottom)))
            xs = slice(*(int(np.clip(v, 0, width)) for v in (left, right)))
            cut = features[int(index), :, ys, xs].flatten(1)
            rows.append(cut.amax(dim=1) if cut.shape[1] else features.new_zeros(features.shape[1]))
    return torch.stack(rows, dim=1).reshape(features.shape[1], *size)


def test_roi_pool_is_that_of_its_definition():
    for seed in range(COUNT):
        random = np.random.RandomState(seed)
        height, width, count = random.randint(4, 14), random.randint(4, 14), random.randint(1, 5)
        size, scale = (random.randint(1, 5), random.randint(1, 5)), np.float32(random.choice([0.125, 0.25, 0.5]))
        ours, theirs = (
            torch.from_numpy(np.random.RandomState(seed).randn(2, 3, height, width).astype(np.float32)).requires_grad_()
            for _ in range(2)
        )
        boxes = make_boxes(random, count) - 5
        rois = torch.cat((torch.from_numpy(random.randint(0, 2, (count, 1)).astype(np.float32)), boxes), dim=1)
        out = ops.roi_pool(ours, rois, size, float(scale))
        expected = torch.stack([pool_slowly(theirs, roi.numpy(), size, scale) for roi in rois])
        torch.testing.assert_close(out, expected, atol=0, rtol=0)
        weight = torch.from_numpy(random.randn(*out.shape).astype(np.float32))
        (out * weight).sum().backward()
        ((expected * weight).sum() + 0 * theirs.sum()).backward()  # all bins may be empty
        torch.testing.assert_close(ours.grad, theirs.grad, atol=1e-6, rtol=1e-6)


def test_a_region_without_extent_stays_zero():
    out = ops.roi_pool(torch.ones(1, 1, 4, 4), torch.tensor([[0.0, 3.0, 3.0, 1.0, 1.0]]), 2)
    assert out.abs().sum() == 0


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_sigmoid_focal_loss_is_mmdets(reduction):
    from mmdet.models.losses.focal_loss import py_sigmoid_focal_loss

    for seed in range(COUNT // 2):
        generator = torch.Generator().manual_seed(seed)
        count, classes = 1 + seed % 7, 1 + seed % 5
        logits = (torch.randn(count, classes, generator=generator, dtype=torch.float64) * 3).requires_grad_()
        target = torch.randint(0, classes + 1, (count,), generator=generator)  # the last class is background
        gamma, alpha = (seed % 3) + 0.5, 0.25
        loss = ops.sigmoid_focal_loss(logits, target, gamma, alpha, None, reduction)
        one_hot = torch.nn.functional.one_hot(target, classes + 1)[:, :classes]
        other = logits.detach().clone().requires_grad_()
        expected = py_sigmoid_focal_loss(other, one_hot, gamma=gamma, alpha=alpha, reduction="sum")
        expected = expected / count if reduction == "mean" else expected
        torch.testing.assert_close(loss, expected)
        loss.backward()
        expected.backward()
        torch.testing.assert_close(logits.grad, other.grad, atol=1e-6, rtol=1e-5)


def test_softmax_focal_loss_is_that_of_its_definition():
    for seed in range(COUNT):
        generator = torch.Generator().manual_seed(seed)
        count, classes = 1 + seed % 7, 2 + seed % 4
        logits = torch.randn(count, classes, generator=generator).requires_grad_()
        target = torch.randint(0, classes, (count,), generator=generator)
        weight = torch.rand(classes, generator=generator)
        loss = ops.softmax_focal_loss(logits, target, 2.0, 0.25, weight, "mean")
        other = logits.detach().clone().requires_grad_()
        p = other.softmax(dim=1).gather(1, target[:, None])[:, 0]
        expected = (-0.25 * (1 - p) ** 2 * p.log() * weight[target]).mean()
        torch.testing.assert_close(loss, expected)
        loss.backward()
        expected.backward()
        torch.testing.assert_close(logits.grad, other.grad, atol=1e-6, rtol=1e-5)


def test_of_equal_scores_the_first_box_is_kept():
    box = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    _, kept = ops.nms(box.expand(5000, 4), torch.full((5000,), 0.5), 0.5)
    assert kept.tolist() == [0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("pool_mode", ["avg", "max"])
def test_roi_align_takes_other_precisions(dtype, pool_mode):
    features = torch.randn(1, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    rois = torch.tensor([[0.0, 4.0, 4.0, 50.0, 40.0]])
    expected = ops.roi_align(features, rois, (3, 3), 0.125, 2, pool_mode)
    low = features.to(dtype).requires_grad_()
    found = ops.roi_align(low, rois.to(dtype), (3, 3), 0.125, 2, pool_mode)
    assert found.dtype == dtype
    torch.testing.assert_close(found.float(), expected, atol=2e-2, rtol=2e-2)
    found.sum().backward()
    assert low.grad.dtype == dtype and low.grad.abs().sum() > 0


def test_any_other_operator_raises_with_its_name():
    x = torch.zeros(1, 1, 4, 4)
    with pytest.raises(NotImplementedError, match=r"operator deform_conv_forward: .*MMCV_WITH_OPS=1.*installation\.md"):
        ops.deform_conv2d(x, torch.zeros(1, 18, 2, 2), torch.zeros(1, 1, 3, 3))


MODELS = ("retinanet/retinanet_r18_fpn_1x_coco", "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco")
MODELS += (
    "faster_rcnn/faster-rcnn_r50_fpn_1x_coco",
    "mask_rcnn/mask-rcnn_r50_fpn_1x_coco",
    "pisa/faster-rcnn_r50_fpn_pisa_1x_coco",
)


SHAPES = ("img_shape", "ori_shape", "pad_shape", "batch_input_shape")


@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_mmdet_takes_a_step_and_predicts(name):
    """Test one-stage, two-stage and mask models from mmdet's own configs."""
    import mmdet
    from mmdet.registry import MODELS as REGISTRY
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks
    from mmengine.registry import DefaultScope
    from mmengine.structures import InstanceData

    config = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / f"{name}.py")
    with DefaultScope.overwrite_default_scope("mmdet"):
        config.model.backbone.init_cfg = None
        torch.manual_seed(0)
        model = REGISTRY.build(config.model)
        boxes = torch.tensor([[8.0, 8.0, 60.0, 50.0], [30.0, 20.0, 90.0, 90.0]])
        sample = DetDataSample(metainfo=dict.fromkeys(SHAPES, (96, 96)) | dict(scale_factor=(1.0, 1.0)))
        masks = BitmapMasks(np.ones((2, 96, 96), np.uint8), 96, 96)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([1, 2]), masks=masks)
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=torch.zeros(0, dtype=torch.long))
        images = torch.randn(1, 3, 96, 96)
        losses = model.loss(images, [sample])
        total, _ = model.parse_losses(losses)
        total.backward()
        assert torch.isfinite(total)
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in model.parameters())
        model.eval()
        with torch.no_grad():
            [found] = model.predict(images, [sample])
    assert found.pred_instances.bboxes.shape[1] == 4


NMS_AND_ROI_ALIGN = """
import torch
from mmcv.ops import nms, roi_align
boxes = torch.tensor([[0., 0., 10., 10.], [0., 0., 9., 10.], [20., 20., 30., 30.]])
assert nms(boxes, torch.tensor([.9, .8, .7]), .5)[1].tolist() == [0, 2]
image = torch.full((1, 1, 8, 8), 3., requires_grad=True)
roi_align(image, torch.tensor([[0., 1., 1., 6., 6.]]), (2, 2), 1., 2, "avg", True).sum().backward()
assert abs(image.grad.sum().item() - 4) < 1e-4
"""


def run_python(code, **env):
    command = [sys.executable, "-W", "ignore", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **env})


@pytest.mark.parametrize(
    "imports",
    [
        "from mmdet.apis import DetInferencer\nimport maskfeat_plugin",
        "import maskfeat_plugin\nfrom mmdet.apis import DetInferencer",
    ],
)
def test_the_order_of_imports_does_not_matter(imports):
    done = run_python(imports + NMS_AND_ROI_ALIGN)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def bare_mmcv(tmp_path):
    """Make a folder with an mmcv that has no ``_ext`` of any kind, as mmcv-lite installs it."""
    folder = tmp_path / "mmcv"
    folder.mkdir()
    for file in Path(mmcv.__file__).parent.iterdir():
        if not file.name.startswith(("_ext", "__pycache__")):
            (folder / file.name).symlink_to(file)
    return tmp_path


def test_the_plugin_supplies_the_operators_where_they_are_not_installed(bare_mmcv):
    alone = run_python("import mmcv.ops", PYTHONPATH=str(bare_mmcv))
    assert alone.returncode and "No module named 'mmcv._ext'" in alone.stderr
    code = "import maskfeat_plugin\nprint(*maskfeat_plugin.compat.active())\nfrom mmdet.apis import DetInferencer"
    done = run_python(code + NMS_AND_ROI_ALIGN, PYTHONPATH=str(bare_mmcv))
    assert done.returncode == 0, done.stderr
    assert "mmcv-operators" in done.stdout.split()


def test_without_mmcv_one_error_says_what_to_install():
    done = run_python("import sys; sys.path_importer_cache.clear(); sys.modules['mmcv'] = None\nimport maskfeat_plugin")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "ModuleNotFoundError: maskfeat_plugin: the package mmcv is not installed. Run pip install 'mask"
    )


def test_the_distribution_holds_the_operators_in_mmcvs_folder(tmp_path):
    source = tmp_path / "mmcv_ops"
    shutil.copytree(ROOT / "projects" / "mmcv_ops", source)
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-q", "-w", tmp_path, source]
    subprocess.run(command, check=True)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read("mmcv/_ext.py") == Path(mmcv_ops.__file__).read_bytes()
        assert [name for name in archive.namelist() if ".dist-info/" not in name] == ["mmcv/_ext.py"]
