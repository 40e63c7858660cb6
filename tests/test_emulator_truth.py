"The emulator gives a GPU's numbers: what is kept across a barrier, the order of evaluation, signatures, and the rules of PTX."
import numpy as np, pytest
from numba import float32, int64
from matmul_course.emulator import launch, launch_simply
from matmul_course.emulator.host import Cuda
import kernels
from test_emulator import own_cache as own_cache  # noqa: F401

cuda = Cuda()
pytestmark = pytest.mark.skipif(not kernels.cuda.emulated, reason="a GPU runs these kernels")

# ---- what is kept across a barrier
def views(a, first, pair, o):
    t = cuda.threadIdx.x
    row, tail, whole = a[first[t]], a[first[t]:], a[1]
    x = pair.x
    cuda.syncthreads()
    first[t] = 0
    if t == 0: pair.x = 7
    cuda.syncthreads()
    o[t, 0], o[t, 1], o[t, 2], o[t, 3] = row[0], tail[0, 1], whole[0], x

def test_a_view_is_kept_as_it_was():
    a, pair = np.arange(12.).reshape(4, 3), np.array([(1, 2)], [("x", np.int32), ("y", np.int32)])
    o = np.zeros((3, 4))
    launch(views, 1, 3, a, np.array([2, 1, 3]), pair[0], o)
    assert o.tolist() == [[6, 7, 3, 1], [3, 4, 3, 1], [9, 10, 3, 1]]

def swaps(x, o, n):
    src = cuda.shared.array(4, float32)
    dst = cuda.shared.array(4, float32)
    own = cuda.local.array(2, int64)
    other = own
    t = cuda.threadIdx.x
    src[t] = x[t]
    own[0], own[1] = t, 10 * t
    for k in range(n):
        cuda.syncthreads()
        dst[t] = src[(t + 1) % 4] + 1
        src, dst = dst, src
        x = x[1:]
        other = own[k % 2:]
    cuda.syncthreads()
    o[t], o[4 + t] = src[3 - t], other[0] + x[0]

@pytest.mark.parametrize("n", [2, 3])
def test_buffers_change_places(n):
    o, wanted = np.zeros(8), np.zeros(8)
    launch_simply(swaps, 1, 4, np.arange(8, dtype=np.float32), wanted, n)
    launch(swaps, 1, 4, np.arange(8, dtype=np.float32), o, n)
    assert (o == wanted).all() and wanted[0] == n + (n + 3) % 4

# ---- Python's order of evaluation, whatever is inlined
@cuda.jit(device=True)
def bump(s, t):
    cuda.syncthreads()
    s[t] += 10
    cuda.syncthreads()
    return s[0]

@cuda.jit(device=True)
def clear(o, t):
    o[t, 2] = 0
    cuda.syncthreads()
    return 1

def in_order(o, n):
    s = cuda.shared.array(4, int64)
    t = cuda.threadIdx.x
    s[t] = t + 1
    o[t, 0] = s[t] + bump(s, t)
    o[t, 1] += bump(s, t) * s[t]
    o[t, 2] = 5
    o[t, 2] += clear(o, t)
    o[t, s[t] - s[t] + 3] = max(s[t], bump(s, t), s[t])
    o[t, 4] = (s[t], bump(s, t))[0] < bump(s, t)
    o[t, 5] = s[t] + cuda.syncthreads_count(n)

def test_the_left_is_evaluated_first():
    o = np.zeros((4, 6), np.int64)
    launch(in_order, 1, 4, o, 1)
    s, wanted = np.arange(4) + 1, np.zeros((4, 6), np.int64)
    left = s.copy(); s += 10
    wanted[:, 0] = left + s[0]
    s += 10
    wanted[:, 1] = s[0] * s
    wanted[:, 2] = 6
    left = s.copy(); s += 10
    wanted[:, 3] = np.maximum(np.maximum(left, s[0]), s)
    left = s.copy(); s += 20
    wanted[:, 4] = left < s[0]
    wanted[:, 5] = s + 4
    assert (o == wanted).all(), (o, wanted)

# ---- names
@cuda.jit(device=True)
def inner(s, t):
    v = 5
    _x = 6
    cuda.syncthreads()
    return v + _x + abs(s[t])

def names(o, len, range):
    s = cuda.shared.array(4, int64)
    t = cuda.threadIdx.x
    v__1, v__2, v__1_, u_x, _x, ulen = 1, 2, 3, 4, 5, 6
    abs = bool = 7
    s[t] = t
    r = inner(s, t)
    if len: cuda.syncthreads()
    o[t] = v__1 + 10 * v__2 + 100 * v__1_ + 1000 * u_x + 10000 * _x + 100000 * ulen + r + len + range + abs + bool

def test_no_name_of_a_kernel_is_taken():
    o = np.zeros(4, np.int64)
    launch(names, 1, 4, o, 1, 2)
    assert o.tolist() == [654321 + 11 + t + 3 + 14 for t in range(4)]
