"Importing the package is cheap, and the ladder is the same whatever was imported before."
import subprocess, sys
import pytest
import matmul_course
from matmul_course.app.ladder import LESSONS, rungs

def python(code):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()

HEAVY = ("numpy", "torch", "numba", "matplotlib", "nbdev", "jupyterlab", "IPython")

def test_the_package_alone_loads_nothing_heavy():
    assert python(f"import matmul_course, sys; print([m for m in {HEAVY} if m in sys.modules])") == "[]"

@pytest.mark.parametrize("tool", ["tools.checks", "app.ladder", "tools.machine", "tools.figure", "app.commands"])
def test_tools_load_the_heavy_ones_only_when_asked(tool):
    heavy = [m for m in HEAVY if m != "numpy"]
    assert python(f"import matmul_course.{tool}, sys; print([m for m in {heavy} if m in sys.modules])") == "[]"

def test_public_names_are_served_lazily():
    assert {"load_mnist", "race"} <= set(dir(matmul_course))
    for name in matmul_course._home_of: assert getattr(matmul_course, name) is not None
    with pytest.raises(AttributeError, match="'matmul_course' has no attribute 'nothing'"): matmul_course.nothing

def test_the_ladder_is_the_same_after_any_order_of_imports():
    orders = [LESSONS, LESSONS[::-1], LESSONS[3:5], ()]
    ask = "; ".join(["import importlib", "[importlib.import_module('matmul_course.' + m) for m in {0!r}]",
                     "from matmul_course.app.ladder import rungs", "print(list(rungs()))"])
    said = {python(ask.format(order)) for order in orders}
    assert said == {str(list(rungs()))}

def test_rungs_stand_in_lesson_order():
    lessons = [LESSONS.index(r.lesson) for r in rungs().values()]
    assert len(lessons) >= 8 and lessons == sorted(lessons)
