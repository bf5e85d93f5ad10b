"""AVA v2.2: raw frames of the annotated 15 minutes, and annotations of the videos that have frames."""

import io
import json
from collections import defaultdict
from functools import partial
from pathlib import Path

from mmaction.evaluation import read_labelmap

from maskfeat_plugin.datasets.ava_tables import Row, check_annotations, check_exclusions, parse_table, write_table
from maskfeat_plugin.datasets.folders import VIDEO_ENDINGS
from maskfeat_plugin.errors import ConfigError, reading

from .completeness import Report
from .files import Tree
from .frames import FrameJob, Frames, check_frames, extract_frames, has_frames
from .workspace import CRASHED, DataSettings, Workspace

VIDEOS = {"train": 235, "val": 64}
CLASSES = 81  # actions plus one, as in the configs
ANNOTATIONS = {split: f"ava_{split}_v2.2.csv" for split in VIDEOS}
EXCLUDED = {split: f"ava_{split}_excluded_timestamps_v2.2.csv" for split in VIDEOS}
LABEL_MAP = "ava_action_list_v2.2_for_activitynet_2019.pbtxt"
PROPOSALS = {split: f"ava_dense_proposals_{split}.FAIR.recall_93.9.pkl" for split in VIDEOS}
ARCHIVES = ("ava_v2.2.zip",)
_FRAMES = "rawframes"
_SETTINGS = "rawframes.json"


def prepare_ava(settings: DataSettings, short_side: int | None = None) -> Report:
    """Prepare AVA v2.2 for ``maskfeat.AVADataset``: ``rawframes/VIDEO/img_00001.jpg`` and ``annotations``.

    The frames are from seconds 900 to 1800, 30 per second. Videos that have their frames already are skipped.

    Args:
        settings (DataSettings): The settings of the user.
        short_side (int, optional): Maximum of the frames' shorter side in pixels. Defaults to None, the video's size.

    Returns:
        Report: The found and the missing samples.

    Raises:
        ConfigError: If a necessary file is missing or has another form.
    """
    work = Workspace(settings, "ava", short_side=short_side)
    tree = work.scan(skip=_FRAMES)
    tables = {split: _read(work, tree, name) for split, name in ANNOTATIONS.items()}
    rows = {split: _parse(content, path) for split, (content, path) in tables.items()}
    for split, (_, path) in tables.items():
        _check_rows(rows[split], path)
    _bring_labels(work, tree)
    work.bring(work.root / _FRAMES, tree.folders.get(_FRAMES, ()))
    repeated = _read_settings(work, short_side)
    jobs = _plan(work, tree, rows, short_side)
    unreadable = _extract(work, jobs, repeated, short_side)
    for name, count in sorted(repeated.items()):
        if count:
            work.report.warn(f"{name} ends early: its last frame stands for {count} more.")
    for split, (_, source) in tables.items():
        _list_rows(work, split, rows[split], source, jobs, unreadable)
    return work.finish()


def _read(work: Workspace, tree: Tree, name: str) -> tuple[bytes, Path]:
    found = work.read(tree, [name], ARCHIVES)
    if found is None:
        raise ConfigError(f"{work.places()}: neither {name} nor {ARCHIVES[0]} is there; see docs/data.md.")
    return found


def _parse(content: bytes, path: Path) -> list[Row]:
    try:
        return parse_table(content, path)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def _check_rows(rows: list[Row], path: Path) -> None:
    """Check annotations as the data set will do, before frames are extracted, which takes hours."""
    try:
        check_annotations(rows, path, CLASSES)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    wrong = next((row for row in rows if not 900 <= int(row.columns[1]) < 1800), None)
    if wrong is not None:
        raise ConfigError(f"{path}, line {wrong.line}: {','.join(wrong.columns)!r} has no timestamp from 900 to 1799.")


def _bring_labels(work: Workspace, tree: Tree) -> None:
    """Bring the files in ``annotations`` that do not depend on the videos."""
    folder = work.root / "annotations"
    for name in EXCLUDED.values():
        content, source = _read(work, tree, name)
        rows = _parse(content, source)
        try:
            check_exclusions(rows, f"{source}: {name}")
        except ValueError as error:
            raise ConfigError(str(error)) from error
        work.write(folder / name, write_table(rows), [source])
    content, source = _read(work, tree, LABEL_MAP)
    with reading(f"{source}:", f"{LABEL_MAP} is no label map of AVA"):
        actions, _ = read_labelmap(io.StringIO(content.decode("utf-8-sig")))
    if not actions:
        raise ConfigError(f"{source}: {LABEL_MAP} names no actions.")
    work.write(folder / LABEL_MAP, content.removeprefix(b"\xef\xbb\xbf"), [source])
    for split, name in PROPOSALS.items():
        path = tree.find_file(name)  # never opened here, because a pickle file can run code
        if path is not None:
            work.place(path, folder / name)
        elif not (folder / name).exists():
            work.report.warn(
                f"{name} is missing. Without it, set {split}_dataloader.dataset.proposal_file=ground_truth."
            )


