"The fast CPU rungs: every edge size, no access outside the operands, any strides, NaN, threads, stale caches."
import os, shutil, subprocess, sys
import numba, numpy as np, pytest, torch
from matmul_course import memory, registers, shapes, threads
from matmul_course.tools.checks import error_bound
from matmul_course.tools.simd import VECTOR_BYTES
from matmul_course.app.ladder import rungs
from matmul_course.tools.thread_pools import threads as with_threads

FAST = "packed", "tile", "parallel", "skinny", "wide", "matmul"
KERNELS = {name: rungs()[name].fn for name in FAST}
every = pytest.mark.parametrize("name", FAST)
CANARY = np.nan # no sum that contains one is inside a bound, not even times zero

def numbers(rng, m, n, dtype): return rng.standard_normal((m, n)).astype(dtype)

def fenced(rng, m, n, dtype, width=80):
    "An (m, n) view with canaries on all four sides, and the array that holds it."
    room = np.full((m + 4, n + width), CANARY, dtype)
    inside = room[2:2 + m, width//2:width//2 + n]
    inside[:] = numbers(rng, m, n, dtype)
    return inside, room

def assert_product(c, a, b, at):
    off = np.abs(c - a.astype(np.float64) @ b.astype(np.float64))
    assert c.shape == off.shape and (off <= error_bound(a, b)).all(), f"{at}: off by {off.max():.3g}"

def assert_close(c, a, b):
    "assert_product for float32, in a third of the time: γ with u = 2**-24 rounded up."
    off, size = np.abs(c - a.astype(np.float64) @ b), np.abs(a) @ np.abs(b)
    assert (off <= (a.shape[1] + 1) * 6e-8 * size + 1e-30).all(), f"{a.shape} @ {b.shape}: off by {off.max():.3g}"

EDGES = range(1, 71)
def sizes(axis):
    "All pairs of edge sizes on two axes; the third takes each size in turn."
    for p in EDGES:
        for q in EDGES:
            third = 1 + (7*p + 11*q) % 70
            yield (third, p, q) if axis == 0 else (p, third, q) if axis == 1 else (p, q, third)

def calls(dtype):
    "name -> f(a, b, c) on operands of any strides."
    width = 2 * VECTOR_BYTES // np.dtype(dtype).itemsize
    def skinny(a, b, o):
        "Two parts where there are rows enough, as with two threads."
        kernel, R = shapes._skinny(-(-b.shape[1] // -(-b.shape[1] // 5)))
        if len(a) < 2 * R: return shapes._fill_skinny(a, b, o)
        kernel(a, b, o, 2)
    return dict(packed=lambda a, b, o: registers._packed(a, b, o, 24, 2 * width),
                tile=registers.fill_tiled,
                parallel=lambda a, b, o: threads._blocks(a, b, o, 2, 2, 32, width),
                direct=lambda a, b, o: threads._unpacked_blocks(a, b, o, 2, 2),
                skinny=skinny,
                wide=lambda a, b, o: shapes._row(a, b, o, 2) if len(a) == 1 else shapes._wide(*shapes.wide_tile(len(a)))(a, b, o, 2, 16))

def framed(M, N, dtype):
    "A C-contiguous (M, N) with canaries before and behind it in memory."
    pad = 64
    room = np.full(M * N + 2 * pad, CANARY, dtype)
    return room[pad:pad + M*N].reshape(M, N), room, pad

@pytest.mark.parametrize("name", ["packed", "tile", "parallel", "direct", "skinny", "wide"])
def test_every_edge_size_between_canaries(name):
    rng, dtype = np.random.default_rng(0), np.float32
    run = calls(dtype)[name]
    pool_a, room_a = fenced(rng, 70, 70, dtype)
    pool_b, room_b = fenced(rng, 70, 70, dtype)
    was = room_a.copy(), room_b.copy()
    with with_threads(1):                     # the loop is cut in two all the same; nobody waits for a second core
        for axis in range(3):
            for M, K, N in sizes(axis):
                a, b = pool_a[70-M:, 70-K:], pool_b[70-K:, 70-N:]        # they end at the canaries on two sides
                c, room, pad = framed(M, N, dtype)
                run(a, b, c)
                assert_close(c, a, b)
                assert np.isnan(room[:pad]).all() and np.isnan(room[-pad:]).all(), f"{(M, K, N)}: wrote outside C"
    assert room_a.tobytes() == was[0].tobytes() and room_b.tobytes() == was[1].tobytes(), "an operand was changed"

def test_the_short_way_on_every_edge_size():
    rng = np.random.default_rng(0)
    pool = numbers(rng, 1, 70*70, np.float32)[0]
    for axis in range(3):
        for M, K, N in sizes(axis):
            a, b = pool[:M*K].reshape(M, K), pool[-K*N:].reshape(K, N)
            assert_close(shapes.matmul(a, b), a, b)

@pytest.mark.skipif(sys.platform == "win32", reason="memory protection is set through mmap and libc")
def test_nothing_is_read_past_a_page_that_may_not_be_read():
    "Operands that end where a forbidden page begins: a read past the end kills the process, which has said what it was at."
    code = f"""
import ctypes, mmap, numpy as np, sys
sys.path.insert(0, {os.path.dirname(__file__)!r})
from test_cpu import KERNELS
page = mmap.PAGESIZE
libc = ctypes.CDLL(None, use_errno=True)
libc.mprotect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
keep = []
def at_the_end(m, n, dtype):
    size = m * n * np.dtype(dtype).itemsize
    pages = -(-size // page) + 1
    room = mmap.mmap(-1, pages * page); keep.append(room)
    start = ctypes.addressof(ctypes.c_char.from_buffer(room))
    x = np.frombuffer(room, dtype, m*n, (pages - 1) * page - size).reshape(m, n)
    x[:] = 1
    assert libc.mprotect(start + (pages - 1) * page, page, 0) == 0
    return x
sizes = (5, 7, 9), (1, 1, 1), (13, 33, 31), (12, 16, 32), (70, 65, 10), (3, 784, 10), (2, 70, 1), (17, 5, 33), (1, 300, 37)
for name, M, K, N in ((name, *size) for name in KERNELS for size in sizes):
    print(name, M, K, N, flush=True)
    for dtype in (np.float32, np.float64):
        a, b = at_the_end(M, K, dtype), at_the_end(K, N, dtype)
        assert (KERNELS[name](a, b) == K).all()
sys.stdout.flush(); import os; os._exit(0)      # the forbidden pages stay: no tidying up
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, f"exit {run.returncode} at {run.stdout.splitlines()[-1:]}: {run.stderr[-500:]}"
    assert len(run.stdout.splitlines()) == 9 * len(KERNELS)

@every
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_strides(name, dtype):
    rng = np.random.default_rng(1)
    x, y = numbers(rng, 90, 120, dtype), numbers(rng, 120, 90, dtype)
    for a, b in ((x[::2, ::3], y[::3, ::2]), (x[::-1], y[:, ::-1]), (x[::-3, ::-1], y[::-1]), (x.T[:, :90], x[:90].T[:90]),
                 (np.broadcast_to(x[0], (33, 120)), y), (x, np.broadcast_to(y[:, :1], (120, 37))), (x[:, :1], y[:1])):
        assert_product(rungs()[name](a, b), a, b, f"strides {a.strides} and {b.strides}")

@every
@pytest.mark.parametrize("shape", [(700, 530, 9), (530, 700, 601), (9, 5000, 700), (1, 3000, 1), (300, 1, 300)])
def test_sizes_beyond_a_block(name, shape):
    rng, (M, K, N) = np.random.default_rng(2), shape
    for dtype in (np.float32, np.float64):
        a, b = numbers(rng, M, K, dtype), numbers(rng, K, N, dtype)
        if dtype == np.float32: assert_product(rungs()[name](a, b), a, b, shape)
        else: assert (np.abs(rungs()[name](a, b) - a @ b) <= 2 * error_bound(a, b)).all()

@every
@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("shape", [(6, 40, 5), (6, 40, 70), (70, 300, 7), (5, 784, 10)])
def test_what_is_not_finite_goes_through_as_in_numpy(name, shape):
    rng, (M, K, N) = np.random.default_rng(3), shape
    a, b = numbers(rng, M, K, np.float32), numbers(rng, K, N, np.float32)
    a[0, 3], a[1, K-1], a[2, 7:9] = np.nan, np.inf, (np.inf, -np.inf)
    b[5, 1], b[K-1, N-1] = -np.inf, np.nan
    a[3, 5] = 0                                             # 0 * -inf
    with np.errstate(invalid="ignore"): want = a.astype(np.float64) @ b.astype(np.float64)
    got = rungs()[name](a, b)
    for kind in (np.isnan, np.isposinf, np.isneginf): np.testing.assert_array_equal(kind(got), kind(want))

def test_no_flag_allows_more_than_contraction(): assert memory.CONTRACT_ONLY == {"contract"}

@every
def test_the_same_numbers_for_the_same_threads(name):
    rng = np.random.default_rng(4)
    a, b = numbers(rng, 300, 301, np.float32), numbers(rng, 301, 320, np.float32)
    for n in {1, numba.config.NUMBA_NUM_THREADS}:
        with with_threads(n):
            first = rungs()[name](a, b)
            for _ in range(5): np.testing.assert_array_equal(rungs()[name](a, b), first)

WORDS = """import sys; sys.path.insert(0, {here!r})
import numpy as np
from numba import njit
from matmul_course.tools.simd import *
assert VECTOR_BYTES == {width} and VECTOR_REGISTERS in (16, 32)
@njit
def edge(a, b, c):
    a, b, c = matrix(a), matrix(b), matrix(c)
    total = zeros(c, 5, 2)
    for k in range(a.shape[1]): total = fma(splat_part(a, 0, k, 5), load_part(b, k, 0, 1, 2), total)
    store_part(c, 0, 0, add(load_part(c, 0, 0, 5, 2), total))
@njit
def sums(a, c): store_part(c, 0, 0, sum_lanes(load_part(a, 0, 0, 3, 2)))
rng = np.random.default_rng(5)
for dtype, most in ((np.float32, {width} // 2), (np.float64, {width} // 4)):
    for m, K, n in ((1, 1, 1), (3, 7, most - 1), (5, 8, most), (5, 0, most), (2, 3, most // 2 + 1)):
        room = np.full((m + 2, n + 2), np.nan, dtype)
        a, b, c = rng.standard_normal((m, K)).astype(dtype), rng.standard_normal((K, n)).astype(dtype), room[1:-1, 1:-1]
        c[:] = 7
        edge(a, b, c)
        assert np.abs(c - 7 - a @ b).max(initial=0) < (1e-4 if dtype == np.float32 else 1e-12)
        assert np.isnan(room).sum() == room.size - c.size
    a, c = rng.standard_normal((3, most)).astype(dtype), np.zeros((3, 2), dtype)
    sums(a, c)
    assert np.abs(c - a.reshape(3, 2, -1).sum(2)).max() < 1e-5"""

PRODUCTS = """import sys; sys.path.insert(0, {here!r})
import numpy as np, matmul_course as m
from matmul_course.tools.simd import VECTOR_BYTES
assert VECTOR_BYTES == {width}
for fn in (m.matmul_tile, m.matmul_packed, m.matmul_parallel, m.matmul_skinny, m.matmul_wide, m.matmul):
    m.check_matmul(fn, dtype=np.float32)"""

def narrow(code, width):
    env = os.environ | dict(MATMUL_COURSE_VECTOR_BYTES=str(width))
    code = code.format(width=width, here=os.path.dirname(__file__))
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]

WIDTHS = [width for width in (16, 32, 64) if width <= VECTOR_BYTES]

@pytest.mark.parametrize("width", WIDTHS)
def test_the_words_are_right_at_any_width(width): narrow(WORDS, width)

@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS[:-1])
def test_products_are_right_at_any_width(width): narrow(PRODUCTS, width)

@pytest.mark.parametrize("n", range(1, 17))
def test_cuts_and_grids_cover_everything_once(n):
    for size in (1, 5, 12, 100, 1001):
        for step in (1, 8, 12, 32):
            ends = [threads.cut(size, n, p, step) for p in range(n + 1)]
            assert ends[0] == 0 and ends[-1] == size and ends == sorted(ends)
            assert all(e % step == 0 for e in ends[:-1] if e != size)
    for M, N in ((1, 1), (1000, 10), (10, 1000), (512, 512)):
        r, c = threads.grid_of(n, M, N)
        assert r * c == n

def test_the_rule_says_what_runs(monkeypatch):
    ran = []
    def noted(name, kernel): return lambda a, b: ran.append(name) or kernel(a, b)
    monkeypatch.setattr(shapes, "KERNELS", {name: noted(name, kernel) for name, kernel in shapes.KERNELS.items()})
    names = set()
    for M, K, N in ((1000, 784, 10), (8, 9000, 512), (300, 300, 320), (33, 2000, 77), (40, 4000, 30), (65, 800, 90), (200, 300, 300)):
        a, b = np.ones((M, K), np.float32), np.ones((K, N), np.float32)
        assert (shapes.matmul(a, b) == K).all()
        assert ran == [shapes.which_rung(a, b).name] and shapes.which_rung(a, b).why
        names.add(ran.pop())
    assert {rule.name for rule in shapes.RULES} == set(shapes.KERNELS) >= names >= {"skinny", "wide", "parallel"}
    assert shapes.which_rung(np.ones((5, 784), np.float32), np.ones((784, 10), np.float32)).name == "small"

def test_no_library_is_called(monkeypatch):
    "Not for any shape: torch.matmul and np.matmul would raise."
    def forbidden(*args, **options): raise AssertionError("a library was called")
    for module, names in ((torch, ("matmul", "mm", "einsum")), (np, ("matmul", "dot", "einsum"))):
        for name in names: monkeypatch.setattr(module, name, forbidden)
    for M, K, N in ((5, 784, 10), (1000, 784, 10), (8, 9000, 512), (300, 300, 320)):
        a, b = np.ones((M, K), np.float32), np.ones((K, N), np.float32)
        assert (shapes.matmul(a, b) == K).all() and (shapes.matmul(torch.from_numpy(a), torch.from_numpy(b)) == K).all()

@every
def test_a_product_has_a_gradient(name):
    for M, K, N in ((3, 5, 4), (70, 300, 7)):
        a, b = (torch.randn(*s, requires_grad=True) for s in ((M, K), (K, N)))
        g = torch.randn(M, N)
        (rungs()[name](a, b) * g).sum().backward()
        assert torch.allclose(a.grad, g @ b.detach().T, atol=1e-3) and torch.allclose(b.grad, a.detach().T @ g, atol=1e-3)

@every
def test_autocast_and_the_default_dtype_change_nothing(name):
    a, b = torch.randn(70, 300), torch.randn(300, 7)
    want = rungs()[name](a, b)
    with torch.autocast("cpu", torch.bfloat16): assert torch.equal(rungs()[name](a, b), want)
    torch.set_default_dtype(torch.float64)
    try: assert torch.equal(rungs()[name](a, b), want)
    finally: torch.set_default_dtype(torch.float32)

@pytest.mark.slow
def test_an_edit_in_another_module_is_noticed(root, tmp_path):
    "shapes.py compiles calls into registers.py: after an edit there, its kernels are compiled again. A comment is edit enough."
    shutil.copytree(root/"matmul_course", tmp_path/"matmul_course", ignore=shutil.ignore_patterns("__pycache__", "nbs"))
    code = ("import numpy as np; from matmul_course.shapes import matmul_skinny, matmul_wide, __file__ as path\n"
            "x = np.ones((30, 30), np.float32); products = [fn(x, x)[0, 0] for fn in (matmul_skinny, matmul_wide)]\n"
            "print(path, *set(products), sep='|')")
    env = os.environ | dict(PYTHONPATH=str(tmp_path), NUMBA_CACHE_DIR=str(tmp_path/"cache"))  # with NUMBA_OPT=0 Numba would keep nothing
    def kept():
        "The files with machine code of shapes.py after a run, and when they were written."
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path)
        assert run.returncode == 0 and run.stdout.strip() == f"{tmp_path/'matmul_course'/'shapes.py'}|30.0", run.stdout + run.stderr
        return {(p.name, p.stat().st_mtime_ns) for p in (tmp_path/"cache").rglob("shapes.*.nbc")}
    first = kept()
    assert len(first) >= 2 and kept() == first                          # the second run finds all of it
    with open(tmp_path/"matmul_course"/"registers.py", "a", encoding="utf-8") as f: f.write("# another line\n")
    assert len(kept() - first) >= 2                                     # for each of the two kernels
