"The emulator gives a GPU's numbers: what is kept across a barrier, the order of evaluation, signatures, and the rules of PTX."
import ctypes, math, os, re, sys
from enum import Enum, IntEnum
import numpy as np, pytest
from numba import float32, int8, int32, int64, njit, prange, uint8, uint32, uint64
from matmul_course.emulator import Unsupported, launch, launch_simply
from matmul_course.emulator.devices import lower
from matmul_course.emulator.emit import translate
from matmul_course.emulator.host import Cuda
import kernels
from test_emulator import define, own_cache as own_cache  # noqa: F401

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

def test_what_a_slot_points_to_is_not_freed():
    "Each array that the block makes is named once more at the end, if an array lies in a slot, and otherwise not."
    def scales(x): x[cuda.threadIdx.x] *= 2
    for kernel, arguments, made in ((swaps, (float32[::1], float32[::1], int64), 3), (scales, (float32[::1],), 0)):
        text, _ = translate(*lower(kernel, arguments), arguments, (4, 1, 1))
        assert len(re.findall(r"^    \w+\.size$", text, re.M)) == made

class Side(Enum): LEFT, RIGHT = 1, 2
class Step(IntEnum): ONE, TWO = 1, 2

def members(side, step, o):
    t = cuda.threadIdx.x
    mine, by = side if t % 2 else Side.LEFT, step if t < 2 else Step.ONE
    seen = None
    if t > 1: seen = 5
    cuda.syncthreads()
    o[t] = (100 if mine == Side.RIGHT else 200) + 10 * by + (0 if seen is None else seen)

def test_members_of_enums_and_what_may_be_none_are_kept():
    o = np.zeros(4)
    launch(members, 1, 4, Side.RIGHT, Step.TWO, o)
    assert o.tolist() == [220, 120, 215, 115]

def stores_and_binds(x, pair, o):
    t = cuda.threadIdx.x
    a, x[t] = 3, 2
    b, pair.x = 4, 2
    cuda.syncthreads()
    x[t] = 5
    pair.x = 5
    cuda.syncthreads()
    o[t] = a + b

def test_a_store_is_not_made_again():
    x, o, pair = np.zeros(4), np.zeros(4), np.zeros(1, [("x", np.int32)])
    launch(stores_and_binds, 1, 4, x, pair[0], o)
    assert (x == 5).all() and (o == 7).all() and pair["x"] == 5

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

# ---- the rules of PTX: what stands in the table of 05a_rules
HUGE, NAN, TOP, LOW = 1e30, math.nan, 2**63 - 1, -2**63

def converts(x, y, i8, u8, i32, u32, i64):
    i8[0], u8[0], i32[0], u32[0], i64[0] = x, x, x, x, x          # from float64
    i8[1], u8[1], i32[1], u32[1], i64[1] = y, y, y, y, y          # from float32
    i8[2], u8[2], i32[2], u32[2], i64[2] = int8(x), uint8(x), np.int32(x), uint32(x), int(x)
    i64[3], i64[4], i64[5] = round(x), math.trunc(x), round(y)
    cuda.atomic.add(i32, 3, x)

@pytest.mark.parametrize("x, integers, rounded", [
    (2.5, [2, 2, 2, 2, 2], 2), (-3.5, [-3, 0, -3, 0, -3], -4), (300., [44, 44, 300, 300, 300], 300),
    (HUGE, [-1, 255, 2**31 - 1, 2**32 - 1, TOP], TOP), (-HUGE, [0, 0, -2**31, 0, LOW], LOW),
    (math.inf, [-1, 255, 2**31 - 1, 2**32 - 1, TOP], TOP),
    (NAN, [0, 0, -2**31, 2**31, LOW], LOW)])
def test_floats_become_integers_as_by_cvt(x, integers, rounded):
    out = [np.zeros(6, d) for d in (np.int8, np.uint8, np.int32, np.uint32, np.int64)]
    launch(converts, 1, 1, x, np.float32(x), *out)
    short = [0, 0, 0, 0, LOW] if x != x else integers            # NaN of 32 bits
    assert [int(o[0]) for o in out] == integers == [int(o[2]) for o in out]
    assert [int(o[1]) for o in out] == short
    assert out[4][3:].tolist() == [rounded, integers[4], rounded] and out[2][3] == integers[2]

