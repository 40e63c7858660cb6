"What is kept on disk never hurts: damaged, full, read-only or another user's, a kernel is compiled as if there were nothing."
import ast, linecache, os, subprocess, sys
from enum import Enum, IntEnum
from pathlib import Path
import numpy as np, pytest
from numba import float64, int64, types
from matmul_course.emulator import Watch, launch, keep
from matmul_course.emulator.devices import lower
from matmul_course.emulator.host import Cuda
from matmul_course.emulator.keep import cache_key, compile_for
from matmul_course.emulator.races import RACE_WATCH, watcher
from matmul_course.profiler.trace import profiling
from matmul_course.profiler.warp import distinct, light_jit

cuda = Cuda()
pytestmark = pytest.mark.filterwarnings("error")

def scale(x):
    for i in range(x.size): x[i] = 2 * x[i] + 1

@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MATMUL_COURSE_CACHE", str(tmp_path))
    return tmp_path / "kernels"

def was_compiled(monkeypatch, fn=scale, watch=None):
    "Whether a kernel had to be compiled; its answer is right in any case."
    calls, translate = [], keep.translate
    with monkeypatch.context() as patch:
        patch.setattr(keep, "translate", lambda *args: calls.append(1) or translate(*args))
        compiled = compile_for(fn, (types.float64[::1],), (1, 1, 1), watch)
    x = np.arange(3.)
    if not watch:
        compiled.run(0, 1, 1, 1, 1, 0, np.zeros(8, np.int64), 0, x)
        assert x.tolist() == [1, 3, 5]
    return bool(calls)

def test_damage_is_mended_once(folder, monkeypatch):
    assert was_compiled(monkeypatch) and not was_compiled(monkeypatch)
    [file] = folder.iterdir()
    whole = file.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1:]
    for damaged in (b"", b"\0" * 100, whole[:-1], whole + b"\0", flipped):
        file.write_bytes(damaged)
        assert was_compiled(monkeypatch) and not was_compiled(monkeypatch)
    other = folder / "other"
    keep.keep("other", "text", [], None)
    other.replace(file)                                       # whole, but made for another key
    assert was_compiled(monkeypatch) and not was_compiled(monkeypatch)

@pytest.mark.skipif(os.name == "nt", reason="Windows has no owners of this kind")
def test_nothing_that_another_user_could_write_is_run(folder, monkeypatch):
    assert was_compiled(monkeypatch)
    [file] = folder.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    for mode in (0o620, 0o602):
        file.chmod(mode)
        assert was_compiled(monkeypatch) and not was_compiled(monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 1 + file.stat().st_uid)
    assert was_compiled(monkeypatch) and was_compiled(monkeypatch)

def test_a_folder_that_takes_nothing(tmp_path, folder, monkeypatch):
    def full(fd): raise OSError(28, "No space left on device")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert was_compiled(monkeypatch)
    assert not list(folder.iterdir())
    (tmp_path / "file").write_text("mine", encoding="utf-8")
    monkeypatch.setenv("MATMUL_COURSE_CACHE", str(tmp_path / "file"))
    assert was_compiled(monkeypatch) and (tmp_path / "file").read_text(encoding="utf-8") == "mine"

def test_watched_kernels_are_kept_too(folder, monkeypatch):
    for watch in (RACE_WATCH, profiling()):
        assert was_compiled(monkeypatch, watch=watch) and not was_compiled(monkeypatch, watch=watch)

RUN = """
import sys, numpy as np
from matmul_course.emulator import keep, launch
from matmul_course.profiler import profile
if "again" in sys.argv: keep.translate = None                    # nothing can be compiled any more
for name in sys.argv[1].split():
    k, x = __import__(name).k, np.arange(3.)
    launch(k, 1, 3, x)
    assert profile(k, 1, 3, x).loads["x"] == 3
    print(*x)
"""

