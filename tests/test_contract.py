"What every rung promises: containers, dtypes, shapes, refusals."
import math
import numpy as np, pytest, torch
from torch._subclasses.fake_tensor import FakeTensorMode
from matmul_course.tools.checks import HARD_SHAPES, check_matmul
from matmul_course.tools.data import linear_layer
from matmul_course.app.ladder import race, rungs, workload

RUNGS = rungs()
every = pytest.mark.parametrize("name", RUNGS)

def pair(shape_a, shape_b, kind="numpy", dtype=np.float32):
    arrays = [np.arange(np.prod(s), dtype=dtype).reshape(s) for s in (shape_a, shape_b)]
    return arrays if kind == "numpy" else [torch.from_numpy(x) for x in arrays]

SMALL = [s for s in HARD_SHAPES if math.prod(s) < 3000]
LARGE = [s for s in HARD_SHAPES if s not in SMALL]

COMPILED_FOR_EACH_SHAPE = "skinny", "wide"             # 15 s of compiling for a dtype; that of the lessons, float32, is kept on disk

@pytest.mark.parametrize("name, dtype", [(n, np.float32 if n in COMPILED_FOR_EACH_SHAPE else None) for n in RUNGS] +
                         [pytest.param(n, np.float64, marks=pytest.mark.slow) for n in COMPILED_FOR_EACH_SHAPE])
def test_serves_both_containers_and_both_dtypes(name, dtype):
    check_matmul(RUNGS[name].fn, SMALL, dtype, kinds=("numpy", "torch"))

@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (r.max_flop is not None)) for n, r in RUNGS.items()])
def test_serves_large_shapes_too(name):
    "Rungs that work number by number only with --full."
    check_matmul(RUNGS[name].fn, LARGE, kinds=("numpy", "torch"))

@every
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("shapes", [((5, 4), (3, 2)), ((5, 3), (4, 2)), ((5, 1), (4, 2)), ((5, 4), (1, 2)), ((4,), (4, 2)),
                                    ((5, 4), (4,)), ((2, 5, 4), (4, 2)), ((), (4, 2)), ((0, 3), (0, 3))])
def test_refuses_misfits_and_names_both_shapes(name, kind, shapes):
    with pytest.raises(ValueError) as e: RUNGS[name](*pair(*shapes, kind))
    assert f"{shapes[0]} @ {shapes[1]}" in str(e.value)

@every
@pytest.mark.parametrize("kind", ["numpy", "torch"])
@pytest.mark.parametrize("shapes", [((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0)), ((0, 0), (0, 0))])
def test_sizes_of_zero(name, kind, shapes):
    c = RUNGS[name](*pair(*shapes, kind))
    assert tuple(c.shape) == (shapes[0][0], shapes[1][1]) and not c.any()

@every
def test_refuses_other_dtypes_by_name(name):
    for dtype in (np.int64, np.float16, np.complex64, np.bool_, ">f4"):    # '>f4' spoils Numba's cache of types, if it gets there
        with pytest.raises(TypeError, match=str(np.dtype(dtype))): RUNGS[name](*[x.astype(dtype) for x in pair((2, 2), (2, 2))])
    with pytest.raises(TypeError, match="bfloat16"): RUNGS[name](*[x.bfloat16() for x in pair((2, 2), (2, 2), "torch")])

@every
def test_refuses_mixtures(name):
    a, b = pair((2, 2), (2, 2))
    for x, y in ((a, torch.from_numpy(b)), (torch.from_numpy(a), b), (a, b.astype(np.float64))):
        with pytest.raises(TypeError, match="mixed"): RUNGS[name](x, y)
    for x, y, says in ((a.tolist(), b, "a: list"), (a, None, "b: NoneType"), (a.view(np.matrix), b.view(np.matrix), "a: matrix")):
        with pytest.raises(TypeError, match=says): RUNGS[name](x, y)

