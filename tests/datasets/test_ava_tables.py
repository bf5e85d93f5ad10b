"""AVA's tables in the forms of spreadsheets and editors: data set, metric and preparation read or refuse them alike."""

import codecs
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import DefaultScope

from maskfeat_plugin.apis import ConfigError, check_config
from maskfeat_plugin.datasets.ava_tables import (
    check_annotations,
    parse_table,
    read_label_map,
    read_proposals,
    read_table,
    write_table,
)
from maskfeat_plugin.registry import DATASETS, METRICS

ROWS = ["a b.mp4,1,0.1,0.2,0.5,0.6,3,0", "a b.mp4,2,0.1,0.2,0.5,0.6,4,1", "Größe.mp4,1,0.0,0.0,1.0,1.0,1,0"]
QUOTED = ['"a b.mp4","1",0.1,0.2,0.5,0.6,3,0', '"a b.mp4", 2, 0.1 ,0.2,0.5,0.6, "4",1', ROWS[2]]
FORMS = {
    "plain": "\n".join(ROWS).encode() + b"\n",
    "byte-order-mark": codecs.BOM_UTF8 + "\n".join(ROWS).encode(),
    "windows": "\r\n".join(ROWS).encode() + b"\r\n",
    "old-mac": "\r".join(ROWS).encode(),
    "blank-lines": ("\n\n" + "\n \n".join(ROWS) + "\n,,,,,,,\n").encode(),
    "quotes": "\n".join(QUOTED).encode(),
    "quotes-and-mark": codecs.BOM_UTF8 + "\r\n".join(QUOTED).encode(),
    "spaces": "".join(f"  {row.replace(',', ' , ')} \n" for row in ROWS).encode(),
}
LABEL_MAP = "".join(f'item {{\n  name: "action {i}"\n  id: {i}\n}}\n' for i in (1, 2, 3, 4, 80)).encode()


def build(path, kind="maskfeat.AVADataset", **options):
    with DefaultScope.overwrite_default_scope("mmaction"):
        return DATASETS.build(dict(type=kind, ann_file=str(path), pipeline=[], num_classes=5, **options))


def samples(data):
    return [
        (info["video_id"], info["timestamp"], info["gt_bboxes"].tolist(), info["gt_labels"].tolist())
        for info in (data.get_data_info(i) for i in range(len(data)))
    ]


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_annotations(tmp_path, form):
    (tmp_path / "ann.csv").write_bytes(FORMS[form])
    (tmp_path / "plain.csv").write_bytes(FORMS["plain"])
    data = build(tmp_path / "ann.csv")
    assert samples(data) == samples(build(tmp_path / "plain.csv", "mmaction.AVADataset"))
    assert [info[0] for info in samples(data)] == ["a b.mp4", "a b.mp4", "Größe.mp4"]
    assert data.ann_file == str(tmp_path / "ann.csv")


@pytest.mark.parametrize(
    "content", [b"a b.mp4,0002\n", codecs.BOM_UTF8 + b"a b.mp4,2", b'"a b.mp4", 2\r\n\r\n', b"\n a b.mp4 ,2 \n"]
)
def test_forms_of_excluded_timestamps(tmp_path, content):
    (tmp_path / "ann.csv").write_bytes(FORMS["plain"])
    (tmp_path / "out.csv").write_bytes(content)
    data = build(tmp_path / "ann.csv", exclude_file=str(tmp_path / "out.csv"))
    assert [(name, time) for name, time, *_ in samples(data)] == [("a b.mp4", 1), ("Größe.mp4", 1)]


