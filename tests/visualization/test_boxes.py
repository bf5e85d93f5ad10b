"""Tests of the drawing of boxes: they are at the given positions."""

import numpy as np
import pytest
from PIL import ImageFont

from maskfeat_plugin.visualization import draw_boxes, pad_to_height
from maskfeat_plugin.visualization.boxes import (
    BAR_COLOR,
    FOUND_COLOR,
    add_caption,
    add_scores,
    draw_labelled_boxes,
    shorten,
)


def test_lines_are_on_the_border_of_the_box():
    image = np.zeros((64, 64, 3), np.uint8)
    picture = draw_boxes(image, [[8, 16, 40, 32]], ["seven 0.9"], color=(255, 0, 0))
    rows, columns = np.nonzero((picture[:256] == (255, 0, 0)).all(-1))  # 64 pixels enlarged 4 times
    assert (rows.min(), rows.max()) == (64, 127) and (columns.min(), columns.max()) == (32, 159)
    assert not (picture[70:120, 40:150] == (255, 0, 0)).all(-1).any()  # the inside of the box does not change


def test_the_text_is_below_the_image_and_two_boxes_are_numbered():
    image = np.full((56, 112, 3), 90, np.uint8)
    one = draw_boxes(image, [[0, 0, 20, 20]], ["walks"])
    two = draw_boxes(image, [[0, 0, 20, 20], [30, 30, 50, 50]], ["walks", "sits\nlooks"])
    none = draw_boxes(image, [], [])
    assert one.shape[1] == two.shape[1] == none.shape[1] == 448
    assert 224 < len(one) < len(two)
    assert (none[:224] == 90).all() and none[224:].any()  # the text says that there is no box


def test_large_images_are_not_enlarged():
    assert draw_boxes(np.zeros((300, 400, 3), np.uint8), [[1, 2, 3, 4]], ["a"]).shape[1] == 400


@pytest.mark.parametrize("boxes, labels", [([[0, 0, 1]], ["a"]), ([[0, 0, 1, 1]], []), ([], ["a"])])
def test_boxes_without_their_labels_are_refused(boxes, labels):
    with pytest.raises(ValueError, match="boxes must be"):
        draw_boxes(np.zeros((8, 8, 3), np.uint8), boxes, labels)


def test_on_a_frame_the_text_is_above_or_below_its_box_and_the_size_stays():
    frame = np.full((120, 200, 3), 90, np.uint8)
    low, high = (
        draw_labelled_boxes(frame, [[20, 60, 80, 100]], ["walks\nlooks"]),
        draw_labelled_boxes(frame, [[20, 0, 80, 40]], ["walks\nlooks"]),
    )
    for picture, text, box in ((low, slice(26, 60), slice(60, 100)), (high, slice(40, 74), slice(0, 40))):
        assert picture.shape == frame.shape
        assert (picture[text, 20] == BAR_COLOR).all() and (picture[text, 20:80] == 255).any()
        assert (picture[box, 20] == FOUND_COLOR).all() and (picture[box, 30:70] == 90).any()
    crowded = draw_labelled_boxes(frame, [[190, 0, 200, 120]], ["a name that is far longer than the frame" * 2])
    assert crowded.shape == frame.shape and (crowded[1] == BAR_COLOR).all(-1).sum() > 150
    np.testing.assert_array_equal(draw_labelled_boxes(frame, np.zeros((0, 4)), []), frame)


def test_padding_to_one_height():
    low, high = np.ones((2, 3, 3), np.uint8), np.ones((5, 3, 3), np.uint8)
    padded = pad_to_height([low, high])
    assert [p.shape for p in padded] == [(5, 3, 3)] * 2
    assert padded[0][:2].all() and not padded[0][2:].any()


def test_a_score_is_a_bar_of_its_length_below_the_picture():
    image = np.full((60, 201, 3), 90, np.uint8)
    picture = add_scores(image, [("seven", 0.5), ("one", 0.0)])
    np.testing.assert_array_equal(picture[:60], image)
    bar = (picture[60:] == BAR_COLOR).all(-1)
    assert picture.shape[1] == 201 and np.nonzero(bar[:20].any(0))[0].max() == 100
    assert np.nonzero(bar[24:].any(0))[0].tolist() == [0]
    assert picture[60:].max() == 255  # the text


def test_a_caption_that_is_too_long_ends_in_dots():
    image = np.zeros((20, 120, 3), np.uint8)
    font = ImageFont.load_default(14)
    long = "a name that is far longer than the picture"
    cut = shorten(long, 108, font)
    assert cut.endswith("...") and long.startswith(cut[:-3]) and font.getlength(cut) <= 108
    assert shorten("short", 108, font) == "short"
    np.testing.assert_array_equal(add_caption(image, [long]), add_caption(image, [cut]))
    assert add_caption(image, ["text"], dim=True).max() < add_caption(image, ["text"]).max()
