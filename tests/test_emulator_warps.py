"""Calls that the lanes of a warp make together: each against its rule, the simple way and compiled; and a `continue` behind a barrier."""
import numpy as np, pytest
from numba import float32, float64, int64
from matmul_course import profile
from matmul_course.emulator import BarrierError, RaceError, Unsupported, launch, launch_simply
from matmul_course.emulator.host import Cuda
from test_emulator import body, kernels, own_cache  # noqa: F401

cuda = Cuda()
WAYS = launch_simply, launch
FULL, LANES = 0xffffffff, np.arange(64) % 32
pytestmark = pytest.mark.skipif(not kernels.cuda.emulated, reason="a GPU runs these kernels")

# ---- what each call gives
def exchange(x, out, d):
    t = cuda.threadIdx.x
    v = x[t]
    out[0, t] = cuda.shfl_sync(FULL, v, d)
    out[1, t] = cuda.shfl_up_sync(FULL, v, d)
    out[2, t] = cuda.shfl_down_sync(FULL, v, d)
    out[3, t] = cuda.shfl_xor_sync(FULL, v, d)

def taken(x, d):
    lanes = (LANES * 0 + d, LANES - d, LANES + d, LANES ^ d)
    inside = [np.where((0 <= source) & (source < 32), source, LANES) for source in lanes]
    return np.array([x[np.arange(64) - LANES + source] for source in inside])

@pytest.mark.parametrize("way", WAYS)
def test_shuffles(way):
    "PTX, shfl.sync: past the ends of the warp a lane keeps its value; the last five bits of the distance count."
    dtype = np.float32 if way is launch else np.int32
    x, out = np.arange(64).astype(dtype) * 3 - 7, np.zeros((4, 64), dtype)
    for d in (0, 3, 16, 35):
        way(exchange, 1, 64, x, out, d)
        np.testing.assert_array_equal(out, taken(x, d % 32))

def votes(x, out):
    t = cuda.threadIdx.x
    out[0, t] = cuda.all_sync(FULL, x[t] > 1)
    out[1, t] = cuda.any_sync(-1, x[t] > 3)
    out[2, t] = cuda.eq_sync(FULL, x[t] & 4)
    out[3, t] = cuda.ballot_sync(FULL, x[t] == 3)
    if x[t] % 2 == 0: out[4, t] = cuda.activemask()
    else: out[4, t] = cuda.activemask() + 1

@pytest.mark.parametrize("way", WAYS)
def test_votes(way):
    "A block of two warps, the second of which has eight lanes."
    x, out = np.array([0, 1, 2, 3] * 8 + [2, 3] * 4), np.zeros((5, 40), np.int64)
    way(votes, 1, 40, x, out)
    bits = lambda which: int(sum(1 << i for i, w in enumerate(which) if w))
    for warp in (slice(0, 32), slice(32, 40)):
        here = x[warp]
        want = [(here > 1).all(), (here > 3).any(), len(set(here & 4)) == 1, bits(here == 3),
                [bits(here % 2 == v % 2) + v % 2 for v in here]]
        for row, w in zip(out[:, warp], want): np.testing.assert_array_equal(row & 0xffffffff, w)

# ---- in a block
@cuda.jit(device=True)
def warp_sum(v):
    for d in (16, 8, 4, 2, 1): v += cuda.shfl_down_sync(FULL, v, d)
    return v

@cuda.jit
def block_sum(x, out):
    s = cuda.shared.array(32, float32)
    i, t = cuda.grid(1), cuda.threadIdx.x
    warp, lane = t // 32, cuda.laneid
    v = warp_sum(x[i] if i < x.size else float32(0))
    if lane == 0: s[warp] = v
    cuda.syncthreads()
    if warp == 0:
        v = s[lane] if lane < cuda.blockDim.x // cuda.warpsize else float32(0)
        v = warp_sum(v)
        if lane == 0: cuda.atomic.add(out, 0, v)

def test_a_sum_over_blocks():
    x = np.arange(300, dtype=np.float32)
    for way in WAYS:
        out = np.zeros(1, np.float32)
        way(block_sum, 4, 96, x, out)
        assert out[0] == x.sum()
    found = profile(block_sum, 4, 96, x, out)
    assert found.races == [] and sum(line.requests for line in found.lines if line.array == "x") == 10

def walks(x, out, n):
    "Lanes leave a loop at different turns; those that are left name each other. A row per step."
    t = cuda.threadIdx.x
    left, steps = x[t], 0
    while left > 0:
        left -= 1
        if left % 2: continue
        steps += 1
        out[0, t] += cuda.shfl_sync(cuda.activemask(), t, t % 32)
    cuda.syncwarp()
    for i in range(t % 3):
        if steps > n: break
        out[1, t] += cuda.ballot_sync(cuda.activemask(), True) & 7
    out[2, t] = cuda.shfl_xor_sync(FULL, steps, 1)
    if t % 32 >= 8: return
    out[3, t] = cuda.any_sync(0xff, t == 3)

