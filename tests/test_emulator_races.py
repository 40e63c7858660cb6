"""Sixty kernels whose races are known: each answer was worked out by hand, from the order that barriers, atomics and blocks give.
pytest --full runs all of them, watched and profiled; the fast tier runs those marked * watched."""
import linecache
import numpy as np, pytest
from numba import float32, float64, int32, int64
from matmul_course.emulator import RaceError, Unsupported, launch
from matmul_course.emulator.host import Cuda
from matmul_course.profiler import profile

cuda = Cuda()
LANES, WARPS, BLOCKS, NONE = "within a warp", "between warps", "between blocks", None
HALVE = ["while n > 0:", "    if t < n: s[t] += s[t + n]"]
STEP = ["for k in range(4):", "    s[t] = x[64 * (k % 2) + t]", "    cuda.syncthreads()", "    y[t] += s[63 - t]"]
# name, with * for the fast tier -> (answer, statements, more of: grid, block); s is shared, float64[64], m a view of it as (16, 4)
RACES = {
    "own element": (NONE, ["s[t] = x[t]", "y[t] = s[t]"]),
    "neighbour too soon": (LANES, ["s[t] = x[t]", "y[t] = s[(t + 1) % 64]"]),
    "neighbour behind a barrier": (NONE, ["s[t] = x[t]", "cuda.syncthreads()", "y[t] = s[(t + 1) % 64]"]),
    "the other warp too soon*": (WARPS, ["s[t] = x[t]", "y[t] = s[t ^ 32]"]),
    "the other warp behind syncwarp": (WARPS, ["s[t] = x[t]", "cuda.syncwarp()", "y[t] = s[t ^ 32]"]),
    "own warp behind syncwarp*": (NONE, ["s[t] = x[t]", "cuda.syncwarp()", "y[t] = s[t ^ 1]"]),
    "own warp without": (LANES, ["s[t] = x[t]", "y[t] = s[t ^ 1]"]),
    "both warps read, one writes behind syncwarp": (WARPS, ["y[t] = s[1]", "cuda.syncwarp()", "if t == 40: s[1] = 1"]),
    "readers of a warp, then one of them writes": (LANES, ["y[t % 32] = 1 if t > 31 else s[0]", "if t == 3: s[0] = 1"]),
    "tiles, both barriers": (NONE, [*STEP, "    cuda.syncthreads()"]),
    "tiles, the second barrier lost*": (WARPS, STEP),
    "tiles, the first barrier lost": (WARPS, [*STEP[:2], STEP[3], STEP[2]]),
    "tiles, two buffers and one barrier": (NONE, [
        "for k in range(4):", "    s[32 * (k % 2) + t] = x[32 * k + t]",
        "    cuda.syncthreads()", "    y[t] += s[32 * (k % 2) + 31 - t]"], 1, 32),
    "tree*": (NONE, ["s[t] = x[t]", "n = 32", "cuda.syncthreads()", *HALVE, "    n //= 2", "    cuda.syncthreads()"]),
    "tree without barriers": (LANES, ["s[t] = x[t]", "n = 32", "cuda.syncthreads()", *HALVE, "    n //= 2"]),
    "tree, the barrier before it lost": (WARPS, ["s[t] = x[t]", "if t < 32: s[t] += s[t + 32]"]),
    "tree, the warp's part in step": (LANES, [
        "s[t] = x[t]", "cuda.syncthreads()", "if t < 16:", "    s[t] += s[t + 16]", "    s[t] += s[t + 8]"]),
    "one writes, all read": (LANES, ["if t == 0: s[0] = 1", "y[t] = s[0]"]),
    "one of the second warp writes, all read": (WARPS, ["if t == 32: s[0] = 1", "y[t] = s[0]"]),
    "one writes, all read behind a barrier": (NONE, ["if t == 0: s[0] = 1", "cuda.syncthreads()", "y[t] = s[0]"]),
    "all write the same": (LANES, ["s[0] = 1"]),
    "one thread alone": (NONE, ["if t == 5:", "    for i in range(64): s[i] = s[(i + 1) % 64]"]),
    "atomics on one element": (NONE, ["cuda.atomic.add(s, 0, 1)", "cuda.atomic.max(s, 0, t)"]),
    "an atomic, then a read": (LANES, ["cuda.atomic.add(s, 0, 1)", "y[t] = s[0]"]),
    "an atomic, a barrier, a read": (NONE, ["cuda.atomic.add(s, 0, 1)", "cuda.syncthreads()", "y[t] = s[0]"]),
    "atomics on what one thread sets to zero": (LANES, ["if t == 0: s[0] = 0", "cuda.atomic.add(s, 0, 1)"]),
    "the same of the other warp": (WARPS, ["if t == 0: s[0] = 0", "if t >= 32: cuda.atomic.add(s, 0, 1)"]),
    "the value that an atomic gives": (NONE, ["i = cuda.atomic.add(z, 0, 1)", "y[i] = t"]),
    "a store into a slice*": (LANES, ["s[0:2] = t"]),
    "slices apart": (NONE, ["x[2 * t:2 * t + 2] = 1"]),
    "slices that overlap": (LANES, ["x[t:t + 2] = 1"]),
    "slices with a step": (NONE, ["x[t::64] = 1"]),
    "rows of a warp": (LANES, ["w[t // 32] = 1"]),
    "rows of a thread*": (NONE, ["w[t] = 1", "w[t, 1:] = 2"]),
    "a column of all": (LANES, ["w[:, 0] = 1"]),
    "the whole array*": (LANES, ["s[...] = 1"]),
    "a view of one's own row": (NONE, ["row = w[t]", "row[0] = 1; row[1:3] = 2"]),
    "a view of the warp's row": (LANES, ["row = w[t // 32]", "row[0] = 1"]),
    "a view of a view": (LANES, ["row = w[t]", "part = row.reshape(2, 2)", "part[0, 0] = w[(t + 1) % 64, 0]"]),
    "two halves of numbers": (NONE, ["c.real[t] = 1", "c.imag[t ^ 1] = 2"]),
    "half of a number and all of it": (LANES, ["c.real[t] = 1", "y[t] = abs(c[t ^ 1])"]),
    "bytes of one number": (NONE, ["b = x.view(int32)", "b[(t + 1) % 64] = t"]),
    "a byte view and the number": (LANES, ["b = x.view(int32)", "b[0] = 1; y[t] = x[t]"]),
    "windows of dynamic memory*": (LANES, ["d = cuda.shared.array(0, float32); e = cuda.shared.array(0, int64)", "d[t] = 1; e[0] = 2"]),
    "a private array": (NONE, ["p = cuda.local.array(2, float64)", "p[0] = t; p[1] = p[0]", "y[t] = p[1]"]),
    "a thread per block": (NONE, ["y[cuda.blockIdx.x] = 1"], 4, 1),
    "every block writes the same element*": (BLOCKS, ["if t == 0: x[0] = 1"], 4),
    "every block its own part": (NONE, ["x[cuda.grid(1)] = x[cuda.grid(1)] + 1"], 2),
    "blocks share what they read": (NONE, ["y[cuda.grid(1)] = x[0] + x[t]"], 2),
    "the halo of the next block": (BLOCKS, [
        "i = cuda.grid(1)", "if t == 63: y[i] = x[(i + 1) % 128]", "cuda.syncthreads()", "x[i] = 1"], 2),
    "atomics of all blocks": (NONE, ["cuda.atomic.add(x, t % 4, 1)"], 4),
    "atomics and a read by the last block": (BLOCKS, [
        "cuda.atomic.add(x, 0, 1)", "cuda.syncthreads()", "if cuda.grid(1) == 64: y[0] = x[0]"], 2),
    "shared memory of two blocks": (NONE, ["s[t] = t"], 2),
    "a barrier does not order blocks": (BLOCKS, ["cuda.syncthreads()", "if t == 0: x[0] += 1", "cuda.syncthreads()"], 2),
    "a barrier in a branch of all": (NONE, ["s[t] = 1", "if y.size > 9: cuda.syncthreads()", "y[t] = s[63 - t]"]),
    "a barrier in a branch that none takes": (WARPS, ["s[t] = 1", "if y.size < 9: cuda.syncthreads()", "y[t] = s[63 - t]"]),
    "a vote is a barrier": (NONE, ["s[t] = 1", "n = cuda.syncthreads_count(t > 3)", "y[t] = s[63 - t] + n"]),
    "a device function writes": (LANES, ["put(s, 0, t)"]),
    "a device function with a barrier": (NONE, ["put_and_wait(s, t, 1)", "y[t] = s[63 - t]"]),
    "one array under two names": (LANES, ["x[t] = 1", "alias[(t + 1) % 64] = 2"]),
    "continue behind a barrier": (NONE, [
        "for k in range(3):", "    cuda.syncthreads()", "    if t % 2: continue", "    s[t] = k", "    y[t] = s[t]"]),
}
HEAD = "def k(x, y, z, w, c, alias):\n    t = cuda.threadIdx.x\n    s = cuda.shared.array(64, float64)\n"

