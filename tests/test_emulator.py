"""The emulator: kernels from outside, random kernels against the simple way, what is refused, what is kept on disk.
pytest --full runs every kernel and more seeds."""
import linecache, math, os, shutil, subprocess, sys, threading
from collections import Counter
from pathlib import Path
import numpy as np, pytest, torch
from numba import float32, float64, int32, int64
from matmul_course.emulator import BarrierError, RaceError, Unsupported, Watch, launch, launch_simply
from matmul_course.emulator.devices import lower
from matmul_course.emulator.host import Cuda
from matmul_course.emulator.keep import cache_key
from matmul_course.gpu.choice import choose
import fuzz, kernels

cuda = Cuda()
pytestmark = pytest.mark.skipif(not kernels.cuda.emulated, reason="a GPU runs these kernels")

@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    "Nothing is found on disk that another run has left there."
    old, os.environ["MATMUL_COURSE_CACHE"] = os.environ.get("MATMUL_COURSE_CACHE"), str(tmp_path_factory.mktemp("kernels"))
    yield
    os.environ.pop("MATMUL_COURSE_CACHE")
    if old is not None: os.environ["MATMUL_COURSE_CACHE"] = old

def define(text, **env):
    "A kernel from its text."
    file = f"<test {abs(hash(text))}>"
    linecache.cache[file] = len(text), None, text.splitlines(True), file
    env = dict(cuda=cuda, np=np, math=math, float32=float32, float64=float64, int32=int32, int64=int64) | env
    exec(compile(text, file, "exec"), env)
    return env["k"]

def body(*lines, args="x"): return define(f"def k({args}):\n    t = cuda.threadIdx.x\n" + "".join(f"    {line}\n" for line in lines))

# ---- kernels from outside
SOME = ["increment_2d", "puzzle_convolution", "fast_matmul_of_the_docs", "sgemm_2d_register_tiles", "mandelbrot",
        "monte_carlo_pi", "softmax_rows", "swap_until_sorted", "row_views"]

def some(names):
    return pytest.mark.parametrize("name", [n if n in names else pytest.param(n, marks=pytest.mark.slow) for n in kernels.KERNELS])

@some(SOME)
def test_kernels_from_outside(name):
    kernels.hold(name, lambda kernel, grid, block, shared, *args: kernel[grid, block, 0, shared](*args))

@pytest.mark.parametrize("name", kernels.KERNELS)
def test_the_simple_way_gives_the_same(name):
    kernels.hold(name, lambda kernel, grid, block, shared, *args: launch_simply(kernel.py_func, grid, block, *args, shared=shared))

def test_numbas_simulator_gives_the_same():
    "The same kernels, in the same sizes, by Numba's own simulator: the answers that they are held to are not ours alone."
    env = dict(os.environ, NUMBA_ENABLE_CUDASIM="1")
    run = subprocess.run([sys.executable, str(Path(__file__).with_name("kernels.py"))], capture_output=True, text=True, env=env)
    if "No module named 'numba.cuda'" in run.stderr: pytest.skip("this Numba has no simulator")
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == list(kernels.KERNELS)

@some(["histogram", "compact_with_counter"])
def test_right_kernels_have_no_race(name):
    kernels.hold(name, lambda kernel, grid, block, shared, *args: launch(kernel, grid, block, *args, shared=shared, check="races"))

# ---- random kernels
def tally(way, seeds, threads=fuzz.THREADS):
    with np.errstate(over="ignore"): return Counter(o for seed in seeds for o in fuzz.compare(seed, way, threads))

def test_random_kernels_emitted_text(examples):
    found, warps = tally(fuzz.interpreted, range(examples(30))), tally(fuzz.interpreted, range(examples(3)), 40)
    assert found["equal"] > 45 and found["both diverged"] > 0 and warps["equal"] > 4

@pytest.mark.parametrize("threads", [fuzz.THREADS, pytest.param(40, marks=pytest.mark.slow)])
def test_random_kernels_compiled(threads, examples):
    assert tally(fuzz.compiled, range(2000, 2000 + examples(3 if threads < 32 else 1)), threads)["equal"]

