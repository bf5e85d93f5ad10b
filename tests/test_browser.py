"""The browser of the tests ends, even if other tests have left processes."""

import multiprocessing
import time

from browser import Browser


def test_it_ends_beside_a_process_that_was_forked_later(chromium, tmp_path):
    page = tmp_path / "page.html"
    page.write_text("<!doctype html><html lang=en><title>a</title><h1>a</h1>")
    browser = Browser(chromium)
    assert browser.open_page(page).title == "a"
    left = multiprocessing.get_context("fork").Process(target=time.sleep, args=(600,))
    left.start()
    browser.close()
    assert not left.is_alive()
