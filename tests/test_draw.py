"Figures: what they show is what the arrays hold, they can be read, they stay small, and a rerun gives the same bytes."
import base64, io, itertools, os, re, subprocess, sys
from types import SimpleNamespace
from urllib.parse import unquote
from xml.etree import ElementTree
import numpy as np, pytest
from PIL import Image
from figures import SVG, contrast, covers, filled, middle, parts, text_in, weakest_text, words
from matmul_course.tools.charts import draw_bounds
from matmul_course.tools.figure import (
    A_COLOR, B_COLOR, CHAR, C_COLOR, GAP, INK, LINE, MUTED, PAPER, Figure, Stepper, chart, elide, grid, number, tint)
from matmul_course.tools.pictures import (
    draw_broadcast, draw_broadcast_steps, draw_digits, draw_dot, draw_layers, draw_matmul, draw_matmul_steps)
from matmul_course.tools.pictures_cpu import draw_bits, draw_inner, draw_kernel, draw_layout, draw_loops, draw_shares, roofline
from matmul_course.tools.pictures_gpu import (
    draw_block_steps, draw_block_times, draw_blocks, draw_fragments, draw_occupancy, draw_patch, draw_program, draw_queue, draw_tiles,
    draw_timeline, draw_waves)

rng = np.random.default_rng(0)
def floats(*shape): return rng.normal(size=shape)
def ints(*shape): return rng.integers(-9, 10, shape)