def test_a_new_process_runs_what_others_have_compiled(folder, tmp_path):
    "Two kernels of one name come from a process each, and a third runs both and compiles nothing."
    for name, line in dict(twice="2 * x[i]", more="x[i] + 5").items():
        (tmp_path / f"{name}.py").write_text(
            f"from matmul_course import cuda\ndef k(x):\n    i = cuda.grid(1)\n    x[i] = {line}\n", encoding="utf-8")
    path = os.pathsep.join([str(tmp_path), *sys.path])
    run = lambda *args: subprocess.run([sys.executable, "-c", RUN, *args], env=os.environ | dict(PYTHONPATH=path),
                                       check=True, capture_output=True, text=True).stdout.split("\n")[:-1]
    alone = run("twice") + run("more")
    assert alone == ["0.0 4.0 8.0", "10.0 11.0 12.0"] and run("twice more", "again") == alone

# ---- the key
def define(text, **env):
    file = f"<cached {abs(hash(text))}>"
    linecache.cache[file] = len(text), None, text.splitlines(True), file
    exec(compile(text, file, "exec"), env := dict(cuda=cuda, float64=float64) | env)
    return env["k"]

def key(fn, watch=None): return cache_key(lower(fn)[1], watch)

def test_what_a_class_and_an_enum_hold_is_in_the_key():
    reads_a_class = "def k(x):\n    s = cuda.shared.array(Cfg.TILE, float64)\n    s[0] = x[0]\n"
    reads_an_enum = "def k(x): x[0] = Layout.ROWS\n"
    a, b = (define(reads_a_class, Cfg=type("Cfg", (), dict(TILE=n))) for n in (4, 8))
    assert key(a) != key(b) and None not in (key(a), key(b))
    for kind in (Enum, IntEnum):
        a, b = (define(reads_an_enum, Layout=kind("Layout", dict(ROWS=n))) for n in (4, 8))
        assert key(a) != key(b) and None not in (key(a), key(b))

def test_a_class_changed_in_place_is_seen():
    cfg = type("Cfg", (), dict(TILE=4))
    kernel, x = define("def k(x):\n    s = cuda.shared.array(Cfg.TILE, float64)\n    x[0] = s.size\n", Cfg=cfg), np.zeros(1)
    launch(kernel, 1, 1, x)
    cfg.TILE = 8
    launch(kernel, 1, 1, x)
    assert x[0] == 8

def test_a_declared_signature_is_in_the_key():
    def helper(v): return v
    a, b = (define("def k(x): x[0] = f(x[0])\n", f=cuda.jit(sig, device=True)(helper)) for sig in (float64(float64), int64(int64)))
    assert key(a) != key(b)

def test_a_watch_that_may_bring_functions_from_anywhere_is_not_kept():
    assert key(scale, RACE_WATCH) and key(scale, profiling()) and not key(scale, Watch("mine", watcher(lambda *args: None)))

def test_the_profilers_own_functions_are_not_stale(tmp_path, monkeypatch):
    "Numba's cache of a function does not hear of an edit in another module; the name of each function does."
    import matmul_course.emulator.races as races
    name, edited = distinct.py_func.__qualname__, tmp_path / "races.py"
    edited.write_text(Path(races.__file__).read_text(encoding="utf-8") + "# an edit", encoding="utf-8")
    before = light_jit(distinct.py_func).py_func.__qualname__
    monkeypatch.setattr(races, "__file__", str(edited))
    assert name in before and light_jit(distinct.py_func).py_func.__qualname__ != before

def test_the_profilers_functions_notice_each_module_that_they_take_something_from():
    from matmul_course.profiler import count, warp
    tree = ast.parse(Path(count.__file__).read_text(encoding="utf-8"))
    taken = {node.module.split(".")[-1] for node in tree.body if isinstance(node, ast.ImportFrom) and node.level}
    assert taken == {"checks", "races", "follow", "trace", "warp"} == {module.__name__.split(".")[-1] for module in warp._USES}
