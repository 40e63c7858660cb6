"Nonsense for each argument of each function in turn: a result, or an error that names the argument."
import math, re
from collections import Counter
from importlib import import_module
import numpy as np, pytest, torch
from matmul_course.gpu.choice import cuda

A, B = np.arange(20, dtype=np.float32).reshape(4, 5), np.ones((5, 3), np.float32)
S, T = torch.from_numpy(A), torch.from_numpy(B)
X = np.ones(8, np.float32)

@cuda.jit
def copy(a, c):
    i = cuda.grid(1)
    if i < a.size: c[i] = a[i]

# A right call of each function that a reader or another program calls.
CALLS = {
    "tools.arguments.as_whole": ("n", 3, 0, 9), "tools.arguments.as_real": ("x", 3.0, 0),
    "broadcasting.broadcast_shape": ((2, 3), (3,)),
    "tools.checks.matmul_shape": (A, B), "tools.checks.common_kind": (A, B), "tools.checks.operands": ("numpy",),
    "tools.checks.error_bound": (A, B, np.float32),
    "tools.checks.check_matmul": (lambda a, b: a @ b, [(2, 3, 2)], np.float32, 0, ["numpy"]),
    "tools.data.load_mnist": ("bundled",), "tools.data.linear_layer": (1,),
    "tools.pictures.draw_matmul": (A, B, 0, 0, 0, 7), "tools.pictures.draw_matmul_steps": (A[:2], B[:, :2]),
    "tools.pictures.draw_broadcast": (A, A, "+"), "tools.pictures.draw_broadcast_steps": (A[:2], A[:2], "+"), "tools.pictures.draw_layout": (A,),
    "tools.pictures.png": (np.zeros((3, 3), np.uint8),), "tools.pictures.draw_digits": (np.zeros((2, 28, 28)), [1, 2]),
    "tools.pictures.draw_digit": (np.zeros((28, 28)), 3), "tools.figure.roofline": ([("x", 2.0, 1e9)], 1e11, 1e10),
    "einsum.einsum_by_hand": ("ij,jk->ik", A, B), "einsum.draw_layers": (A[:2, :3], B[:3]),
    "elementwise.frobenius": (S,), "elementwise.draw_dot": (S[0], T[:, 0]),
    "emulator.run.launch": (copy, 1, 32, X, X.copy()), "emulator.run.launch_simply": (copy, 1, 32, X, X.copy()),
    "app.exercises.predict": ("q", 1, 1), "app.exercises.time_limit": (1,),
    "gpu.compiler.compile_kernel": (copy, "void(float32[::1], float32[::1])", "sm_80"),
    "grid.launch_kernel": (lambda p: 0, 2, 2), "grid.ceil_div": (5, 2), "grid.draw_blocks": (5, 4, (2, 2)),
    "app.ladder.rung": ("tried", "cpu", "torch", 1e6), "app.ladder.up_to": ("loops",), "app.ladder.duration": (1.0,), "app.ladder.three_digits": (1.0,),
    "app.ladder.bench": (lambda: 0,), "app.ladder.race": (A, B, ["torch"], 1, 0.01), "app.ladder.workload": (4, 4, 4),
    "tools.machine.threads": (1,), "tools.machine.measured_peak": (1, "float32"), "tools.machine.measured_bandwidth": (1,),
    "machine_code.occupancy": (32, 128, 0, 2048, 32, 100_000), "machine_code.draw_occupancy": (32, 128, 0),
    "memory.draw_inner": ("ikj",), "memory.arithmetic_intensity": (1, 2, 3, 4),
    "profiler.look.profile": (copy, 1, 32, X, X.copy()), "profiler.bounds.gpu_named": ("A100",),
    "shared_memory.draw_tiles": (0,), "shared_memory.draw_block_steps": (np.ones((4, 4)), np.ones((4, 4))),
    "threads.grid_of": (2, 4, 4), "threads.draw_shares": (2, 100, 100), "threads.which_rung": (A, B, 1),
}
RUNGS = import_module("matmul_course.app.ladder").rungs()
CALLS |= {f"{r.fn.__module__.removeprefix('matmul_course.')}.{r.fn.__name__}": (A, B) for r in RUNGS.values()}