@cuda.jit(device=True)
def put(array, i, v): array[i] = v

@cuda.jit(device=True)
def put_and_wait(array, i, v):
    array[i] = v
    cuda.syncthreads()

def define(lines):
    text = HEAD + "".join(f"    {line}\n" for line in lines)
    file = f"<race {abs(hash(text))}>"
    linecache.cache[file] = len(text), None, text.splitlines(True), file
    env = dict(cuda=cuda, float32=float32, float64=float64, int32=int32, int64=int64, put=put, put_and_wait=put_and_wait)
    exec(compile(text, file, "exec"), env)
    return env["k"]

def arguments():
    x = cuda.to_device(np.zeros(256))
    return x, np.zeros(256), np.zeros(1, np.int64), np.zeros((64, 4)), np.zeros(64, np.complex64), x

def found(lines, grid=1, block=64):
    "The kind of race that a launch ends with, or None."
    try: launch(define(lines), grid, block, *arguments(), shared=1024, check="races")
    except RaceError as error: return str(error).partition("a race ")[2].partition("\n")[0]

def listed(lines, grid=1, block=64):
    "The kinds of races that a profile lists."
    return {race.kind for race in profile(define(lines), grid, block, *arguments(), shared=1024).races}

@pytest.mark.parametrize("name", [pytest.param(n, marks=[] if n.endswith("*") else pytest.mark.slow) for n in RACES])
def test_a_race_is_found_where_there_is_one(name):
    answer, *rest = RACES[name]
    assert found(*rest) == answer

