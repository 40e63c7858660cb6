"""Any matrices: the product is inside its error bound, or an error names what was wrong; the operands stay as they were.

Hypothesis draws sizes, layouts, values and dtypes. `pytest --full` draws ten times as many."""
import math
from collections import Counter
import numpy as np, pytest, torch
from hypothesis import HealthCheck, assume, given, settings, strategies as st
from numpy.lib.stride_tricks import as_strided
from matmul_course.broadcasting import broadcast_shape
from matmul_course.tools.checks import error_bound, matmul_shape
from matmul_course.app.ladder import rungs
from test_arguments import begins_with

RUNGS = rungs()

class Mine(np.ndarray): "A subclass, as other libraries make them."

def some(n, **kw):
    "How many examples: `n`, or ten times that with --full (see conftest.py)."
    return settings(max_examples=n, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), **kw)

# ---------------------------------------------------------------- what is drawn

SPECIAL = {"plain": [], "special": [math.nan, math.inf, -math.inf, -0.0, 0.0], "huge": [3e38, -2e38, 1e38, 1.5e19],
           "tiny": [1e-45, -3e-45, 1e-39, 1.1e-38, 1e-20]}

@st.composite
def matrix(draw, rows, columns, dtype, temper):
    "Random numbers, some of them put in by hand."
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x = rng.standard_normal((rows, columns)).astype(dtype)
    scale = 1e270 if dtype == np.float64 and temper == "huge" else 1
    for _ in range(draw(st.integers(0, 4)) if x.size and SPECIAL[temper] else 0):
        at = draw(st.integers(0, rows - 1)), draw(st.integers(0, columns - 1))
        x[at] = draw(st.sampled_from(SPECIAL[temper])) * scale
    return x

def in_rows(x): return x.copy()
def in_columns(x): return np.asfortranarray(x)
def backwards(x): return x[::-1, ::-1].copy()[::-1, ::-1]
def upside_down(x): return x[::-1].copy()[::-1]
def frozen(x): y = x.copy(); y.flags.writeable = False; return y
def subclass(x): return x.copy().view(Mine)
def misaligned(x): return np.frombuffer(bytearray(b"x" + x.tobytes()), np.uint8)[1:].view(x.dtype).reshape(x.shape)
def window(x):
    around = np.full((2 * x.shape[0] + 1, 3 * x.shape[1] + 1), np.nan, x.dtype)
    around[1::2, 1::3] = x
    return around[1::2, 1::3]
def one_row(x): return np.broadcast_to(x[:1], x.shape) if len(x) else x
def one_number(x): return np.broadcast_to(x[:1, :1], x.shape) if x.size else x
def overlapping(x):
    "Row i + 1 is row i moved by one place: both read the same memory."
    M, K = x.shape
    line = np.resize(x, M + K + 1) if x.size else np.zeros(M + K + 1, x.dtype)
    return as_strided(line, (M, K), (line.itemsize, line.itemsize))
LAYOUTS = [in_rows, in_columns, backwards, upside_down, frozen, subclass, misaligned, window, one_row, one_number, overlapping]

def t_rows(x): return torch.tensor(x)
def t_columns(x): return torch.tensor(x.T.copy()).T
def t_window(x): return torch.tensor(np.repeat(x, 2, axis=1))[:, ::2]
def t_grad(x): return torch.tensor(x, requires_grad=True)
def t_expanded(x): return torch.tensor(x[:1]).expand(*x.shape) if len(x) else torch.tensor(x)
def t_overlapping(x):
    M, K = x.shape
    return torch.tensor(np.resize(x, M + K + 1) if x.size else np.zeros(M + K + 1, x.dtype)).as_strided((M, K), (1, 1))
def t_parameter(x): return torch.nn.Parameter(torch.tensor(x))
def t_negated(x): return torch.complex(torch.zeros(x.shape, dtype=torch.tensor(x).dtype), -torch.tensor(x)).conj().imag     # a lazy minus
TENSORS = [t_rows, t_columns, t_window, t_grad, t_expanded, t_overlapping, t_parameter, t_negated]

def as_array(x): return np.asarray(x.detach().resolve_neg() if isinstance(x, torch.Tensor) else x)

def everything_behind(x):
    "The bytes that `x` may reach, not only those it shows."
    if isinstance(x, torch.Tensor): return bytes(x.detach().untyped_storage())
    while isinstance(x.base, np.ndarray): x = x.base
    return x.tobytes()

def sizes(most): return st.one_of(st.sampled_from([0, 1, 2, 3]), st.integers(0, most))

@st.composite
def operands(draw, most):
    dtype, temper = draw(st.sampled_from([np.float32, np.float64])), draw(st.sampled_from(list(SPECIAL)))
    M, K, N = draw(sizes(most)), draw(sizes(most)), draw(sizes(most))
    kinds = draw(st.sampled_from([LAYOUTS, TENSORS]))
    return tuple(draw(st.sampled_from(kinds))(draw(matrix(*shape, dtype, temper))) for shape in ((M, K), (K, N)))

# ---------------------------------------------------------------- what is right