# ---- indices
@pytest.mark.parametrize("line, shape, said", [
    ("x[t] = 1", 3, "index 3 on axis 0 of x, which has 3"),
    ("x[t - 1] = 1", 4, "index -1 on axis 0 of x, which has 4"),
    ("x[0, t] += 1", (2, 3), "index 3 on axis 1 of x, which has 3"),
    ("x[1][t] = 1", (2, 3), "index 3 on axis 0 of x[1], which has 3"),
    ("x[t, 0:2] = 1", (3, 3), "index 3 on axis 0 of x, which has 3"),
    ("cuda.atomic.add(x, (0, t), 1)", (2, 3), "index 3 on axis 1 of x, which has 3"),
    ("view = x[1:3]; view[t] = 1", 4, "index 2 on axis 0 of view, which has 2"),
    ("at = (t, 0); x[at] = 1", (3, 2), "index 3 on axis 0 of x, which has 3"),
    ("s = cuda.shared.array(3, float32); s[t] = 1", 4, "index 3 on axis 0 of s, which has 3"),
    ("w = cuda.local.array((2, 3), float32); w[1, t] = 1", 4, "index 3 on axis 1 of w, which has 3"),
])
def test_every_index_is_checked(line, shape, said):
    lines = line.split("; ")
    with pytest.raises(IndexError) as error: launch(body(*lines), 1, 4, np.zeros(shape, np.float32))
    assert said in str(error.value) and f"k, line {2 + len(lines)}, block (0, 0, 0), thread (" in str(error.value)
    assert lines[-1] in str(error.value)

PAIR = np.dtype([("a", np.float32), ("float16_b", np.float32)])

@pytest.mark.parametrize("line", ["x[t].a = 1", "x[t].a += 1", "x[t]['a'] += 1", "y[0] = x[t].float16_b"])
def test_the_index_before_a_field_is_checked(line):
    "Behind the end of `x` there is memory that belongs to nobody else; a field may have any name."
    memory, kernel = np.zeros(100, PAIR), body(line, args="x, y")
    with pytest.raises(IndexError, match="index 3 on axis 0 of x, which has 3"): launch(kernel, 1, 4, memory[:3], np.zeros(1))
    launch(kernel, 1, 4, memory[:4], np.zeros(1))
    assert memory[3]["a"] == ("=" in line and "y" not in line) and (memory[4:]["a"] == 0).all()

def test_an_index_in_a_device_function_is_checked():
    @cuda.jit(device=True)
    def inner(a, i): return a[i]
    @cuda.jit(device=True)
    def outer(a, i): return inner(a, i + 1)
    @cuda.jit
    def kernel(x, y): y[cuda.grid(1)] = outer(x, cuda.grid(1))
    x, y = np.arange(9.), np.zeros(8)
    kernel[2, 4](x, y)
    assert (y == x[1:]).all()
    said = r"inner, line \d+, block \(1, 0, 0\), thread \(3, 0, 0\): index 8 on axis 0 of a, which has 8"
    with pytest.raises(IndexError, match=said): kernel[2, 4](x[:8].copy(), y)

# ---- barriers
@pytest.mark.parametrize("lines, line", [
    (["if t < 2:", "    cuda.syncthreads()"], 3),
    (["for i in range(t):", "    cuda.syncthreads()"], 3),
    (["if t < 2: return", "cuda.syncthreads()"], 4),
    (["while t < 3:", "    t += 1", "    cuda.syncthreads()"], 3),
    (["for i in range(3):", "    if t == i: break", "    cuda.syncthreads()"], 4),
])
def test_a_barrier_that_part_of_the_block_misses(lines, line):
    with pytest.raises(BarrierError, match=f"k, line {line}, "): launch(body(*lines), 1, 4, np.zeros(4))
    with pytest.raises(BarrierError): launch_simply(body(*lines), 1, 4, np.zeros(4))

def test_all_may_return_before_a_barrier():
    x = np.zeros(4)
    launch(body("x[t] = 1", "if x.size == 4: return", "cuda.syncthreads()", "x[t] = 2"), 1, 4, x)
    assert (x == 1).all()