class Named:
    def __repr__(self): return "<an object>"

GARBAGE = [None, True, -1, 0, 1.5, math.nan, math.inf, 10**30, -10**18, 2j, "x", "", "../..", b"x", [], {}, (), {1}, [[1, 2], [3]], int, Named(),
    lambda *_: 0, iter([1]), np.ones((2, 2), complex), np.array(["x"]), np.array([None]), np.ones(3, np.float32), np.zeros((0, 0), np.float32),
    np.full((4, 5), math.nan, np.float32), np.ma.ones((4, 5)), np.ones((4, 5), ">f4"), np.ones((4, 5), np.float16), np.ones((2, 2), np.longdouble),
    np.zeros(2, "M8[s]"), torch.ones(2, 2).to_sparse(), torch.empty(4, 5, device="meta"), torch.ones(2, 2, dtype=torch.bfloat16),
    torch.ones(4, 5).requires_grad_()]

# (function, place of the argument): what its values mean to somebody else, so that any of them may be right.
FREE = {("app.exercises.predict", 1), ("app.exercises.predict", 2), ("emulator.run.launch_simply", 3), ("emulator.run.launch_simply", 4), ("tools.arguments.as_whole", 0),
        ("tools.arguments.as_real", 0), ("tools.arguments.as_whole", 2), ("tools.arguments.as_whole", 3), ("tools.arguments.as_real", 2)}
SLOW = {("grid.launch_kernel", 1), ("grid.launch_kernel", 2), ("app.ladder.race", 4)}      # 10**30 positions, or seconds, are what was asked for

def argument_names(fn, count):
    import inspect
    names = list(inspect.signature(fn).parameters)
    return [names[min(i, len(names) - 1)] for i in range(count)] if "args" not in names else \
        [*names[:names.index("args")], *["args"] * count][:count]

def says_which(name, message):
    "Is the argument, or what a row of them is called, named? A path is named by itself, a kernel's arguments by the kernel's own names."
    words = {"shapes": "shapes", "operands": "operand", "args": "a|c|args", "source": "source|mnist", "value": "n|x"}
    return re.search(rf"\b({words.get(name, name)})\b", message)

def error_of(fn, *args):
    try: fn(*args)
    except Exception as e: return str(e)

tried = Counter()

@pytest.mark.parametrize("name", CALLS)
def test_nonsense_is_named(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    module, _, function = name.rpartition(".")
    fn, args = getattr(import_module(f"matmul_course.{module}"), function), CALLS[name]
    for at, argument in enumerate(argument_names(fn, len(args))):
        if (name, at) in FREE: continue
        for thing in GARBAGE:
            if (name, at) in SLOW and isinstance(thing, int) and thing > 100: continue
            if argument in ("fn", "kernel") and callable(thing): continue       # what that raises is its own
            given = [thing if i == at else (x.copy() if isinstance(x, np.ndarray) else x) for i, x in enumerate(args)]
            tried["calls"] += 1
            try:
                fn(*given)
                tried["of which a result"] += 1
            except Exception as e:
                tried["an error that names it"] += 1
                if function == "einsum_by_hand" and str(e) == error_of(np.einsum, *given): continue     # NumPy's own, for what is no array
                if function == "launch" and isinstance(e, IndexError): continue                          # what the emulator is for
                assert isinstance(e, (ValueError, TypeError)), f"{name}({argument}={thing!r}): {type(e).__name__}: {e}"
                assert says_which(argument, str(e)), f"{name}({argument}={thing!r}) says: {type(e).__name__}: {e}"

def test_right_calls_pass():
    from matmul_course.gpu.compiler import COMPILER, installed
    without = [] if all(map(installed, COMPILER)) else ["gpu.compiler.compile_kernel"]
    for name, args in CALLS.items():
        if name in without: continue                    # the oldest versions are tried without it, and there is none for macOS
        module, _, function = name.rpartition(".")
        getattr(import_module(f"matmul_course.{module}"), function)(*args)
