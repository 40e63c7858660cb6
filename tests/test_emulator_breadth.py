"""The emulator: what kernels for matrices use. Vectors, arrays of any dtype, views, functions as arguments, other compilers' `cuda`."""
import linecache, math, types
from collections import namedtuple
from enum import Enum
from types import SimpleNamespace
import numpy as np, pytest, torch
from numba import float32, float64, int32, njit
from matmul_course.emulator import BarrierError, RaceError, Unsupported, launch, launch_simply
from matmul_course.emulator.host import Cuda
from matmul_course.emulator.source import with_cuda
import kernels

cuda = Cuda()
pytestmark = pytest.mark.skipif(not kernels.cuda.emulated, reason="a GPU runs these kernels")

# ---- vectors
@cuda.jit
def rotated(a, o):
    "Each thread stores the vector of its neighbour, with its own number in the last place."
    t = cuda.threadIdx.x
    s = cuda.shared.array((2, 4), cuda.float4, alignment=16)
    vectors = a.view(cuda.float32x4)
    mine = vectors[t]
    s[t // 4, t % 4] = mine
    vectors[t] = cuda.float32x4(0, 0, 0, 0)               # a vector is a value: `mine` stays
    cuda.syncthreads()
    other = s[(t + 1) % 8 // 4, (t + 1) % 4]
    cuda.syncthreads()
    vectors[t] = cuda.float32x4(cuda.float2(other.x, mine.y), other.z, t)
    o[t] = cuda.popc(t) + 10 * cuda.clz(int32(t)) + 1000 * cuda.ffs(t)

def test_vectors_are_loaded_and_stored_through_a_view():
    a, o = np.arange(32, dtype=np.float32), np.zeros(8)
    want = a.reshape(8, 4).copy()
    want[:, ::2], want[:, 3] = np.roll(want, -1, 0)[:, ::2], np.arange(8)
    for run, columns in ((launch, [0, 1, 2, 3]), (launch_simply, [0, 2, 3])):      # the simple way's `mine` sees the store
        a[:] = np.arange(32)
        run(rotated, 1, 8, a, o)
        assert (a.reshape(8, 4) == want)[:, columns].all()
        assert o.tolist() == [bin(t).count("1") + 10 * (32 - t.bit_length()) + 1000 * ((t & -t).bit_length()) for t in range(8)]
    launch(rotated, 1, 8, a, o, check="races")

def test_what_a_vector_is_not():
    @cuda.jit
    def too_few(x): x[0] = cuda.float32x4(1, 2, 3).x
    @cuda.jit
    def added(x): x[0] = (cuda.float32x2(1, 2) + cuda.float32x2(3, 4)).x
    for kernel in (too_few, added):
        with pytest.raises(TypeError, match="float32x[24] takes 4 numbers|float32x2, float32x2"): kernel[1, 1](np.zeros(2))

# ---- arrays
def test_dtypes_of_arrays_are_constants_and_sizes_may_be_arguments():
    @cuda.jit(device=True)
    def total(a, f, n, dtype):
        s = cuda.shared.array(n, dtype)
        s[cuda.threadIdx.x] = f(a[cuda.threadIdx.x])
        cuda.syncthreads()
        z = a.dtype.type(0)
        for i in range(n): z += s[i]
        return z
    @njit
    def half(x): return x / 2
    @cuda.jit
    def kernel(a, o):
        own = cuda.local.array((a.ndim, 2), a.dtype)
        own[0, 0] = total(a, half, 4, float64)
        own[0, 1] = total(a, half, n=4, dtype=int32)
        o[cuda.threadIdx.x, 0], o[cuda.threadIdx.x, 1] = own[0, 0], own[0, 1] + own.itemsize
    for dtype, size in ((np.float32, 4), (np.float64, 8)):
        o = np.zeros((4, 2))
        kernel[1, 4](np.arange(4, dtype=dtype), o)
        assert (o == [3, 2 + size]).all()

def test_functions_and_types_are_arguments():
    @cuda.jit(device=True)
    def apply(f, a, i, value, scale=2): return f(a, i, value * scale)
    @cuda.jit(device=True)
    def put(a, i, value):
        a[i] = value
        return value
    @cuda.jit
    def kernel(o):
        apply(cuda.atomic.add, o, 0, 1)
        apply(cuda.atomic.max, o, 1, cuda.threadIdx.x, scale=10)
        if cuda.threadIdx.x == 3: o[2] = apply(value=1, f=put, a=o, i=3)
    o = np.zeros(4)
    kernel[1, 4](o)
    assert o.tolist() == [8, 30, 2, 2]
    @cuda.jit
    def wrong(o): put(o, 1)
    with pytest.raises(Unsupported, match="put: missing a required argument: 'value'"): wrong[1, 1](o)

PAIR = np.dtype([("i", np.int32), ("w", np.float64)])

def test_records_on_the_device_and_in_shared_memory():
    @cuda.jit
    def kernel(a, o):
        t, s = cuda.threadIdx.x, cuda.shared.array(4, PAIR)
        s[t] = a[t]
        cuda.syncthreads()
        o[t] = s[3 - t].w + s[3 - t].i
    d = cuda.device_array(4, PAIR)
    assert np.isnan(d.copy_to_host()["w"]).all()
    d.copy_to_device(np.array([(i, i / 4) for i in range(4)], PAIR))
    o = cuda.to_device(np.zeros(4))
    kernel[1, 4](d, o)
    assert o.copy_to_host().tolist() == [3.75, 2.5, 1.25, 0]

def test_a_field_of_a_record_has_a_number_or_a_name():
    @cuda.jit(device=True)
    def first(r): return r[0]
    @cuda.jit
    def kernel(a, o):
        r = a[1]
        o[0] = 10 * r[0] + r["w"]
    @cuda.jit
    def wrong(a, o): o[0] = first(a[1])
    a, o = np.array([(1, 2), (3, 4)], PAIR), np.zeros(1)
    kernel[1, 1](a, o)
    assert o[0] == 34
    with pytest.raises(Unsupported, match="taken by its name"): wrong[1, 1](a, o)

def test_views_with_strides_and_arrays_without_axes():
    @cuda.jit
    def copy(a, b, total):
        b[cuda.grid(1)] = a[cuda.grid(1)]
        if cuda.grid(1) == 0: total[()] += a[0] + a[1] + a[2]
    @cuda.jit
    def clash(a): a[1 + cuda.grid(1) // 4] = cuda.grid(1)
    d, e, total = cuda.to_device(np.arange(12.).reshape(3, 4)), cuda.to_device(np.zeros((3, 2))), np.zeros(())
    copy[1, 3](d[::-1, 1], e[:, 1], total)
    assert e.copy_to_host()[:, 1].tolist() == [9, 5, 1] and not e.copy_to_host()[:, 0].any() and total == 15
    with pytest.raises(IndexError, match="axis 0 of a, which has 3"): copy[1, 4](d[:, 0], np.zeros(4), total)
    launch(copy, 1, 3, d[::-1, 1], e[:, 1], total, check="races")
    for view in (e[:, 1], e[::-1, 0]):
        with pytest.raises(RaceError, match="a is also touched"): launch(clash, 1, 8, view, check="races")

def test_buffers_are_swapped():
    @cuda.jit
    def steps(x, n):
        t, a, b = cuda.threadIdx.x, cuda.shared.array(4, float32), cuda.shared.array(4, float32)
        src, dst = a, b
        src[t] = x[t]
        cuda.syncthreads()
        for _ in range(n):
            dst[t] = src[(t + 1) % 4] + 1
            src, dst = dst, src
            cuda.syncthreads()
        x[t] = src[t]
    for n in (0, 1, 5):
        x = np.arange(4.)
        steps[1, 4](x, n)
        assert (x == np.roll(np.arange(4.), -n) + n).all()

# ---- around a kernel
def test_a_name_for_a_part_of_cuda_goes_along_to_another_compiler():
    float2 = cuda.float32x2
    def first(a): return float2(a[0], a[1]).x
    other = SimpleNamespace(float32x2=lambda x, y: SimpleNamespace(x=("the other's", x, y)))
    assert with_cuda(first, other)([1, 2]) == ("the other's", 1, 2)

def test_names_of_a_tuple_and_a_text_in_linecache():
    Point = namedtuple("Point", "x y")
    text = "def k(o, p):\n    o[0] = 10 * p.x + p.y\n"
    linecache.cache["<a cell>"] = len(text), None, text.splitlines(True), "<a cell>"
    exec(compile(text, "<a cell>", "exec"), env := {})
    o = np.zeros(1)
    cuda.jit(env["k"])[1, 1](o, Point(1, 2))
    assert o[0] == 12

def test_members_of_an_enum_are_arguments():
    Way = Enum("Way", "add multiply")
    @cuda.jit
    def kernel(o, way): o[0] = o[0] + 5 if way == Way.add else o[0] * 5
    o = np.ones(1)
    for way, now in ((Way.add, 6), (Way.multiply, 30)):
        kernel[1, 1](o, way)
        assert o[0] == now

def test_what_a_kernel_does_not_have():
    @cuda.jit
    def kernel(o): o[cuda.grid(1)] = 1
    with pytest.raises(Unsupported, match="link is not emulated"): cuda.jit(link=[cuda.CUSource("int f();")])
    with pytest.raises(AttributeError, match="no inspect_asm; compile_kernel"): kernel.inspect_asm()
    with pytest.raises(ValueError, match=r"launch configuration was not specified; write kernel\[grid, block"): kernel(np.zeros(1))
    with pytest.raises(ValueError, match="ntasks: .* negative task count -1"): kernel.forall(-1)

def test_a_cuda_of_another_compiler():
    "numba_cuda_mlir has a module `cuda` of its own, and types that are none of Numba's."
    class Float:
        def cast_python_value(self, value): raise AssertionError
        def __str__(self): return "float32"
    other = types.ModuleType("numba_cuda_mlir.cuda")
    other.threadIdx, other.shared, other.syncthreads = types.SimpleNamespace(x=None), types.SimpleNamespace(array=None), None
    single = Float()
    def kernel(x):
        s = other.shared.array(4, single)
        s[other.threadIdx.x] = single(x[other.threadIdx.x]) / 3
        other.syncthreads()
        x[other.threadIdx.x] = s[3 - other.threadIdx.x]
    x = np.arange(4.)
    launch(kernel, 1, 4, x)
    assert (x == (np.arange(4, dtype=np.float32) / np.float32(3))[::-1]).all()

def test_arrays_keep_their_order_and_launch_bounds_are_kept():
    d = cuda.to_device(np.asfortranarray(np.arange(6.).reshape(2, 3)))
    assert d.flags.f_contiguous and cuda.device_array_like(d).is_f_contiguous() and d.copy_to_host().flags.f_contiguous
    assert d.T.is_c_contiguous() and (d.T.copy_to_host() == d.copy_to_host().T).all()
    into = cuda.to_device(np.zeros(4))
    with pytest.raises(ValueError, match="ary: an array with strides"): into.copy_to_device(cuda.to_device(np.ones(8))[::2])
    with pytest.raises(Unsupported, match="negative strides"): into[::-1].copy_to_host()
    into.copy_to_device(np.ones(8)[::2])
    with pytest.raises(Unsupported, match="ravel of strides"): into[::2].ravel()
    assert into.reshape(2, 2).ravel().bind(stream := cuda.stream()).stream is stream
    assert cuda.device_array(2, stream=stream).stream is stream is cuda.to_device(np.zeros(2), stream).stream
    assert into[::2].copy_to_host().tolist() == [1, 1] and [cuda.external_stream(0), cuda.legacy_default_stream()]
    @cuda.jit(launch_bounds=(4, 1))
    def kernel(x): x[cuda.grid(1)] = 1
    kernel[2, 4](np.zeros(8))
    with pytest.raises(ValueError, match="launch_bounds allows 4"): kernel[1, 8](np.zeros(8))

# ---- what a kernel says about itself
class TooLarge(Exception): pass

def test_a_kernel_raises_and_asserts():
    @cuda.jit(device=True)
    def root(v):
        if v < 0: raise ValueError("no root", 7)
        return math.sqrt(v)
    @cuda.jit
    def kernel(x, o):
        t, s = cuda.threadIdx.x, cuda.shared.array(4, float64)
        s[t] = root(x[t])
        if x[t] > 100: raise TooLarge
        cuda.syncthreads()
        assert s[3 - t] != 3, "three"
        o[t] = s[3 - t]
    o = np.zeros(4)
    for run in (launch, launch_simply):
        run(kernel, 1, 4, np.array([0., 1, 4, 16]), o)
        assert o.tolist() == [4, 2, 1, 0]
    for number, kind, said in ((-1, ValueError, r"root, line \d+, block \(0, 0, 0\), thread \(2, 0, 0\): no root"),
                               (101, TooLarge, "kernel, line"), (9, AssertionError, r"thread \(1, 0, 0\): three")):
        with pytest.raises(kind, match=said) as error: kernel[1, 4](np.array([0, 1, number, 16.]), o)
        assert error.value.args[1:] == ((7,) if kind is ValueError else ())
        with pytest.raises(kind): launch_simply(kernel, 1, 4, np.array([0, 1, number, 16.]), o)
    @cuda.jit
    def no_exception(x): raise x[0]
    @cuda.jit
    def unknown(x): raise ValueError(f"{x[0]}")
    for wrong, said in ((no_exception, "must be known when the kernel is compiled"), (unknown, r"line \d+: JoinedStr is not for kernels")):
        with pytest.raises(Unsupported, match=said): wrong[1, 1](o)

def test_positions_and_sizes_are_values(capfd):
    @cuda.jit(device=True)
    def number(place, size): return (place.z * size.y + place.y) * size.x + place.x
    @cuda.jit
    def kernel(o):
        t = cuda.threadIdx
        cuda.syncthreads()
        o[number(t, cuda.blockDim)] = 100 * t.z + 10 * t.y + t.x
    @cuda.jit
    def says(x): print(cuda.threadIdx, "of", cuda.blockDim)
    @cuda.jit
    def vector(x): print(cuda.float32x2(1, 2))
    says[1, (2, 1, 2)](np.zeros(1))
    assert capfd.readouterr().out.splitlines() == [f"({x}, 0, {z}) of (2, 1, 2)" for z in range(2) for x in range(2)]
    with pytest.raises(Unsupported, match="vector, line"): vector[1, 1](np.zeros(1))
    o = np.zeros(24)
    kernel[1, (4, 3, 2)](o)
    assert o.tolist() == [100 * z + 10 * y + x for z in range(2) for y in range(3) for x in range(4)]

# ---- memory of others
class Foreign:
    "As a library hands out memory of a GPU."
    def __init__(self, array): self.array = array
    __cuda_array_interface__ = property(lambda self: self.array.__cuda_array_interface__)

@cuda.jit
def add_one(a): a[cuda.grid(1)] += 1

def test_tensors_and_other_libraries_arrays_share_their_memory():
    d, tensor = cuda.to_device(np.zeros(4)), torch.zeros(4)
    add_one[1, 4](tensor)
    add_one[1, 4](cuda.as_cuda_array(tensor))
    add_one[1, 4](Foreign(d))
    add_one[1, 2](cuda.as_cuda_array(Foreign(d[::-2])))
    add_one[1, 4](cuda.from_cuda_array_interface(d.__cuda_array_interface__))
    assert tensor.tolist() == [2] * 4 and d.copy_to_host().tolist() == [2, 3, 2, 3]
    assert [cuda.is_cuda_array(x) for x in (d, Foreign(d), np.zeros(4))] == [True, True, False]
    face = d[1:3].__cuda_array_interface__
    assert face["data"][0] == d.__cuda_array_interface__["data"][0] + 8 and face["strides"] is None and face["stream"] is None
    assert d.view(np.int64).gpu_data == d.gpu_data != d[1:].gpu_data and d.device_ctypes_pointer.value == d.gpu_data.device_pointer
    assert cuda.device_array(0).__cuda_array_interface__["data"][0] == 0
    on_gpu = Foreign(SimpleNamespace(__cuda_array_interface__=dict(data=(1, False), shape=(4,))))
    for x, kind, said in ((on_gpu, Unsupported, "Foreign: its memory is on a GPU"),
                          (torch.zeros(4, requires_grad=True), RuntimeError, "requires grad")):
        with pytest.raises(kind, match=said): add_one[1, 4](x)
    with pytest.raises(Unsupported, match="Masked"): cuda.from_cuda_array_interface(face | dict(mask=d))
    with pytest.raises(TypeError, match="obj: "): cuda.as_cuda_array(np.zeros(4))

def test_device_arrays_are_globals():
    weights, total = cuda.to_device(np.asfortranarray(np.arange(6.).reshape(2, 3))), torch.zeros(2)
    strided = cuda.to_device(np.zeros(4))[::2]
    @cuda.jit(device=True)
    def weight(i, j): return weights[i, j]
    @cuda.jit
    def kernel(x):
        i = cuda.threadIdx.x
        cuda.syncthreads()
        for j in range(3): total[i] += weight(i, j) * x[j]
    for _ in range(2): kernel[1, 2](np.ones(3))
    assert total.tolist() == [6, 24]
    weights[0, 0] = 10                                    # it is no copy
    kernel[1, 2](np.ones(3))
    assert total.tolist() == [19, 36]
    with pytest.raises(IndexError, match="index 2 on axis 0 of (total|weights), which has 2"): kernel[1, 3](np.ones(3))
    @cuda.jit
    def clash(x): total[0] = cuda.grid(1)
    with pytest.raises(RaceError, match="total is also touched"): launch(clash, 1, 2, np.ones(3), check="races")
    @cuda.jit
    def of_strided(x): x[0] = strided[0]
    with pytest.raises(Unsupported, match="strided has strides; pass it as an argument"): of_strided[1, 1](np.zeros(1))

def test_a_kernel_is_specialized():
    @cuda.jit
    def kernel(x, y): x[0] = y
    wide, x = kernel.specialize(float64[::1], int32), np.zeros(1)
    assert kernel.specialize(float64[::1], int32) is wide is not kernel.specialize(np.zeros(1), 1)
    assert len(kernel.specializations) == 2 and not kernel.overloads
    wide[1, 1](x, 3)
    assert x[0] == 3 and list(wide.overloads) == [(float64[::1], int32)]
    with pytest.raises(TypeError, match="No matching definition"): wide[1, 1](np.zeros(1, int), 3)
    with pytest.raises(AttributeError, match="no overloads"): cuda.jit("void(f4[:])")(add_one.py_func).overloads.values()
    with pytest.raises(RuntimeError, match="already specialized"): wide.specialize(float64[::1], int32)

def test_functions_of_math_that_only_a_gpu_has():
    @cuda.jit
    def kernel(x, o):
        o[0], o[1] = math.modf(x[0])
        o[2], o[3] = math.remainder(x[0], x[1]), math.fmod(x[0], x[1])
        o[4] = int(x[0]).bit_count()
    for x in ((7.75, 2), (-7.5, 3), (-0., 3), (1e300, 7e-3)):
        for dtype in (np.float64, np.float32):
            x, o = np.array(x, dtype).clip(-1e30, 1e30), np.zeros(5)
            kernel[1, 1](x, o)
            a, b = map(float, x)
            assert repr(o[:4].tolist()) == repr([*math.modf(a), math.remainder(a, b), math.fmod(a, b)])
            if abs(a) < 100: assert o[4] == (int(a) % 2**64).bit_count()

# ---- the whole grid
def test_all_blocks_wait_for_each_other():
    @cuda.jit(device=True)
    def meet(group, o):
        group.sync()
        return o[0]
    @cuda.jit
    def rows(m, total):
        "Each thread reads the row before at its opposite place, which a thread of another block wrote."
        i = cuda.grid(1)
        add = cuda.atomic.add
        everybody = cuda.cg.this_grid()
        s = cuda.shared.array(4, float64)
        for r in range(1, len(m)):
            s[cuda.threadIdx.x] = m[r - 1, m.shape[1] - 1 - i]
            cuda.syncthreads()
            m[r, i] = s[cuda.threadIdx.x] + i
            everybody.sync()
        add(total, 0, m[len(m) - 1, i])
        m[0, i] = meet(everybody, total)
    m, total = np.zeros((5, 12)), np.zeros(1)
    want = m.copy()
    for r in range(1, 5): want[r] = want[r - 1, ::-1] + np.arange(12)
    rows[3, 4](m, total)
    assert (m[1:] == want[1:]).all() and (m[0] == want[-1].sum()).all()
    with pytest.raises(Unsupported, match="know no barrier of the grid"): launch(rows, 3, 4, m, total, check="races")
    @cuda.jit
    def alone(x):
        if cuda.blockIdx.x != 1: cuda.cg.this_grid().sync()
        x[cuda.grid(1)] = 1
    @cuda.jit
    def outside(x, n):
        if cuda.grid(1) >= n: return
        cuda.cg.this_grid().sync()
        x[cuda.grid(1) + 4] = 1
    with pytest.raises(BarrierError, match=r"alone, line \d+, block \(0, 0, 0\): 1 of 3 blocks have ended"): alone[3, 4](np.zeros(12))
    with pytest.raises(BarrierError, match="1 of 3 blocks have ended"): outside[3, 4](np.zeros(12), 8)
    with pytest.raises(BarrierError, match="2 of 4 threads have returned"): outside[3, 4](np.zeros(12), 6)
    with pytest.raises(IndexError, match=r"block \(2, 0, 0\), thread \(0, 0, 0\): index 12"): outside[3, 4](np.zeros(12), 12)
    with pytest.raises(Unsupported, match="launch only"): launch_simply(alone, 3, 4, np.zeros(12))

def test_a_name_for_a_part_of_cuda_inside_a_kernel():
    @cuda.jit
    def counts(x): x[0] = cuda.popc(7)
    @cuda.jit
    def kernel(o):
        plus = cuda.atomic.add
        bits = cuda.popc
        size = cuda.blockDim
        plus(o, 0, size.x + bits(3))
        cuda.syncthreads()
        if cuda.threadIdx.x == 0: o[1] = o[0]
        counts(o[2:])                                   # a kernel may call another one, as a part of itself
    for run in (launch, launch_simply):
        run(kernel, 1, 4, o := np.zeros(3))
        assert o.tolist() == [24, 24, 3]
    @cuda.jit
    def several(o): o[0], o[1] = cuda.atomic.add, cuda.popc
    with pytest.raises(Unsupported, match="cuda.atomic.add is no value; call it by one name"): several[1, 4](o)

# ---- half precision
def test_half_precision_calculates_as_numpy_does():
    f16 = np.float16
    @cuda.jit(device=True)
    def mean(a, b): return (a + b) / f16(2)
    @cuda.jit
    def kernel(x, y, o):
        t, s, own = cuda.threadIdx.x, cuda.shared.array(8, f16), cuda.local.array(1, f16)
        s[t] = x[t]
        a = x[t]
        cuda.syncthreads()
        own[0] = s[7 - t] * y
        o[0, t], o[1, t], o[2, t] = mean(a, own[0]), a < y, cuda.fp16.hmax(a, y)
        o[3, t], o[4, t], o[5, t] = cuda.fp16.hfma(a, y, a), max(a, own[0]), cuda.fp16.hrint(a)
        o[6, t] = a * np.int8(3)
        o[6, t] -= own[0]
    x = np.random.default_rng(0).normal(size=8).astype(f16) * f16(300)
    x[5], x[6] = 60000, 6e-8
    y, o, simple = f16(1.37), np.zeros((7, 8), f16), np.zeros((7, 8), f16)
    with np.errstate(over="ignore"):
        own = x[::-1] * y
        want = [(x + own) / f16(2), x < y, np.maximum(x, y), (x.astype(float) * float(y) + x).astype(f16), np.maximum(x, own),
                np.rint(x), x * np.int8(3) - own]
        launch_simply(kernel, 1, 8, x, y, simple)
    for options in ({}, dict(check="races")):
        launch(kernel, 1, 8, x, y, o, **options)
        np.testing.assert_array_equal(o, np.array(want, f16))
    np.testing.assert_array_equal(simple, o)
    cuda.jit("void(f2[:], f2, f2[:, :])")(kernel.py_func)[1, 8](x, 1.37, o)
    np.testing.assert_array_equal(simple, o)

def test_half_precision_in_records_and_beside_wider_types():
    @cuda.jit
    def kernel(r, o):
        h = r[0].h
        o[0], o[1], o[2], o[3] = h + np.float32(0.1), h + 1, int(h), bool(h)
        r[1].h = 0.1
        o[4] = h * np.float32(1e5)
        o[5], o[6], o[7] = math.floor(h), math.ceil(h), np.sin(h)
    r, o = np.zeros(2, [("i", np.int32), ("h", np.float16)]), np.zeros(8)
    r[0] = 1, 3.7
    kernel[1, 1](r, o)
    h = r[0]["h"]
    assert o.tolist() == [h + np.float32(0.1), float(h) + 1, 3, 1, h * np.float32(1e5), 3, 4, np.sin(h)] and r[1]["h"] == np.float16(0.1)