# ---- races
TILES = ["s = cuda.shared.array(4, float64)", "for k in range(3):", "    s[t] = x[4 * k + t]", "    cuda.syncthreads()",
         "    for j in range(4): y[t] += s[j]", "    cuda.syncthreads()"]

def test_a_missing_barrier_at_the_back_edge_is_found():
    x, y = np.arange(12.), np.zeros(4)
    launch(body(*TILES, args="x, y"), 1, 4, x, y, check="races")
    assert (y == x.sum()).all()
    y[:] = 0
    launch(body(*TILES[:-1], args="x, y"), 1, 4, x, y)
    assert (y == x.sum()).all()                               # the results hide it
    with pytest.raises(RaceError, match=r"line 5, block .*thread .*: s is also touched by thread .* at line 7"):
        launch(body(*TILES[:-1], args="x, y"), 1, 4, x, y, check="races")
    with pytest.raises(RaceError, match=r"line [56], .*: s is also touched by thread .* at line [56]"):
        launch(body(*TILES[:3], *TILES[4:], args="x, y"), 1, 4, x, y, check="races")

@pytest.mark.parametrize("line, grid, races", [
    ("x[t] = 1", 1, False), ("x[t] = 1", 2, True), ("x[cuda.grid(1) // 2] = 1", 1, True), ("x[t] += x[0]", 1, True), ("y = x[0]", 2, False),
    ("cuda.atomic.add(x, 0, 1)", 2, False), ("cuda.atomic.add(x, 0, t); y = x[0]", 1, True), ("x[0] = x[t]", 1, True),
])
def test_races_in_global_memory(line, grid, races):
    def run(): launch(body(*line.split("; ")), grid, 4, np.zeros(4), check="races")
    if not races: return run()
    with pytest.raises(RaceError, match="x is also touched by thread"): run()

# ---- what is refused
@pytest.mark.parametrize("line, said", [
    ("g = cuda.cg.this_warp()", "cuda.cg.this_warp"), ("cuda.shfl_sync(-1, x[0])", "cuda.shfl_sync takes 3 arguments"),
    ("cuda.atomic.foo(x, 0, 1)", "cuda.atomic.foo"), ("y = cuda.to_device(x)", "cuda.to_device"),
    ("y = np.zeros(3)", "np.zeros"), ("y = np.sum(x)", "np.sum"), ("y = sum(x)", "sum is not for kernels"),
    ("s = cuda.shared.array(x.size, float32)", "must be known when the kernel is compiled"),
    ("x[0] = unknown", "unknown is not defined"), ("x[0] = plain(1)", "plain is a plain function"),
    ("return 3", "returns nothing"), ("raise", "one exception"), ("y = [1, 2]", "List"), ("y = lambda v: v", "Lambda"),
])
def test_unsupported_is_refused_by_name(line, said):
    kernel = define(f"def plain(v): return v\n\ndef k(x):\n    {line}\n")
    with pytest.raises(Unsupported) as error: launch(kernel, 1, 4, np.zeros(4))
    assert said in str(error.value) and line in str(error.value)

@pytest.mark.parametrize("grid, block, error, said", [
    (1, 1025, ValueError, "1025 along x"), (1, (32, 33), ValueError, "1056 threads"), (1, (1, 1, 65), ValueError, "65 along z"),
    (0, 1, ValueError, "0 along x"), ((1, 0), 1, ValueError, "0 along y"), (1, 0, ValueError, "0 along x"),
    (-1, 1, ValueError, "-1 along x"), ((1, 65536), 1, ValueError, "65536 along y"), (2**31, 1, ValueError, "along x"),
    (1.5, 1, TypeError, "integers"), ((1, 1, 1, 1), 1, ValueError, "1, 2 or 3 integers"),
    (True, 1, TypeError, "integers"), (1, (2, True), TypeError, "integers"),
])
def test_what_a_gpu_refuses(grid, block, error, said):
    with pytest.raises(error, match=said): cuda.jit(body("x[0] = 1"))[grid, block]