@pytest.mark.parametrize("way", WAYS)
def test_lanes_that_go_their_own_ways(way):
    t, out = np.arange(64), np.zeros((4, 64), np.int64)
    way(walks, 1, 64, t % 5, out, 9)
    steps = (t % 5 + 1) // 2
    assert (out[0] == t * steps).all() and (out[2] == steps[t ^ 1]).all()
    assert (out[3] == (t % 32 < 8) * (t < 32)).all()

# ---- what hardware leaves undefined
@pytest.mark.parametrize("lines, line, lane", [
    (["if t < 7: x[0] = cuda.shfl_sync(FULL, x[0], 0)"], 3, 7),
    (["if t % 2: cuda.syncwarp()", "else: cuda.syncwarp()"], 3, 0),
    (["x[0] = cuda.any_sync(6, True)"], 3, 0),
    (["x[0] = cuda.any_sync(7 + t % 2, True)"], 3, 1),
    (["for i in range(t % 3): cuda.syncwarp()", "x[t] = 1"], 3, 0),
])
def test_lanes_that_do_not_come_together(lines, line, lane):
    kernel = body(*[text.replace("FULL", str(FULL)) for text in lines])
    said = f"k, line {line}, block .* same mask, and lane {lane} has not"
    with pytest.raises(BarrierError, match=said): launch(kernel, 1, 32, np.zeros(32))

def test_what_is_refused():
    for line, said in (("x[0] = cuda.shfl_sync(-1, x[0])", "takes 3 arguments"),
                       ("x[0] = cuda.match_any_sync(-1, t)", "cuda.match_any_sync is not emulated"),
                       ("x[0] = t > 3 and cuda.any_sync(-1, t)", "may be skipped")):
        with pytest.raises(Unsupported, match=said): launch(body(line), 1, 32, np.zeros(32))
    for line, said in (("x[0] = cuda.shfl_sync(-1, t > 3, 0)", "lanes pass int32"),
                       ("x[0] = cuda.any_sync(1.5, True)", "a mask is an integer"), ("x[0] = cuda.any_sync(-1, x[0])", "a predicate is")):
        with pytest.raises(TypeError, match=said): launch(body(line), 1, 32, np.zeros(32))

def test_a_lane_that_takes_no_part_says_nothing():
    for way in WAYS:
        x = np.arange(20.)
        way(body("x[t] = cuda.shfl_down_sync(0xffffffff, x[t], 16)"), 1, 20, x)
        assert (x[:4] == np.arange(16, 20)).all() and np.isnan(x[4:16]).all() and (x[16:] == np.arange(16, 20)).all()

# ---- races
def test_a_barrier_of_a_warp_orders_its_lanes_only():
    turn = ["s = cuda.shared.array(64, float64)", "s[t] = x[t]", "cuda.syncwarp()", "x[t] = s[t ^ d]"]
    ordered, loose = body(*turn, args="x, d"), body(*turn[:2], turn[3], args="x, d")
    launch(ordered, 1, 64, np.zeros(64), 1, check="races")
    with pytest.raises(RaceError, match="between warps"): launch(ordered, 1, 64, np.zeros(64), 32, check="races")
    with pytest.raises(RaceError, match="within a warp"): launch(loose, 1, 64, np.zeros(64), 1, check="races")

# ---- jumps in a loop that holds a barrier
def skips(x, out, n):
    t = cuda.threadIdx.x
    for i in range(4):
        cuda.syncthreads()
        if t % 2 == i % 2: continue
        out[0, t] += x[t ^ 1] + i
        if out[0, t] > n: continue
        out[1, t] += 1
    for i in range(n):
        out[2, t] += 1
        if i == 2: break
        cuda.syncthreads()
        if t == 1:
            if i: continue
            out[3, t] += 1
        else: out[3, t] += 10

def test_a_continue_behind_a_barrier():
    "And a `break` that all take; the plain answer is NumPy's."
    x, t = np.arange(6.), np.arange(6)
    for way in WAYS:
        out = np.zeros((4, 6))
        way(skips, 1, 6, x, out, 8)
        assert (out[0] == np.where(t % 2, 2 * x[t ^ 1] + 2, 2 * x[t ^ 1] + 4)).all()
        first = np.where(t % 2, x[t ^ 1], x[t ^ 1] + 1)
        assert (out[1] == (first <= 8).astype(int) + (out[0] <= 8)).all() and (out[2] == 3).all()
        assert (out[3] == np.where(t == 1, 1, 20)).all()
    with pytest.raises(BarrierError, match="k, line 4"):
        launch(body("for i in range(3):", "    if t == i: continue", "    cuda.syncthreads()"), 1, 4, x)

@cuda.jit(device=True)
def first_above(s, t, limit):
    "Returns from a loop that holds a barrier."
    for i in range(4):
        cuda.syncthreads()
        if s[i] > limit: return i
        s[t] += 0
    return 4

def test_a_return_from_a_loop_that_holds_a_barrier():
    @cuda.jit
    def kernel(x, out):
        s = cuda.shared.array(4, float64)
        t = cuda.threadIdx.x
        s[t] = x[t]
        out[t] = first_above(s, t, int64(2)) * 10 + first_above(s, t, int64(7))
    for way in WAYS:
        out = np.zeros(4)
        way(kernel, 1, 4, np.array([1., 2, 5, 3]), out)
        assert (out == 24).all()
