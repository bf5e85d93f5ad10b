"""Tests of the report of a training with damaged or extreme files: the page is complete, the log names the files."""

import json
import os
import re
import struct
import time
import zlib
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from maskfeat_plugin.training_report import write_training_report

RUN = "20260101_000000"
LOG = """2026/01/01 00:00:00 - mmengine - INFO - Versions: torch 2.0, mmengine 0.10
2026/01/01 00:00:01 - mmengine - INFO - Iter(train) [ 1/20]  loss: 1.0
2026/01/01 00:00:09 - mmengine - WARNING - something
"""
CONFIG = "default_scope = 'mmpretrain'\nmodel = dict(type='maskfeat.MaskFeat')\ntrain_cfg = dict(max_iters=20)\n"
LINES = [json.dumps(dict(loss=1 / i, iter=i, step=i)) for i in (1, 2, 3)]
FORBIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
DEEP = 50_000


def make(work_dir, lines=LINES, log=LOG, config=CONFIG, test=None):
    """Write the files of a run, from texts or bytes."""
    data = work_dir / RUN / "vis_data"
    data.mkdir(parents=True, exist_ok=True)
    files = {data / "scalars.json": "\n".join(lines), data.parent / f"{RUN}.log": log, data / "config.py": config}
    if test is not None:
        files[data.parent / f"{RUN}.json"] = test
    for path, content in files.items():
        path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return work_dir


def report(work_dir):
    """Write the report, check that the page is complete, and return its text."""
    html = write_training_report(work_dir).read_text("utf-8")
    assert html.rstrip().endswith("</html>") and not FORBIDDEN.search(html)
    for svg in re.findall(r"<svg.*?</svg>", html, re.S):
        ElementTree.fromstring(svg)
    return " ".join(re.sub(r"<[^>]*>", " ", re.sub(r"<(style|svg).*?</\1>", " ", html, flags=re.S)).split())