def test_shared_memory_has_a_limit():
    static = body("s = cuda.shared.array((100, 200), float32)", "s[0, t] = 1")
    with pytest.raises(ValueError, match="80000 bytes of static and 0 of dynamic .*a block has 49152"): launch(static, 1, 4, np.zeros(4))
    with pytest.raises(ValueError, match="49153"): launch(body("x[t] = 1"), 1, 4, np.zeros(4), shared=49153)

def test_shared_memory_starts_as_nan():
    x = np.zeros((3, 4))
    kernel = body("s = cuda.shared.array(4, float32)", "d = cuda.shared.array(0, float64)", "w = cuda.local.array(1, float64)",
                  "x[0, t] = s[t]; x[1, t] = d[t]; x[2, t] = w[0]")
    launch(kernel, 1, 4, x, shared=32)
    assert np.isnan(x).all()

# ---- arguments and signatures
def test_declared_types_are_kept():
    @cuda.jit("void(float32[:], float32)")
    def third(x, a): x[cuda.grid(1)] = a / 3
    @cuda.jit("float32(float32)", device=True)
    def narrow(v): return v * v
    @cuda.jit
    def wide(x, v): x[0] = narrow(v)
    x, y = np.zeros(4, np.float32), np.zeros(1)
    third[1, 4](x, 2.0)
    assert x[0] == np.float32(2.0) / np.float32(3)
    wide[1, 1](y, 1.1)
    assert y[0] == float(np.float32(1.1) * np.float32(1.1)) != 1.1 * 1.1
    with pytest.raises(TypeError, match="No matching definition"): third[1, 4](np.zeros(4), 2.0)

def test_the_accumulator_is_as_wide_as_the_source_says():
    values = np.full(100000, 0.1, np.float32)
    def total(start):
        out = np.zeros(1)
        launch(body(f"acc = {start}", "for i in range(x.size): acc += x[i]", "y[0] = acc", args="x, y"), 1, 1, values, out)
        return out[0]
    assert total("0.") == np.cumsum(values.astype(np.float64))[-1] and total("float32(0)") == np.cumsum(values)[-1] != total("0.")

def test_arguments_that_no_kernel_takes():
    kernel = cuda.jit(body("x[t] = 1"))
    with pytest.raises(TypeError, match=r"x: a kernel does not take a builtins.list; cuda.to_device"): kernel[1, 4]([0, 0])
    with pytest.raises(TypeError, match="x: a float16 in a tuple"): kernel[1, 4]((np.float16(1), 2))
    with pytest.raises(ValueError, match="x: an array with strides"): kernel[1, 4](np.zeros((4, 2))[:, 0])
    with pytest.raises(TypeError, match=r"k takes 1 arguments \(x\), not 2"): kernel[1, 4](np.zeros(4), 1)

def test_device_arrays_are_copies():
    tensor = torch.arange(6.).reshape(2, 3)
    d = cuda.to_device(tensor)
    assert (d.shape, d.dtype, d.ndim, d.size, d.nbytes) == ((2, 3), np.float32, 2, 6, 24)
    cuda.jit(body("x[0, t] = 9"))[1, 3](d)
    assert tensor[0, 0] == 0 and d.copy_to_host()[0].tolist() == [9, 9, 9]
    out = np.zeros((2, 3), np.float32)
    assert d.copy_to_host(out, stream=cuda.stream()) is out and out[0, 0] == 9
    d.copy_to_device(tensor.numpy())
    assert d[0, 0] == 0 and np.isnan(cuda.device_array_like(d).copy_to_host()).all()
    with pytest.raises(ValueError, match="ary"): d.copy_to_host(np.zeros((2, 3)))

def test_sums_with_atomics_are_added_in_order():
    x, y = np.random.default_rng(0).random(2**18).astype(np.float32), np.zeros(1, np.float32)
    launch(body("cuda.atomic.add(y, 0, x[cuda.grid(1)])", args="x, y"), 2**12, 64, x, y)
    assert y[0] == np.cumsum(x)[-1]

