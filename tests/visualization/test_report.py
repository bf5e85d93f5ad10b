"""Reports are one file, complete or absent, escaped, and ask nothing of the network."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from maskfeat_plugin.visualization import Curve, Picture, Table, write_report

NASTY = "<script>alert('x')</script> & \"$y$\""
VOID = {"meta", "link", "img"}


class Page(HTMLParser):
    """What a browser would make of a page: elements, text, and whether all is closed in order."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.text, self.open = [], [], []
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.elements if name == tag]


@pytest.fixture
def written(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 12, 3), dtype=np.uint8)
    path = write_report(
        tmp_path / "new" / "report.html",
        title=f"A report {NASTY}",
        intro=f"First paragraph.\n\nSecond {NASTY}",
        tables=[
            Table(
                NASTY,
                ["start", "accuracy", NASTY],
                [["from scratch", 41.23456, "41.2 ± 3.1"], [NASTY, 52, "-"]],
                caption="Mean over 3 seeds.",
            )
        ],
        curves=[
            Curve(
                f"Loss {NASTY}",
                "step",
                "HOG loss",
                {
                    "MViT": (range(200), np.geomspace(1, 0.1, 200)),
                    "predicting the mean target": ([0, 199], [0.5, float("nan")]),
                    NASTY: ([3], [0.5]),
                },
                dashed=["predicting the mean target"],
            ),
            Curve("Empty", "x", "y", {}),
        ],
        panels=[
            ("A tuple", image, NASTY),
            Picture("A panel", {"original": image, NASTY: image[:, ::-1]}),
        ],
        environment={"torch": "2.13.0", NASTY: NASTY},
        notes=["A note.", NASTY],
    )
    return path, image, path.read_text(encoding="utf-8")


def test_makes_no_request(written):
    _, _, html = written
    page = Page(html)
    links = [
        value
        for _, attrs in page.elements
        for key, value in attrs.items()
        if key.split(":")[-1] in ("src", "href", "srcset", "action", "data", "poster")
    ]
    assert links
    assert all(link.startswith(("data:", "#")) for link in links)
    assert all(u.startswith("#") for u in re.findall(r"url\(['\"]?([^)]*)", html))
    assert "@import" not in html
    assert not page.all("script")
    assert not page.all("iframe")
    (policy,) = [m["content"] for m in page.all("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")


def test_shows_everything_given_and_escapes_it(written):
    _, _, html = written
    page = Page(html)
    text = " ".join(" ".join(page.text).split())
    for expected in (
        *("First paragraph.", "from scratch", "41.23", "41.2 ± 3.1", "52", "Mean over 3 seeds."),
        *("HOG loss", "step", "MViT", "predicting the mean target", "Empty"),
        *("A tuple", "A panel", "original", "2.13.0", "A note."),
    ):
        assert expected in text
    # In title, h1, intro; a table's title, column, row; a curve's title and legend; a picture's
    # caption and label; the environment twice; a note.
    assert text.count(NASTY) == 13
    assert f"A panel: {NASTY}" in [img["alt"] for img in page.all("img")]
    assert f"Loss {NASTY}" in [svg["aria-label"] for svg in page.all("svg")]


def test_images_are_embedded_without_loss(written):
    _, image, html = written
    images = Page(html).all("img")
    decoded = []
    for attrs in images:
        head, _, data = attrs["src"].partition(",")
        assert head == "data:image/png;base64"
        decoded.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))))
        assert (attrs["width"], attrs["height"]) == ("12", "8")
    assert len(decoded) == 3
    for got, expected in zip(decoded, (image, image, image[:, ::-1]), strict=True):
        np.testing.assert_array_equal(got, expected)


def test_fits_phones_and_dark_mode(written):
    _, _, html = written
    page = Page(html)
    assert "width=device-width" in str(page.all("meta"))
    assert "prefers-color-scheme: dark" in html
    charts = re.findall(r"<svg.*?</svg>", html, re.S)
    assert len(charts) == 2
    for chart in charts:
        colors = set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", chart))
        assert colors <= {"none", "currentColor", *(f"var(--series-{i})" for i in range(6))}
        assert "currentColor" in colors
    # The baseline is dashed, in the colour of its curve; the third series has another one.
    dashed = re.findall(r'style="[^"]*dasharray[^"]*"', charts[0])
    assert dashed
    assert all("--series-0" in d for d in dashed)
    assert "--series-1" in charts[0]
    for i in range(6):
        assert len(re.findall(rf"--series-{i}: #[0-9a-f]{{6}};", html)) == 2  # light and dark


def test_charts_share_no_id(written):
    _, _, html = written
    ids = [attrs["id"] for _, attrs in Page(html).elements if "id" in attrs]
    assert len(ids) == len(set(ids))


def test_same_input_same_bytes(tmp_path):
    curve = Curve("Loss", "step", "loss", {"a": ([1, 2], [3, 4])})
    pages = [write_report(tmp_path / name, title="t", curves=[curve]).read_bytes() for name in "ab"]
    assert pages[0] == pages[1]


def test_a_failure_leaves_the_old_report(tmp_path, monkeypatch):
    path = write_report(tmp_path / "report.html", title="old")
    before = path.read_bytes()

    def full_disk(*args):
        raise OSError("no space left")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="no space"):
        write_report(path, title="new")
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_bad_parts_are_refused():
    with pytest.raises(ValueError, match="2 columns"):
        Table("t", ["a", "b"], [[1]])
    with pytest.raises(ValueError, match="2 x and 1 y"):
        Curve("c", "x", "y", {"a": ([1, 2], [1])})
    with pytest.raises(ValueError, match="dashed"):
        Curve("c", "x", "y", {"a": ([1], [1])}, dashed=["b"])
    with pytest.raises(ValueError, match="uint8"):
        Picture("p", np.zeros((4, 4, 3)))
