"Nonsense for each argument of each function in turn: an error that begins with the argument's name."
import ast, inspect, math, re
from functools import cache
from importlib import import_module
from types import SimpleNamespace
import numpy as np, pytest, torch
import matmul_course
from matmul_course.app.ladder import rungs
from matmul_course.gpu.choice import cuda
from test_notebooks import ROOT, modules

A, B = np.arange(20, dtype=np.float32).reshape(4, 5), np.ones((5, 3), np.float32)
X = np.ones(8, np.float32)

@cuda.jit
def copy(a, c):
    i = cuda.grid(1)
    if i < a.size: c[i] = a[i]

# ---------------------------------------------------------------- what is no nonsense

def anything(x): return True
def nothing(x): return False
def whole(least, most=math.inf): return lambda x: type(x) is int and least <= x <= most
def real(above=-math.inf): return lambda x: type(x) in (int, float) and math.isfinite(x) and x > above
def matrix(x):
    "Floats in the shape of A."
    if isinstance(x, torch.Tensor): return x.dtype.is_floating_point and x.device.type == "cpu" and x.shape == A.shape
    return isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.shape == A.shape
def any_matrix(x):
    "Floats in two axes, of NumPy."
    return matrix(x) or isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.ndim == 2 and x.size > 0
def shaped(x):
    "Whatever has the shape of A: `matmul_shape` asks for no more, so a tensor of torch's device meta has sizes as well."
    return getattr(x, "shape", None) == A.shape
def same_kind(x):
    "An array that can be mixed with A and B: `common_kind` looks at container and dtype, and leaves shapes to `matmul_shape`."
    return type(x) is np.ndarray and x.dtype == A.dtype
def row_of_three(x): return isinstance(x, np.ndarray) and (x.dtype, x.shape) == (np.float32, (3,))
FORMS = matrix, any_matrix, shaped, same_kind                          # what says that an argument is a matrix
def number_or_matrix(x): return isinstance(x, (bool, float)) or whole(-10**18, 10**18)(x) or matrix(x)
def one_of(*words): return lambda x: any(x is w for w in words)
def pair_or_none(x): return x is None or hasattr(x, "__len__") and len(x) == 2
def none_or(right): return lambda x: x is None or right(x)
def sizes(x): return isinstance(x, (tuple, list)) and all(type(n) is int for n in x)
def a_guess(x):
    "A number, a word, a type, or several of these: a guess that can be wrong, and is no nonsense."
    if isinstance(x, (list, tuple)): return all(map(a_guess, x))
    if isinstance(x, torch.Tensor): return x.layout == torch.strided and x.device.type == "cpu"
    return isinstance(x, np.ndarray) and x.dtype.kind in "fU" or x is None or isinstance(x, (bool, int, float, str, type))

MATRICES = dict(a=matrix)
SHAPE = dict.fromkeys("nMKN", whole(1))
LAUNCH = dict(kernel=callable, args=anything)