def test_many_threads_launch_at_once():
    kernel, outs = cuda.jit(body("x[cuda.grid(1)] = cuda.blockIdx.x")), [np.zeros(64) for _ in range(4)]
    threads = [threading.Thread(target=lambda o=o: kernel[16, 4](o)) for o in outs]
    for t in threads: t.start()
    for t in threads: t.join()
    assert all((o == np.repeat(np.arange(16), 4)).all() for o in outs)

# ---- what is kept
MODULE = "from matmul_course.gpu.choice import cuda\nFACTOR = {factor}\n@cuda.jit(device=True)\ndef helper(v): return v * FACTOR {more}\n"
SCRIPT = """
import os, numpy as np
from pathlib import Path
from matmul_course.gpu.choice import cuda
from helpers import helper
SIZE = {size}
def kept(): return len([*Path(os.environ["MATMUL_COURSE_CACHE"]).glob("kernels/*")])
before = kept()
@cuda.jit
def kernel(x):
    s = cuda.shared.array(SIZE, 'float64')
    i = cuda.grid(1)
    s[i % SIZE] = helper(x[i]) {more}
    x[i] = s[i % SIZE] + SIZE
x = np.ones(4)
kernel[1, 4](x)
print(x[0], kept() - before)
"""

EACH_IN_TURN = """
import importlib, runpy, shutil, sys
sys.path[0], sys.dont_write_bytecode = "now", True
for version in sys.argv[1:]:
    shutil.copytree(version, "now", dirs_exist_ok=True)
    importlib.invalidate_caches()
    sys.modules.pop("helpers", None)
    runpy.run_path("now/script.py")
"""