# a profile keeps its records by element, so that it takes accesses to two parts of one for a race
PARTS = "two halves of numbers", "bytes of one number"

@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n in RACES if n not in PARTS])
def test_the_profile_lists_the_same(name):
    answer, *rest = RACES[name]
    assert answer in listed(*rest) if answer else not listed(*rest)

def test_a_profile_counts_what_a_slice_stores():
    p = profile(define(["x[2 * t:2 * t + 2] = 1", "w[t] = 1"]), 1, 64, *arguments(), shared=8)
    assert p.stores == dict(x=128, w=256) and not p.loads

PAIR = np.dtype([("a", np.float32), ("b", np.float32)])

@pytest.mark.parametrize("line, answer, loads, stores", [
    ("p[t].a = 1", NONE, 0, 64), ("p[t]['a'] += 1", NONE, 64, 64), ("p[0].a = t", LANES, 0, 64), ("p[t % 32].b += 1", WARPS, 64, 64),
    ("if t == 0: p[0].a = 1\n    else: p[0].b = t", LANES, 0, 64), ("y[t] = p[0].a", NONE, 64, 0)])
def test_a_field_is_stored_and_loaded_as_its_whole_record(line, answer, loads, stores):
    file = f"<record {line}>"
    text = f"def k(p, y):\n    t = cuda.threadIdx.x\n    {line}\n"
    linecache.cache[file], env = (len(text), None, text.splitlines(True), file), dict(cuda=cuda)
    exec(compile(text, file, "exec"), env)
    p = profile(env["k"], 1, 64, np.zeros(64, PAIR), np.zeros(64))
    assert (p.loads.get("p", 0), p.stores.get("p", 0), {race.kind for race in p.races} or {NONE}) == (loads, stores, {answer})
    if not answer: return launch(env["k"], 1, 64, np.zeros(64, PAIR), np.zeros(64), check="races")
    with pytest.raises(RaceError, match=f"a race {answer}"): launch(env["k"], 1, 64, np.zeros(64, PAIR), np.zeros(64), check="races")

def test_a_store_through_the_name_of_a_record_is_refused():
    def through_a_name(p):
        r = p[0]
        r.a = 1
    launch(through_a_name, 1, 1, np.zeros(1, PAIR))
    with pytest.raises(Unsupported, match="follow a store to a\\[i\\].x"): launch(through_a_name, 1, 1, np.zeros(1, PAIR), check="races")

@pytest.mark.parametrize("over", ["v in s", "v in w[t]", "v, u in zip(s, s)", "i, v in enumerate(s)"])
def test_a_loop_over_elements_is_refused(over):
    with pytest.raises(Unsupported, match="a loop over indices, not one over elements"): found([f"for {over}: y[t] = v"])
    with pytest.raises(Unsupported, match="a loop over indices, not one over elements"): listed([f"for {over}: y[t] = v"])
