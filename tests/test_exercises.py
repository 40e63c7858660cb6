"The exercises have been shown the right answers, the wrong ones, and what becomes of a right one when it is changed."
import ast, importlib, inspect, json, pkgutil, re, signal, subprocess, sys, textwrap, time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import FunctionType
import numba
import pytest
import matmul_course.solutions
from matmul_course.app.exercises import KINDS, Exercise, function_of, made_alike
from matmul_course.app.runs import python_function
from matmul_course.gpu.tiles import HAS_TRITON

def found():
    "Name -> Exercise, over all modules of exercises."
    for m in pkgutil.iter_modules(matmul_course.solutions.__path__):
        module = importlib.import_module(f"matmul_course.solutions.{m.name}")
        for name, value in vars(module).items():
            if isinstance(value, Exercise): yield f"{m.name}.{name}", value

EXERCISES = dict(found())

SLOW = (
    "shared_memory.mend_it", "shared_memory.turned_without_conflicts", "thread_tiles.tile_with_a_hole",
    "thread_tiles.write_the_patch", "registers.break_the_chain", "threads.rows_in_parallel", "threads.mend_the_race",
    "cuda_kernel.steps_down", "coalescing.upside_down", "memory.walk_along_the_rows")
SLOW_TO_CHANGE = "tiles.fused_layer", "tiles.mend_the_loads"            # Triton interprets each change: 20 s for one answer's
TRITON = [name for name in EXERCISES if name in ("tiles.fused_layer", "tiles.mend_the_loads")]
without = pytest.mark.skipif(not HAS_TRITON, reason="takes Triton, which has wheels for Linux only")

def marked(names, slow=SLOW):
    "Names as parameters, with marks for those that are slow or take Triton."
    return [pytest.param(n, marks=[pytest.mark.slow] * (n in slow) + [without] * (n in TRITON)) for n in names]

each = pytest.mark.parametrize("name", marked(EXERCISES))

def seeds(name, request):
    "What the cases are drawn from, the same in each run: (for right answers, for wrong ones). Races are run on few."
    full = request.config.getoption("--full") and not EXERCISES[name].faster_than
    return (range(10), range(10)) if full else (range(2), range(1))

def copy_of(answer):
    "The same answer as somebody else would have written it: no check can know it by its identity."
    fn = python_function(answer)
    return made_alike(answer, FunctionType(fn.__code__, fn.__globals__, "answer", fn.__defaults__, fn.__closure__))

@each
def test_right_answers_pass(name, count, request):
    ex = EXERCISES[name]
    assert len(ex.right) >= 2 and len(ex.wrong) >= 3 and ex.hints and ex.solution
    assert len({text(f) for f in ex.right}) == len(ex.right), "two right answers that are one"
    for f in ex.right:
        for seed in seeds(name, request)[0]: assert (v := ex.check(f, seed)), f"{text(f)}\n{v.text}"
        count("right answers")

@pytest.mark.slow
@each
def test_wrong_answers_are_known_by_their_identity(name, request):
    ex = EXERCISES[name]
    for f in ex.wrong:
        for seed in seeds(name, request)[1]:
            v = ex.check(f, seed)
            assert not v and v.mistake == python_function(f).__name__, f"{text(f)}\n{v.text}"

@pytest.mark.parametrize("name", marked(EXERCISES))
def test_wrong_answers_fail_and_are_named_for_what_they_do(name, count):
    "Where they are not known by their identity: by their own name, or by none if two known ones end alike."
    ex = EXERCISES[name]
    for f in ex.wrong:
        v = ex.check(copy_of(f), 0)
        assert v.passed is False and v.mistake in ("", python_function(f).__name__), f"{text(f)}\n{v.text}"
        count("wrong answers, named" if v.mistake else "wrong answers, not named")

@pytest.mark.parametrize("name", EXERCISES)
def test_there_are_enough_answers_and_what_is_tried_is_drawn(name):
    ex = EXERCISES[name]
    assert len(ex.right) >= 3 and len(ex.wrong) >= 6 and ex.points > 0
    asks_a_value = not any(case.args for case in ex.drawn(0))
    assert asks_a_value or inspect.signature(ex.cases).parameters, "the cases take a random generator"
    if asks_a_value or ex.kind == "debug": return
    one, other = ([repr(case.args) for case in ex.drawn(seed)] for seed in (0, 1))
    assert one != other and one == [repr(case.args) for case in ex.drawn(0)]