@every
def test_odd_layouts(name):
    "Negative, zero and wide strides, read-only and misaligned operands, and a tensor that wants a gradient."
    a, b = pair((6, 8), (8, 5)); want = a.astype(np.float64) @ b
    frozen = a.copy(); frozen.flags.writeable = False
    shifted = np.frombuffer(b"x" + a.tobytes(), np.uint8)[1:].view(np.float32).reshape(a.shape)
    assert not shifted.flags.aligned
    twins = [(a[::-1][::-1], b), (np.asfortranarray(a), np.asfortranarray(b)), (frozen, b), (shifted, b)]
    for x, y in twins: np.testing.assert_array_equal(RUNGS[name](x, y), want)
    row = np.broadcast_to(a[:1], (6, 8))
    np.testing.assert_array_equal(RUNGS[name](row, b), np.broadcast_to(want[:1], (6, 5)))
    np.testing.assert_array_equal(RUNGS[name](a[::2, ::-2], b[::-2]), a[::2, ::-2].astype(np.float64) @ b[::-2])
    grad = torch.from_numpy(a.copy()).requires_grad_()
    np.testing.assert_array_equal(RUNGS[name](grad, torch.from_numpy(b)).detach(), want)

class Refuses(torch.Tensor):
    "Has a say in every function of torch's, as tensors with units or with a mask do."
    @classmethod
    def __torch_function__(cls, *args, **kw): raise RuntimeError("torch is refused")

class Units(np.ndarray):
    "The same for NumPy's operators."
    def __array_ufunc__(self, *args, **kw): raise RuntimeError("NumPy is refused")

@every
def test_what_gives_operators_a_meaning_of_its_own_is_refused_by_name(name):
    a, b = pair((2, 3), (3, 2), "torch")
    odd = [lambda x: x.as_subclass(Refuses), lambda x: x.numpy().view(Units), FakeTensorMode().from_tensor,
           lambda x: torch.nn.parameter.UninitializedParameter()]
    for make in odd:
        for x, y, says in ((make(a), b, "^a: "), (a, make(b), "^b: ")):
            with pytest.raises(TypeError, match=says): RUNGS[name](x, y)

@every
def test_a_tensor_of_inference_beside_one_with_a_gradient(name):
    a, b = pair((2, 3), (3, 2), "torch")
    with torch.inference_mode(): fixed = b.clone()
    c = RUNGS[name](a.requires_grad_(), fixed)
    c.sum().backward()
    assert torch.equal(c.detach(), a.detach() @ b) and torch.equal(a.grad, b.sum(1).expand(2, 3))

@every
def test_autocast_rounds_no_operand(name):
    a, b = (x + 1 / 1024 for x in pair((2, 3), (3, 2), "torch"))
    want = RUNGS[name](a, b)
    with torch.autocast("cpu"): assert torch.equal(RUNGS[name](a, b), want)

def test_torchs_settings_change_neither_operands_nor_races():
    def made(): return *linear_layer(), *workload(2, 3, 4)
    was = made()
    torch.set_default_dtype(torch.float64)
    try: now = made()
    finally: torch.set_default_dtype(torch.float32)
    assert all(x.dtype == y.dtype and torch.equal(x, y) for x, y in zip(was, now))
    with torch.autocast("cpu"): assert race(*was[2:], ["torch", "einsum"], seconds=.01)["torch"].timing.median > 0

@pytest.mark.parametrize("name", [n for n, r in RUNGS.items() if not r.max_flop])
def test_more_rows_or_columns_than_a_grid_covers(name):
    "65,535 blocks along y, with up to 64 rows or columns each. Where they do not suffice, the operand is named."
    for M, N in ((2**22 + 1, 1), (1, 2**22 + 1)):
        try: c = RUNGS[name](*pair((M, 1), (1, N)))
        except ValueError as e: assert str(e).startswith("a: " if M > 1 else "b: ") and RUNGS[name].device == "cuda"
        else: assert c.shape == (M, N) and not c.any()
