"""HTML pages as rendered by headless Chromium."""

import multiprocessing
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

# No requests of Chromium's own and no GPU. In a container the user may be root, for whom there is no sandbox.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

# Every element that has a text of its own: its style, and the first opaque background below it
_LOOK = """() => {
  const numbers = color => { const n = color.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n };
  const luminance = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const probe = document.body.appendChild(document.createElement('div'));
  probe.style.backgroundColor = 'Canvas';
  const canvas = numbers(getComputedStyle(probe).backgroundColor);
  probe.remove();
  const below = element => {
    for (let e = element; e; e = e.parentElement) {
      const color = numbers(getComputedStyle(e).backgroundColor);
      if (color[3] > 0) return color;
    }
    return canvas;
  };
  const contrast = (a, b) => {
    const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
    return (high + 0.05) / (low + 0.05);
  };
  const height = document.documentElement.scrollHeight;
  document.querySelectorAll('details').forEach(d => d.open = true);
  const texts = [];
  for (const e of document.body.querySelectorAll('*')) {
    const text = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.textContent.trim()).join(' ').trim();
    const style = getComputedStyle(e);
    if (!text || style.visibility === 'hidden' || !e.getClientRects().length) continue;
    const color = e instanceof SVGElement ? style.fill : style.color;
    const scale = e instanceof SVGGraphicsElement ? Math.hypot(e.getScreenCTM().a, e.getScreenCTM().b) : 1;
    texts.push({text, size: parseFloat(style.fontSize) * scale, contrast: contrast(numbers(color), below(e))});
  }
  const figures = [...document.querySelectorAll('img, video, svg[role=img]')].map(e => {
    const box = e.getBoundingClientRect();
    const loaded = e.tagName === 'IMG' ? e.complete && e.naturalWidth > 0
      : e.tagName === 'VIDEO' ? e.readyState > 0 && e.videoWidth > 0 : box.width > 0 && box.height > 0;
    return {kind: e.tagName.toLowerCase(), name: e.getAttribute('alt') || e.getAttribute('aria-label') || '',
            width: box.width, height: box.height, loaded};
  });
  return {
    title: document.title,
    language: document.documentElement.lang,
    headings: [...document.querySelectorAll('h1, h2, h3, h4, h5, h6')].map(e => [+e.tagName[1], e.textContent.trim()]),
    texts,
    figures,
    background: getComputedStyle(document.body).backgroundColor,
    height,
    widths: [document.documentElement.scrollWidth, document.documentElement.clientWidth],
  };
}"""


@dataclass
class PageFacts:
    """Properties of a page in Chromium.

    Args:
        title: Title of the page.
        language: ``lang`` of the page.
        headings: (level, text) of each heading, from top to bottom.
        figures: ``kind`` ("img", "svg", "video"), ``name`` for readers who cannot see it, ``width`` and ``height`` on
            the page, and whether it is ``loaded``.
        texts: For each element with text: the ``text``, its ``size`` in pixels of the screen, and its ``contrast`` with
            the background.
        background: Colour of the page.
        height: Height of the whole page in pixels, before folded parts are opened.
        widths: Width of the scrollable area, and of the window.
        errors: Messages of errors and warnings on the console, and exceptions.
        requests: URLs that the page requested, except the page itself and data in it.
    """

    title: str
    language: str
    headings: list
    figures: list
    texts: list
    background: str
    height: int
    widths: list
    errors: list = field(default_factory=list)
    requests: list = field(default_factory=list)

    def check(self):
        """Raise an AssertionError if the page has an error that no page of this project may have."""
        assert self.errors == []
        assert self.requests == []
        assert self.language and self.title
        assert [figure for figure in self.figures if not figure["loaded"] or not figure["name"]] == []
        assert self.widths[0] <= self.widths[1], "the page scrolls sideways"
        assert [text for text in self.texts if text["contrast"] < 4.5] == []
        levels = [level for level, _ in self.headings]
        assert levels.count(1) == 1 and levels[0] == 1
        assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False)), "a level of headings is left out"


class Browser:
    """Headless Chromium, started at its first use, in a separate thread, because playwright runs an event loop."""

    def __init__(self, executable):
        self._executable = executable
        self._thread = ThreadPoolExecutor(1)
        self._playwright = self._chromium = None

    def open_page(self, path, width=360, dark=False, height=740, screenshot=None):
        """Open a file and return its properties.

        Args:
            path: The HTML file.
            width: Width of the window in pixels.
            dark: Whether the reader prefers dark pages.
            height: Height of the window in pixels.
            screenshot: File for a picture of the whole page.

        Returns:
            PageFacts: The properties.
        """
        return self._thread.submit(self._open, Path(path).resolve().as_uri(), width, height, dark, screenshot).result()

    def close(self):
        # Dataloader workers that a test has left hold the pipes of the driver. The driver ends when the pipes are
        # closed.
        for left in multiprocessing.active_children():
            left.kill()
            left.join()
        if self._playwright is not None:
            self._thread.submit(self._chromium.close).result()
            self._thread.submit(self._playwright.stop).result()
        self._thread.shutdown()

    def _open(self, uri, width, height, dark, screenshot):
        if self._playwright is None:
            self._start()
        scheme = "dark" if dark else "light"
        context = self._chromium.new_context(viewport=dict(width=width, height=height), color_scheme=scheme)
        try:
            page = context.new_page()
            errors, requests = [], []
            page.on("console", lambda m: errors.append(m.text) if m.type in ("error", "warning") else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda r: requests.append(r.url) if not r.url.startswith((uri, "data:")) else None)
            page.goto(uri, wait_until="load")
            page.wait_for_function("[...document.querySelectorAll('video')].every(v => v.readyState || v.error)")
            facts = PageFacts(**page.evaluate(_LOOK), errors=errors, requests=requests)
            if screenshot:
                page.screenshot(path=str(screenshot), full_page=True)
            return facts
        finally:
            context.close()

    def _start(self):
        from playwright.sync_api import sync_playwright

        self._playwright = sync_playwright().start()
        self._chromium = self._playwright.chromium.launch(executable_path=self._executable, args=list(ARGUMENTS))