def arithmetic(f, g, n, m, a, i, u):
    a[0], a[1], a[2], a[3] = max(f, g), max(g, f), min(f, g), min(g, f)
    a[4], a[5], a[6] = max(f, g, f), max(g, f, g), max(f, n)
    a[7], a[8], a[9] = round(f, 3), round(np.float32(f), 3), round(f, -1)
    i[0], i[1], i[2], i[3] = n << m, n >> m, n // (m - m), n % (m - m)
    i[4], i[5] = (n - n + LOW) // (m - m - 1), (n - n + LOW) % (m - m - 1)
    i[6] = n
    i[6] <<= m
    i[7] = int32(n) << int32(m)
    u[0], u[1] = uint64(n) >> uint64(m), uint64(n) << uint64(m)

@pytest.mark.parametrize("f, g, n, m, floats, integers, unsigned", [
    (0.3425, NAN, -5, 70, [0.3425] * 4 + [0.3425, NAN, .3425, .342, np.float32(.343), 0], [0, -1, 0, 0, 0, 0, 0, 0], [0, 0]),
    (-0., 0., 5, 63, [0., 0., -0., -0., -0., 0., 5, 0., 0., 0.], [LOW, 0, 0, 0, 0, 0, LOW, LOW], [0, 2**63]),
    (15., -2., 5, 2**32 + 1, [15, 15, -2, -2, 15, 15, 15, 15, 15, 20], [10, 2, 0, 0, 0, 0, 10, 10], [2, 10]),
    (NAN, 7., 3, -1, [7, 7, 7, 7, NAN, 7, NAN, NAN, NAN, NAN], [0, 0, 0, 0, 0, 0, 0, 0], [0, 0])])
def test_arithmetic_is_that_of_ptx(f, g, n, m, floats, integers, unsigned):
    a, i, u = np.zeros(10), np.zeros(8, np.int64), np.zeros(2, np.uint64)
    launch(arithmetic, 1, 1, f, g, n, m, a, i, u)
    assert np.array_equal(a, floats, equal_nan=True) and (np.signbit(a) == np.signbit(floats))[~np.isnan(a)].all(), a
    assert i.tolist() == integers and u.tolist() == unsigned

def atomics_of_nan(a, values):
    for k in range(3):
        cuda.atomic.max(a, k, values[k])
        cuda.atomic.min(a, 3 + k, values[k])
        cuda.atomic.nanmax(a, 6 + k, values[k])
        cuda.atomic.nanmin(a, 9 + k, values[k])

@pytest.mark.parametrize("way", [launch, launch_simply])
def test_nan_in_atomics(way):
    a = np.tile([NAN, 5., 5.], 4)
    way(atomics_of_nan, 1, 1, a, np.array([1., NAN, 7.]))
    assert np.array_equal(a, [NAN, 5, 7, NAN, 5, 5, 1, 5, 7, 1, 5, 5], equal_nan=True)

# ---- signatures
@cuda.jit(["int64(int64)", "float64(float64)", "float32(float32)"], device=True)
def third(v): return v / 3 + v // 3 * 3

@cuda.jit("float32(float32, int64)", device=True)
def narrow(v, t):
    v = v / float32(3)
    cuda.syncthreads()
    return v * v * 1.1

@njit
def squares(v): return v * v

def declared_functions(f, i, d, x, o):
    s = narrow(x, i)
    o[0], o[1], o[2], o[3], o[4], o[5] = third(f), third(i), third(d), s, squares(x), squares(i)

def test_device_functions_choose_a_signature():
    squares(np.float32(2)), squares(2), squares(2j)              # what it was compiled for is not what was declared
    o, f = np.zeros(6), np.float32(0.7)
    launch(declared_functions, 1, 1, f, 7, 0.7, 0.1, o)
    w = np.float32(np.float32(0.1) / np.float32(3))
    assert o.tolist() == [float(np.float32(float(f) / 3)), 8, 0.7 / 3, float(np.float32(float(w * w) * 1.1)), 0.1 * 0.1, 49]