# A right call of each function that a reader or another program calls, and for its arguments what else is right.
CALLS = {
    "as_whole": (("value", 3, 0, 9), dict(name=anything, value=whole(0, 9), least=anything, most=anything)),
    "as_real": (("value", 3.0, 0), dict(name=anything, value=real(0), above=anything)),
    "broadcast_shape": (((2, 3), (3,)), dict(shapes=sizes)),
    "matmul_shape": ((A, B), dict(a=shaped)), "common_kind": ((A, B), dict(a=same_kind, b=same_kind)), "operands": (("numpy",), {}),
    "error_bound": ((A, B, np.float32, "tf32"), MATRICES | dict(dtype=one_of(None), operands=one_of(None))),
    "matmul_mixed": ((A, B, "bfloat16"), MATRICES), "matmul_sharded": ((A, B, None), MATRICES | dict(mesh=one_of(None))),
    "linear": ((A, B, B[0], True), MATRICES | dict(bias=row_of_three, relu=one_of(True))),
    "train": (([(B.copy(), B[0].copy())], A, np.array([0, 2, 1, 0]), 1, 0.5, 2, 0, lambda a, b, bias, relu: a @ b + bias, np.matmul),
              MATRICES | dict(rate=real(0), epochs=whole(0), batch=whole(1), seed=whole(0), layer=callable, product=callable)),
    "check_matmul": ((lambda a, b: a @ b, [(2, 3, 2)], np.float32, 0, ["numpy"]),
                     dict(fn=callable, dtype=one_of(None), kinds=one_of(None), seed=whole(0))),
    "load_mnist": (("bundled",), {}), "linear_layer": ((1,), dict(seed=whole(-2**63, 2**64 - 1))),
    "draw_matmul": ((A, B, 0, 0, 0, 7), MATRICES | dict(i=whole(0, 3), j=whole(0, 2), k=none_or(whole(0, 4)), limit=whole(3))),
    "draw_matmul_steps": ((A, B[:, :2]), MATRICES),
    "draw_broadcast": ((A, A, "+"), dict(a=number_or_matrix, b=number_or_matrix)),
    "draw_broadcast_steps": ((A, A, "+"), dict(a=number_or_matrix, b=number_or_matrix)),
    "draw_layout": ((A,), dict(x=any_matrix)), "draw_digits": ((np.zeros((2, 28, 28)), [1, 2]), dict(labels=pair_or_none)),
    "roofline": (([("x", 2.0, 1e9)], 1e11, 1e10), dict(peak=real(0), bandwidth=real(0))),
    "einsum_by_hand": (("ij,jk->ik", A, B), dict(operands=matrix)), "draw_layers": ((A[:2, :3], B[:3]), {}),
    "draw_dot": ((torch.from_numpy(A)[0], torch.from_numpy(B)[:, 0]), {}),
    "launch": ((copy, 1, 32, X, X.copy()), LAUNCH), "launch_simply": ((copy, 1, 32, X, X.copy()), LAUNCH),
    "predict": (("multiplications", 1), dict(guess=a_guess)),
    "compile_kernel": ((copy, "void(float32[::1], float32[::1])", "sm_80"), dict(kernel=callable)),
    "launch_kernel": ((lambda p: 0, 2, 2), dict(kernel=callable, grid_x=whole(0), grid_y=whole(0))),
    "ceil_div": ((5, 2), dict(a=whole(0), b=whole(1))),
    "draw_blocks": ((5, 4, (2, 2)), {}),
    "rung": (("tried", "cpu", "torch", 1e6), dict(name=lambda x: isinstance(x, str) and x != "", max_flop=none_or(real(0)))),
    "duration": ((1.0,), dict(seconds=real())), "three_digits": ((1.0,), dict(x=real())),
    "bench": ((lambda: 0,), dict(fn=callable)),
    "race": ((A, B, ["numpy"], 1, 0.001), dict(a=matrix, names=one_of(None), seconds=real(0), threads=one_of(None))),
    "workload": ((4, 4, 4), SHAPE),
    "Machine.peak": ((1, "float32"), {}), "Machine.bandwidth": ((1,), {}),
    "occupancy": ((32, 128, 0, "A100"), dict(registers=whole(1, 255), threads=whole(1, 1024), shared=whole(0))),
    "draw_occupancy": ((32, 128, 0.5), dict(share=lambda x: real()(x) and 0 <= x <= 1)),
    "warps_to_hide": ((550, 4, 4), dict.fromkeys(("latency", "work", "schedulers"), whole(1))),
    "draw_lane": ((3, 32, 2, 5, 1), dict(blocks=whole(1), wide=whole(1, 32), high=whole(1, 32), x=whole(0, 31), y=whole(0, 1))),
    "draw_sm": (("A100", 108, 4, 64, 64), dict(name=anything) | dict.fromkeys(("sms", "schedulers", "warps", "fp32"), whole(1))),
    "draw_queue": (([("launch", 10, 200.0), ("synchronize", None, None)],), {}),
    "draw_timeline": (([0, 1, None, 0], 2), dict(warps=whole(2, 1024))),
    "draw_block_times": (([None, 0, 0], 1, 100), dict(blocks=whole(1, 1024), cycles=whole(1))),
    "draw_waves": (([(n % 5, n // 5) for n in range(13)], 5), dict(sms=whole(5, 1024))),
    "draw_bounds": (({"cuda": dict(l1=1e-3, lsu=2e-3)}, "made up"), dict(title=anything)),
    "bounds_table": ((dict(copy=SimpleNamespace(bound=lambda gpu: 1, bounds=lambda gpu: dict(dram=1))), ["T4"]),
                     dict(profiles=lambda x: isinstance(x, dict))),
    "draw_inner": (("ikj",), {}), "arithmetic_intensity": ((1, 2, 3, 4), dict.fromkeys(("M", "N", "K", "itemsize"), whole(1))),
    "profile": ((copy, 1, 32, X, X.copy()), LAUNCH), "gpu_named": (("A100",), {}),
    "draw_tiles": ((0,), dict(step=whole(0))), "draw_block_steps": ((np.ones((4, 4)), np.ones((4, 4))), {}),
    "grid_of": ((2, 4, 4), SHAPE), "draw_shares": (([0, 50, 100], [0, 100]), {}),
    "which_rung": ((A, B), MATRICES),
} | {r.fn.__name__: ((A, B), MATRICES) for r in rungs().values()}

class Named:
    def __repr__(self): return "<an object>"

GARBAGE = [
    None, True, -1, 0, 1.5, math.nan, math.inf, 10**30, -10**18, 2j, "x", "", "../..", b"x", [], {}, (), {1}, [[1, 2], [3]], int, Named(),
    lambda *_: 0, iter([1]), np.ones((2, 2), complex), np.array(["x"]), np.array([None]), np.ones(3, np.float32),
    np.zeros((0, 0), np.float32), np.full((4, 5), math.nan, np.float32), np.ma.ones((4, 5)), np.ones((4, 5), ">f4"),
    np.ones((4, 5), np.float16), np.ones((2, 2), np.longdouble), np.zeros(2, "M8[s]"), torch.ones(2, 2).to_sparse(),
    torch.empty(4, 5, device="meta"), torch.ones(2, 2, dtype=torch.bfloat16), torch.ones(4, 5).requires_grad_()]

# ---------------------------------------------------------------- what is said

@cache
def homes():
    "Function -> its module. One module defines a name, as tests/test_house.py wants it."
    return {s.name: name for name, path in modules(ROOT).items() if not name.startswith("solutions.")
            for s in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(s, ast.FunctionDef)}

def function(name):
    "A function by its name, and a method of `Machine` by both names, for this machine."
    if name.startswith("Machine."): return getattr(matmul_course.this_machine(), name.removeprefix("Machine."))
    return getattr(import_module(f"matmul_course.{homes()[name]}"), name)

def argument_names(fn, count):
    "The parameter that each argument of a call goes to."
    at = [(p.name, p.kind) for p in inspect.signature(fn).parameters.values()]
    many = next((i for i, (_, kind) in enumerate(at) if kind is inspect.Parameter.VAR_POSITIONAL), count)
    return [at[min(i, many)][0] for i in range(count)]

def begins_with(name, message):
    "`a: …`; or, where arguments do not fit each other, `a and b: …`, `a @ b: …`."
    subject = re.match(r"(\w+(?:(?:, | and | @ )\w+)*): ", message)
    return subject is not None and name in re.findall(r"\w+", subject[1])

def test_a_message_begins_with_the_name():
    assert all(begins_with("a", m) for m in ("a: no", "a and b: no", "b @ a: no"))
    assert not any(begins_with("a", m) for m in ("this is a: no", "a is no", "got a: no", "arg: a: no"))

def mistakes(name, argument, fn, args, at, right, count):
    "What is wrong with how a function takes nonsense for one argument."
    for thing in GARBAGE:
        if right(thing): continue
        given = [thing if i == at else (x.copy() if isinstance(x, np.ndarray) else x) for i, x in enumerate(args)]
        count("calls with nonsense")
        said = repr(thing)[:40].replace("\n", " ")
        try: fn(*given)
        except (ValueError, TypeError) as e:
            if not begins_with(argument, str(e)): yield f"{argument}={said} says: {e}"
        except Exception as e: yield f"{argument}={said} raises {type(e).__name__}: {e}"
        else: yield f"{argument}={said} is taken"

@pytest.mark.parametrize("name", CALLS)
def test_nonsense_is_named(name, monkeypatch, tmp_path, count):
    monkeypatch.chdir(tmp_path)
    fn, (args, right) = function(name), CALLS[name]
    found = [m for at, argument in enumerate(argument_names(fn, len(args)))
             for m in mistakes(name, argument, fn, args, at, right.get(argument, nothing), count)]
    assert not found, f"{fn.__module__}.{name}\n" + "\n".join(found)

# ---------------------------------------------------------------- what is right

def plain(x):
    "A matrix as the simplest array that holds its numbers; anything else as it is."
    if isinstance(x, torch.Tensor): x = x.detach().numpy()
    return np.array(x, np.float32) if isinstance(x, np.ndarray) else x

def text(result):
    "A result in a form that can be compared."
    if hasattr(result, "_repr_html_"): return result._repr_html_()
    return np.asarray(plain(result)).tolist()

@pytest.mark.parametrize("name", [name for name, (_, right) in CALLS.items() if {*FORMS} & {*right.values()}])
def test_a_matrix_in_another_form_gives_the_same(name):
    "Big-endian, half precision, masked, with a gradient: as a plain array would, or refused by name."
    fn, (args, right) = function(name), CALLS[name]
    for at, argument in enumerate(argument_names(fn, len(args))):
        for thing in filter(matrix, GARBAGE):
            if right.get(argument) not in FORMS: continue
            given, simple = ([v if i == at else x for i, x in enumerate(args)] for v in (thing, plain(thing)))
            try: result = fn(*given)
            except (ValueError, TypeError) as e: assert begins_with(argument, str(e)), f"{name}({argument}={thing!r}) says: {e}"
            else: np.testing.assert_equal(text(result), text(fn(*simple)), f"{name}({argument}={thing!r})")

def test_right_calls_pass():
    from matmul_course.gpu.compiler import COMPILER, installed
    without = set() if all(map(installed, COMPILER)) else {"compile_kernel"}     # the oldest versions are tried without it; macOS has none
    for name in CALLS.keys() - without: function(name)(*CALLS[name][0])

def test_every_function_from_the_top_is_tried():
    takes = {n for n in matmul_course._home_of if inspect.isfunction(f := getattr(matmul_course, n)) and inspect.signature(f).parameters}
    assert not (missing := takes - CALLS.keys()), missing