def figures():
    "Every kind of figure, at sizes from one cell to the whole data set's."
    for m, k, n in [(1, 1, 1), (3, 2, 4), (1, 784, 1), (5, 784, 10), (9, 1, 9), (40, 30, 20), (7, 7, 7)]:
        for make in (ints, floats): yield draw_matmul(make(m, k), make(k, n), m // 2, n // 2, k // 2)
        yield draw_matmul(1e-5 * floats(m, k), 1e-5 * floats(k, n), m - 1, n - 1)
    for p, q in [((), (3,)), ((4, 1), (3,)), ((4,), (3, 4)), ((1, 1), (2, 5)), ((500, 784), (784,)), ((1, 784), (5, 1))]:
        for op in "+-*/": yield draw_broadcast(floats(*p), floats(*q), op)
        yield from draw_broadcast_steps(ints(*p), ints(*q)).frames.values()
    yield draw_digits(rng.random(784), [3])
    yield draw_digits(rng.random((10, 784)), range(10))

CACHES = SimpleNamespace(l1=2**15, l2=2**20, l3=2**25)

def lesson_figures():
    "What lessons draw, and the extremes of it."
    x = ints(3, 4)
    for view in (x, x.T, x[:, ::2], x[::-1]): yield draw_layout(view)
    for order in itertools.permutations("ijk"): yield draw_inner("".join(order))
    yield draw_dot(ints(7), ints(7))
    yield draw_dot(floats(7).round(1), floats(7).round(1))
    for m, k, n in ((1, 1, 1), (2, 3, 2), (3, 2, 4)): yield draw_layers(ints(m, k), ints(k, n))
    yield from draw_block_steps(ints(4, 8), ints(8, 4)).frames.values()
    for rows, vectors in ((1, 1), (6, 2), (5, 5), (12, 8)):
        for along_k in (False, True): yield draw_kernel(rows, vectors, along_k)
    yield from [draw_loops(512, 1024, CACHES), draw_loops(256, 10**6, CACHES), draw_patch()]
    yield from [draw_blocks(5, 10, (4, 4)), draw_blocks(16, 10, (16, 16)), draw_blocks(1, 1, (1, 1))]
    for rows, cols in CUTS: yield draw_shares(rows, cols)
    for step in range(4): yield draw_tiles(step)
    for share in (0, 0.375, 1): yield draw_occupancy(80, 256, share)
    yield from [draw_queue([("launch", 10, 200), ("launch", 10, 200), ("wait", None, None)]), draw_queue([("wait", None, None)])]
    yield from [draw_timeline([0], 1), draw_timeline([0, 1, None, None] * 8, 2), draw_timeline([*range(16)] * 2, 16)]
    yield from [draw_block_times([None, 0, 0], 1, 128), draw_block_times([None, 0, 1, 2] * 12, 3, 128)]
    for blocks, sms in ((1, 1), (109, 108), (3125, 108)): yield draw_waves([(n % sms, n // sms) for n in range(blocks)], sms)
    yield draw_bits({"float32": ("01" * 16, 8, 0), "TF32": ("01" * 16, 8, 13), "one": ("1", 0, 0)})
    for m, k, n in ((16, 16, 8), (1, 2, 1)):
        pairs = [np.repeat(np.arange(r * k // 2) % 32, 2).reshape(r, k) for r in (m, n)]
        yield draw_fragments(pairs[0], pairs[1].T, np.arange(m * n).reshape(m, n) % 32, 0)
    yield from [draw_program((40, 56, 24), (16, 16, 16), (2, 1, 1)), draw_program((1, 1, 1), (1, 1, 1), (0, 0, 0))]
    yield draw_program((200, 784, 10), (64, 128, 16), (3, 6, 0))

CUTS = ([0, 516, 1024], [0, 256, 512, 768, 1024]), (range(0, 50_001, 6250), [0, 10]), ([0, 5], [0, 5])
SMALL = list(figures())
FIGURES = SMALL + list(lesson_figures())

# -- reading it

def test_contrast_is_wcag():
    assert contrast("#000000", "#ffffff") == 21 and contrast("#ffffff", "#000000") == 21
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.005)  # the well-known grey that just fails
    assert contrast("#ff0000", "#ffffff") == pytest.approx(4.00, abs=0.005)

@pytest.mark.parametrize("back", [PAPER, A_COLOR, B_COLOR, C_COLOR, tint(A_COLOR), tint(B_COLOR), tint(C_COLOR)])
def test_ink_reads_on_every_colour(back): assert contrast(INK, back) >= 4.5

def test_muted_text_and_lines_read_on_paper():
    assert contrast(MUTED, PAPER) >= 4.5
    assert contrast(LINE, PAPER) >= 3       # WCAG 1.4.11, for what is not text
    assert contrast(INK, C_COLOR) >= 3      # thick outline against its cell

def test_every_text_of_every_figure_reads(): assert [w for w in map(weakest_text, FIGURES) if w[0] < 4.5] == []

def test_weakest_text_sees_a_bad_figure():
    bad = Figure(grid([["no"]], 10, 10, fill=INK), 80, 60, "ink on ink")
    assert weakest_text(bad) == (1, "no")

def test_figures_have_their_own_opaque_paper():
    for fig in FIGURES:
        paper, (_, _, width, height) = parts(fig, "rect")[0], map(float, ElementTree.fromstring(fig.svg).get("viewBox").split())
        assert paper.get("fill") == PAPER and float(paper.get("rx")) > 0
        assert (float(paper.get("width")), float(paper.get("height"))) == pytest.approx((width, height), abs=0.01)

def wide(t):
    "The width of a <text>, px."
    return CHAR * len(t.text) * float(t.get("font-size", 13)) / 13

def test_nothing_hangs_over_the_paper():
    for fig in FIGURES:
        _, _, width, height = map(float, ElementTree.fromstring(fig.svg).get("viewBox").split())
        for r in parts(fig, "rect") + parts(fig, "image"):
            x, y, w, h = (float(r.get(k)) for k in ("x", "y", "width", "height"))
            assert x >= 0 and y >= 0 and x + w <= width + 0.01 and y + h <= height + 0.01, fig.title
        for t in parts(fig, "text"):
            x, half = float(t.get("x")), wide(t) / 2
            left = x if t.get("text-anchor") == "start" else x - half
            assert t.get("text-anchor") == "end" or (left >= 0 and left + 2*half <= width), (fig.title, t.text)

def over(fig):
    "Texts that are wider than the filled rectangle that they stand in."
    texts, boxes = parts(fig, "text"), [r for r in parts(fig, "rect")[1:] if r.get("fill") != "none"]
    return [t.text for r in boxes for t in texts if covers(r, *middle(t)) and wide(t) > float(r.get("width"))]

def test_values_fit_their_cells():
    assert over(Figure(grid([["12345678"]], 10, 10, (60, 30)), 80, 60, "too wide")) == ["12345678"]
    assert [(fig.title, texts) for fig in FIGURES if (texts := over(fig))] == []

def test_width_is_what_a_page_can_show():
    for fig in FIGURES:
        svg = ElementTree.fromstring(fig.svg)
        left, top, width, height = map(float, svg.get("viewBox").split())
        assert float(svg.get("width")) <= 760 and "max-width:100%" in svg.get("style")
        assert float(svg.get("width")) / float(svg.get("height")) == pytest.approx(width / height, rel=0.01)
        assert 13 * float(svg.get("width")) / width >= 10, "the smallest text, px"

def test_title_is_the_alt_text_in_every_form():
    for fig in FIGURES:
        svg = ElementTree.fromstring(fig._repr_svg_())
        img = ElementTree.fromstring(fig._repr_html_())
        assert repr(fig) == fig.title == svg.get("aria-label") == svg[0].text == img.get("alt")
        assert svg.get("role") == "img" and svg[0].tag == SVG + "title"

def test_the_image_is_the_svg():
    for fig in FIGURES:
        head, data = ElementTree.fromstring(fig._repr_html_()).get("src").split(",", 1)
        assert head == "data:image/svg+xml;charset=utf-8" and "#" not in data and data.isascii() and unquote(data) == fig.svg

def test_what_a_caller_writes_is_escaped():
    nasty = "<script>alert('1')</script> & \"%41#"
    fig = draw_digits(np.zeros(784), [nasty])
    assert "<script" not in fig.svg and "<script" not in fig._repr_html_()
    assert parts(fig, "text")[0].text == nasty and nasty in ElementTree.fromstring(fig._repr_html_()).get("alt")
    assert "<script" not in Stepper({nasty: fig}, nasty)._repr_html_()

# -- what it says

@pytest.mark.parametrize("m,k,n", [(1, 1, 1), (3, 2, 4), (2, 9, 3), (12, 5, 11), (5, 784, 10)])
def test_matmul_shows_the_row_the_column_and_the_element(m, k, n):
    a, b = ints(m, k), ints(k, n)
    for i, j in itertools.product({0, m // 2, m - 1}, {0, n // 2, n - 1}):
        fig, shown = draw_matmul(a, b, i, j), [t for t in elide(k) if t is not None]
        assert filled(fig, A_COLOR) == [str(v) for v in a[i, shown]]
        assert filled(fig, B_COLOR) == [str(v) for v in b[shown, j]]
        assert filled(fig, C_COLOR) == [str((a @ b)[i, j])]
        assert fig.title.startswith(f"C[{i}, {j}] = row {i} of A times column {j} of B = ")
        assert fig.title.endswith(f"= {(a @ b)[i, j]}")

def test_the_sum_is_an_equation_that_holds():
    for k in (1, 2, 3, 4):
        a, b = ints(3, k), ints(k, 5)
        left, right = draw_matmul(a, b, 2, 4).title.split(" of B = ")[1].split(" = ")
        assert eval(left) == int(right) == (a @ b)[2, 4] and left.count("*") == k

def test_a_negative_factor_is_bracketed():
    assert draw_matmul([[2, -3]], [[-4], [-5]]).title.endswith("= 2*(-4) + -3*(-5) = 7")

def test_rounding_is_owned_up_to():
    assert "≈" in draw_matmul([[1 / 3]], [[3.0]]).title and "≈" not in draw_matmul([[0.5]], [[3.0]]).title

@pytest.mark.parametrize("n,limit,keep,shown", [
    (7, 7, None, [0, 1, 2, 3, 4, 5, 6]), (8, 7, None, [0, 1, 2, None, 5, 6, 7]), (784, 7, 3, [0, 1, None, 3, None, 782, 783]),
    (784, 7, 2, [0, 1, 2, None, 781, 782, 783]), (10, 7, 7, [0, 1, 2, None, 7, 8, 9]), (784, 4, 300, [None, 300, None]),
    (784, 4, 0, [0, None, 783]), (8, 5, 2, [0, None, 2, None, 7])])
def test_elide(n, limit, keep, shown): assert elide(n, limit, keep) == shown

def test_a_gap_stands_for_something_left_out():
    for n, limit, keep in itertools.product(range(1, 20), (3, 4, 5, 6, 7), range(20)):
        shown = elide(n, limit, keep if keep < n else None)
        seen = [v for v in shown if v is not None]
        assert len(shown) <= limit and seen == sorted(set(seen)) and (keep >= n or keep in seen)
        for p, q in zip(shown, shown[1:]): assert q is None or p is None or q == p + 1
        for p, gap, q in zip(shown, shown[1:], shown[2:]): assert gap is not None or q > p + 1

def test_gaps_are_narrow():
    boxes = parts(draw_matmul(np.ones((1, 784), int), np.ones((784, 1), int)), "rect")
    xs = [float(r.get("x")) for r in boxes if r.get("fill") == A_COLOR]
    w = CHAR * len("B (784, 1)")                           # the one column of B is as wide as the name under it
    assert np.allclose(np.diff(xs), [w, w, w + GAP, w, w], atol=0.02)

def test_k_shows_its_own_product():
    a, b = ints(5, 784), ints(784, 10)
    a[1, 300], b[300, 2] = 87, 65
    assert "87*65" in draw_matmul(a, b, 1, 2, k=300).title and "87*65" not in draw_matmul(a, b, 1, 2).title
    thick = [g for g in parts(draw_matmul(a, b, 1, 2, k=300), "g") if g.get("stroke-width") == "3"][-1]
    assert [text_in(draw_matmul(a, b, 1, 2, k=300), r) for r in list(thick)[-2:]] == ["65", "87"]

def test_colour_is_not_the_only_sign():
    fig = draw_matmul(ints(3, 2), ints(2, 4), 1, 2)
    thick = [r for g in parts(fig, "g") if g.get("stroke-width") == "3" for r in g]
    for color, count in ((A_COLOR, 2), (B_COLOR, 2), (C_COLOR, 1)):
        cells = [r for r in parts(fig, "rect") if r.get("fill") == color]
        inside = [r for r in cells for t in thick if covers(t, float(r.get("x")) + 1, float(r.get("y")) + 1)
                  and covers(t, float(r.get("x")) + 30, float(r.get("y")) + 30)]
        assert len(cells) == count and len(inside) >= count
    assert {"A (3, 2)", "B (2, 4)", "C (3, 4)"} <= {t.text for t in parts(fig, "text")}

def test_small_integers_do_not_wrap():
    a = np.array([[200, 200]], np.uint8)
    assert draw_matmul(a, a.T).title.endswith("= 80000")
    assert draw_matmul(np.array([[True, True]]), np.array([[True], [True]])).title.endswith("= 2")

SHAPES = [(), (1,), (2,), (3,), (1, 1), (1, 3), (2, 1), (2, 3), (3, 2)]

@pytest.mark.parametrize("p,q", list(itertools.product(SHAPES, SHAPES)))
def test_broadcast_agrees_with_numpy(p, q):
    a, b = ints(*p), ints(*q)
    try: shape = np.broadcast_shapes(p, q)
    except ValueError:
        for fn in (draw_broadcast, draw_broadcast_steps):
            with pytest.raises(ValueError, match=re.escape(f"a and b: {p} + {q}; axis")): fn(a, b)
        return
    fig = draw_broadcast(a, b)
    assert filled(fig, A_COLOR) == [str(v) for v in np.ravel(a)] and filled(fig, B_COLOR) == [str(v) for v in np.ravel(b)]
    assert filled(fig, C_COLOR) == [str(v) for v in np.ravel(a + b)]
    assert sum(r.get("stroke-dasharray") is not None for r in parts(fig, "rect")) == 2*np.size(a + b) - np.size(a) - np.size(b)
    assert f"= {shape};" in fig.title and ("nothing is repeated" in fig.title) == (np.size(a) == np.size(b) == np.size(a + b))

@pytest.mark.parametrize("p,q", [((4, 2), (3,)), ((2,), (3,)), ((4, 2), (6, 2)), ((2, 3), (4, 3))])
def test_only_a_size_of_one_stretches(p, q):
    with pytest.raises(ValueError, match=re.escape(f"a and b: {p} + {q}; axis")): draw_broadcast(ints(*p), ints(*q))

def test_broadcast_names_how_often():
    assert draw_broadcast(ints(4, 1), ints(3)).title.endswith("the column of a 3 times, the row of b 4 times")
    assert draw_broadcast(ints(2, 3), ints(1)).title.endswith("repeated: the one value of b 6 times")

@pytest.mark.parametrize("op,fn", [("+", np.add), ("-", np.subtract), ("*", np.multiply), ("/", np.true_divide)])
def test_broadcast_combines(op, fn):
    a, b = ints(2, 1) + 20, ints(3) + 30
    assert filled(draw_broadcast(a, b, op), C_COLOR) == [number(v) for v in fn(a, b).ravel().tolist()]

def test_broadcast_steps_grow():
    steps = list(draw_broadcast_steps(ints(4, 1), ints(3)).frames.values())
    dashed = [sum(r.get("stroke-dasharray") is not None for r in parts(f, "rect")) for f in steps]
    assert dashed == [0, 1, 2 + 8 + 9, 2 + 8 + 9]      # b's added axis; then 1→3, 1→4 and the repeats of each
    assert [f.title.split()[0] for f in steps] == ["a", "with", "every", "a"]
    sizes = [[t.text for t in parts(f, "text") if "→" in t.text] for f in steps]
    assert sizes == [[], [], ["1→3", "1→4"], ["1→3", "1→4"]]
    assert [len(filled(f, C_COLOR)) for f in steps] == [0, 0, 0, 2 + 12]

def test_digit_holds_the_pixels():
    image = rng.integers(0, 256, (28, 28)).astype(np.uint8)
    file = base64.b64decode(parts(draw_digits(image), "image")[0].get("href").split(",")[1])
    drawn = Image.open(io.BytesIO(file))
    assert drawn.format == "PNG" and drawn.mode == "L" and not drawn.info      # no date, no name of a program
    assert np.array_equal(255 - np.asarray(drawn).astype(int), image)
    assert len(file) < 28 * 29 + 100, "the pixels and their frame, which no version of zlib can change"

def test_without_pillow_a_digit_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=re.escape('pip install "matmul_course[course]"')): draw_digits(np.zeros(784))
    assert draw_matmul([[1]], [[2]]).title.endswith("= 2")

def test_digit_counts_ink_and_takes_both_scales():
    image = np.zeros((28, 28), np.uint8); image[3, :5] = 255, 1, 9, 99, 200
    assert draw_digits(image, [1]).title == "digit: 1; pixels with ink: 5"
    assert draw_digits(image / 255, [1]).svg == draw_digits(image.ravel(), [1]).svg == draw_digits(image, [1]).svg

# -- what the drawings of the lessons say

def test_dot_shows_factors_products_and_sum():
    fig = draw_dot([4, 5, -6], [7, 9, 2])
    assert [filled(fig, c) for c in (A_COLOR, B_COLOR, C_COLOR)] == [["4", "5", "-6"], ["7", "9", "2"], ["28", "45", "-12"]]
    assert words(fig)[-1] == "sum 61" and fig.title == "3 products at once, and one sum: 61"

@pytest.mark.parametrize("m,k,n", [(1, 1, 1), (2, 3, 2), (3, 2, 4), (4, 4, 4)])
def test_layers_add_up_to_the_product(m, k, n):
    a, b = ints(m, k), ints(k, n)
    fig, layers = draw_layers(a, b), np.einsum("ik,kj->kij", a, b)
    assert filled(fig, A_COLOR) == [str(v) for v in a.T.ravel()] and filled(fig, B_COLOR) == [str(v) for v in b.ravel()]
    assert filled(fig, C_COLOR) == [str(v) for v in layers.sum(0).ravel()]
    assert filled(fig, PAPER)[1:] == [str(v) for v in layers.ravel()]                 # the first is the paper itself
    assert [w for w in words(fig) if w in "+="] == ["+"] * (k - 1) + ["="] and f"{k} layers" in fig.title

def test_layout_puts_each_element_over_its_place():
    x = np.arange(12).reshape(3, 4)
    for view in (x, x.T, x[:, ::2], x[::-1]):
        first = view.__array_interface__["data"][0]
        fig, low = draw_layout(view), first + sum(min(0, s * (n - 1)) for s, n in zip(view.strides, view.shape))
        place = {t.text: (float(t.get("x")) - 31) / 30 for t in parts(fig, "text") if re.fullmatch(r"\d,\d", t.text)}
        at = {f"{i},{j}": (view[i:, j:].__array_interface__["data"][0] - low) / x.itemsize for i, j in np.ndindex(view.shape)}
        assert place == at
        assert fig.title.startswith(f"Strides ({view.strides[0] // 8}, {view.strides[1] // 8}), ")
        assert fig.title.endswith(f"{view.size} of {max(at.values()) + 1:g} places are read")

@pytest.mark.parametrize("order", ["".join(order) for order in itertools.permutations("ijk")])
def test_inner_loop_marks_the_lines_that_it_touches(order):
    n, inner, touched = 8, order[-1], {}
    for name, axes, color in (("A", "ik", A_COLOR), ("B", "kj", B_COLOR), ("C", "ij", C_COLOR)):
        at = [tuple(t if x == inner else 2 for x in axes) for t in range(n)]
        touched[name] = len({(r, c // 4) for r, c in at})
        shown = filled(draw_inner(order), color)
        assert shown == ([str(t) for t in range(n)] if inner in axes else ["x"])
    said = ", ".join(f"{count} of {name}" for name, count in touched.items())
    assert draw_inner(order).title == f"{order}: one run of the {inner} loop touches {said} lines"

def test_the_five_loops():
    fig = draw_loops(512, 1024, CACHES)
    assert fig.title.endswith("block 512 × 1,024: L3, 32 MiB; six rows, 512 deep: L1, 32 KiB; panel 512 × 32: L2, 1 MiB")
    assert "2 MiB in L3, 32 MiB" in words(fig) and "12 KiB in L1, 32 KiB" in words(fig)
    for color in (A_COLOR, B_COLOR, C_COLOR):                # each loop works on no more than the one around it
        area = [float(r.get("width")) * float(r.get("height")) for r in parts(fig, "rect") if r.get("fill") == color]
        assert len(area) == 5 and area == sorted(area, reverse=True)

@pytest.mark.parametrize("rows,cols", CUTS)
def test_shares_have_the_areas_of_the_cuts(rows, cols):
    fig, M, N = draw_shares(rows, cols), rows[-1], cols[-1]
    high, wide = (240 * max(n / max(M, N), 1 / 6) for n in (M, N))                     # to scale, down to a sixth
    shares = [(float(r.get("width")) / wide * N, float(r.get("height")) / high * M) for r in parts(fig, "rect")[1:]]
    wanted = [(cols[c + 1] - cols[c], rows[r + 1] - rows[r]) for r in range(len(rows) - 1) for c in range(len(cols) - 1)]
    assert np.allclose(shares, wanted, atol=0.01 * max(M, N) / 40)
    assert [w.removeprefix("thread ") for w in words(fig)[:-1]] == [f"{t}" for t in range(len(wanted))]
    most = max(w * h for w, h in wanted) / (M * N)
    note = " (not to scale)" if max(M, N) > 6 * min(M, N) else ""
    assert fig.title == f"C ({M}, {N}): {len(rows) - 1} by {len(cols) - 1} blocks; the largest is {most:.1%} of C{note}"

@pytest.mark.parametrize("M,N,block,blocks", [
    (5, 10, (4, 4), (2, 3)), (16, 10, (16, 16), (1, 1)), (1, 1, (1, 1), (1, 1)), (7, 30, (3, 8), (3, 4))])
def test_blocks_count_their_idle_threads(M, N, block, blocks):
    fig, threads = draw_blocks(M, N, block), blocks[0] * block[0] * blocks[1] * block[1]
    assert (words(fig).count("·"), words(fig).count("×")) == (M * N, threads - M * N)
    assert words(fig)[-1] == f"{threads} threads in {blocks[0]} by {blocks[1]} blocks; {threads - M * N} idle (×)"

def test_tiles_walk_along_k():
    def picked(step):
        return {color: [(float(r.get("x")), float(r.get("y"))) for r in parts(draw_tiles(step), "rect") if r.get("fill") == color]
                for color in (A_COLOR, B_COLOR, C_COLOR)}
    steps = [picked(step) for step in range(4)]
    assert all(len(spots) == 1 for step in steps for spots in step.values())
    assert np.allclose(np.diff([s[A_COLOR][0] for s in steps], axis=0), (38.4, 0))
    assert np.allclose(np.diff([s[B_COLOR][0] for s in steps], axis=0), (0, 38.4))
    assert len({s[C_COLOR][0] for s in steps}) == 1
    assert steps[0][A_COLOR][0][1] == steps[0][C_COLOR][0][1] and steps[0][B_COLOR][0][0] == steps[0][C_COLOR][0][0]
    assert "512 loads for 4,096 multiply-adds" in draw_tiles(3).title

def test_block_steps_fill_the_tiles_and_end_in_the_product():
    a, b = np.arange(32.).reshape(4, 8) % 5, np.arange(32.).reshape(8, 4) % 7
    frames = list(draw_block_steps(a, b).frames.values())
    assert [words(f).count("?") for f in frames] == [16] + [0] * 7                     # half of either tile
    assert filled(frames[2], A_COLOR) == [number(v) for v in a[:, :4].ravel()]
    assert filled(frames[-1], A_COLOR) == [number(v) for v in a[:, 4:].ravel()]
    assert filled(frames[2], B_COLOR) == [number(v) for v in b[:4].ravel()]
    assert filled(frames[-1], C_COLOR) == [number(v) for v in (a @ b).ravel()]
    mixed = filled(frames[4], A_COLOR)                                                # the fifth: half old, half new
    assert mixed[:8] == [number(v) for v in a[:2, 4:].ravel()] and mixed[8:] == [number(v) for v in a[2:, :4].ravel()]

def test_patch():
    assert [len(filled(draw_patch(), c)) for c in (A_COLOR, B_COLOR, C_COLOR)] == [4, 4, 16]
    assert draw_patch().title == "8 loads serve 16 multiply-adds: 0.5 loads for each"

@pytest.mark.parametrize("share,threads,blocks", [(24 / 64, 256, 3), (1, 256, 8), (0, 64, 0), (1, 1024, 2)])
def test_occupancy_names_the_owner_of_each_place(share, threads, blocks):
    fig, warps = draw_occupancy(80, threads, share), threads // 32
    assert filled(fig, C_COLOR) == [str(n // warps) for n in range(blocks * warps)] and len(filled(fig, PAPER)) == 1 + 64 - blocks * warps
    assert fig.title == f"80 registers a thread: {blocks} blocks of {warps} warps, {blocks * warps} of 64 places taken"

def test_roofline_names_every_program_apart_and_the_nearest():
    points = [("a", 2, 30e9), ("b", 2, 29e9), ("c", 50, 80e9), ("d", 50, 1e9), ("e", 2, 28e9)]
    fig = roofline(points, 100e9, 20e9, "a note")
    assert fig.title == "c is nearest to the roof, at 80% of it" and {"peak 100 GFLOP/s, memory 20 GB/s", "a note"} <= set(words(fig))
    heights = [float(next(t for t in parts(fig, "text") if t.text == name).get("y")) for name in "abe"]
    assert np.diff(heights).min() > 9, "names of 9 pt, one below the other"
    assert roofline([("a", 2, 36e9), ("c", 50, 80e9)], 100e9, 20e9).title == "a is nearest to the roof, at 90% of it"
    twice = roofline([("a", 2, 36e9), ("a", 50, 8e9), ("c", 50, 80e9)], 100e9, 20e9)        # one program on two products
    assert twice.title == "a is nearest to the roof, at 90% of it" and words(twice).count("a") == 2

def test_a_chart_is_the_same_each_time_and_keeps_its_words():
    from matplotlib.figure import Figure as MplFigure
    def bars(values):
        fig = MplFigure(figsize=(5, 1.6), layout="constrained")
        fig.subplots().barh(["loops", "torch"], values)
        return chart(fig, "loops take longer", "In seconds. " * 20)
    fig = bars([6, 2])
    assert fig.svg == bars([6, 2]).svg != bars([6, 3]).svg and "<dc:date>" not in fig.svg
    assert {"loops", "torch"} <= set(words(fig)) and " ".join(words(fig)[-4:]).count("In seconds.") > 8
    inner = list(ElementTree.fromstring(fig.svg).iter(SVG + "svg"))[1]
    assert [float(inner.get(k)) for k in ("x", "y", "width", "height")] == [8, 8, 480, 153.6]

def test_bounds_name_the_resource_that_binds():
    "`waves` and what was measured are drawn, and bind nothing; a bound of 0 is not drawn."
    bounds = dict(dram=2e-6, l1=1e-4, lsu=2e-4, shared=0, fp32=3e-5, fp64=0, waves=3e-4)
    fig = draw_bounds({"cuda": bounds, "tiles": bounds | dict(shared=1e-3, measured=4e-3)}, "Two kernels", (1e-7, 1e-2), "Made up.")
    assert {"lsu, 200 µs", "shared, 1.00 ms", "measured", "waves"} <= set(words(fig)) and "fp64" not in words(fig)
    assert fig.title.startswith("Two kernels. cuda: lsu 200 µs; tiles: shared 1.00 ms")

# -- taking what a page has

def test_torch_and_numpy_draw_the_same():
    torch = pytest.importorskip("torch")
    a, b = floats(3, 2), floats(2, 4)
    ta, tb = torch.tensor(a, requires_grad=True), torch.tensor(b)
    assert draw_matmul(ta, tb, 1, 2).svg == draw_matmul(a, b, 1, 2).svg
    assert draw_broadcast(ta, tb[:, 0]).svg == draw_broadcast(a, b[:, 0]).svg
    images = torch.rand(3, 784)
    assert draw_digits(images, torch.tensor([1, 2, 3])).svg == draw_digits(images.numpy(), [1, 2, 3]).svg

def test_inputs_are_left_alone():
    a, b = ints(3, 2), ints(2, 4); before = a.copy(), b.copy()
    draw_matmul_steps(a, b); draw_broadcast_steps(a, a[:1])
    assert np.array_equal(a, before[0]) and np.array_equal(b, before[1])

def test_strange_numbers_are_drawn():
    a = np.array([[np.nan, np.inf, -0.0, 1e300]])
    assert filled(draw_matmul(a, np.ones((4, 1))), A_COLOR) == ["nan", "inf", "0", "1e+300"]
    assert "inf" in filled(draw_broadcast([1.0], [0.0], "/"), C_COLOR)

@pytest.mark.parametrize("call,error,said", [
    (lambda: draw_matmul(ints(3, 2), ints(3, 2)), ValueError, "a @ b: the inner sizes of (3, 2) @ (3, 2) differ"),
    (lambda: draw_matmul(ints(3, 1), ints(2, 3)), ValueError, "a @ b: the inner sizes of (3, 1) @ (2, 3) differ"),
    (lambda: draw_matmul(ints(3), ints(3, 2)), ValueError, "a @ b: (3,) @ (3, 2) is not a product of two matrices"),
    (lambda: draw_matmul(ints(3, 2), ints(2, 4), 3), ValueError, "i: 3 should be a whole number from 0 to 2"),
    (lambda: draw_matmul(ints(3, 2), ints(2, 4), 0, -1), ValueError, "j: -1 should be a whole number from 0 to 3"),
    (lambda: draw_matmul(ints(3, 2), ints(2, 4), k=2), ValueError, "k: 2 should be a whole number from 0 to 1"),
    (lambda: draw_matmul(ints(3, 2), ints(2, 4), 1.5), TypeError, "i: 1.5 should be a whole number"),
    (lambda: draw_matmul(ints(3, 0), ints(0, 4)), ValueError, "a: has shape (3, 0); there is nothing to draw"),
    (lambda: draw_matmul([["x"]], [[1]]), ValueError, "a: has dtype <U1"),
    (lambda: draw_matmul_steps(ints(5, 2), ints(2, 10)), ValueError, "a @ b: C is (5, 10), 50 steps, and at most 16"),
    (lambda: draw_broadcast(ints(2, 2, 2), ints(2)), ValueError, "a and b: (2, 2, 2) + (2,); at most 2-D"),
    (lambda: draw_broadcast(ints(2), ints(2), "@"), ValueError, "op: '@' should be one of +, -, *, /"),
    (lambda: draw_digits(np.zeros((27, 28))), ValueError, "images: has shape (27, 28)"),
    (lambda: draw_digits(np.full(784, 1.01)), ValueError, "images: must lie in 0 to 1"),
    (lambda: draw_digits(np.full(784, np.nan)), ValueError, "NaN"),
    (lambda: draw_digits(np.full(784, -1)), ValueError, "0 to 255"),
    (lambda: draw_digits(np.zeros((11, 784))), ValueError, "images: holds 11 digits"),
    (lambda: draw_digits(np.zeros((3, 784)), [1, 2]), ValueError, "labels: 2 labels for 3 images"),
    (lambda: draw_dot(ints(3), ints(2)), ValueError, "row and column: (3,) and (2,) should"),
    (lambda: draw_dot(ints(11), ints(11)), ValueError, "row and column: (11,) and (11,) should"),
    (lambda: draw_dot(ints(2, 2), ints(2, 2)), ValueError, "row and column: (2, 2) and (2, 2) should"),
    (lambda: draw_layers(ints(5, 784), ints(784, 10)), ValueError, "a @ b: (5, 784) @ (784, 10); only sizes of 1 to 4"),
    (lambda: draw_layout(ints(5, 6)), ValueError, "x: reaches over 30 places"),
    (lambda: draw_layout(ints(3)), ValueError, "x: has shape (3,); a matrix has two axes"),
    (lambda: draw_inner("ijj"), ValueError, "order: 'ijj'"),
    (lambda: draw_shares([0, 8, 4], [0, 4]), ValueError, "rows: [0, 8, 4] should be"),
    (lambda: draw_shares([0, 8], [1, 4]), ValueError, "cols: [1, 4] should be"),
    (lambda: draw_shares([0, 8], [0]), ValueError, "cols: [0] should be"),
    (lambda: draw_shares([0, 8.5], [0, 4]), ValueError, "rows: [0, 8.5] should be"),
    (lambda: draw_blocks(33, 3, (4, 4)), ValueError, "M, N and block: 33, 3 and (4, 4) are 36 by 4 threads"),
    (lambda: draw_blocks(3, 3, 4), ValueError, "block: 4 should be a pair"),
    (lambda: draw_blocks(3, 3, (4, 0)), ValueError, "block: 0 should be a whole number"),
    (lambda: draw_tiles(4), ValueError, "step: 4 should be a whole number from 0 to 3"),
    (lambda: draw_block_steps(ints(5, 5), ints(5, 5)), ValueError, "a and b: (5, 5) and (5, 5) should be"),
    (lambda: draw_block_steps(ints(2, 5), ints(5, 2)), ValueError, "a and b: (2, 5) and (5, 2) should be"),
    (lambda: draw_block_steps(ints(2, 4), ints(4, 3)), ValueError, "a and b: (2, 4) and (4, 3) should be"),
    (lambda: draw_occupancy(32, 100, 1.0), ValueError, "threads: 100 should be whole warps"),
    (lambda: draw_occupancy(32, 64, 1.5), ValueError, "share: 1.5 should be 0 to 1"),
    (lambda: roofline([], 1e9, 1e9), ValueError, "points: [] should be"),
    (lambda: roofline([("a", 0, 1)], 1e9, 1e9), ValueError, "points: 0 should be"),
    (lambda: roofline([("a", 1)], 1e9, 1e9), ValueError, "points: [('a', 1)] should be"),
    (lambda: draw_timeline([], 1), ValueError, "issued: [] should be"),
    (lambda: draw_timeline([1], 1), ValueError, "issued: 1 should be a whole number from 0 to 0"),
    (lambda: draw_block_times([], 1, 8), ValueError, "computes: [] should be"),
    (lambda: draw_waves([], 5), ValueError, "homes: [] should be"), (lambda: draw_waves([(5, 0)], 5), ValueError, "homes: 5 should be"),
    (lambda: draw_waves([(0, 1)], 5), ValueError, "homes: 1 should be"), (lambda: draw_waves([0], 5), ValueError, "homes: [0] should be"),
    (lambda: draw_queue([]), ValueError, "calls: [] should be"), (lambda: draw_queue([("a", -1, 2)]), ValueError, "calls: -1 should be"),
    (lambda: draw_bounds({"a": {}}, ""), ValueError, "bounds: {'a': {}} should be"),
    (lambda: roofline([("a", 1, 1)], 0, 1e9), ValueError, "peak: 0 should be"),
    (lambda: roofline([("a", 1, 1)], 1e9, float("inf")), ValueError, "bandwidth: inf should be"),
])
def test_bad_input_is_named(call, error, said):
    with pytest.raises(error, match=re.escape(said)): call()

def test_the_grid_of_a_later_lesson():
    "Owners by thread, a tile outlined, some cells absent: nothing of it is about products."
    owner = np.arange(12).reshape(3, 4) % 2
    fill = lambda r, c: None if (r, c) == (2, 3) else (A_COLOR, B_COLOR)[owner[r, c]]
    fig = Figure(grid(owner, 10, 10, (30, 20), fill, outline=lambda r, c: r == 0, text=lambda v: f"t{v}"), 140, 80, "Owners")
    assert filled(fig, A_COLOR) == ["t0"] * 6 and filled(fig, B_COLOR) == ["t1"] * 5
    assert len(parts(fig, "rect")) == 1 + 11 + 4

# -- on a page

def steppers():
    return [draw_matmul_steps(ints(3, 2), ints(2, 4)), draw_broadcast_steps(ints(4, 1), ints(3)),
            draw_matmul_steps(1e-5 * floats(4, 784), floats(784, 4)), draw_matmul_steps(floats(1, 784), floats(784, 16))]

def test_figures_stay_small():
    for fig in FIGURES: assert len((fig._repr_svg_() + fig._repr_html_()).encode()) < (30_000 if fig in SMALL else 80_000), fig.title
    for s in steppers(): assert len(s._repr_html_().encode()) < 120_000, s.title

@pytest.mark.parametrize("stepper", steppers(), ids=lambda s: s.title.split(":")[0])
def test_stepper_markup(stepper):
    form = ElementTree.fromstring(re.sub(r"<input([^>]*?)( checked)?>", r"<input\1 checked='\2'/>", stepper._repr_html_()))
    assert form.tag == "form" and form.get("method") == "dialog"
    radios = list(form.iter("input"))
    assert [r.get("checked") for r in radios] == [" checked"] + [""] * (len(stepper.frames) - 1)
    assert all(r.get("data-lm-suppress-shortcuts") == "true" for r in radios)  # on the focused element itself, or Lab takes the key
    assert len({r.get("name") for r in radios}) == 1 and not any(e.get("id") or e.get("for") for e in form.iter())
    assert not list(form.iter("script"))
    steps = list(form.find("fieldset"))[1:]
    assert [e.tag for e in steps] == ["label", "figure"] * len(stepper.frames)
    assert [e[0].tail for e in steps[::2]] == list(stepper.frames)
    assert [e[0].get("alt") for e in steps[1::2]] == [f.title for f in stepper.frames.values()]

def test_stepper_as_text():
    stepper = draw_matmul_steps([[1, 2]], [[3], [4]])
    assert repr(stepper).splitlines()[1:] == ["C[0, 0]: C[0, 0] = row 0 of A times column 0 of B = 1*3 + 2*4 = 11"]

MAKE = """import hashlib, sys, numpy as np
from matmul_course.tools.pictures import *
from matmul_course.tools.pictures_cpu import *
from matmul_course.tools.pictures_gpu import *
from collections import namedtuple
Caches = namedtuple('Caches', 'l1 l2 l3')
a, b = np.arange(6).reshape(3, 2) / 7, np.arange(8).reshape(2, 4) - 3
out = [draw_matmul_steps(a, b), draw_broadcast_steps(a, b[:, :1].T), draw_matmul(a, b, 1, 2), draw_digits(np.arange(784) % 256),
       draw_dot(a[0], b[:, 0]), draw_layers(a, b), draw_layout(a), draw_inner("kij"),
       draw_loops(8, 64, Caches(1, 2, 3)), draw_shares([0, 4], [0, 2, 4]),
       draw_blocks(3, 5, (2, 2)), draw_tiles(1), draw_block_steps(a[:2], a[:2].T), draw_occupancy(32, 64, 0.5)]
print(hashlib.sha256("".join(o._repr_html_() for o in out).encode()).hexdigest(), "torch" in sys.modules, "matplotlib" in sys.modules)
"""

def test_another_process_gives_the_same_bytes_and_imports_nothing_heavy():
    def run(seed):
        env = dict(os.environ, PYTHONHASHSEED=seed)
        return subprocess.run([sys.executable, "-c", MAKE], env=env, capture_output=True, text=True, check=True).stdout.split()
    one, two = run("1"), run("2")
    assert one == two and one[1:] == ["False", "False"]
