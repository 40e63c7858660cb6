"""The lessons where things are not as on the author's machine: each in a kernel of its own, as in JupyterLab.

Each condition holds several things at once. Here one lesson meets them all; with `pytest --full` every lesson does."""
import json, os, shutil, sys
from contextlib import contextmanager
from pathlib import Path
import pytest
from jupyter_client.manager import start_new_kernel
from matmul_course.gpu.tiles import HAS_TRITON
from test_notebooks import ROOT, lessons

GUARD = Path(__file__).parent/"guard"
FLAGS = "#| slow", "#| cuda", "#| eval: false", *["#| tiles"] * (not HAS_TRITON)

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

HERE = "the cell to stop has begun"

def stopped(manager, client, texts):
    "Run the first half, and press stop as soon as the next cell says that it has begun; it cannot end before."
    half = len(texts) // 2
    run(client, texts[:half])
    endless = f"print({HERE!r}, flush=True)\n{texts[half]}\nimport time\nwhile True: time.sleep(0.01)"
    def stop(message):
        if message["msg_type"] == "stream" and HERE in message["content"]["text"]: manager.interrupt_kernel()
    reply = client.execute_interactive(endless, output_hook=stop, timeout=300, store_history=False)["content"]
    assert reply["status"] == "error" and reply["ename"] == "KeyboardInterrupt", reply

def checkout(root, to):
    "The notebooks and the package as a reader has them, somewhere else."
    skip = shutil.ignore_patterns(".git", "__pycache__", "*.egg-info", ".ipynb_checkpoints", "tests")
    return Path(shutil.copytree(root, to, ignore=skip))

def everything(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file() and "__pycache__" not in p.parts}

def paths(root): return os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])

# ---------------------------------------------------------------- the conditions

def far_from_home(root, name, tmp):
    """A folder with a space and an accent, nothing to be written but temporary files and caches, no HOME, no network; one thread,
    and warnings are errors."""
    here, caches = checkout(root, tmp/"Übung à la carte"/"le cours"), tmp/"caches"
    caches.mkdir()
    before = everything(here)
    env = dict(PYTHONPATH=os.pathsep.join([str(GUARD), paths(here)]), GUARD_WRITE=os.path.realpath(caches), GUARD_NETWORK="1", HOME=None,
               TMPDIR=str(caches), XDG_CACHE_HOME=str(caches), IPYTHONDIR=str(caches/"ipython"), MPLCONFIGDIR=str(caches/"mpl"),
               MATMUL_COURSE_CACHE=str(caches))
    with kernel(here/"nbs", **env, **ONE_THREAD) as (_, client):
        run(client, WARNINGS_AS_ERRORS)
        run(client, [f"try: {ask}\nexcept OSError as e: assert 'the guard' in str(e)\nelse: raise AssertionError('the guard sleeps')"
                     for ask in ("__import__('urllib.request').request.urlopen('http://192.0.2.1/', timeout=1)", "open('written', 'w')")])
        run(client, sources(here/"nbs"/name))
    assert everything(here) == before

# With an accent in the path as well, Numba's own cache fails in this locale, which knows 128 characters: it encodes paths as UTF-8.
ASCII = dict(LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
ONE_THREAD = {f"{lib}_NUM_THREADS": "1" for lib in ("OMP", "MKL", "OPENBLAS", "NUMBA")}

# Of other people's modules, with the reason.
IGNORED = ["warnings.filterwarnings('ignore', module=r'(?!matmul_course|__main__).*')"]
# In our own modules and in the cells; other people's may warn of what they like.
WARNINGS_AS_ERRORS = ["import warnings\nwarnings.simplefilter('error')\n" + "\n".join(IGNORED),
                      "try: warnings.warn('tried')\nexcept UserWarning: pass\nelse: raise AssertionError('warnings pass')"]
# Of memory that the process asked for, as the kernel of Linux counts it.
TWO_GIGABYTES = ["import resource; resource.setrlimit(resource.RLIMIT_DATA, (2 * 2**30,) * 2)",
                 "try: bytearray(3 * 2**30)\nexcept MemoryError: pass\nelse: raise AssertionError('there is no limit')"]
if sys.platform != "linux": TWO_GIGABYTES = []

def stopped_and_run_twice(root, name, tmp):
    """In one kernel, the first time only until somebody pressed stop, then twice whole; in a locale that knows 128 characters, and
    lessons 01 to 06 and 11 in two gigabytes."""
    texts, small = sources(root/"nbs"/name), TWO_GIGABYTES if name < "07" or name.startswith("11") else []
    with kernel(root/"nbs", PYTHONPATH=paths(root), IPYTHONDIR=str(tmp), **ASCII) as (manager, client):
        run(client, small)
        stopped(manager, client, texts)
        run(client, 2 * texts)

LESSONS = [p.stem for p in lessons(ROOT)]

@pytest.mark.parametrize("condition", [far_from_home, stopped_and_run_twice], ids=lambda c: c.__name__)
@pytest.mark.parametrize("lesson", [n if n == "11_grid" else pytest.param(n, marks=pytest.mark.slow) for n in LESSONS])
def test_a_lesson_passes(condition, lesson, root, tmp_path): condition(root, lesson + ".ipynb", tmp_path)

def test_a_lesson_that_fails_is_seen(tmp_path):
    with kernel(tmp_path, IPYTHONDIR=str(tmp_path)) as (_, client):
        with pytest.raises(AssertionError, match="ZeroDivisionError"): run(client, ["x = 1", "x / 0"])

@pytest.mark.slow
@pytest.mark.parametrize("names", [["11_grid", "05a_subscripts"], LESSONS[::-1]], ids=["two", "all"])
def test_notebooks_in_reverse_in_one_process(names, root, tmp_path):
    "What a lesson leaves in memory, on the ladder or in torch's settings must not change another one."
    with kernel(root/"nbs", PYTHONPATH=paths(root), IPYTHONDIR=str(tmp_path)) as (_, client):
        for name in names: run(client, sources(root/"nbs"/f"{name}.ipynb"))
