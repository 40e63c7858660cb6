"Two runs give the same pages, but for times and what was measured."
import getpass, json, re, socket
import pytest
from matmul_course.app.commands import nbdev_test
from test_conditions import checkout
from test_honesty import code, defined, words
from test_notebooks import cells, notebooks, source
import ast

# What depends on the clock or on the machine, on whichever page it stands.
MEASURED = {"race", "bench", "Timing", "duration", "perf_counter", "time", "timeit", "measured_peak", "measured_bandwidth", "this_machine", "Machine", "peak", "bandwidth",
            "thread_counts", "blas_name", "findings", "doctor", "elapsed_time", "wall", "speed", "cpu_count", "get_num_threads", "cores", "threads", "predictions", "getsizeof",
            "vector_bytes", "VECTOR", "block_sizes", "inspect_asm", "notebooks", "versions", "__version__", "compile_time"}
MAGIC = re.compile(r"^\s*%%?time", re.M)

def measured(texts):
    "For each cell: does it lead to a measurement, by its names and what they stand for?"
    stands_for = {}
    for text in texts:
        for s in ast.parse(code(text)).body:
            for name in defined(s): stands_for.setdefault(name, set()).update(words(s))
    def leads(todo):
        seen = set()
        while todo:
            seen.add(name := todo.pop())
            todo |= stands_for.get(name, set()) - seen
        return bool(seen & MEASURED)
    return [bool(MAGIC.search(t)) or leads({*words(ast.parse(code(t)))}) for t in texts]

def outputs(path):
    "Source -> outputs, of the cells that measure nothing."
    inside = [c for c in cells(path) if c["cell_type"] == "code"]
    return {source(c): json.dumps(c["outputs"]) for c, m in zip(inside, measured([source(c) for c in inside])) if not m and c["outputs"]}

def pytest_generate_tests(metafunc):
    if "page" not in metafunc.fixturenames: return
    from test_notebooks import Path
    root = Path(__file__).resolve().parent.parent
    few = None if metafunc.config.getoption("--full") else ("03_elementwise", "10_grid", "draw")
    metafunc.parametrize("page", [str(p.relative_to(root)) for p in notebooks(root) if few is None or p.stem in few and p.parent.name != "solutions"])

def test_two_runs_show_the_same(page, root, tmp_path, monkeypatch):
    shown = []
    for n in (1, 2):
        here = checkout(root, tmp_path/f"run {n}")
        monkeypatch.chdir(here)
        nbdev_test([str(here/page), "--save"])
        shown.append(outputs(here/page))
    assert shown[0] == shown[1]
    assert shown[0] or "solutions" in page or not outputs(root/page), "nothing was compared"

def test_what_is_measured_is_found():
    page = ["def f(): return bench(g)", "x = f()", "x", "y = 2", "y", "%timeit y"]
    assert measured(page) == [True, True, True, False, False, True]

def test_saved_pages_name_no_host_and_nobody(root):
    "Paths and warnings are looked for in test_notebooks.py."
    names = {n for n in (socket.gethostname(), getpass.getuser()) if len(n) > 4}
    for p in notebooks(root):
        said = json.dumps([c.get("outputs", []) for c in cells(p)])
        assert not (found := [n for n in names if re.search(rf"\b{re.escape(n)}\b", said)]), f"{p.name}: {found}"
        assert not re.search(r"[\w.]+@[\w.]+\.(com|org|net|local)\b|ipykernel_\d+", said), p.name