def test_kernels_choose_a_signature():
    @cuda.jit(["void(int32[:], int32)", "void(float64[:], float32)", "void(float64[:, :], float64)"])
    def fill(o, v): o[0] = v + v - o.ndim
    i, d, m = np.zeros(1, np.int32), np.zeros(1), np.zeros((1, 1))
    fill[1, 1](i, 2**32 - 3)
    fill[1, 1](d, 0.1)
    fill[1, 1](np.asfortranarray(m), 1)
    assert i[0] == -7 and d[0] == float(np.float32(.1) + np.float32(.1)) - 1 and m[0, 0] == 0
    with pytest.raises(TypeError, match="v: 2.9 is no integer, but int32 is declared"): fill[1, 1](i, 2.9)
    with pytest.raises(TypeError, match=r"fill: No matching .* array\(int64, 1d, C\), int64"): fill[1, 1](np.zeros(1, int), 1)
    with pytest.raises(TypeError, match="Ambiguous overloading"):
        cuda.jit(["void(float64, int32)", "void(float64, int16)"])(lambda v, w: None)[1, 1](1., 2)

# ---- the host
def both(x, y):
    x[0] += 1
    y[0] += 10
    y[1] = x[0]

def test_an_array_that_is_passed_twice_is_copied_twice():
    x, y, d = np.zeros(2), np.zeros(3), cuda.to_device(np.zeros(2))
    launch(both, 1, 1, x, x)
    launch(both, 1, 1, y[:2], y[1:])
    launch(both, 1, 1, d, d)
    assert x.tolist() == [10, 1] and y.tolist() == [1, 10, 1] and d.copy_to_host().tolist() == [11, 11]

# ---- what a GPU's compiler refuses
WHOLE = "no operations on whole arrays"
REFUSED = [("o[t] = np.exp(f)", "write math.exp"), ("o[t] = np.abs(a[t])", "operators or abs"), ("o[t] = math.gcd(n, 4)", "a loop"),
           ("for i in prange(3): o[i] = 1", "a loop"), ("o[:] = a", WHOLE), ("m[0] = m[1]", WHOLE), ("x = a + a", WHOLE), ("x = -a", WHOLE),
           ("m[t] += 1", WHOLE), ("x = a > 1", WHOLE), ("x = a.copy()", WHOLE), ("o[t] = a.max()", WHOLE),
           ("x = a.astype(np.float32)", WHOLE),
           ("x = a.ravel()", WHOLE), ("print(a)", WHOLE), ("o[t] = a @ a", "MatMult"), ("a @= m", "MatMult"),
           ("s = cuda.local.array(4, np.dtype('S3'))", "S3"),
           ("o[t] = ping(3)", "calls itself"),
           ("x = copies(a)", WHOLE)]
TAKEN = """o[:] = f; m[0, :] = 2; m[1:, 0:2] = f; x = m.T; o[0] = x[1, 0]; y = m.reshape(16); o[1] = y[5]
o[2] = np.cos(f) + np.maximum(f, n)
z = a.view(np.int64); o[3] = z[0] + a.sum() + math.floor(f) / 2 + math.ceil(n) / 2 + math.fmod(-f, 2.)""".replace("\n", "; ")

@cuda.jit(device=True)
def copies(a): return a + a
@cuda.jit(device=True)
def ping(n): return pong(n - 1) if n > 0 else 0
@cuda.jit(device=True)
def pong(n): return ping(n - 1) if n > 0 else 1

def taking(line): return define(f"def k(a, m, o, n, f):\n    t = 0\n    {line}\n", prange=prange, copies=copies, ping=ping)

@pytest.mark.parametrize("line, said", REFUSED)
def test_what_a_gpus_compiler_refuses(line, said):
    with pytest.raises(Unsupported) as error: launch(taking(line), 1, 1, np.ones(4), np.ones((4, 4)), np.ones(4), 1, 1.)
    assert said in str(error.value) and any(at in str(error.value) for at in ("k, line 3", "copies, line", "pong, line"))

def test_what_it_takes():
    o = np.ones(4)
    launch(taking(TAKEN), 1, 1, np.zeros(4), np.arange(16.).reshape(4, 4), o, 1, 2.5)
    assert o[:3].tolist() == [2, 2.5, math.cos(2.5) + 2.5] and o[3] == 1 + .5 - .5

