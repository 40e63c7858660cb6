"Importing the package is cheap, its public names are there, and the ladder is the same whatever was imported before."
import importlib.util, pkgutil, subprocess, sys
from importlib import import_module
from types import ModuleType
import pytest
import matmul_course
from matmul_course.app.ladder import LESSONS, rungs

# What others rely on. A name may be added here; to take one away breaks somebody's program.
PUBLIC = """load_mnist linear_layer matmul_shape error_bound check_matmul rung rungs bench race this_machine broadcast_shape einsum_by_hand
    matmul matmul_loops matmul_dot matmul_elementwise matmul_torch_dot matmul_broadcast matmul_einsum matmul_torch matmul_numpy matmul_ikj
    matmul_packed matmul_tile matmul_parallel matmul_skinny matmul_wide matmul_cuda matmul_cuda_coalesced matmul_cuda_shared
    matmul_cuda_tiles matmul_cuda_pipelined matmul_mixed matmul_sharded cuda compile_kernel profile predict predictions
    launch_kernel ceil_div coalesced_kernel dot arithmetic_intensity warps_to_hide occupancy linear train""".split()

HEAVY = ("numpy", "torch", "numba", "matplotlib", "nbdev", "jupyterlab", "IPython", "fastcore")

def python(code):
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()

def test_the_package_alone_loads_nothing_heavy_and_takes_no_time():
    code = ("import time, sys; t = time.process_time(); import matmul_course; t = time.process_time() - t; "
            f"print([m for m in {HEAVY} if m in sys.modules], t)")
    loaded, seconds = zip(*(python(code).rsplit(" ", 1) for _ in range(3)))
    assert set(loaded) == {"[]"} and min(map(float, seconds)) < 0.1

TOOLS = "tools.checks", "tools.machine", "tools.thread_pools", "tools.timing", "tools.figure", "app.ladder", "app.commands"

@pytest.mark.parametrize("tool", TOOLS)
def test_tools_load_the_heavy_ones_only_when_asked(tool):
    heavy = [m for m in HEAVY if m not in ("numpy", "fastcore")]
    assert python(f"import matmul_course.{tool}, sys; print([m for m in {heavy} if m in sys.modules])") == "[]"

def test_every_public_name_can_be_imported_from_the_top():
    assert sorted(matmul_course._home_of) == sorted(PUBLIC) == sorted(matmul_course.__all__)
    assert set(PUBLIC) <= set(dir(matmul_course))
    for name, home in matmul_course._home_of.items():
        assert getattr(matmul_course, name) is getattr(import_module(f"matmul_course.{home}"), name)
    with pytest.raises(AttributeError, match="'matmul_course' has no attribute 'nothing'"): matmul_course.nothing
    with pytest.raises(ImportError, match="nothing"): exec("from matmul_course import nothing")

def test_the_function_of_every_rung_is_public():
    for r in rungs().values(): assert getattr(matmul_course, r.fn.__name__) is r.fn

def test_a_public_name_never_gives_a_module_of_the_package():
    "An import of `matmul_course.x` sets the attribute x of the package, and would hide a public name x for good."
    for name in PUBLIC: assert importlib.util.find_spec(f"matmul_course.{name}") is None, f"there is a module of the name {name}"
    for module in pkgutil.walk_packages(matmul_course.__path__, "matmul_course."): import_module(module.name)
    for name in PUBLIC:
        found = getattr(matmul_course, name)
        assert not isinstance(found, ModuleType) or not found.__name__.startswith("matmul_course"), name

def test_no_subpackage_offers_a_name_that_is_also_one_of_its_modules():
    subpackages = [m for m in pkgutil.iter_modules(matmul_course.__path__, "matmul_course.") if m.ispkg]
    assert len(subpackages) >= 5
    for package in (import_module(m.name) for m in subpackages):
        for m in pkgutil.iter_modules(package.__path__):
            import_module(f"{package.__name__}.{m.name}")
            assert isinstance(getattr(package, m.name), ModuleType), f"{package.__name__} offers {m.name}, and has a module of that name"
            assert m.name not in getattr(package, "__all__", ()), f"{package.__name__}.{m.name}"

def test_the_ladder_is_the_same_after_lessons_in_reverse():
    ask = "; ".join(["import importlib", f"[importlib.import_module('matmul_course.' + m) for m in {LESSONS[::-1]!r}]",
                     "from matmul_course.app.ladder import rungs", "print(list(rungs()))"])
    assert python(ask) == str(list(rungs()))

def test_rungs_stand_in_lesson_order():
    lessons = [LESSONS.index(r.lesson) for r in rungs().values()]
    assert len(lessons) >= 8 and lessons == sorted(lessons)