def _read_settings(work: Workspace, short_side: int | None) -> dict[str, int]:
    """Read the record of earlier runs: video -> how often its last frame was repeated.

    Raises:
        ConfigError: If the earlier frames have another size. A data set with two sizes would be an unnoticed error.
    """
    path = work.root / _SETTINGS
    if not path.is_file():
        return {}
    with reading(path, "is damaged", f"Remove it and {work.root / _FRAMES}."):
        made = json.loads(path.read_text("utf-8"))
        if made["short_side"] != short_side:
            raise ConfigError(
                f"--short-side {short_side}: {work.root / _FRAMES} was made with {made['short_side']}; remove it and "
                f"{path}, or use the same."
            )
        return {str(name): int(count) for name, count in made["repeated"].items()}


def _write_settings(work: Workspace, short_side: int | None, repeated: dict[str, int]) -> None:
    content = dict(short_side=short_side, repeated=dict(sorted(repeated.items())))
    work.write(work.root / _SETTINGS, json.dumps(content, ensure_ascii=False) + "\n")


def _plan(work: Workspace, tree: Tree, rows: dict[str, list[Row]], short_side: int | None) -> dict[str, FrameJob]:
    """Plan the extraction for each annotated video. The file is "" if there is none."""
    last: dict[str, int] = defaultdict(int)
    for row in (row for split in rows.values() for row in split):
        video, second = row.columns[:2]
        last[video] = max(last[video], int(second))
    videos = {path.stem: str(path) for path in reversed(tree.ending(VIDEO_ENDINGS))}
    return {
        name: FrameJob(videos.get(name, ""), str(work.root / _FRAMES / name), second, short_side=short_side)
        for name, second in sorted(last.items())
    }


def _extract(
    work: Workspace, jobs: dict[str, FrameJob], repeated: dict[str, int], short_side: int | None
) -> dict[str, str]:
    """Extract missing frames and record repeated ones. Return video -> the reason why it has no frames."""
    _write_settings(work, short_side, repeated)
    with work.report.timed("find"):
        done = [job for job in jobs.values() if has_frames(job)]
    todo = [job for job in jobs.values() if job.video and job not in done]
    names = {job: name for name, job in jobs.items()}
    if work.settings.dry_run:
        work.say(f"extract frames of {len(todo)} videos, {len(done)} have them")
        return {}
    unreadable = {}
    if work.settings.check != "none":
        with work.report.timed("check"):
            checked = work.parallel(
                partial(check_frames, level=work.settings.check),
                done,
                "ava frames",
                unit="video",
                chunk=1,
                crashed=CRASHED,
            )
            broken = {job: reason for job, reason in checked if reason is not None}
        todo += [job for job in broken if job.video]
        unreadable.update({names[job]: reason for job, reason in broken.items() if not job.video})
    with work.report.timed("extract"):
        for job, frames in work.parallel(
            extract_frames, todo, "ava videos", unit="video", chunk=1, crashed=Frames(CRASHED)
        ):
            if frames.reason is not None:
                unreadable[names[job]] = frames.reason
            elif frames.repeated != repeated.get(names[job], 0):
                repeated[names[job]] = frames.repeated
                _write_settings(work, short_side, repeated)  # immediately, because the run may be interrupted
    return unreadable


def _list_rows(
    work: Workspace,
    split: str,
    rows: list[Row],
    source: Path,
    jobs: dict[str, FrameJob],
    unreadable: dict[str, str],
) -> None:
    """Write the annotations of the videos that have frames."""
    videos = sorted({row.columns[0] for row in rows})
    report = work.report.split(split)
    report.expected = VIDEOS[split]
    report.unreadable = {name: unreadable[name] for name in videos if name in unreadable}
    report.missing = [
        name for name in videos if name not in unreadable and not jobs[name].video and not has_frames(jobs[name])
    ]
    lost = {*report.missing, *report.unreadable}
    report.listed = len(videos) - len(lost)
    target = work.root / "annotations" / ANNOTATIONS[split]
    work.write(target, write_table([row for row in rows if row.columns[0] not in lost]), [source])
