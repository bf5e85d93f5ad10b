"""``maskfeat index``: every file is described once, also after interruptions, and training reads the manifest."""

import fcntl
import os
import shutil
import signal
import time
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from mmengine.registry import DefaultScope
from moving_scenes import OTHER, SCENE, cut, write_video
from tool_modules import load_tool

from maskfeat_plugin.apis import ConfigError, build_trainer, load_config, train
from maskfeat_plugin.datasets.manifest import IMAGE, VIDEO, read_manifest
from maskfeat_plugin.preparation import manifest_index
from maskfeat_plugin.preparation.describing import describe_file, perceptual_hash
from maskfeat_plugin.preparation.manifest_index import index_folder
from maskfeat_plugin.preparation.near_duplicates import find_redundancy
from maskfeat_plugin.preparation.parallel import run_parallel
from maskfeat_plugin.registry import DATASETS

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Return a folder of good and bad videos and images, and of other files."""
    root = tmp_path_factory.mktemp("archive")
    write_video(root / "a.mp4", movflags="faststart")
    write_video(root / "deep" / "smaller copy.mkv", size=(96, 72))
    write_video(root / "other.mp4", OTHER, rate=10)
    write_video(root / "still.mp4", moves=False)
    write_video(root / "old.mov", codec="mpeg4")
    cut(root / "a.mp4", root / "cut.mp4")
    (root / "empty.mp4").touch()
    cv2.imwrite(str(root / "photo.jpg"), SCENE)
    cut(root / "photo.jpg", root / "cut.jpg")
    shutil.copy(root / "photo.jpg", os.fsencode(root) + b"/\xff.jpg")
    (root / "notes.txt").write_text("none")
    return root


def index(folder, out, **options):
    return index_folder(folder, out, **dict(dict(workers=2, progress=False), **options))


def rows_of(manifest):
    return {row["path"]: row for row in manifest.table.to_pylist()}


def bits(first, second):
    return (first["hash"] ^ second["hash"]).bit_count()


def test_a_row_says_what_a_file_is(archive, tmp_path):
    report = index(archive, tmp_path / "files.parquet")
    manifest = read_manifest(tmp_path / "files.parquet")
    assert manifest.table.equals(report.manifest.table) and manifest.folder == str(archive)
    rows = rows_of(manifest)
    assert list(rows) == sorted(rows) and len(rows) == 10
    a, copy, other = rows["a.mp4"], rows["deep/smaller copy.mkv"], rows["other.mp4"]
    assert (a["kind"], a["codec"], a["width"], a["height"], a["frames"], a["fps"]) == (VIDEO, "h264", 192, 144, 100, 25)
    assert a["duration"] == pytest.approx(4) and a["bytes"] == (archive / "a.mp4").stat().st_size
    assert (copy["width"], copy["height"], copy["frames"]) == (96, 72, 100)
    assert (other["fps"], other["frames"], other["duration"]) == (10, 40, pytest.approx(4))
    assert rows["old.mov"]["codec"] == "mpeg4"
    assert max(bits(a, copy), bits(a, rows["old.mov"])) <= 4 and bits(a, other) > 15
    assert rows["still.mp4"]["motion"] < 0.001 and min(a["motion"], other["motion"]) > 0.05
    assert (rows["photo.jpg"]["kind"], rows["photo.jpg"]["codec"], rows["photo.jpg"]["width"]) == (IMAGE, "jpeg", 384)
    assert [rows["photo.jpg"][name] for name in ("duration", "frames", "fps", "motion")] == [None] * 4
    bad = {name: row["problem"] for name, row in rows.items() if row["problem"]}
    assert set(bad) == {"cut.mp4", "empty.mp4", "cut.jpg"} and all(rows[name]["hash"] is None for name in bad)
    assert "cut short" in bad["cut.mp4"] and "cut short" in bad["cut.jpg"] and "Invalid data" in bad["empty.mp4"]
    assert os.fsencode(archive) + b"/\xff.jpg" in map(os.fsencode, manifest.readable(IMAGE).paths())
    text = report.summary()
    assert text.startswith("10 files: 7 videos (0.0 h), 3 images; 10 read") and "  cut.mp4: it is cut short" in text
    assert ".txt: 1" in text


@pytest.mark.parametrize("ending", [".webm", ".ts", ".mpg", ".avi", ".flv", ".wmv"])
def test_containers_that_say_little(tmp_path, ending):
    codecs = {".webm": "libvpx", ".ts": "libx264", ".mpg": "mpeg2video", ".avi": "mpeg4", ".flv": "flv", ".wmv": "wmv2"}
    write_video(tmp_path / f"a{ending}", codec=codecs[ending], seconds=3, size=(96, 72))
    write_video(tmp_path / "a.mp4", seconds=3, size=(96, 72))
    row, same = describe_file(str(tmp_path / f"a{ending}")), describe_file(str(tmp_path / "a.mp4"))
    assert "problem" not in row and (row["width"], row["height"]) == (96, 72)
    exact = ending != ".mpg"  # an .mpg file has a time for only one of several frames
    assert row["duration"] == pytest.approx(3, abs=0.05 if exact else 0.5)
    assert row["frames"] == pytest.approx(75, abs=1 if exact else 13)
    assert bits(row, same) <= (6 if exact else 12) and row["motion"] == pytest.approx(same["motion"], rel=0.1)


def test_a_turned_video_is_described_upright(tmp_path):
    write_video(tmp_path / "a.mp4", turn=90, seconds=1)
    row = describe_file(str(tmp_path / "a.mp4"))
    assert (row["width"], row["height"]) == (144, 192)


def test_long_files_are_not_read_whole(tmp_path):
    rng = np.random.default_rng(0)
    with av.open(str(tmp_path / "long.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options=dict(bf="0", preset="ultrafast", qp="10"))
        stream.width, stream.height, stream.pix_fmt = 192, 144, "yuv420p"
        frames = [rng.integers(0, 255, (144, 192, 3), dtype=np.uint8) for _ in range(25)]
        packets = [p for f in frames for p in stream.encode(av.VideoFrame.from_ndarray(f, "rgb24"))] + stream.encode()
        content = [(bytes(packet), packet.pts, packet.time_base, packet.is_keyframe) for packet in packets]
        for second in range(120):  # the same second again and again
            for data, pts, base, is_key in content:
                packet = av.Packet(data)
                packet.pts = packet.dts = pts + round(second / base)
                packet.time_base, packet.is_keyframe, packet.stream = base, is_key, stream
                container.mux(packet)
    path = str(tmp_path / "long.mp4")
    with open("/proc/self/io") as counters:
        before = int(counters.readline().split()[1])
        row = describe_file(path)
        counters.seek(0)
        read = int(counters.readline().split()[1]) - before
    assert (row.get("problem"), row["frames"], row["duration"]) == (None, 3000, pytest.approx(120, abs=0.1))
    assert 0 < read < 0.2 * os.path.getsize(path)


def test_pictures_that_look_alike_have_hashes_that_are_near():
    grey = cv2.resize(cv2.cvtColor(SCENE, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    other = cv2.resize(cv2.cvtColor(OTHER, cv2.COLOR_RGB2GRAY), (32, 32), interpolation=cv2.INTER_AREA)
    lighter, flat = np.clip(grey * 0.8 + 30, 0, 255), np.full((32, 32), 90)
    noisy = flat + np.random.default_rng(0).normal(0, 0.1, (32, 32))
    assert (perceptual_hash(grey) ^ perceptual_hash(lighter)).bit_count() <= 2
    assert (perceptual_hash(grey) ^ perceptual_hash(other)).bit_count() > 15
    assert perceptual_hash(flat) == perceptual_hash(noisy)


def test_only_what_has_changed_is_read_again(archive, tmp_path):
    folder, out = tmp_path / "archive", tmp_path / "files.parquet"
    shutil.copytree(archive, folder)
    index(folder, out)
    assert (index(folder, out).read, len(read_manifest(out))) == (0, 10)
    (folder / "other.mp4").unlink()
    shutil.copy(folder / "a.mp4", folder / "new.mp4")
    cut(folder / "a.mp4", folder / "still.mp4")
    report = index(folder, out)
    assert (report.read, report.kept) == (2, 8)
    rows = rows_of(read_manifest(out))
    assert "other.mp4" not in rows and rows["new.mp4"]["hash"] == rows["a.mp4"]["hash"] and rows["still.mp4"]["problem"]
    assert index(folder, out, retry=True).read == 4  # the bad files


def test_a_killed_index_goes_on(archive, tmp_path, monkeypatch):
    monkeypatch.setattr(manifest_index, "_PART_ROWS", 1)
    out, parts = tmp_path / "files.parquet", tmp_path / ".files.parquet.parts"
    with held(archive / "old.mov"):
        process = os.fork()
        if not process:
            try:
                index(archive, out, workers=1)
            finally:
                os._exit(1)
        deadline = time.monotonic() + 30
        while len(list(parts.glob("[!.]*"))) < 2:
            assert time.monotonic() < deadline and os.waitpid(process, os.WNOHANG) == (0, 0)
            time.sleep(0.01)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
        assert not out.exists()
    report = index(archive, out)
    assert report.kept >= 2 and report.kept + report.read == 10 and not parts.exists()
    assert report.manifest.table.equals(index(archive, tmp_path / "anew.parquet").manifest.table)


class held:
    """File that blocks any process that opens it, for the 45 s that Linux waits for the holder of a lease."""

    def __init__(self, path):
        self.path = path

    def __enter__(self):
        self.before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        self.file = os.open(self.path, os.O_RDWR)
        fcntl.fcntl(self.file, fcntl.F_SETLEASE, fcntl.F_WRLCK)

    def __exit__(self, *error):
        fcntl.fcntl(self.file, fcntl.F_SETLEASE, fcntl.F_UNLCK)  # processes that were forked meanwhile hold it too
        os.close(self.file)
        signal.signal(signal.SIGIO, self.before)


def test_a_file_that_hangs_costs_its_time_once(archive, tmp_path):
    out, start = tmp_path / "files.parquet", time.monotonic()
    with held(archive / "old.mov"):
        report = index(archive, out, timeout=2.0)
        assert 2 <= time.monotonic() - start < 20
        assert rows_of(report.manifest)["old.mov"]["problem"] == "it takes longer than 2 s"
        assert index(archive, out).read == 0
    assert rows_of(report.manifest)["old.mov"]["kind"] == VIDEO
    assert index(archive, out, retry=True).manifest.readable(VIDEO).table["path"].to_pylist().count("old.mov") == 1


def wait_or_die(item):
    if item == "dies":
        os._exit(1)
    if item == "hangs":
        time.sleep(60)
    return item


def test_each_item_has_its_own_result_when_processes_hang_and_die():
    items = ["a", "hangs", "b", "dies", "c", "dies", "d"]
    options = dict(crashed="died", workers=2, title="", chunk=3, progress=False, timeout=1.0, late="hung")
    start = time.monotonic()
    found = list(run_parallel(wait_or_die, items, **options))
    assert time.monotonic() - start < 20
    outcome = dict(dies="died", hangs="hung")
    assert sorted(found) == sorted((item, outcome.get(item, item)) for item in items)


def test_a_process_that_is_ready_first_waits_for_no_other():
    options = dict(crashed=None, workers=3, title="", chunk=1, progress=False)
    assert len(list(run_parallel(time.sleep, [0.0, 0.3, 0.6, 0.0], **options))) == 4


def test_errors_say_what_to_do(archive, tmp_path):
    out = tmp_path / "files.parquet"
    (tmp_path / "none").mkdir()
    with pytest.raises(ConfigError, match="ends in .parquet"):
        index(archive, tmp_path / "files.csv")
    with pytest.raises(ConfigError, match="is not there"):
        index(tmp_path / "absent", out)
    with pytest.raises(ConfigError, match="has no image and no video"):
        index(tmp_path / "none", out)
    shutil.copy(archive / "a.mp4", tmp_path / "none")
    index(tmp_path / "none", out)
    with pytest.raises(
        ConfigError, match="is of the folder .*none, and this is .*archive.*Give another name with --out"
    ):
        index(archive, out)
    assert len(read_manifest(out)) == 1


def test_the_command(archive, tmp_path, capsys):
    out = str(tmp_path / "files.parquet")
    assert load_tool("index_archive").main([str(archive), "--out", out, "--workers", "1"]) == 0
    found = capsys.readouterr()
    assert "3 cannot be read" in found.out and found.out.endswith(f"{out}\n") and "Index: 100%" in found.err
    assert load_tool("index_archive").main([str(tmp_path / "absent"), "--out", out]) == 1
    assert capsys.readouterr().err.startswith("error: FOLDER")


CONFIG = """
_base_ = [
    "ROOT/configs/_base_/models/MODEL.py",
    "ROOT/configs/_base_/datasets/DATA.py",
    "ROOT/configs/_base_/schedules/folder_pretrain.py",
    "ROOT/configs/_base_/default_runtime.py",
]
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False)
train_cfg = dict(max_epochs=1)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=100, save_last=False))
"""
MODELS = dict(folder_images="maskfeat_vit-tiny-p16", folder_videos="maskfeat_mvit-tiny")


def config_of(data, folder, **options):
    path = folder / f"{data}.py"
    path.write_text(CONFIG.replace("ROOT", str(ROOT)).replace("MODEL", MODELS[data]).replace("DATA", data))
    options = {f"train_dataloader.dataset.{key}": value for key, value in options.items()}
    return load_config(str(path), str(folder / f"work_{data}"), options)


@pytest.fixture(scope="module")
def manifest(archive, tmp_path_factory):
    path = tmp_path_factory.mktemp("manifest") / "files.parquet"
    index(archive, path)
    return str(path)


@pytest.mark.parametrize("data", ["folder_images", "folder_videos"])
def test_training_reads_a_manifest(archive, manifest, tmp_path, data):
    runner = build_trainer(config_of(data, tmp_path, ann_file=manifest, indices=[0, 1]))
    train(runner)
    assert (tmp_path / f"work_{data}").is_dir() and runner.iter == 1
    log = next((tmp_path / f"work_{data}").glob("*/*.log")).read_text()
    assert f"2 samples of {manifest} are used" in log


def test_samples_of_a_manifest(archive, manifest, tmp_path):
    def build(data, **options):
        cfg = config_of(data, tmp_path, **options)
        with DefaultScope.overwrite_default_scope(cfg.default_scope):
            return DATASETS.build(cfg.train_dataloader.dataset)

    videos = build("folder_videos", ann_file=manifest)
    infos = [videos.get_data_info(i) for i in range(len(videos))]
    assert [Path(info["filename"]).name for info in infos][:2] == ["a.mp4", "smaller copy.mkv"] and len(infos) == 5
    assert all(info["label"] == -1 and info["duration"] == pytest.approx(4, abs=0.05) for info in infos)
    moved = tmp_path / "moved"
    shutil.copytree(archive, moved)
    videos = build("folder_videos", ann_file=manifest, data_prefix=dict(video=str(moved)))
    assert videos.get_data_info(0)["filename"] == str(moved / "a.mp4")
    assert build("folder_images", ann_file=manifest).get_data_info(1)["img_path"] == str(archive / "photo.jpg")
    images = build("folder_images", ann_file=manifest, data_prefix=str(moved))
    assert images.get_data_info(1)["img_path"] == str(moved / "photo.jpg") and len(images) == 2


def test_data_sets_that_read_no_manifest_say_so(manifest, tmp_path):
    with pytest.raises(ConfigError, match="CustomDataset does not read .*Set type='maskfeat.ImageDataset'"):
        build_trainer(config_of("folder_images", tmp_path, ann_file=manifest, dataset_type="CustomDataset"))
    with pytest.raises(ConfigError, match="has no labels. Set train_dataloader.dataset.with_label=False"):
        build_trainer(config_of("folder_images", tmp_path, ann_file=manifest, with_label=True))
    with pytest.raises(ConfigError, match="without ann_file, data_root has to be the folder"):
        build_trainer(config_of("folder_images", tmp_path))
    damaged = tmp_path / "damaged.parquet"
    damaged.write_bytes(Path(manifest).read_bytes()[:-100])
    with pytest.raises(ConfigError, match="damaged.parquet is no manifest, or is damaged"):
        build_trainer(config_of("folder_videos", tmp_path, ann_file=str(damaged)))


def test_a_manifest_without_the_kind_says_so(archive, tmp_path):
    (tmp_path / "photos").mkdir()
    shutil.copy(archive / "photo.jpg", tmp_path / "photos")
    index(tmp_path / "photos", tmp_path / "photos.parquet")
    with pytest.raises(ConfigError, match="has no video that can be read; of its 1 files, 1 images and 0 videos can"):
        build_trainer(config_of("folder_videos", tmp_path, ann_file=str(tmp_path / "photos.parquet")))


def test_copies_and_still_videos_of_an_archive_are_found(manifest):
    found = find_redundancy(read_manifest(manifest))
    paths = found.manifest.table["path"].to_pylist()
    copies = {paths[i]: paths[found.kept[i]] for i in np.flatnonzero(found.is_copy)}
    assert copies == {"deep/smaller copy.mkv": "a.mp4", "old.mov": "a.mp4", "photo.jpg": "\\udcff.jpg"}
    assert [paths[i] for i in np.flatnonzero(found.is_static)] == ["still.mp4"]
