"""The profiler against a second way to count: Python threads in turn, arrays that write down each access, sets instead of tables."""
import linecache, random, sys
from collections import Counter, defaultdict
from math import prod
import numpy as np, pytest
from fastcore.test import expect_fail
from numba import float32, float64
from matmul_course.emulator.simple import SimpleCuda, launch_simply
from matmul_course.gpu.choice import Cuda
from matmul_course.profiler import GPU, profile
from matmul_course.profiler.warp import bank_passes

cuda = Cuda()

class Watched:
    "An array that notes (block, phase, thread, line, turn, name, kind, offset) of each access."
    def __init__(self, array, name, seen, shared=False):
        self.array, self.name, self.seen, self.shared, self.shape, self.dtype = array, name, seen, shared, array.shape, array.dtype
        self.size = array.size
    def note(self, index, kind):
        frame, now = sys._getframe(2), Now.cuda
        places = np.ravel_multi_index(index if isinstance(index, tuple) else (index,), self.shape) * self.array.itemsize
        self.seen.append((now.block, now.phase, now.thread, frame.f_lineno, frame.f_locals.get("k"), self.name, kind, int(places)))
    def __getitem__(self, index): self.note(index, "load"); return self.array[index]
    def __setitem__(self, index, value): self.note(index, "store"); self.array[index] = value

class Now(SimpleCuda):
    "`cuda` that knows which block, thread and phase it is."
    def __init__(self, grid, block, shared):
        super().__init__(grid, block, shared)
        Now.cuda, self.block, self.phase, self.names = self, -1, 0, []
    def __setattr__(self, name, value):
        super().__setattr__(name, value)
        if name == "blockIdx": self.block, self.phase, self.names = self.block + 1, -1, []
        if name == "threadIdx":
            self.thread = (value.z * self.blockDim.y + value.y) * self.blockDim.x + value.x
            self.phase += self.thread == 0
    def new_array(self, shape, dtype):
        self.names.append("st"[len(self.names)])
        return Watched(super().new_array(shape, dtype), self.names[-1], Now.seen, shared=True)