@pytest.mark.parametrize("form", FORMS)
def test_the_metric_reads_the_same(tmp_path, form):
    """The detections contain every annotated box, so only names that do not match could lower the score."""
    (tmp_path / "ann.csv").write_bytes(FORMS[form])
    (tmp_path / "out.csv").write_bytes(codecs.BOM_UTF8 + b"a b.mp4,2\r\n")
    (tmp_path / "map.pbtxt").write_bytes(codecs.BOM_UTF8 + LABEL_MAP)
    files = dict(ann_file="ann.csv", exclude_file="out.csv", label_file="map.pbtxt")
    metric = METRICS.build(
        dict(type="maskfeat.AVAMetric", num_classes=5, **{key: str(tmp_path / name) for key, name in files.items()})
    )
    for video, second, boxes, labels in samples(build(tmp_path / "ann.csv")):
        found = dict(bboxes=torch.tensor(boxes), scores=torch.tensor(labels))
        metric.process([], [dict(pred_instances=found, video_id=video, timestamp=second)])
    assert metric.compute_metrics(metric.results)["overall"] == 1.0


BOX = "0.1,0.2,0.5,0.6"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (f"a.mp4,1,{BOX},3,one", "the person is 'one'"),
        (f"a.mp4,1,{BOX},3,0.0", "the person is '0.0'"),
        (f"a.mp4,1,{BOX},3,", "the person is ''"),
        (f"a.mp4,1,{BOX},5,0", "the action is '5'"),
        (f"a.mp4,1,{BOX},0,0", "the action is '0'"),
        (f"a.mp4,1,{BOX},\u00b2,0", "the action is '\u00b2'"),
        (f"a.mp4,1.5,{BOX},3,0", "is no row of AVA's"),
        (f"a.mp4,\u00b2,{BOX},3,0", "is no row of AVA's"),
        (f",1,{BOX},3,0", "is no row of AVA's"),
        (f"a.mp4,1,{BOX},3", "is no row of AVA's"),
        (f"a.mp4,1,{BOX},3,0,9", "is no row of AVA's"),
        ("a.mp4,1,0.1,0.2,nan,0.6,3,0", "is no row of AVA's"),
        ("a.mp4,1,0.5,0.2,0.1,0.6,3,0", "is not x1 < x2"),
        ("a.mp4,1,10,20,50,60,3,0", "pixels have to be divided"),
        (f'"a,b.mp4",1,{BOX},3,0', "has a comma"),
        (f'"a.mp4,1,{BOX},3,0', "this is no row of a table"),
        (f'"a" b.mp4,1,{BOX},3,0', "this is no row of a table"),
    ],
)
def test_wrong_rows_are_named_by_their_line(tmp_path, row, message):
    (tmp_path / "ann.csv").write_bytes(codecs.BOM_UTF8 + f"{ROWS[0]}\r\n\r\n{row}\r\n".encode())
    with pytest.raises(ValueError, match=r"ann.csv, line 3: ") as error:
        build(tmp_path / "ann.csv")
    assert message in str(error.value)


@pytest.mark.parametrize("score", ["high", "", "nan", "inf", "1.5", "-0.1"])
def test_wrong_scores_are_named_by_their_line(tmp_path, score):
    (tmp_path / "p.csv").write_text(f"a.mp4,1,{BOX},,0.5\n\na.mp4,1,{BOX},,{score}\n")
    with pytest.raises(ValueError, match=r"p.csv, line 3: the score is"):
        read_proposals(str(tmp_path / "p.csv"))


def test_proposals_with_a_mark_and_quotes(tmp_path):
    (tmp_path / "p.csv").write_bytes(codecs.BOM_UTF8 + f'"a b.mp4",1,{BOX},,0.5\r\n'.encode())
    assert list(read_proposals(str(tmp_path / "p.csv"))) == ["a b.mp4,0001"]


@pytest.mark.parametrize("row", ["a.mp4", "a.mp4,1,2", "a.mp4,one", "a.mp4,"])
def test_wrong_exclusions_are_named_by_their_line(tmp_path, row):
    (tmp_path / "ann.csv").write_bytes(FORMS["plain"])
    (tmp_path / "out.csv").write_text(f"a.mp4,1\n{row}\n")
    with pytest.raises(ValueError, match=r"out.csv, line 2"):
        build(tmp_path / "ann.csv", exclude_file=str(tmp_path / "out.csv"))


