"""Tests of reports: a report is one complete file or none, its text is escaped, and it makes no requests."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from maskfeat_plugin.visualization import (
    Curve,
    Facts,
    Headline,
    Media,
    Notes,
    Picture,
    Section,
    Spread,
    Table,
    Text,
    write_report,
)
from maskfeat_plugin.visualization.report.charts import draw_curve, thin

NASTY = "<script>alert('x')</script> & \"$y$\""
VOID = {"meta", "link", "img"}


def make_gif():
    buffer = io.BytesIO()
    frames = [Image.new("RGB", (12, 8), color) for color in ("red", "blue")]
    frames[0].save(buffer, format="GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


GIF = make_gif()


class Page(HTMLParser):
    """Parser of a page. It collects elements and text, and checks that elements are closed in order."""

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
    table = Table(
        NASTY,
        ["start", "accuracy", NASTY],
        [["from scratch", 41.23456, "41.2 ± 3.1"], [NASTY, 52, "-"]],
        caption="Mean over 3 seeds.",
    )
    curve = Curve(
        f"Loss {NASTY}",
        "step",
        "HOG loss",
        {
            "MViT": (range(200), np.geomspace(1, 0.1, 200)),
            "predicting the mean target": ([0, 199], [0.5, float("nan")]),
            NASTY: ([3], [0.5]),
        },
        dashed=["predicting the mean target"],
        marks=[100],
    )
    panel = Picture("A panel", {"original": image, NASTY: image[:, ::-1]})
    gif = Media(GIF, "image/gif", 12, 8)
    path = write_report(
        tmp_path / "new" / "report.html",
        title=f"A report {NASTY}",
        intro=f"First paragraph.\n\nSecond {NASTY}",
        sections=[
            Section("Results", [Headline({"steps": "200", NASTY: NASTY}), table], f"What came out {NASTY}"),
            Section("Curves", [curve, Curve("Empty", "x", "y", {}), Spread("Values", "points", {NASTY: [1, 2]})]),
            Section(NASTY, [Picture("A picture", image, NASTY), panel, Picture("A file", gif)]),
            Section("Results", [Facts("Versions", {"torch": "2.13.0", NASTY: NASTY}), Facts("", {})]),
            Section("Notes", [Notes(["A note.", NASTY]), Text(f"config {NASTY}", f"a = 1\n# {NASTY}")]),
        ],
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
        *("A picture", "A panel", "original", "2.13.0", "A note.", "a = 1", "What came out"),
    ):
        assert expected in text
    # The text occurs in title, h1, intro; twice in a headline, in a section's intro, in a table's title, column, row;
    # in a curve's title and legend, in a group of values; in a section's link and title, in a picture's caption and
    # label; twice in the versions; in a note; twice in a text.
    assert text.count(NASTY) == 21
    assert f"A panel: {NASTY}" in [img["alt"] for img in page.all("img")]
    labels = [svg["aria-label"] for svg in page.all("svg") if "aria-label" in svg]
    assert labels[0].startswith(f"Loss {NASTY}. MViT: from 1 at step 0 to 0.1 at 199.")
    assert "predicting the mean target: from 0.5 at step 0 to 0.5 at 0" in labels[0]
    assert labels[1:] == ["Empty", f"Values. Mean points: {NASTY} 1.5"]


def test_images_are_embedded_without_loss(written):
    _, image, html = written
    images = Page(html).all("img")
    decoded = []
    *images, last = images
    assert last["src"] == "data:image/gif;base64," + base64.b64encode(GIF).decode()
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
    charts = re.findall(r"<svg role.*?</svg>", html, re.S)
    assert len(charts) == 3
    for chart in charts:
        colors = set(re.findall(r"(?:fill|stroke): ?([^;\"]+)", chart))
        assert colors <= {"none", "currentColor", *(f"var(--series-{i})" for i in range(6))}
        assert "currentColor" in colors
    # The baseline is dashed and has the colour of its curve. The third series has another colour.
    dashed = re.findall(r'style="[^"]*dasharray[^"]*"', charts[0])
    assert ["currentColor" in d for d in dashed].count(True) == 1  # the mark
    assert all("--series-0" in d or "currentColor" in d for d in dashed) and len(dashed) == 2
    assert "--series-1" in charts[0]
    for i in range(6):
        assert len(re.findall(rf"--series-{i}: #[0-9a-f]{{6}};", html)) == 2  # light and dark


def test_elements_share_no_id_and_links_lead_to_the_sections(written):
    _, _, html = written
    page = Page(html)
    ids = [attrs["id"] for _, attrs in page.elements if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert [link["href"] for link in page.all("a")] == [f"#{section['id']}" for section in page.all("section")]


def test_a_long_curve_is_thinned_and_keeps_its_peaks():
    xs, ys = np.arange(100_000), np.sin(np.arange(100_000) / 5000)
    ys[31_234], ys[31_235], ys[77_777] = 50, -50, np.nan
    shown_xs, shown_ys = thin(xs, ys)
    assert len(shown_xs) < 1300 and (np.diff(shown_xs) > 0).all()
    assert (shown_xs[0], shown_xs[-1]) == (0, 99_999)
    assert {31_234, 31_235, 77_777} <= set(shown_xs)
    np.testing.assert_array_equal(shown_ys, ys[shown_xs.astype(int)])
    assert len(draw_curve(Curve("Long", "step", "loss", {"a": (xs, ys)}))) < 50_000
    few = thin([3, 1], [5, 6])
    np.testing.assert_array_equal(few, [[3, 1], [5, 6]])


def test_same_input_same_bytes(tmp_path):
    curve = Curve("Loss", "step", "loss", {"a": ([1, 2], [3, 4])})
    pages = [write_report(tmp_path / name, title="t", sections=[Section("s", [curve])]).read_bytes() for name in "ab"]
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
    with pytest.raises(ValueError, match="text/html"):
        Media(b"", "text/html", 1, 1)
