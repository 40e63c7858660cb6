"Matmuls called from four threads at once, and in processes that fork and spawn made."
import multiprocessing, os, subprocess, sys
from concurrent.futures import ThreadPoolExecutor
import numpy as np, pytest
from matmul_course.tools.checks import error_bound
from matmul_course.app.ladder import rungs

SHAPES = (3, 4, 5), (33, 300, 10), (200, 150, 220)          # the last two are shared out to threads where a rung has them
SLOW = "loops", "numba_dot", "elementwise", "torch_dot"     # one number of C at a time: the first shape only

def products(name, seed=0):
    "AssertionError unless the rung is right on each shape."
    rng = np.random.default_rng(seed)
    for M, K, N in SHAPES[:1] if name in SLOW else SHAPES:
        a, b = rng.standard_normal((M, K), np.float32), rng.standard_normal((K, N), np.float32)
        assert (abs(rungs()[name](a, b) - a.astype(np.float64) @ b) <= error_bound(a, b)).all(), (name, M, K, N)

def all_products(names):
    for name in names: products(name)

def run_in(method, names):
    "The exit code of a child; a minute without an end counts as a hang."
    child = multiprocessing.get_context(method).Process(target=all_products, args=(names,))
    child.start()
    child.join(60)
    if child.is_alive():
        child.kill()
        return "hangs"
    return child.exitcode

@pytest.mark.parametrize("name", rungs())
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_after_a_fork(name):
    "The parent has used its threads; they do not exist in the child."
    if "fork" not in multiprocessing.get_all_start_methods(): pytest.skip("no fork on this system")
    products(name)
    assert run_in("fork", [name]) == 0

COMPILES = """
import os, threading, time, numba, numpy as np
from matmul_course.app.ladder import rungs
from matmul_course.emulator.host import Cuda
import fuzz
def numba_compiles(n): assert numba.njit(eval(f"lambda x: np.sqrt(x) + {n}", dict(np=np)))(4.) == 2 + n
def emulator_compiles(n): fuzz.compiled(fuzz.define(f"def kernel(x, y, n): y[0] = {n}", f"kernel {n}"), *np.zeros((2, 5)), 2)
def again_and_again(do):
    for n in range(1000, 10**9): do(n)
for do in (numba_compiles, emulator_compiles):
    threading.Thread(target=again_and_again, args=(do,), daemon=True).start()
time.sleep(1)
for n in range(4):
    time.sleep(.03)
    if not (child := os.fork()):
        numba_compiles(n)
        emulator_compiles(n)
        os._exit(7)
    deadline = time.time() + 60
    while not (end := os.waitpid(child, os.WNOHANG))[0] and time.time() < deadline: time.sleep(.02)
    if not end[0]: os.kill(child, 9)
    print(os.waitstatus_to_exitcode(end[1]) if end[0] else "hangs", flush=True)
os._exit(0)
"""

def python(code, **env):
    "A process of its own that finds this folder."
    env = os.environ | dict(PYTHONPATH=os.pathsep.join([os.path.dirname(__file__), *sys.path])) | env
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=500)

@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_child_may_compile_though_another_thread_did_when_it_was_forked():
    assert python(COMPILES).stdout.split() == 4 * ["7"]

@pytest.mark.parametrize("names", [("parallel", "wide", "matmul"), pytest.param(tuple(rungs()), marks=pytest.mark.slow)])
def test_after_spawn(names):
    "Those that share a product out to threads; all of them with --full. A new process compiles each anew."
    assert run_in("spawn", names) == 0

@pytest.mark.parametrize("name", rungs())
def test_from_four_threads_at_once(name):
    with ThreadPoolExecutor(4) as pool: list(pool.map(lambda seed: products(name, seed), range(8)))

def test_from_four_threads_on_numbas_own_queue():
    "The one that a Mac has. It ends a process in which two callers enter it at once."
    code = ("from concurrent.futures import ThreadPoolExecutor; import numba, test_processes as t\n"
            "for name in ('parallel', 'skinny', 'wide', 'matmul'):\n"
            "    with ThreadPoolExecutor(4) as pool: list(pool.map(lambda seed: t.products(name, seed), range(8)))\n"
            "print(numba.threading_layer())")
    r = python(code, NUMBA_THREADING_LAYER="workqueue")
    assert r.returncode == 0 and r.stdout.strip() == "workqueue", r.stderr[-2000:]

WITHOUT_COMPILER = """
import numpy as np, matmul_course
from matmul_course.app.ladder import rungs
[getattr(matmul_course, name) for name in matmul_course._home_of]
for name, r in rungs().items():
    try: assert r(np.ones((2, 3), "f4"), np.ones((3, 4), "f4")).sum() == 24
    except RuntimeError as e: print(name, e)
"""

def test_what_has_to_be_compiled_says_so_where_numba_may_not():
    "All else works: it can be imported, and the rungs of Python, of torch and of NumPy compute."
    r = python(WITHOUT_COMPILER, NUMBA_DISABLE_JIT="1")
    assert r.returncode == 0 and all("NUMBA_DISABLE_JIT" in line for line in r.stdout.splitlines()), r.stderr
    refused = {line.split()[0] for line in r.stdout.splitlines()}
    assert refused > {"ikj", "matmul", "cuda_shared"} and not refused & {"loops", "numba_dot", "torch", "numpy"}