def test_custom_classes_pass_over_other_actions(tmp_path):
    (tmp_path / "ann.csv").write_text("\n".join([*ROWS, f"a.mp4,1,{BOX},80,0", f"a.mp4,1,{BOX},60,0"]))
    (tmp_path / "map.pbtxt").write_bytes(LABEL_MAP)
    data = build(tmp_path / "ann.csv", custom_classes=[1, 3, 4, 80], label_file=str(tmp_path / "map.pbtxt"))
    assert len(data) == 4 and samples(data)[3][3] == [[0, 0, 0, 0, 1]]


@pytest.mark.parametrize("mark", [codecs.BOM_UTF8, b""])
def test_label_maps(tmp_path, mark):
    file = tmp_path / "map.pbtxt"
    file.write_bytes(mark + b'item {\r\n  name: "run"\r\n  id: 7\r\n}\r\n')
    assert read_label_map(file) == {7: "run"}
    file.write_bytes(mark + b"item {\n  name: run\n  id: 7\n}\n")
    with pytest.raises(ValueError, match=r"map.pbtxt is no label map of AVA"):
        read_label_map(file)


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("AVADataset", FORMS["byte-order-mark"], r"line 1: it begins with a byte order mark.*maskfeat.AVADataset"),
        ("mmaction.AVADataset", FORMS["quotes"], "line 1: it has quotes"),
        ("RawframeDataset", codecs.BOM_UTF8 + b"folder 8 1\n", "line 1: it begins with a byte order mark"),
    ],
)
def test_tables_that_upstream_misreads_are_refused(tmp_path, kind, content, message):
    (tmp_path / "list.csv").write_bytes(content)
    dataset = dict(type=kind, ann_file=str(tmp_path / "list.csv"), pipeline=[])
    with pytest.raises(ConfigError, match=message):
        check_config(Config(dict(train_dataloader=dict(dataset=dataset))), ("train_dataloader",))


def test_read_table_needs_a_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="ann_file: there is no file"):
        read_table(Path(tmp_path, "none.csv"), "ann_file")


NAMES = st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], exclude_characters=',"\ufeff'), min_size=1)
TABLES = dict(
    names=st.lists(NAMES, min_size=1, max_size=5),
    mark=st.booleans(),
    quote=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
)


def check_any_table(names, mark, quote, end):
    names = [f"{name.strip()}.mp4" for name in names]
    shown = [f'"{name}"' if quote else name for name in names]
    text = end.join(f"{name},{i},{BOX},1,0" for i, name in enumerate(shown))
    rows = parse_table((codecs.BOM_UTF8 if mark else b"") + text.encode(), "any.csv")
    check_annotations(rows, "any.csv", 2)
    assert [row.columns[0] for row in rows] == names
    plain = [line.strip().split(",") for line in write_table(rows).split("\n")[:-1]]  # as mmaction2 does
    assert plain == [row.columns for row in rows]


def check_any_bytes(content):
    try:
        check_annotations(parse_table(content, "any.csv"), "any.csv", 5)
    except ValueError as error:
        assert str(error).startswith("any.csv, line ")


@settings(max_examples=30)
@given(**TABLES)
def test_any_table(names, mark, quote, end):
    check_any_table(names, mark, quote, end)


@settings(max_examples=30)
@given(st.binary(max_size=60))
def test_any_bytes_are_a_table_or_an_error_that_names_the_line(content):
    check_any_bytes(content)


@pytest.mark.long
@settings(max_examples=1500)
@given(**TABLES)
def test_many_tables(names, mark, quote, end):
    check_any_table(names, mark, quote, end)


@pytest.mark.long
@settings(max_examples=1500)
@given(content=st.binary(max_size=200), at=st.integers(0, 400), byte=st.integers(0, 255))
def test_many_damaged_tables(content, at, byte):
    check_any_bytes(content)
    whole = bytearray(FORMS["quotes-and-mark"])
    whole[at % len(whole)] = byte
    check_any_bytes(bytes(whole))
