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
    env = os.environ | dict(NUMBA_THREADING_LAYER="workqueue", PYTHONPATH=os.pathsep.join([os.path.dirname(__file__), *sys.path]))
    r = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=300)
    assert r.returncode == 0 and r.stdout.strip() == "workqueue", r.stderr[-2000:]
