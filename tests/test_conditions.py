"""The lessons where things are not as on the author's machine: each in a kernel of its own, as in JupyterLab.

Here each condition meets one or two lessons; `pytest --full` takes all of them through all."""
import json, os, shutil, sys, time
from contextlib import contextmanager
from pathlib import Path
import pytest
from jupyter_client.manager import start_new_kernel

GUARD = Path(__file__).parent/"guard"
FLAGS = "#| slow", "#| cuda", "#| eval: false"

def sources(path):
    "The code cells that nbdev_test runs."
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
    return [t for t in texts if not any(line.startswith(FLAGS) for line in t.splitlines()[:3])]

@contextmanager
def kernel(cwd, **env):
    "A client of a new kernel that works in `cwd`. A variable that is None is taken out."
    env = {k: v for k, v in {**os.environ, **env}.items() if v is not None}
    manager, client = start_new_kernel(kernel_name="python3", cwd=str(cwd), env=env, startup_timeout=60)
    try: yield manager, client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)

def quiet(message): pass

def run(client, texts):
    "AssertionError with the cell and its error, for the first that fails."
    for text in texts:
        reply = client.execute_interactive(text, output_hook=quiet, timeout=300, store_history=False)["content"]
        assert reply["status"] == "ok", "\n".join([text[:300], *reply.get("traceback", [])])[-4000:]

def stopped(manager, client, texts):
    "Run the first half, and interrupt the next cell, wherever it is after a tenth of a second."
    half = len(texts) // 2
    run(client, texts[:half])
    asked = client.execute(texts[half], store_history=False)
    time.sleep(0.1)
    manager.interrupt_kernel()
    while client.get_shell_msg(timeout=300)["parent_header"].get("msg_id") != asked: pass

def checkout(root, to):
    "The notebooks and the package as a reader has them, somewhere else."
    skip = shutil.ignore_patterns(".git", "__pycache__", "*.egg-info", ".ipynb_checkpoints", "tests")
    return Path(shutil.copytree(root, to, ignore=skip))

def everything(folder): return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and "__pycache__" not in p.parts}

def paths(root): return os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])

# ---------------------------------------------------------------- the conditions

def far_from_home(root, name, tmp):
    "A folder with a space and an accent, nothing to be written but temporary files and caches, no HOME, no network."
    here, caches = checkout(root, tmp/"Übung à la carte"/"le cours"), tmp/"caches"
    caches.mkdir()
    before = everything(here)
    env = dict(PYTHONPATH=os.pathsep.join([str(GUARD), paths(here)]), GUARD_WRITE=os.path.realpath(caches), GUARD_NETWORK="1", TMPDIR=str(caches),
               HOME=None, XDG_CACHE_HOME=str(caches), IPYTHONDIR=str(caches/"ipython"), MPLCONFIGDIR=str(caches/"mpl"),
               MATMUL_COURSE_CACHE=str(caches))
    with kernel(here/"nbs", **env) as (_, client):
        run(client, ["import urllib.request\ntry: urllib.request.urlopen('http://192.0.2.1/', timeout=1)\nexcept OSError as e: assert 'the guard' in str(e)",
                     "try: open('written', 'w')\nexcept PermissionError: pass\nelse: raise AssertionError('the guard sleeps')"])
        run(client, sources(here/"nbs"/name))
    assert everything(here) == before

def stopped_and_run_again(root, name, tmp):
    "Twice in one kernel, the first time only until somebody pressed stop."
    texts = sources(root/"nbs"/name)
    with kernel(root/"nbs", PYTHONPATH=paths(root), IPYTHONDIR=str(tmp)) as (manager, client):
        stopped(manager, client, texts)
        run(client, texts)

def twice(root, name, tmp):
    with kernel(root/"nbs", PYTHONPATH=paths(root), IPYTHONDIR=str(tmp)) as (_, client): run(client, 2 * sources(root/"nbs"/name))

def on_one_thread_in_ascii(root, name, tmp):
    "In a locale that knows 128 characters. (With an accent in the path as well, Numba's own cache fails there: it encodes paths as UTF-8.)"
    one = dict(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0") | {f"{lib}_NUM_THREADS": "1" for lib in ("OMP", "MKL", "OPENBLAS", "NUMBA")}
    with kernel(root/"nbs", PYTHONPATH=paths(root), IPYTHONDIR=str(tmp), **one) as (_, client): run(client, sources(root/"nbs"/name))

# Of other people's modules, with the reason.
IGNORED = ["warnings.filterwarnings('ignore', module=r'(?!matmul_course|__main__).*')"]

def with_warnings_as_errors(root, name, tmp):
    "In our own modules and in the cells; other people's may warn of what they like."
    with kernel(root/"nbs", PYTHONPATH=paths(root), IPYTHONDIR=str(tmp)) as (_, client):
        run(client, ["import warnings\nwarnings.simplefilter('error')\n" + "\n".join(IGNORED),
                     "try: warnings.warn('tried')\nexcept UserWarning: pass\nelse: raise AssertionError('warnings pass')"])
        run(client, sources(root/"nbs"/name))

def in_two_gigabytes(root, name, tmp):
    "Of memory that the process asked for, as the kernel of Linux counts it."
    if sys.platform != "linux": pytest.skip("RLIMIT_DATA counts memory on Linux only")
    with kernel(root/"nbs", PYTHONPATH=paths(root), IPYTHONDIR=str(tmp)) as (_, client):
        run(client, ["import resource; resource.setrlimit(resource.RLIMIT_DATA, (2 * 2**30,) * 2)",
                     "try: bytearray(3 * 2**30)\nexcept MemoryError: pass\nelse: raise AssertionError('there is no limit')"])
        run(client, sources(root/"nbs"/name))

EARLY = lambda lesson: lesson < "07"
CONDITIONS = {far_from_home: ("01_loops", "10_grid"), stopped_and_run_again: ("11_cuda_kernel",), twice: ("10_grid",),
              on_one_thread_in_ascii: ("04_broadcasting",), with_warnings_as_errors: ("12_coalescing",), in_two_gigabytes: ("05_einsum",)}

def pytest_generate_tests(metafunc):
    if "condition" not in metafunc.fixturenames: return
    root, full = Path(__file__).resolve().parent.parent, metafunc.config.getoption("--full")
    every = sorted(p.stem for p in (root/"nbs").glob("[0-9]*.ipynb"))
    pairs = [(c, n) for c, few in CONDITIONS.items() for n in every if n in few or full and (c is not in_two_gigabytes or EARLY(n))]
    metafunc.parametrize("condition, lesson", pairs, ids=[f"{c.__name__}-{n}" for c, n in pairs])

def test_a_lesson_passes(condition, lesson, root, tmp_path): condition(root, lesson + ".ipynb", tmp_path)

def test_a_lesson_that_fails_is_seen(tmp_path):
    with kernel(tmp_path, IPYTHONDIR=str(tmp_path)) as (_, client):
        with pytest.raises(AssertionError, match="ZeroDivisionError"): run(client, ["x = 1", "x / 0"])

def test_all_notebooks_in_reverse_in_one_process(root, tmp_path, request):
    "What a lesson leaves in memory, on the ladder or in torch's settings must not change another one."
    every = sorted((root/"nbs").glob("[0-9]*.ipynb"), reverse=True)
    if not request.config.getoption("--full"): every = [p for p in every if p.stem in ("10_grid", "03_elementwise", "01_loops")]
    with kernel(root/"nbs", PYTHONPATH=paths(root), IPYTHONDIR=str(tmp_path)) as (_, client):
        for path in every: run(client, sources(path))