def counted(kernel, grid, block, **arrays):
    "Loads, stores, sectors, passes, races and the rest, by sets."
    Now.seen = []
    launch_simply(kernel, grid, block, *(Watched(a.copy(), n, Now.seen) for n, a in arrays.items()), device=Now)
    shared = {s[5] for s in Now.seen} - set(arrays)
    loads, stores, requests, kth = Counter(), Counter(), defaultdict(list), Counter()
    for b, phase, t, line, turn, name, kind, offset in Now.seen:
        (loads if kind == "load" else stores)[name] += 1
        who = b, phase, t, line, turn, name, kind
        requests[(b, phase, t // 32, line, turn, name, kind, kth[who])].append((t % 32, offset))
        kth[who] += 1
    each = defaultdict(list)
    for (*_, name, kind, _), lanes in requests.items():
        if name not in shared: each[name, kind].append(len({o // 32 for _, o in lanes})); continue
        size = 8 if kernel.__globals__.get("SHARED", float32) is float64 else 4
        halves = [[o for lane, o in lanes if lane * size // 128 == h] for h in range(size // 4)]
        passes = [max(Counter(o // size % (128 // size) for o in set(h)).values()) for h in halves if h]
        each[name, kind].append(sum(passes) / len(passes))
    means = {key: sum(v) / len(v) for key, v in each.items()}
    return dict(loads=loads, stores=stores, means=means, races=races(Now.seen, shared),
        touched=32 * len({(name, o // 32) for *_, name, _, o in Now.seen if name not in shared}),
        storing=len({(b, t) for b, _, t, _, _, name, kind, _ in Now.seen if kind == "store" and name not in shared}))

def races(seen, shared):
    "(block, phase, array, offset) at which a later access clashes with an earlier one."
    before, found = defaultdict(list), set()
    for b, phase, t, _, _, name, kind, o in seen:
        for b0, phase0, t0, kind0 in before[name, o]:
            free = (b0 == b and phase0 == phase and t0 != t) or (b0 != b and name not in shared)
            if free and "store" in (kind, kind0): found.add((b, phase, name, o))
        before[name, o].append((b, phase, t, kind))
    return found

def define(text, **env):
    file = f"<profiled {text}>"
    linecache.cache[file] = len(text), None, text.splitlines(True), file
    env = dict(cuda=cuda, np=np, float32=float32, float64=float64, **env)
    exec(compile(text, file, "exec"), env)
    return env["kernel"]

def agree(kernel, grid, block, **arrays):
    wanted = counted(kernel, grid, block, **arrays)
    p = profile(kernel, grid, block, *arrays.values())
    assert p.loads == wanted["loads"] and p.stores == wanted["stores"]
    assert p.sectors | p.bank_passes == pytest.approx(wanted["means"], rel=1e-12)
    assert p.bytes_touched == wanted["touched"]
    assert p.idle_lanes == pytest.approx(1 - wanted["storing"] / (prod(p.grid) * prod(p.block)))
    assert len({(r.block, r.phase, r.array, r.index) for r in p.races}) == len(p.races) == len(wanted["races"])
    return p

def matrices(m, k, n, dtype=np.float32):
    rng = np.random.default_rng(m + k + n)
    return dict(A=rng.random((m, k)).astype(dtype), B=rng.random((k, n)).astype(dtype), C=np.zeros((m, n), dtype))

NAIVE = """def kernel(A, B, C):
    {} = cuda.grid(2)
    if r < C.shape[0] and c < C.shape[1]:
        acc = float32(0)
        for k in range(A.shape[1]): acc += A[r, k] * B[k, c]
        C[r, c] = acc
"""
TILED = """def kernel(A, B, C):
    s = cuda.shared.array((4, 4), SHARED)
    t = cuda.shared.array((4, 4), SHARED)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    c, r = cuda.grid(2)
    acc = float32(0)
    for step in range((A.shape[1] + 3) // 4):
        s[y, x] = A[r, step * 4 + x] if r < A.shape[0] and step * 4 + x < A.shape[1] else 0
        t[y, x] = B[step * 4 + y, c] if c < B.shape[1] and step * 4 + y < B.shape[0] else 0
        {}
        for k in range(4): acc += s[y, k] * t[k, x]
        {}
    if r < C.shape[0] and c < C.shape[1]: C[r, c] = acc
"""

def full(*values): return pytest.param(*values, marks=pytest.mark.slow)

@pytest.mark.parametrize("grid, block", [
    ("c, r", (4, 4)), ("r, c", (16, 3)), ("c, r", (32, 1)), ("r, c", (5, 7)),
    full("r, c", (4, 4)), full("c, r", (16, 3)), full("r, c", (32, 1)), full("c, r", (5, 7))])
def test_naive(grid, block):
    m, k, n = 11, 5, 13
    blocks = tuple(-(-size // b) for size, b in zip((n, m) if grid == "c, r" else (m, n), block))
    agree(define(NAIVE.format(grid)), blocks, block, **matrices(m, k, n))

@pytest.mark.parametrize("barriers, shared", [
    ((1, 1), float32), ((0, 1), float64), ((1, 0), float32), full((1, 1), float64), full((0, 1), float32), full((1, 0), float64)])
def test_tiled(barriers, shared):
    lines = ["cuda.syncthreads()" if b else "pass" for b in barriers]
    p = agree(define(TILED.format(*lines), SHARED=shared), (2, 2), (4, 4), **matrices(7, 10, 6))
    assert bool(p.races) == (barriers != (1, 1))

def scattered(seed):
    "A kernel with random strides, a loop that differs between lanes, conditions in it, and a shared array."
    pick = random.Random(seed)
    n = [pick.randrange(0, 40) for _ in range(9)]
    return define(f"""def kernel(A, C):
    s = cuda.shared.array(257, SHARED)
    x, y = cuda.threadIdx.x, cuda.threadIdx.y
    i = cuda.grid(1)
    s[({n[0]} * x + {n[1]} * y) % 257] = A[({n[2]} * i + {n[3]}) % 999]
    cuda.syncthreads()
    acc = A[0]
    for k in range((x * {n[4]}) % 5):
        if (x + k) % {n[5] % 4 + 1} == 0: acc += s[({n[6]} * x + k) % 257] * A[(i + {n[7]} * k) % 999]
        acc += A[(k * {n[8]} + i) % 999]
    k = 0                                   # the other way reads the turn from it, and the loop is over
    if x % {n[5] % 3 + 1} == 0: C[({n[7]} * i + y) % 999] = acc
""", SHARED=pick.choice([float32, float64]))

SOME = 0, 1, 2, 5, 6                                                 # every block, and both dtypes

@pytest.mark.parametrize("seed", [seed if seed in SOME else full(seed) for seed in range(12)])
def test_scattered(seed):
    block = random.Random(seed).choice([(32, 1), (64, 1), (10, 5), (33, 2)])
    dtype = np.float64 if seed % 3 == 0 else np.float32
    agree(scattered(seed), 2, block, A=np.arange(999).astype(dtype), C=np.zeros(999, dtype))

def test_a_sample_stands_for_the_whole(monkeypatch):
    "Blocks of each class give what all blocks give, edges included."
    kernel, arrays = define(NAIVE.format("c, r")), matrices(75, 6, 91)
    grid, block = (12, 10), (8, 8)
    whole = profile(kernel, grid, block, *arrays.values())
    monkeypatch.setattr("matmul_course.profiler.sample.MOST_ACCESSES", 0)
    some = profile(kernel, grid, block, *arrays.values())
    assert some.sampled and not whole.sampled
    for name in ("loads", "stores", "bytes_read", "bytes_written", "bytes_touched", "idle_lanes", "flop", "bytes_requested"):
        assert getattr(some, name) == getattr(whole, name), name

def test_a_sample_that_does_not_stand_for_the_whole_says_so(monkeypatch):
    monkeypatch.setattr("matmul_course.profiler.sample.MOST_ACCESSES", 0)
    gather = define("def kernel(A, C):\n    i = cuda.grid(1)\n    C[i] = A[int(A[i])]\n")
    A = np.random.default_rng(0).permutation(640).astype(np.float32)
    assert not profile(gather, 20, 32, A, np.zeros(640, np.float32)).exact
    assert profile(gather, 20, 32, np.arange(640, dtype=np.float32), np.zeros(640, np.float32)).exact

def test_what_lies_outside_is_listed_and_nothing_is_spoilt():
    kernel = define("def kernel(A, C):\n    c, r = cuda.grid(2)\n    C[r, c] = A[r, c - 1]\n")
    A, C = np.ones((5, 6), np.float32), np.zeros((5, 6), np.float32)
    p = profile(kernel, (1, 1), (8, 8), A, C)
    wanted = [("A", (r, c - 1)) for r in range(8) for c in range(8) if r >= 5 or not 0 <= c - 1 < 6]
    wanted += [("C", (r, c)) for r in range(8) for c in range(8) if r >= 5 or c >= 6]
    assert Counter((o.array, o.index) for o in p.out_of_bounds) == Counter(wanted)
    assert all(o.thread[::-1][1:] == (o.index[0], o.index[1] + (o.array == "A")) and o.line == 3 for o in p.out_of_bounds)
    assert (C == 0).all() and (A == 1).all()

def test_a_view_that_does_not_begin_on_a_sector():
    kernel = define("def kernel(a, out):\n    i = cuda.grid(1)\n    out[i] = a[i]\n")
    a, out = cuda.to_device(np.zeros(64, np.float32)), cuda.device_array(32, np.float32)
    assert profile(kernel, 1, 32, a[:32], out).sectors["a", "load"] == 4
    assert profile(kernel, 1, 32, a[1:33], out).sectors["a", "load"] == 5

def test_a_function_called_twice_makes_two_requests():
    get = cuda.jit(device=True)(define("def kernel(a, i): return a[i]\n"))
    kernel = define("def kernel(a, out):\n    i = cuda.grid(1)\n    out[i] = get(a, i) + get(a, 8 * i)\n", get=get)
    assert profile(kernel, 1, 32, np.zeros(256, np.float32), np.zeros(32, np.float32)).sectors["a", "load"] == (4 + 32) / 2

def test_a_loop_in_a_function_called_twice():
    "Each call's turns are requests of their own, whichever way the lanes went in the other call."
    total = cuda.jit(device=True)(define(
        "def kernel(a, first, n):\n    acc = float32(0)\n    for k in range(n): acc += a[first + k]\n    return acc\n"))
    kernel = define("def kernel(a, out):\n    i = cuda.grid(1)\n    out[i] = total(a, 8 * i, i % 2) + total(a, i, 3)\n", total=total)
    p = profile(kernel, 1, 32, np.zeros(256, np.float32), np.zeros(32, np.float32))
    assert p.loads["a"] == 16 + 3 * 32
    assert p.sectors["a", "load"] == (16 + 4 + 5 + 5) / 4          # lanes 1, 3, 5, …; then three times all lanes in a row

def test_loads_in_the_head_of_a_loop_are_matched():
    "Before the first turn and after each: lanes that leave earlier load less."
    kernel = define("def kernel(a, out):\n    i = cuda.grid(1)\n    k = 0\n    while a[8 * i + k] > k: k += 1\n    out[i] = k\n")
    p = profile(kernel, 1, 32, np.repeat(np.arange(32) % 3, 8).astype(np.float32), np.zeros(32, np.float32))
    assert p.loads["a"] == sum(1 + i % 3 for i in range(32))
    assert p.sectors["a", "load"] == (32 + 21 + 10) / 3             # all lanes, those with 1 or 2 turns, those with 2

@pytest.mark.parametrize("seed", range(4))
def test_tables_that_grow_and_one_bucket_for_all_requests_count_the_same(seed, monkeypatch):
    "Every table is full at its second record, and is doubled; every request that is not the next one is looked for in one chain."
    for kernel, block in ((scattered(seed), (33, 2)), (define(NAIVE.format("c, r")), (16, 3))):
        arrays = (np.arange(999.), np.zeros(999)) if block == (33, 2) else matrices(6, 7, 32).values()
        with monkeypatch.context() as m:
            usual = profile(kernel, 2, block, *map(np.copy, arrays))
            m.setattr("matmul_course.profiler.count._ROOM", 1)
            m.setattr("matmul_course.profiler.count._BUCKETS", 1)
            other = profile(kernel, 2, block, *map(np.copy, arrays))
        assert str(other) == str(usual) and other.races == usual.races and other.lines

def test_divergence():
    kernel = define("def kernel(x):\n    i = cuda.grid(1)\n    if i % 2: x[i] = 1\n    if i < 32: x[i] += 2\n"
                    "    for k in range(i // 32): x[i] += 1\n    for k in range(i): x[i] += 1\n")
    assert profile(kernel, 1, 64, np.zeros(64, np.float32)).divergent == {3: 1, 6: 1}

def test_work_and_bound():
    kernel = define("def kernel(x):\n    i = cuda.grid(1)\n    x[i] = x[i] * x[i] + 1 - x[i] / 3\n")
    p = profile(kernel, 2, 64, np.ones(128, np.float32))
    assert (p.flop, p.flop64, p.bytes_touched) == (4 * 128, 3 * 128, 512)   # float32 and a whole number make float64
    slow, narrow = GPU("slow", 1, 1e3, 1, 1, 1e9, "", "sm_80"), GPU("narrow", 1, 1e9, 1, 1, 1e3, "", "sm_80")
    assert (p.bounds(slow)["fp32"], p.bounds(slow)["fp64"], p.bounds(narrow)["dram"]) == (0.064, 0.192, 0.512)
    assert (p.limited_by(slow), p.bound(slow)) == ("fp64", 0.192) and p.bound(narrow) == 0.512
    doubled = profile(kernel, 2, 64, np.ones(128))
    assert doubled.flop64 == doubled.flop == 512 and doubled.wavefronts["x", "load"] == 2 * p.wavefronts["x", "load"] == 2
    with expect_fail(ValueError, contains="'V100' should be one of T4"): p.bound("V100")

@pytest.mark.parametrize("step, flop64", [("total += x[i]", 32), ("total = total + x[i]", 32),
                                          ("x[i] += x[i]", 0), ("x[i] += 1", 32), ("n = i; n += 1", None), ("x[i] -= total", 32)])
def test_an_update_counts_in_the_type_of_its_result(step, flop64):
    "A sum that began as `0.` is in float64, also where it is written with `+=`."
    kernel = define(f"def kernel(x):\n    i = cuda.grid(1)\n    total = 0.\n    {step}\n    x[i] = total\n")
    p = profile(kernel, 1, 32, np.ones(32, np.float32))
    assert (p.flop, p.flop64) == ((0, 0) if flop64 is None else (32, flop64))

def test_the_target_of_an_update_is_evaluated_once():
    "Also in a field of a record, and with an index that is itself loaded."
    kernel = define("def kernel(p, x, i):\n    t = cuda.threadIdx.x\n    p[i[t]].a += float32(1)\n    p[t]['b'] *= float32(2)\n"
                    "    x[i[t]] += float32(3)\n")
    records, x = np.ones(32, [("a", np.float32), ("b", np.float64)]), np.ones(32, np.float32)
    p = profile(kernel, 1, 32, records, x, np.arange(32))
    assert (p.loads, p.stores) == (dict(p=64, x=32, i=64), dict(p=64, x=32)) and (p.flop, p.flop64) == (96, 32)
    assert (records["a"] == 2).all() and (records["b"] == 2).all() and (x == 4).all()

def test_named_blocks():
    kernel, arrays = define(NAIVE.format("c, r")), matrices(16, 4, 16)
    p = profile(kernel, (2, 2), (8, 8), *arrays.values(), blocks=[(0, 0), (1, 1)])
    assert p.sampled and p.loads == dict(A=16 * 16 * 4, B=16 * 16 * 4) and (arrays["C"] == 0).all()
    for bad in ([(2, 0)], [], [(-1, 0)]):
        with expect_fail(ValueError, contains="blocks"): profile(kernel, (2, 2), (8, 8), *arrays.values(), blocks=bad)

def test_atomics_are_no_race_and_count_as_both():
    kernel = define("def kernel(x):\n    cuda.atomic.add(x, 0, 1)\n")
    x = np.zeros(1, np.float32)
    p = profile(kernel, 4, 64, x)
    assert (p.races, p.loads["x"], p.stores["x"], x[0]) == ([], 256, 256, 256)

def test_halves_and_bytes():
    lanes = np.arange(32)
    assert bank_passes(2 * lanes, 2) == 1 and bank_passes(lanes, 1) == 1
    assert bank_passes(np.where(lanes < 16, 8 * 16 * lanes, -1), 8) == 16
    assert bank_passes(np.full(32, -1), 4) == 0

@cuda.jit
def vectors(a, o):
    s = cuda.shared.array(128, float32, alignment=16)
    t = cuda.threadIdx.x
    quads, fours, pairs = a.view(cuda.float32x4), s.view(cuda.float32x4), s.view(cuda.float32x2)
    fours[t] = quads[t]
    cuda.syncthreads()
    pair = pairs[t]
    o[t] = pair.x + pair.y

def test_a_vector_is_one_request_of_several_elements():
    a, o = np.arange(128, dtype=np.float32), np.zeros(32, np.float32)
    p = profile(vectors, 1, 32, a, o)
    assert (o == a[:64].reshape(32, 2).sum(1)).all() and p.races == []
    assert (p.loads, p.stores) == (dict(a=128, s=64), dict(s=128, o=32))
    assert (p.bytes_read, p.bytes_written) == (4 * 128, 4 * 32)
    assert p.wavefronts == {("a", "load"): 4, ("s", "store"): 4, ("s", "load"): 2, ("o", "store"): 1}
    assert p.sectors == {("a", "load"): 16, ("o", "store"): 4}
    assert "moves 16 sectors, 512 bytes, for 512 bytes" in p.picture(array="a").title

def test_a_vector_races_in_each_of_its_elements():
    @cuda.jit
    def overlapping(o):
        s = cuda.shared.array(64, float32)
        fours, t = s.view(cuda.float32x4), cuda.threadIdx.x
        if t < 4: fours[t] = cuda.float32x4(t, t, t, t)
        if t >= 16: s[t - 2] = 1
        cuda.syncthreads()
        o[t] = s[t]
    assert [(r.index, r.threads[1][0]) for r in profile(overlapping, 1, 32, np.zeros(32, np.float32)).races] == [(14, 3), (15, 3)]

@pytest.mark.parametrize("lines, found", [
    (["if t == 0: d[0] = 1", "if t == 40: f[1] = 2"], [0]), (["d[t] = 1", "f[2 * t + 1] = 2"], []), (["d[0] = 1"], [0]),
    (["f[2 * t] = 1", "if t == 40: d[3] = 2"], [3]), (["p[t].w = 1"], []), (["p[t // 32].w = 1"], [0, 1])])
def test_a_race_is_found_in_any_part_of_an_element_and_listed_once(lines, found):
    "Through a float32 view of float64, beside a float32 array and one of records of 12 bytes."
    kernel = define("def kernel(o, p):\n    d, t = cuda.shared.array(0, float64), cuda.threadIdx.x\n    f = d.view(float32)\n    "
                    + "\n    ".join(lines) + "\n    o[t] = 1\n")
    records = np.zeros(64, [("i", np.int32), ("w", np.float64)])
    assert [race.index for race in profile(kernel, 1, 64, np.zeros(64, np.float32), records, shared=1024).races] == found

def test_the_bytes_of_a_view_are_those_that_it_moves():
    "64 numbers of 4 bytes out of float64, 32 of 16 bytes into float32."
    @cuda.jit
    def views(wide, narrow):
        t = cuda.threadIdx.x
        halves, fours = wide.view(float32), narrow.view(cuda.float32x4)
        fours[t] = cuda.float32x4(halves[2 * t], halves[2 * t + 1], 0, 0)
    p = profile(views, 1, 32, np.ones(32), np.zeros(128, np.float32))
    assert (p.bytes_read, p.bytes_written, p.loads["wide"], p.stores["narrow"]) == (256, 512, 64, 128)

def test_elements_of_many_bytes_do_not_leave_the_tables(monkeypatch):
    "An element of 4,001 bytes would be 4,001 cells of a byte."
    monkeypatch.setattr("matmul_course.profiler.count._ROOM", 1)
    kernel = define("def kernel(p):\n    i = cuda.threadIdx.x // 2\n    p[i].a = 1\n")
    records = np.zeros(64, [("a", np.int8), ("more", np.float32, 1000)])
    assert {race.index for race in profile(kernel, 1, 64, records).races} >= set(range(32))