def test_what_is_kept_on_disk_is_never_stale(tmp_path):
    "A second process finds the kernel; an edit of kernel, device function or global, in the same files, makes it anew."
    env = dict(os.environ, MATMUL_COURSE_CACHE=str(tmp_path / "cache"), MATMUL_COURSE_CUDA="emulate")
    (tmp_path / "turns.py").write_text(EACH_IN_TURN, encoding="utf-8")
    def write(folder, factor=2, more="", size=4, own=""):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "helpers.py").write_text(MODULE.format(factor=factor, more=more), encoding="utf-8")
        (tmp_path / folder / "script.py").write_text(SCRIPT.format(size=size, more=own), encoding="utf-8")
    def run(*versions):
        done = subprocess.run([sys.executable, "turns.py", *versions], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()
    edits = {"a global of another module": dict(factor=3), "a device function of another module": dict(more="+ 1"),
             "a global that is a shape": dict(size=8), "the kernel": dict(own="+ 1")}
    for folder, edit in dict(first={}, **edits).items(): write(folder, **edit)
    assert run("first") == ["6.0 1"]
    said = run("first", *edits, "first")
    assert said == ["6.0 0", "7.0 1", "7.0 1", "10.0 1", "7.0 1", "6.0 0"]     # found, four that are new, and the first one is still there

EDITS = """
import sys, numpy as np
from pathlib import Path
import matmul_course
from matmul_course.emulator import Watch, keep
from matmul_course.emulator.devices import lower
from matmul_course.profiler import hooks
from kernels import kernel

def key():
    keep._toolchain.cache_clear()
    return keep.cache_key(lower(kernel)[1], Watch("counts", hooks.seen, log_type=1)), keep.cache_key(lower(kernel)[1], None)

assert None not in key() and key() == key()
folder = Path(matmul_course.__file__).parent
for file in sorted([*folder.glob("emulator/*.py"), *folder.glob("profiler/*.py"), *folder.glob("tools/*.py")]):
    before = key()
    with open(file, "a") as f: f.write("# an edit")
    print(f"{file.parent.name}/{file.name}", *(a != b for a, b in zip(before, key())))
"""

def test_an_edit_of_any_module_of_the_emulator_changes_the_key(tmp_path, root):
    "And so does one of the folder that a Watch comes from, for the kernels that it watches."
    shutil.copytree(root/"matmul_course", tmp_path/"matmul_course", ignore=shutil.ignore_patterns("__pycache__", "*.npz"))
    (tmp_path/"matmul_course"/"profiler"/"hooks.py").write_text("def seen(array, index, *args): return index\n", encoding="utf-8")
    (tmp_path/"kernels.py").write_text("def kernel(x): x[0] = 1\n", encoding="utf-8")
    env = dict(os.environ, PYTHONPATH=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", EDITS], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = {name: (watched, alone) for name, watched, alone in map(str.split, done.stdout.splitlines())}
    modules = {p.relative_to(root/"matmul_course").as_posix() for p in (root/"matmul_course"/"emulator").glob("*.py")}
    assert len(modules) >= 13 and "profiler/hooks.py" in said and modules < said.keys()
    wanted = dict(emulator=("True", "True"), profiler=("True", "False"), tools=("False", "False"))
    for name, changed in said.items(): assert changed == wanted[name.partition("/")[0]], name

def test_a_watch_from_no_file_is_not_kept():
    names = {}
    exec("def seen(array, index, *args): return index", names)
    unit = lower(body("x[t] = 1"))[1]
    assert cache_key(unit, None) and cache_key(unit, Watch("counts", names["seen"], log_type=1)) is None

TWO = """
import sys
import numpy as np
from matmul_course.emulator import launch
from matmul_course.gpu.choice import cuda
@cuda.jit
def one(x): x[cuda.grid(1)] = 1
@cuda.jit
def two(x): x[cuda.grid(1)] = 2
for name in sys.argv[1:]:
    x = np.zeros(4)
    launch(globals()[name], 1, 4, x, check="races")
    print(x[0])
"""

@pytest.mark.slow                       # test_emulator_cache.py has three processes
def test_kernels_compiled_in_two_processes_are_not_mixed_up(tmp_path):
    "Numba's symbols may be the same for both; the second that comes to a process then turned into the first."
    env = dict(os.environ, MATMUL_COURSE_CACHE=str(tmp_path / "cache"), MATMUL_COURSE_CUDA="emulate")
    (tmp_path / "script.py").write_text(TWO, encoding="utf-8")
    def run(*names):
        done = subprocess.run([sys.executable, "script.py", *names], cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()
    assert run("one") + run("two", "one") == ["1.0", "2.0", "1.0"]

def test_a_changed_global_is_seen_in_the_same_process():
    kernel = define("def k(x):\n    x[0] = FACTOR\n", FACTOR=1)
    x = np.zeros(1)
    launch(kernel, 1, 1, x)
    kernel.__globals__["FACTOR"] = 2
    launch(kernel, 1, 1, x)
    assert x[0] == 2

def test_a_method_of_a_global_array_is_no_change_of_it():
    "`W.sum` and `W.T` are new objects each time, and the kernel is compiled once all the same."
    env = dict(W=np.arange(4.))
    kernel, x = cuda.jit(define("def k(x):\n    x[0] = W.sum() + W.T[1]\n", **env)), np.zeros(1)
    kernel[1, 1](x)
    [first] = kernel.compiled.values()
    kernel[1, 1](x)
    assert x[0] == 7 and [*kernel.compiled.values()] == [first]
    kernel.py_func.__globals__["W"] = np.ones(4)
    kernel[1, 1](x)
    assert x[0] == 5

# ---- which cuda
def test_the_setting_is_read():
    assert choose("emulate").emulated
    with pytest.raises(ValueError, match="'maybe' should be auto, gpu or emulate"): choose("maybe")

def test_emulation_does_without_numba_cuda():
    code = "import sys; from matmul_course.gpu.choice import cuda; assert cuda.emulated; print('numba.cuda' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], env=dict(os.environ, MATMUL_COURSE_CUDA="emulate"), capture_output=True, text=True)
    assert run.stdout.strip() == "False", run.stderr

def test_a_kernel_keeps_its_function_for_a_real_compiler():
    def original(x): x[cuda.grid(1)] = 1
    kernel = cuda.jit(original)
    launch(kernel, 1, 2, np.zeros(2))
    assert kernel.py_func is original and "cuda" in original.__code__.co_names
