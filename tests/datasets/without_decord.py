"""Readers of videos in one process. Tests run this file without decord, and import it with decord.

``python without_decord.py VIDEO FOLDER`` writes the results into ``results.json`` in the folder.
"""

import hashlib
import json
import random
import sys
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope

from maskfeat_cli.named_configs import named_configs
from maskfeat_plugin import compat
from maskfeat_plugin.registry import DATASETS, MODELS

CONFIGS = Path(__file__).parents[2] / "configs"
MOTION = CONFIGS / "demo" / "mvit-tiny_moving-digits-motion.py"


def read_clips(video):
    """Return digests of the clips of all configs' pipelines that read videos, by config and place."""
    found = {}
    for path in named_configs().values():
        cfg = Config.fromfile(path)
        with DefaultScope.overwrite_default_scope(cfg.get("default_scope", "mmengine")):
            for place, pipeline in find_pipelines(cfg.to_dict()):
                kinds = [transform["type"].rpartition(".")[2] for transform in pipeline]
                decoder = next((i for i, kind in enumerate(kinds) if kind in ("DecordDecode", "DecodeClip")), None)
                if decoder is not None and "OpenVolume" not in kinds:
                    Compose(pipeline)
                    random.seed(0)
                    np.random.seed(0)
                    clip = Compose(pipeline[: decoder + 1])(describe_sample(video))
                    found[f"{path.relative_to(CONFIGS)}: {place}"] = digest(clip["imgs"])
    return found


def find_pipelines(node, place=""):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "pipeline":
                yield place, [*flatten(value)]
            else:
                yield from find_pipelines(value, f"{place}.{key}")


def flatten(pipeline):
    """Yield the transforms of a pipeline, also those in wrappers. MultiView wraps a list of pipelines."""
    for part in pipeline:
        inner = part if isinstance(part, list) else part.get("transforms")
        yield from [part] if inner is None else flatten(inner)


def describe_sample(video):
    """Return a sample of any of the data sets: the last keys are AVA's."""
    sample = dict(filename=str(video), start_index=0, modality="RGB", label=0)
    return dict(sample, timestamp=1, timestamp_start=0, shot_info=(0, 48), fps=30, fps_of_video=30)


def digest(images):
    return [*np.shape(images), hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()]


def read_in_workers(video, folder):
    """Read clips of a data set of mmaction2 whose pipeline has no transform of the plugin."""
    from torch.utils.data import DataLoader

    (folder / "list.txt").write_text(f"{video} 0\n{video} 1\n")
    sampling = dict(type="mmaction.SampleFrames", clip_len=4, frame_interval=2, test_mode=True)
    decoding = [dict(type="mmaction.DecordInit", num_threads=1), sampling, dict(type="mmaction.DecordDecode")]
    packing = [dict(type="mmaction.FormatShape", input_format="NCTHW"), dict(type="mmaction.PackActionInputs")]
    settings = dict(ann_file=str(folder / "list.txt"), pipeline=decoding + packing)
    data = DATASETS.build(dict(type="mmaction.VideoDataset", **settings))
    found = {}
    for context in ("fork", "spawn"):
        loader = DataLoader(data, 2, num_workers=1, collate_fn=pseudo_collate, multiprocessing_context=context)
        (batch,) = loader
        found[context] = digest(batch["inputs"][0].numpy())
    return found


def read_by_mmaction2(video, folder):
    """Run mmaction2's loader, its inferencer and its visualizer, with a config of the demo."""
    from mmaction.apis import inference_recognizer, init_recognizer
    from mmaction.apis.inferencers import ActionRecogInferencer
    from mmengine.runner import save_checkpoint, set_random_seed

    set_random_seed(0)
    cfg = Config.fromfile(MOTION)
    cfg.visualizer = dict(type="ActionVisualizer", vis_backends=[dict(type="LocalVisBackend")])
    config, weights, names = str(folder / "config.py"), str(folder / "a.pth"), folder / "names.txt"
    cfg.dump(config)
    with DefaultScope.overwrite_default_scope("mmaction"):
        save_checkpoint(dict(state_dict=MODELS.build(cfg.model).state_dict()), weights)
    scores = inference_recognizer(init_recognizer(config, weights, device="cpu"), str(video)).pred_score.tolist()
    names.write_text("\n".join(map(str, range(len(scores)))))
    inferencer = ActionRecogInferencer(config, weights, "cpu", label_file=str(names))
    drawn = inferencer(str(video), return_vis=True)["visualization"][0]
    return dict(scores=scores, drawn=digest(drawn))


def prepare(video, folder):
    """Run the data tools on videos and return their messages about unreadable ones."""
    from maskfeat_plugin.datasets.moving_digits import MovingDigitsConfig, build_moving_digits
    from maskfeat_plugin.preparation.frames import FrameJob, extract_frames
    from maskfeat_plugin.preparation.readable import check_video

    (folder / "broken.mp4").write_bytes(Path(video).read_bytes()[:3000])
    checks = {
        f"{name} {level}": check_video(str(folder / name), level)
        for name in (video, "broken.mp4", "missing.mp4")
        for level in ("fast", "full")
    }
    job = FrameJob(str(video), str(folder / "frames"), last_key=1, start=0, end=2, margin=0)
    extracted = extract_frames(job)
    images = [path.read_bytes() for path in sorted((folder / "frames").iterdir())]
    config = MovingDigitsConfig(num_train=2, num_val=2, num_test=2, labelled=(), num_frames=8)
    build_moving_digits(folder / "digits", config, workers=1, progress=False)
    return dict(
        checks=list(checks.values()),
        reason=extracted.reason,
        frames=[len(images), hashlib.sha256(b"".join(images)).hexdigest()],
        broken=extract_frames(FrameJob(str(folder / "broken.mp4"), str(folder / "none"), last_key=1)).reason,
    )


def main(video, folder):
    results = dict(
        active="mmaction2-decord" in compat.active(),
        clips=read_clips(video),
        workers=read_in_workers(video, folder),
        mmaction2=read_by_mmaction2(video, folder),
        preparation=prepare(video, folder),
    )
    (folder / "results.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
