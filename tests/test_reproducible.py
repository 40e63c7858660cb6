"""Two runs of a page show the same, times included: the second reads from the clock what the first has read.

Here one page; `pytest --full` takes all: a lesson in processes of its own, a folder's pages in the same two."""
import getpass, json, os, re, socket, subprocess, sys
import pytest
from matmul_course.gpu.tiles import HAS_TRITON
from test_conditions import GUARD, checkout, paths
from test_notebooks import ROOT, cells, notebooks, source

RUN = ("import sys; from nbdev.test import test_nb\n"
       f"skip = {['slow', 'cuda'] + ['tiles'] * (not HAS_TRITON)}\n"
       "sys.exit(not all(test_nb(page, skip_flags=skip, save=True)[0] for page in sys.argv[1:]))")

def outputs(here, pages, tape):
    "(source, outputs) of each code cell of the pages after a run that wrote the tape, or read it."
    env = os.environ | dict(GUARD_CLOCK=str(tape), PYTHONPATH=os.pathsep.join([str(GUARD), paths(here)]))
    run = subprocess.run([sys.executable, "-c", RUN, *(here/page for page in pages)], cwd=here, env=env, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return [(source(c), json.dumps(c["outputs"])) for page in pages for c in cells(here/page) if c["cell_type"] == "code"]

AT_ONCE = "nbs/tools/timing.ipynb"

def together():
    "The lessons one by one; the pages of a folder share their processes, so that torch is imported once for all of them."
    pages = [p.relative_to(ROOT).as_posix() for p in notebooks(ROOT)]
    for folder in sorted({p.rpartition("/")[0] for p in pages} - {"nbs"}):
        yield pytest.param([p for p in pages if p.startswith(folder + "/")], marks=pytest.mark.slow, id=folder)
    yield from (pytest.param([p], marks=pytest.mark.slow, id=p) for p in pages if p.count("/") == 1)

@pytest.mark.parametrize("pages", [[AT_ONCE], *together()])
def test_two_runs_show_the_same(pages, root, tmp_path):
    here, tape = checkout(root, tmp_path/"here"), tmp_path/"tape"
    first, second = (outputs(here, pages, tape) for _ in range(2))
    differ = [f"{source}\n{a}\n{b}" for (source, a), (_, b) in zip(first, second, strict=True) if a != b]
    assert not differ, "\n\n".join(differ)

def page_of(folder, *sources):
    "A page in a project of its own."
    from nbformat import write
    from nbformat.v4 import new_code_cell, new_notebook
    (folder/"nbs").mkdir()
    (folder/"pyproject.toml").write_text("[tool.nbdev]\n", encoding="utf-8")
    write(new_notebook(cells=[new_code_cell(s) for s in sources]), folder/"nbs"/"page.ipynb")
    return "nbs/page.ipynb"

def test_what_differs_is_found(tmp_path):
    "And times are the same, by whichever clock."
    page = page_of(tmp_path, "import os, time; from time import perf_counter; time.time(), perf_counter()", "%time sum(range(9))",
                   "%timeit -n 2 -r 2 sum(range(9))", "os.urandom(4)")
    first, second = (outputs(tmp_path, [page], tmp_path/"tape") for _ in range(2))
    assert [a == b for a, b in zip(first, second)] == [True, True, True, False]

def test_saved_pages_name_no_host_and_nobody(root):
    "Paths and warnings are looked for in test_notebooks.py."
    names = {n for n in (socket.gethostname(), getpass.getuser()) if len(n) > 4}
    for p in notebooks(root):
        said = json.dumps([c.get("outputs", []) for c in cells(p)])
        assert not (found := [n for n in names if re.search(rf"\b{re.escape(n)}\b", said)]), f"{p.name}: {found}"
        assert not re.search(r"[\w.]+@[\w.]+\.(com|org|net|local)\b|ipykernel_\d+", said), p.name