@pytest.mark.parametrize("name", marked(name for name, ex in EXERCISES.items() if ex.given))
def test_what_is_given_is_broken_and_stands_in_the_lesson(name, root):
    ex = EXERCISES[name]
    assert ex.check(ex.given, 0).passed is None and ex.check(copy_of(ex.given), 0).passed is None
    assert replace(ex, given=None, kind="write").check(ex.given, 0).passed is False
    cells = json.loads((root/"nbs"/ex.solution.partition("#")[0]).read_text(encoding="utf-8"))["cells"]
    [stub] = [t for c in cells if f"{name.split('.')[1]}.check(answer)" in (t := "".join(c["source"]))]
    function = next(node for node in ast.parse(stub).body if isinstance(node, ast.FunctionDef))
    function.decorator_list = []
    given = ast.parse(textwrap.dedent(inspect.getsource(python_function(ex.given)))).body[0]
    given.name, given.decorator_list = "answer", []
    assert ast.unparse(function) == ast.unparse(given)

@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name, ex in EXERCISES.items() if ex.faster_than])
def test_right_and_slow_answers_are_far_apart(name):
    "By a factor of three or more, so that no busy machine turns one into the other."
    ex = EXERCISES[name]
    def asked(share):
        pace = replace(ex.faster_than, factor=ex.faster_than.factor * share)
        return replace(ex, faster_than=pace)
    for f in ex.right: assert (v := asked(1.7).check(f, 0)), f"{text(f)}\n{v.text}"
    for f in ex.wrong: assert not asked(1 / 1.7).check(f, 0), text(f)

def test_kinds(count):
    "A lesson has exercises of two kinds at least; 19 has its capstone alone."
    kinds = {}
    for name, ex in EXERCISES.items(): kinds.setdefault(name.partition(".")[0], Counter())[ex.kind] += 1
    print("".join(f"\n{lesson:16}" + "".join(f"{kind}: {n[kind]}  " for kind in KINDS) for lesson, n in kinds.items()))
    for n in kinds.values():
        for kind in n: count(f"of kind {kind}", n[kind])
    assert all(len(n) > 1 for lesson, n in kinds.items() if lesson != "race"), kinds

def text(f): return re.sub(r'^def \w+', "def f", textwrap.dedent(inspect.getsource(python_function(f))).partition("def ")[2])

# ---------------------------------------------------------------- one right answer, changed in one place

SWAPPED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
           ast.And: ast.Or, ast.Or: ast.And,
           ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.FloorDiv: ast.Mult, ast.MatMult: ast.Mult}
DTYPES = dict(float32="float64", float64="float32", int32="int64", int64="int32")

def changes(node, parent):
    "What may become of one node: replacements for it; None to take it out."
    if isinstance(node, ast.Compare) and type(node.ops[0]) in SWAPPED:
        yield ast.Compare(node.left, [SWAPPED[type(node.ops[0])](), *node.ops[1:]], node.comparators)
    if isinstance(node, ast.BoolOp): yield ast.BoolOp(SWAPPED[type(node.op)](), node.values)
    if isinstance(node, ast.BinOp) and type(node.op) in SWAPPED:
        yield ast.BinOp(node.left, SWAPPED[type(node.op)](), node.right)
    if isinstance(node, ast.AugAssign) and type(node.op) in SWAPPED:
        yield ast.AugAssign(node.target, SWAPPED[type(node.op)](), node.value)
        yield ast.Assign([node.target], node.value)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Tuple) and len(node.slice.elts) > 1:
        yield ast.Subscript(node.value, ast.Tuple(node.slice.elts[::-1], ast.Load()), node.ctx)
    if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "range":        # truncated, off by one
        *first, last = node.args if len(node.args) < 3 else node.args[:2]
        step = node.args[2:]
        yield ast.Call(node.func, [*(first or [ast.Constant(0)]), ast.BinOp(last, ast.Sub(), ast.Constant(1)), *step], [])
        yield ast.Call(node.func, [ast.BinOp(first[0] if first else ast.Constant(0), ast.Add(), ast.Constant(1)), last, *step], [])
    if isinstance(node, ast.Constant) and type(node.value) is int: yield ast.Constant(node.value + 1)
    if isinstance(node, ast.Attribute) and node.attr in DTYPES: yield ast.Attribute(node.value, DTYPES[node.attr], node.ctx)
    if isinstance(node, ast.Attribute) and node.attr in "xy" and isinstance(node.value, ast.Attribute):
        yield ast.Attribute(node.value, "y" if node.attr == "x" else "x", node.ctx)
    if isinstance(node, ast.Name) and node.id in DTYPES: yield ast.Name(DTYPES[node.id], node.ctx)
    if isinstance(node, ast.Expr) and not isinstance(node.value, ast.Constant): yield ast.Pass()   # a barrier, an atomic
    if isinstance(node, ast.If):
        yield node.body                                                                # the guard
        if node.orelse: yield node.orelse

