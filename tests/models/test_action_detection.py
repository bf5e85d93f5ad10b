"""Action detection with MViT: one test for each mistake that costs half of the mAP.

The tests cover box scaling, aligned RoIAlign, feature stride, class token, normalisation and key-frame position.
"""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

import maskfeat_plugin  # noqa: F401
from maskfeat_plugin.registry import DATASETS, METRICS, MODELS

CONFIGS = Path(__file__).parents[2] / "configs"
AVA = sorted(CONFIGS.glob("action_detection/*.py"))
FPS, START = 30, 900
BOX = np.array([0.25, 0.3, 0.6, 0.8])  # as fractions of the frame


def stem(path):
    return path.stem.split("_k400")[0]


@pytest.fixture(scope="module")
def raw_frames(tmp_path_factory):
    """Write a non-square clip of 4 s in AVA's layout: the box is white, a strip at the top encodes the number."""
    root = tmp_path_factory.mktemp("ava")
    folder = root / "rawframes" / "clip"
    folder.mkdir(parents=True)
    height, width = 120, 200
    for number in range(4 * FPS):
        frame = np.zeros((height, width, 3), np.uint8)
        frame[:20] = 2 * number
        x1, y1, x2, y2 = (BOX * [width, height, width, height]).astype(int)
        frame[y1:y2, x1:x2] = 255
        cv2.imwrite(str(folder / f"img_{number + 1:05d}.png"), frame)
    corners = ",".join(str(corner) for corner in BOX)
    (root / "train.csv").write_text(f"clip,0902,{corners},3,0\nclip,0902,{corners},7,0\n")
    (root / "proposals.csv").write_text(f"clip,0902,{corners},,0.97\nclip,0902,0.0,0.0,0.1,0.1,,0.2\n")
    return root


def build_dataset(root, pipeline, **kwargs):
    with DefaultScope.overwrite_default_scope("mmaction"):
        return DATASETS.build(
            dict(
                type="maskfeat.AVADataset",
                ann_file=str(root / "train.csv"),
                data_prefix=dict(img=str(root / "rawframes")),
                filename_tmpl="img_{:05}.png",
                pipeline=pipeline,
                **kwargs,
            )
        )


@pytest.mark.parametrize("path", AVA, ids=stem)
@pytest.mark.parametrize("loader", ["train_dataloader", "val_dataloader"])
def test_boxes_follow_the_frames(path, loader, raw_frames):
    """After the config's pipeline scales, crops and flips, the boxes still frame the white region."""
    cfg = Config.fromfile(path)
    pipeline = cfg[loader].dataset.pipeline
    with DefaultScope.overwrite_default_scope("mmaction"):
        dataset = build_dataset(raw_frames, pipeline, proposal_file=str(raw_frames / "proposals.csv"))
        for seed in range(4):
            np.random.seed(seed)
            sample = dataset[0]
            frame = sample["inputs"][0, 0]  # (H, W), red of the first frame
            rows, cols = np.nonzero((frame > 245).numpy())
            boxes = [sample["data_samples"].gt_instances.bboxes, sample["data_samples"].proposals.bboxes]
            for box in boxes:
                assert box.shape == (1, 4)  # the proposal with a low score was dropped
                seen = np.array([cols.min(), rows.min(), cols.max() + 1, rows.max() + 1])
                assert np.abs(box[0].numpy() - seen).max() <= 3.5  # the frame is enlarged by up to 3.7


@pytest.mark.parametrize("path", AVA, ids=stem)
def test_predicted_boxes_are_fractions_of_the_frame_again(path, raw_frames):
    """The metric gets the annotated box, although the frames were scaled."""
    cfg = Config.fromfile(path)
    with DefaultScope.overwrite_default_scope("mmaction"):
        sample = build_dataset(raw_frames, cfg.val_dataloader.dataset.pipeline, test_mode=True)[0]
        head = MODELS.build({**cfg.model.roi_head.bbox_head, "_scope_": "mmdet"})
    rois = torch.nn.functional.pad(sample["data_samples"].proposals.bboxes.float(), (1, 0))
    scores = torch.zeros(1, 81)
    found = head.predict_by_feat((rois,), (scores,), [sample["data_samples"].metainfo])[0]
    torch.testing.assert_close(found.bboxes[0], torch.tensor(BOX).float(), atol=1e-5, rtol=0)