def test_debug_finds_a_division_by_zero():
    kernel = define("def k(x, o): o[cuda.grid(1)] = 1 // x[cuda.grid(1)]\n")
    x, o = np.array([1, 1, 0, 1]), np.zeros(4)
    cuda.jit(kernel)[4, 1](x, o)
    assert o.tolist() == [1, 1, 0, 1]
    with pytest.raises(ZeroDivisionError, match=r"k, block \(2, 0, 0\): .*zero"):
        cuda.jit(kernel, debug=True, opt=False)[4, 1](x, o)

@pytest.mark.skipif(os.name == "nt", reason="the buffer of C is flushed by its own library")
def test_lines_of_print_are_whole(capfd):
    launch(define("def k(n): print(cuda.blockIdx.x, n, n, n)\n"), 200, 1, 7)
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)
    assert capfd.readouterr().out.split("\n") == [f"{b} 7 7 7" for b in range(200)] + [""]

def test_in_is_not_copied_back_and_out_brings_nothing():
    @cuda.jit
    def kernel(a, b, c):
        i = cuda.grid(1)
        a[i], b[i], c[i] = a[i] + 1, b[i] + 1, c[i] + 1
    a, b, c, d = np.zeros(2), np.zeros(2), np.zeros(2, np.int32), cuda.to_device(np.zeros(2))
    kernel[1, 2](cuda.In(a), cuda.InOut(b), cuda.Out(c))
    kernel[1, 2](cuda.In(d), b, c)
    assert not a.any() and b.tolist() == [2, 2] and (c < -10**9).all() and d.copy_to_host().tolist() == [1, 1]

def test_device_arrays_keep_their_order():
    f = np.asfortranarray(np.arange(6.).reshape(2, 3))
    d = cuda.to_device(f)
    assert d.copy_to_host().flags.f_contiguous and cuda.device_array_like(f).is_f_contiguous()
    t = d.T
    t[0, 0] = 9
    assert t.is_c_contiguous() and (t.copy_to_host()[1:] == f.T[1:]).all() and d[0, 0] == 0
    with pytest.raises(Unsupported, match="transposing"): cuda.to_device(np.ones(3)).T

def test_errors_name_the_line():
    with pytest.raises(Unsupported, match=r"k, line 2: a shape of \(\[2, 3\],\)"):
        launch(define("def k(o):\n    s = cuda.shared.array(N, float32)\n", N=[2, 3]), 1, 1, np.ones(1))
    with pytest.raises(TypeError, match=r"k, line 4: o\[i\] = 1"):
        lines = "i = 0", "for j in range(2):", "    o[i] = 1", "    cuda.syncthreads()", "    i += .5"
        launch(define("def k(o):\n" + "".join(f"    {line}\n" for line in lines)), 1, 1, np.ones(1))
    kernel = define("def k(o): o[0] = 2\n")
    kernel.__name__ = "renamed"
    launch(kernel, 1, 1, o := np.ones(1))
    assert o[0] == 2

@cuda.jit(device=True)
def big(v):
    s = cuda.shared.array(10000, float32)
    if v == 1: s[cuda.threadIdx.x] = 0
    s[cuda.threadIdx.x] += v
    cuda.syncthreads()
    return s[1]

def test_a_function_that_is_called_twice_has_one_shared_array():
    o = np.zeros((2, 2))
    launch(define("def k(o):\n    o[cuda.threadIdx.x, 0] = big(1)\n    o[cuda.threadIdx.x, 1] = big(2)\n", big=big), 1, 2, o)
    assert o.tolist() == [[1, 3], [1, 3]]

def split_types(o, p, n):
    v = n
    cuda.syncthreads()
    o[0] = v
    v = v * .5
    cuda.syncthreads()
    p[0] = v
    n = 7
    cuda.syncthreads()
    o[n - 6] = n

def test_an_integer_that_becomes_a_float_keeps_its_last_bits():
    o, p = np.zeros(2, np.int64), np.zeros(1)
    launch(split_types, 1, 1, o, p, 2**60 + 1)
    assert o.tolist() == [2**60 + 1, 7] and p[0] == 2**59