def mutants(fn):
    "(the line as it was, the line as it is, the changed function) for each change of one place."
    lines = textwrap.dedent(inspect.getsource(fn))
    count = len(list(sites(ast.parse(lines))))
    for n in range(count):
        tree = ast.parse(lines)
        parent, fieldname, index, new = list(sites(tree))[n]
        old = getattr(parent, fieldname) if index is None else getattr(parent, fieldname)[index]
        was = ast.unparse(old)
        if index is None: setattr(parent, fieldname, new)
        else: getattr(parent, fieldname)[index:index + 1] = new if isinstance(new, list) else [new]
        tree.body[0].decorator_list = []
        now = "\n".join(map(ast.unparse, new)) if isinstance(new, list) else ast.unparse(ast.fix_missing_locations(new))
        yield was, now, tree

def sites(tree):
    fn = tree.body[0]
    for parent in ast.walk(ast.Module(fn.body, [])):
        for fieldname, value in ast.iter_fields(parent):
            for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if isinstance(node, ast.AST):
                    for new in changes(node, parent): yield parent, fieldname, index, new

def survivors(ex, answer, count, every):
    "The changes of one place that leave an answer right: of all, or of every tenth, the first of which its name decides."
    fn = python_function(answer)
    for n, (was, now, tree) in enumerate(mutants(fn)):
        if not every and (n + len(fn.__name__)) % 10: continue
        count("mutants")
        source, file = ast.unparse(ast.fix_missing_locations(tree)), f"<mutant {fn.__module__}.{fn.__name__} {n}>"
        changed = function_of(source, file, fn, **{name: getattr(numba, name) for name in DTYPES})
        if ex.check(made_alike(answer, changed), 0): yield f"{was} -> {now}"

def unexplained(ex, found):
    return [s for s in found if not any(re.fullmatch(re.escape(key).replace(r"\*", ".*"), s, re.S) for key in ex.harmless)]

@pytest.mark.parametrize("name", marked(EXERCISES, SLOW + SLOW_TO_CHANGE))
def test_changed_answers_fail(name, count, request):
    "A tenth of those of the first right answer; with --full, all of all."
    ex, found = EXERCISES[name], []
    every = request.config.getoption("--full")
    for answer in ex.right if every else ex.right[:1]: found += survivors(ex, answer, count, every)
    assert not (lost := unexplained(ex, found)), "\n".join(lost)
    idle = [key for key in ex.harmless if unexplained(replace(ex, harmless={key: ""}), found) == found]
    assert not idle or not every, f"nothing survives like {idle}"
    count("survivors, each with a reason", len(found))

def test_all_lessons_have_exercises(root):
    numbers = {p.stem for p in (root/"nbs").glob("[0-2]?_*.ipynb")}
    with_exercises = {ex.solution.partition(".")[0] for ex in EXERCISES.values()}
    assert with_exercises == numbers