def planted_map(stride=32, height=224, width=384):
    """Build a feature map on MViT's grid whose two channels are the centre (x, y) of each token in pixels."""
    y, x = torch.meshgrid(*(torch.arange(-(-size // stride)) * stride + 0.5 for size in (height, width)), indexing="ij")
    return torch.stack([x, y])[None, :, None].repeat(1, 1, 3, 1, 1)  # (N, 2, T', H', W')


def extractor(**kwargs):
    return MODELS.build(dict(type="maskfeat.CentredRoIExtractor3D", output_size=7, **kwargs))


@pytest.mark.parametrize("box", [(70.0, 60.0, 190.0, 170.0), (120.5, 40.0, 300.0, 100.0)])
@pytest.mark.parametrize("aligned", [True, False])
def test_a_planted_box_recovers_its_features(box, aligned):
    """The mean of the token centres in a box is the centre of the box, and their width is the width of the box."""
    rois = torch.tensor([[0.0, *box]])
    features, _ = extractor(aligned=aligned)(planted_map(), rois)  # (1, 2, 1, 7, 7)
    centre = features.mean((0, 2, 3, 4))
    torch.testing.assert_close(centre, torch.tensor([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2]), atol=0.1, rtol=0)
    width = features[0, 0, 0, 0, -1] - features[0, 0, 0, 0, 0]
    assert width.item() == pytest.approx((box[2] - box[0]) * 6 / 7, abs=0.1)


def test_upstreams_extractor_looks_half_a_token_away():
    """Upstream's extractor reads the same box 15.5 pixels to the upper left, so this package has its own."""
    theirs = MODELS.build(dict(type="mmdet.SingleRoIExtractor3D", output_size=7, featmap_stride=32))
    box = torch.tensor([70.0, 60.0, 190.0, 170.0])
    features, _ = theirs(planted_map(), torch.nn.functional.pad(box, (1, 0))[None])
    centre = features.mean((0, 2, 3, 4))
    torch.testing.assert_close(centre, torch.tensor([130.0, 115.0]) - 15.5, atol=0.1, rtol=0)


def local_mvit(path):
    """Build the config's backbone with at most 16 blocks, whose tokens are only pooled sums of their patches."""
    backbone = Config.fromfile(path).model.backbone
    backbone.pop("init_cfg")
    backbone.update(temporal_size=4, spatial_size=96, with_cp=False)
    backbone.arch = "small"
    model = MODELS.build(backbone).eval()
    with torch.no_grad():
        model.patch_embed.projection.weight.fill_(1.0)
        for block in model.blocks:
            for layer in (block.attn.proj, block.mlp.fc2):
                layer.weight.zero_()
                layer.bias.zero_()
            if block.proj is not None:
                block.proj.weight.copy_(torch.eye(*block.proj.weight.shape))
    return model


@pytest.mark.parametrize("size", [(224, 384), (312, 312)])
def test_token_i_is_centred_at_32_i(size):
    """A spot at the pixel (32 i, 32 j) excites token (i, j) most and its neighbours equally, also at odd sizes."""
    model = local_mvit(AVA[0])
    for norm in model.modules():
        if isinstance(norm, torch.nn.LayerNorm):
            norm.forward = lambda x: x
    y, x = torch.meshgrid(*(torch.arange(n) for n in size), indexing="ij")
    for row, col in ((3, 4), (2, 6)):
        spot = torch.exp(-((y - 32 * row) ** 2 + (x - 32 * col) ** 2) / (2 * 24.0**2))
        with torch.no_grad():
            (featmap,) = model(spot.expand(1, 3, 4, *size))  # (1, C, T', H', W')
        response = featmap[0, 0, 0]
        assert response.shape == tuple(-(-n // 32) for n in size)
        assert divmod(int(response.argmax()), response.shape[1]) == (row, col)
        torch.testing.assert_close(response[row, col - 1], response[row, col + 1])
        torch.testing.assert_close(response[row - 1, col], response[row + 1, col])


@pytest.mark.parametrize("path", AVA, ids=stem)
def test_stride_of_the_configs_is_the_backbones(path):
    cfg = Config.fromfile(path)
    roi_extractor = cfg.model.roi_head.bbox_roi_extractor
    model = local_mvit(path)
    assert model.token_stride[1:] == (roi_extractor.featmap_stride,) * 2
    assert roi_extractor.type == "maskfeat.CentredRoIExtractor3D" and roi_extractor.aligned
    assert roi_extractor.with_temporal_pool


@pytest.mark.parametrize("path", AVA[-1:], ids=stem)
def test_class_token_is_not_in_the_map_and_the_map_is_normalised(path):
    backbone = Config.fromfile(path).model.backbone
    backbone.pop("init_cfg")
    backbone.update(temporal_size=4, spatial_size=96)
    plain = MODELS.build(backbone).eval()
    with_token = MODELS.build({**backbone, "output_cls_token": True}).eval()
    with_token.load_state_dict(plain.state_dict())
    clip = torch.randn(1, 3, 4, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        (featmap,) = plain(clip)
        ((same, token),) = with_token(clip)
    assert featmap.shape == (1, 768, 2, 3, 4)  # 2 x 3 x 4 tokens without the class token
    torch.testing.assert_close(featmap, same)
    assert not any(torch.allclose(token, place) for place in featmap.flatten(2).unbind(2))
    # layer norm over the channels, as initialized: weight 1, bias 0
    norm = plain.norm3
    centred = (featmap.movedim(1, -1) - norm.bias) / norm.weight
    torch.testing.assert_close(centred.mean(-1), torch.zeros(1, 2, 3, 4), atol=1e-4, rtol=0)
    torch.testing.assert_close(centred.var(-1, unbiased=False), torch.ones(1, 2, 3, 4), atol=1e-3, rtol=0)


@pytest.mark.parametrize("path", AVA, ids=stem)
def test_inputs_are_normalised_as_in_pretraining(path):
    cfg = Config.fromfile(path)
    before = Config.fromfile(CONFIGS / "pretrain/maskfeat_mvit-small-16x4_16xb32-amp-coslr-300e_k400.py")
    mine, theirs = cfg.model.data_preprocessor, before.model.data_preprocessor
    assert mine.mean == [theirs.mean] * 3 and mine.std == [theirs.std] * 3
    frame = torch.full((3, 16, 8, 8), 200, dtype=torch.uint8)
    with DefaultScope.overwrite_default_scope("mmaction"):
        inputs = MODELS.build(mine)(dict(inputs=[frame], data_samples=[None]))["inputs"]
    torch.testing.assert_close(inputs, torch.full((1, 3, 16, 8, 8), (200 - 114.75) / 57.375))


@pytest.mark.parametrize("clip_len, frame_interval", [(16, 4), (40, 3), (7, 2)])
def test_the_clip_is_centred_on_the_annotated_second(clip_len, frame_interval, raw_frames):
    """Frame img_00001 is second 900, so second 902 is img_00061; the strip at the top shows the number."""
    pipeline = [
        dict(type="maskfeat.SampleAVAFrames", clip_len=clip_len, frame_interval=frame_interval, test_mode=True),
        dict(type="RawFrameDecode"),
        dict(type="FormatShape", input_format="NCTHW", collapse=True),
        dict(type="PackActionInputs"),
    ]
    with DefaultScope.overwrite_default_scope("mmaction"):
        clip = build_dataset(raw_frames, pipeline)[0]["inputs"]  # (3, T, H, W)
    numbers = clip[0, :, 2, 2].int() // 2 + 1
    key = FPS * (902 - START) + 1
    assert len(numbers) == clip_len and numbers[clip_len // 2] == key
    expected = key + (torch.arange(clip_len) - clip_len // 2) * frame_interval
    assert numbers.tolist() == expected.clamp(1, 4 * FPS).tolist() or expected.max() > 4 * FPS


def test_key_frame_of_a_video_file():
    sample = dict(fps=8, timestamp=1, timestamp_start=0, start_index=0, total_frames=16, modality="RGB")
    sampler = Compose([dict(type="maskfeat.SampleAVAFrames", clip_len=8, frame_interval=2, test_mode=True)])
    assert sampler(sample)["frame_inds"].tolist() == [0, 2, 4, 6, 8, 10, 12, 14]


@pytest.mark.parametrize(
    "row, message",
    [
        ("clip,0902,0.1,0.1,0.5,0.5,81,0", "has to be 1 to 80"),
        ("clip,0902,0.1,0.1,0.5,0.5,0,0", "has to be 1 to 80"),
        ("clip,0902,10,10,50,50,3,0", "in fractions of the frame"),
        ("clip,0902,0.5,0.1,0.1,0.5,3,0", "in fractions of the frame"),
        ("clip,0902,0.1,0.1,0.5,3,0", "no row of AVA's"),
        ("clip,902.5,0.1,0.1,0.5,0.5,3,0", "no row of AVA's"),
    ],
)
def test_bad_rows_are_named(row, message, raw_frames, tmp_path):
    path = tmp_path / "bad.csv"
    path.write_text(f"clip,0902,0.1,0.1,0.5,0.5,3,0\n{row}\n")
    with pytest.raises(ValueError, match=f"line 2.*{message}"):
        DATASETS.build(dict(type="maskfeat.AVADataset", ann_file=str(path), pipeline=[]))


def test_the_metric_is_mmactions_and_minds_absent_actions(tmp_path, raw_frames):
    """One of two boxes is found: AP is 1 for an action that is correct in it, 0.5 for one that is in both boxes."""
    rows = ["a,0902,0.1,0.1,0.5,0.5,1,0", "a,0902,0.1,0.1,0.5,0.5,2,0", "b,0902,0.2,0.2,0.6,0.6,2,0"]
    (tmp_path / "val.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "no.csv").write_text("")
    names = "".join(f'item {{\n  name: "action {i}"\n  id: {i}\n}}\n' for i in range(1, 5))
    (tmp_path / "actions.pbtxt").write_text(names)
    metric = METRICS.build(
        dict(
            type="maskfeat.AVAMetric",
            ann_file=str(tmp_path / "val.csv"),
            exclude_file=str(tmp_path / "no.csv"),
            label_file=str(tmp_path / "actions.pbtxt"),
            num_classes=5,
        )
    )
    for video, box, scores in (
        ("a", [0.1, 0.1, 0.5, 0.5], [0, 0.9, 0.8, 0.3, 0.0]),
        ("b", [0.7, 0.7, 0.9, 0.9], [0, 0.2, 0.9, 0.3, 0.0]),
    ):
        found = dict(bboxes=torch.tensor([box]), scores=torch.tensor([scores]))
        metric.process({}, [dict(pred_instances=found, video_id=video, timestamp=902)])
    result = metric.evaluate(2)
    # action 1: found first, 1.0. Action 2: the box with the better score is wrong, then 1 of 2 is correct: half of 0.5
    assert result["mAP/overall"] == pytest.approx((1.0 + 0.25) / 2, abs=1e-6)
    assert not list(Path.cwd().glob("AVA_*_result.csv"))