def outside(c, a, b):
    "Entries of C that are not the product, as far as it is defined where numbers overflow."
    with np.errstate(all="ignore"):
        terms = a.astype(np.longdouble)[:, :, None] * b.astype(np.longdouble)[None]
        bad, up, down = np.isnan(terms).any(1), (terms == np.inf).any(1), (terms == -np.inf).any(1)
        finite = np.where(np.isfinite(terms), terms, 0)
        exact, size, K = finite.sum(1), abs(finite).sum(1), a.shape[1]
        info = np.finfo(c.dtype)
        u = np.longdouble(info.eps) / 2
        bound = 1.01 * K * u / (1 - K * u) * size + K * np.longdouble(info.smallest_subnormal)
        may_overflow = size * 1.01 > info.max
        nan, infinite = bad | (up & down), (up | down) & ~bad & ~(up & down)
        right = np.where(nan, np.isnan(c), np.where(infinite, c == np.where(up, np.inf, -np.inf), abs(c - exact) <= bound))
        return ~(right | (may_overflow & ~nan & ~np.isfinite(c)))

needs_longdouble = pytest.mark.skipif(np.finfo(np.longdouble).eps >= 1e-17, reason="longdouble is no wider than float64 here")

@needs_longdouble
@pytest.mark.parametrize("name", RUNGS)
def test_a_product_is_inside_the_bound_and_the_operands_stay(name, examples, count):
    most = 6 if (RUNGS[name].max_flop or math.inf) < 1e7 else 12 if RUNGS[name].max_flop else 40
    @some(examples(60))
    @given(operands(most))
    def check(pair):
        a, b = pair
        was = everything_behind(a), everything_behind(b)
        with np.errstate(all="ignore"): c = RUNGS[name](a, b)
        count("products inside the bound")
        assert (everything_behind(a), everything_behind(b)) == was, "an operand was changed"
        assert isinstance(c, torch.Tensor if isinstance(a, torch.Tensor) else np.ndarray) and c.dtype == a.dtype
        assert tuple(c.shape) == (a.shape[0], b.shape[1])
        x, y, c = map(as_array, (a, b, c))
        assert not (wrong := outside(c, x, y)).any(), f"{wrong.sum()} of {c.size} entries: {c[wrong][:3]}\n{x}\n{y}"
    check()

def test_the_judge_sees_wrong_products():
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 2))
    a[0, 0], b[1, 1] = np.inf, 0
    with np.errstate(invalid="ignore"): right = a @ b
    assert not outside(right, a, b).any()
    for change in (np.nan, 0, right[1, 1] * (1 + 1e-14)):
        wrong = right.copy(); wrong[1, 1] = change
        assert outside(wrong, a, b).sum() == 1
    wrong = right.copy(); wrong[0, 0] *= -1                       # the other infinity
    assert outside(wrong, a, b).sum() == 1

NO_FLOATS = ["float16", "int8", "int64", "uint8", "bool", "complex64", "longdouble", "object", ">f4", "S3", "M8[s]", "V4"]

@pytest.mark.parametrize("name", RUNGS)
def test_what_is_no_pair_of_float_matrices_is_refused_by_name(name, examples, count):
    shapes, numpys = st.lists(st.integers(0, 4), max_size=4), st.sampled_from(["float32", "float64", *NO_FLOATS])
    torchs = st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.bool, torch.complex64])
    arrays = st.tuples(shapes, numpys).map(lambda d: np.zeros(*d))
    tensors = st.tuples(shapes, torchs, st.sampled_from(["cpu", "meta"])).map(lambda d: torch.zeros(d[0], dtype=d[1], device=d[2]))
    others = st.one_of(st.none(), st.integers(), st.floats(), st.text(max_size=3), st.lists(st.floats(), max_size=2),
                       st.just(np.ma.ones((2, 2))), st.just(torch.eye(2).to_sparse()))
    thing = st.one_of(arrays, tensors, others)
    @some(examples(75))
    @given(thing, thing)
    def check(a, b):
        try: c = RUNGS[name](a, b)
        except (ValueError, TypeError) as e:
            count("pairs refused by name")
            assert begins_with("a", str(e)) or begins_with("b", str(e)), f"{a!r} @ {b!r}: {e}"
        else:
            assert type(a) is type(b) and a.dtype == b.dtype and matmul_shape(a, b) and getattr(a, "device", "cpu") != torch.device("meta")
            assert str(a.dtype).removeprefix("torch.") in ("float32", "float64") and tuple(c.shape) == (a.shape[0], b.shape[1])
    check()

# ---------------------------------------------------------------- what stands beside the products

def test_error_bound_is_no_less_than_what_any_order_loses(examples, count):
    @some(examples(100))
    @given(operands(9), st.randoms(use_true_random=False))
    def check(pair, random):
        a, b = map(as_array, pair)
        assume(a.size and b.size and np.isfinite(a).all() and np.isfinite(b).all())
        with np.errstate(over="ignore"): assume((abs(a.astype("f8")) @ abs(b.astype("f8"))).max() < np.finfo(a.dtype).max / 4)
        order = random.sample(range(a.shape[1]), a.shape[1])
        total = np.zeros((len(a), b.shape[1]), a.dtype)
        for k in order: total += a[:, k, None] * b[k]
        exact = (a.astype(np.longdouble)[:, :, None] * b.astype(np.longdouble)[None]).sum(1)
        assert (abs(total - exact) <= error_bound(a, b) * (1 + 1e-12)).all()
        count("bounds held against a drawn order of sums")
    check()

def test_broadcast_shape_is_numpys(examples):
    seen = Counter()
    @some(examples(1500))
    @given(st.lists(st.lists(st.sampled_from([0, 1, 1, 1, 2, 3]), max_size=5).map(tuple), max_size=4))
    def check(shapes):
        def outcome(fn):
            try: return fn(*shapes)
            except ValueError: return "refused"
        assert outcome(broadcast_shape) == (want := outcome(np.broadcast_shapes)), shapes
        seen["refused" if want == "refused" else "shape"] += 1
    check()
    assert min(seen.values()) > 300, seen