def test_the_links_to_solutions_lead_to_a_heading(root):
    for name, ex in EXERCISES.items():
        page, _, heading = ex.solution.partition("#")
        cells = json.loads((root/"nbs"/"solutions"/page).read_text(encoding="utf-8"))["cells"]
        headings = ["".join(c["source"])[3:].replace(" ", "-") for c in cells if c["source"] and c["source"][0].startswith("## ")]
        assert heading in headings, name

def test_the_lesson_shows_its_exercises_and_nothing_of_the_solutions(root):
    for name, ex in EXERCISES.items():
        cells = json.loads((root/"nbs"/ex.solution.partition("#")[0]).read_text(encoding="utf-8"))["cells"]
        code = ["".join(c["source"]) for c in cells if c["cell_type"] == "code"]
        assert name.split(".")[1] in code and sum(f"{name.split('.')[1]}.check(answer)" in c for c in code) == 1, name
        for f in ex.right: assert not any(f"def {python_function(f).__name__}(" in c for c in code), name

@pytest.mark.parametrize("name", marked(EXERCISES, ()))
def test_the_lesson_keeps_the_statement_as_it_is_now(name, root):
    "What a reader sees before running a cell: the outputs that are kept with it."
    ex, own = EXERCISES[name], name.split(".")[1]
    cells = json.loads((root/"nbs"/ex.solution.partition("#")[0]).read_text(encoding="utf-8"))["cells"]
    def kept(found):
        [outputs] = [c["outputs"] for c in cells if c["cell_type"] == "code" and found("".join(c["source"]))]
        return {kind: "".join(lines) for kind, lines in outputs[-1]["data"].items()}
    assert kept(lambda code: code == own) == {"text/plain": repr(ex), "text/markdown": ex._repr_markdown_()}
    stub = ex.check(ex.given or ..., 0)
    assert kept(lambda code: f"{own}.check(answer)" in code) == {
        "text/plain": repr(stub), "text/markdown": stub._repr_markdown_()}

def test_there_are_two_to_four_for_each_lesson():
    lessons = [ex.solution.partition(".")[0] for ex in EXERCISES.values()]
    counts = {page: lessons.count(page) for page in lessons}
    assert len(lessons) >= 30 and counts.pop("19_race") == 1 and {*counts.values()} <= {2, 3, 4}

# ---------------------------------------------------------------- in a process that can be ended

FOREVER = """
import os, signal, sys
from numba import njit
from matmul_course.app import runs
signal.signal(signal.SIGINT, signal.default_int_handler)
@njit
def forever(n):
    while n > 0: n += 2
    return n
way = runs.Way(runs.DIRECTLY.run, seconds={seconds})
assert runs.outcome(forever, way, (0,), 60).value == 0
print(runs._running[os.getpid()].popen.pid, flush=True)
try: runs.outcome(forever, way, (1,), 1)
except KeyboardInterrupt: print("stopped", flush=True)
assert runs.outcome(forever, way, (0,), 60).value == 0
print("done")
"""

def gone(pid):
    "Has a process ended? On Linux one that nobody has waited for is still listed, as a zombie."
    try: return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except OSError: return True

def start(seconds):
    "(a process in which a compiled answer runs for ever, the process that runs it)"
    run = subprocess.Popen([sys.executable, "-c", FOREVER.format(seconds=seconds)], stdout=subprocess.PIPE, text=True)
    pid = int(run.stdout.readline())
    time.sleep(.5)
    return run, pid

linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="processes are looked up in /proc")

@linux
def test_ctrl_c_ends_a_compiled_answer_within_a_second():
    run, pid = start(600)
    begin = time.perf_counter()
    run.send_signal(signal.SIGINT)
    assert run.stdout.readline() == "stopped\n" and time.perf_counter() - begin < 1 and gone(pid)
    assert run.communicate(timeout=60)[0] == "done\n" and run.returncode == 0

@linux
def test_an_answer_does_not_outlive_whoever_asked():
    "Killed, so that nobody is left to end it: it ends itself when its time is up."
    run, pid = start(1)
    run.kill()
    run.communicate()
    for _ in range(100):
        if gone(pid): return
        time.sleep(.1)
    raise AssertionError(f"process {pid} is still there")