def picture(width, height, ending=b""):
    """Return the bytes of a PNG whose header gives a size, but which has no pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"") + ending


@pytest.mark.parametrize(
    "values",
    [
        dict(loss=1e308),
        dict(loss=-1e308),
        dict(loss=5e-324, grad_norm=5e-324),
        dict(loss=float("inf"), baseline=float("inf")),
        dict(loss=float("nan"), samples_per_second=float("nan"), memory=float("nan")),
        dict(loss=1e308, baseline=1e-308, grad_norm=1e308, seconds_left=1e308, samples_per_second=-1e308),
        dict(loss=True, lr=[1], text="x"),
    ],
    ids=str,
)
def test_extreme_numbers(tmp_path, values):
    lines = [*LINES, json.dumps(dict(values, iter=4, step=4)), json.dumps(dict(values, step=4))]
    assert "4 of 20" in report(make(tmp_path, lines, test=json.dumps(values)))


WRONG_LINES = [
    '{"loss": 1, "iter": -5, "step": -5}',
    '{"loss": 1, "iter": 4, "step": -4}',
    '{"accuracy": 1, "step": -4}',
    '{"loss": 1, "iter": 9007199254740993, "step": 1}',
    f'{{"loss": 1, "iter": 1, "step": 1{"0" * 400}}}',
    f'{{"loss": 1, "iter": 1{"0" * 5000}, "step": 1}}',
    f'{{"loss": 1{"0" * 400}, "iter": 4, "step": 4}}',
    '{"loss": 1, "iter": true, "step": 4}',
    '{"loss": 1, "iter": 1e3, "step": 4}',
    f'{{"loss": {"[" * DEEP}, "iter": 4, "step": 4}}',
    "[" * DEEP,
    '{"a":' * DEEP,
    "\udcff{",
]


def test_lines_that_cannot_be_are_counted(tmp_path):
    text = report(make(tmp_path, [*LINES[:2], *WRONG_LINES, LINES[2]]))
    assert f"{len(WRONG_LINES)} lines of the logged numbers are incomplete" in text and "3 of 20" in text


def test_strange_names(tmp_path):
    names = ["\ud800", "\x00\x1b", "$x_{", "<b>&", "a" * 3000, "", "loss\ud800", "\ufdd0/1"]
    lines = [json.dumps({**dict.fromkeys(names, 1.0), **step, "step": 4}) for step in ({"iter": 4}, {})]
    text = report(make(tmp_path, [*LINES, *lines], test=json.dumps(dict.fromkeys(names, 1.0))))
    assert "4 of 20" in text and "&lt;b&gt;&amp;" in text and "\N{REPLACEMENT CHARACTER}" in text


@pytest.mark.parametrize(
    "config",
    [
        "a = " + "-" * 200_000 + "1",
        "a = " + "(" * 100_000,
        "a = b'\0'",
        "a = 1" + "0" * 5000,
        "\\",
        "a = (",
        b"\xff\xfe",
    ],
    ids=lambda config: ascii(config)[:20],
)
def test_configs_that_are_none(tmp_path, config, caplog):
    config = config if isinstance(config, bytes) else f"{CONFIG}{config}\n"
    assert "Configuration" in report(make(tmp_path, config=config))
    assert f"{tmp_path / RUN / 'vis_data/config.py'} is no config that can be read" in caplog.text


def test_a_config_of_one_long_chain(tmp_path):
    """Python 3.10 parses this config; later versions do not."""
    assert "Configuration" in report(make(tmp_path, config=f"{CONFIG}a = x{'.b' * 100_000}\n"))


@pytest.mark.parametrize(
    "value", ["[1]", "'x'", "3", "None", "0x" + "f" * 5000, "{1: 2}", "-1", "{[1]: 2}", "True", "1e999"]
)
def test_settings_of_another_kind(tmp_path, value):
    names = ("model", "train_cfg", "default_hooks", "train_dataloader", "default_scope", "experiment_name")
    sections = "".join(f"{name} = {value}\n" for name in names)
    inner = (
        f"train_cfg = dict(max_iters={value}, max_epochs={value}, val_interval={value})\nmodel = dict(type={value})\n"
        f"train_dataloader = dict(batch_size={value}, num_workers={value})\n"
    )
    hooks = [f"default_hooks = dict(logger={hook})\n" for hook in (value, f"dict(interval={value})")]
    for config in (sections, inner + hooks[0], hooks[1]):
        lines = [LINES[2], '{"accuracy": 1, "data_time": 1, "step": 1}']
        assert "Learning" in report(make(tmp_path, lines, config=config, log=""))


@pytest.mark.parametrize(
    "log",
    [
        LOG.replace("2026/01/01 00:00:00", "2026/99/99 99:99:99"),
        LOG.replace("2026/01/01 00:00:09", "0000/00/00 00:00:00"),
        LOG.replace("00:00:00", "23:59:59"),  # the clock was set back
        LOG.replace("2026/01/01", "٢٠٢٦/٠١/٠١"),
        LOG.replace("1/20]", "1/" + "9" * 5000 + "]"),
        LOG + "2026/01/01 00:00:10 - mmengine - INFO - Epoch(train) [1][1/" + "9" * 5000 + "]\n",
        LOG + "2026/01/01 00:00:10 - mmengine - INFO - Saving checkpoint at " + "9" * 5000 + " iterations\n",
        LOG + "2026/01/01 00:00:10 - mmengine - INFO - resumed epoch: 1, iter: " + "9" * 5000 + "\n",
        LOG + "2026/01/01 00:00:10 - mmengine - INFO - Versions: , , x\n",
        LOG.replace("something", "\x1b[31m\x00 \ufffe"),
        LOG.encode() + bytes(range(256)) * 10,
        LOG.replace("1/20]", "1/0]"),
    ],
    ids=lambda log: f"{len(log)}",
)
def test_strange_logs(tmp_path, log):
    assert "Learning" in report(make(tmp_path, log=log))


@pytest.mark.parametrize(
    "content",
    ["", "[" * DEEP, "null", "[1]", '{"a": 1%s}' % ("0" * 400), '{"a": NaN}', "\x00", '{"a": "b"}'],
    ids=lambda c: c[:10],
)
def test_strange_tests_and_records(tmp_path, content):
    folder = make(tmp_path, test=content) / "non_finite"
    for i, text in enumerate(
        (content, '{"iteration": 1, "rank": 0}', '{"iteration": 1, "rank": "x"}', '{"iteration": []}')
    ):
        (folder / f"iter_{i}_rank_0").mkdir(parents=True)
        (folder / f"iter_{i}_rank_0/report.json").write_text(text)
    (tmp_path / "bad_files.txt").write_bytes(b"\xff\x00\t\x1b\n")
    assert "not finite: 1" in report(tmp_path)


def test_pictures_that_are_too_large_or_damaged(tmp_path, caplog):
    folder = make(tmp_path) / "vis_data"
    folder.mkdir()
    Image.new("RGB", (30, 20)).save(folder / "good_0.png")
    Image.new("I;16", (2000, 20)).save(folder / "deep_0.png")
    good = (folder / "good_0.png").read_bytes()
    damaged = {
        "bomb_0.png": picture(20_000, 20_000),
        "large_0.png": picture(9_990, 10_011),
        "none_0.png": picture(0, 5),
        "huge_0.png": picture(2**31 - 1, 2**31 - 1),
        "cut_0.jpg": b"\xff\xd8\xff\xe0",
        "cut_0.gif": b"GIF89a\xff\xff\xff\xff\x00\x00\x00,\x00\x00\x00\x00\xff\xff\xff\xff\x00",
        "cut_0.webp": b"RIFF\x00\x00\x00\x00WEBPVP8X",
        "cut_0.png": good[:40],
        "empty_0.png": b"",
        "cut_0.mp4": b"\x00\x00\x00\x18ftypmp42",
    }
    for name, content in damaged.items():
        (folder / name).write_bytes(content)
    (folder / "folder_0.png").mkdir()
    os.mkfifo(folder / "pipe_0.png")
    (folder / "dangling_0.png").symlink_to("nowhere")
    (tmp_path / "dangling.py").symlink_to("nowhere")
    (tmp_path / "folder.py").mkdir()
    Image.new("RGB", (30, 20)).save(os.fsencode(folder) + b"/\xff\x01_0.png", format="PNG")
    start = time.monotonic()
    text = report(tmp_path)
    assert time.monotonic() - start < 20
    assert "good (png)" in text and "deep (png)" in text and f"{len(damaged)} further files" in text
    assert all(f"{name} cannot be shown" in caplog.text for name in damaged)


NUMBERS = st.one_of(
    st.integers(), st.floats(), st.integers(0, 100), st.just(10**400), st.booleans(), st.none(), st.text(max_size=3)
)
RECORDS = st.dictionaries(
    st.sampled_from(["loss", "iter", "step", "grad_norm", "data_time", "acc"]) | st.text(max_size=4),
    NUMBERS,
    max_size=5,
)
CASES = dict(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def damage(data, text):
    """Change some bytes of a text, or cut it."""
    content = bytearray(text.encode())
    for _ in range(data.draw(st.integers(0, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    return bytes(content[: data.draw(st.integers(0, len(content)))])


def check_any_files(tmp_path, data):
    lines = [*LINES[:2], *(json.dumps(record) for record in data.draw(st.lists(RECORDS, max_size=4)))]
    lines.append(damage(data, LINES[2]).decode("latin-1"))
    path = make(tmp_path, lines, damage(data, LOG), damage(data, CONFIG), damage(data, '{"accuracy": 1.5}'))
    folder = path / "vis_data"
    folder.mkdir(exist_ok=True)
    (folder / "x_0.png").write_bytes(damage(data, "\x89PNG" * 3) + picture(3, 3)[data.draw(st.integers(0, 60)) :])
    assert "Learning" in report(path)


@given(st.data())
@settings(max_examples=5, **CASES)
def test_any_files(tmp_path, data):
    check_any_files(tmp_path, data)


@pytest.mark.long
@given(st.data())
@settings(max_examples=2000, **CASES)
def test_many_files(tmp_path, data):
    check_any_files(tmp_path, data)
