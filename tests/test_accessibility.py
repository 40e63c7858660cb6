"Pages for everybody: headings in order, words for every picture, letters that stand out from their ground."
import json, re
from types import SimpleNamespace
from urllib.parse import unquote
import pytest
from figures import weakest_text
from matmul_course.app.commands import notebooks

PAGES = {p.relative_to(notebooks()).as_posix(): p for p in sorted(notebooks().rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts}
each = pytest.mark.parametrize("name", PAGES)

def cells(name): return json.loads(PAGES[name].read_text(encoding="utf-8"))["cells"]

def shown(name, kind):
    "What the cells of a page show, of one kind."
    for c in cells(name):
        for out in c.get("outputs", []):
            if kind in out.get("data", {}): yield "".join(out["data"][kind])

def drawings(name):
    "Every SVG of a page: outputs, and what stands in the images of steppers and reports."
    yield from shown(name, "image/svg+xml")
    for html in shown(name, "text/html"):
        for address in re.findall(r'src="data:image/svg\+xml;charset=utf-8,([^"]*)"', html):
            yield unquote(address.replace("&lt;", "<").replace("&amp;", "&"))

@each
def test_headings_are_in_order(name):
    text = [re.sub(r"```.*?```", "", "".join(c["source"]), flags=re.S) for c in cells(name) if c["cell_type"] == "markdown"]
    levels = [len(m[1]) for t in text for m in re.finditer(r"^(#{1,6}) ", t, re.M)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:])), levels

@each
def test_pictures_have_words(name):
    for html in shown(name, "text/html"):
        for image in re.findall(r"<img[^>]*>", html):
            assert len(re.search(r'alt="([^"]*)"', image)[1]) > 15, image[:120]
    for svg in drawings(name): assert re.search(r"<title>[^<]{16,}</title>", svg), svg[:200]

def test_letters_stand_out():
    "4.5 to 1 and more, WCAG AA, in every drawing of every page; charts are black on white."
    looked = 0
    for name in PAGES:
        for svg in drawings(name):
            if "<g id='figure_1'" in svg or 'id="figure_1"' in svg:
                assert not set(re.findall(r"<text[^>]*fill: (#\w+)", svg)) - {"#111", "#111111", "#000000"}, name
                continue
            ratio, words = weakest_text(SimpleNamespace(svg=svg))
            assert ratio >= 4.5, f"{name}: {words!r} has a contrast of {ratio:.1f}"
            looked += 1
    assert looked > 60
