"The exercises have been shown the right answers, the wrong ones, and what becomes of a right one when it is changed."
import ast, importlib, inspect, json, pkgutil, re, textwrap
import numba
import pytest
import matmul_course.solutions
from matmul_course.app.exercises import Exercise, python_function
from matmul_course.gpu.choice import cuda

def found():
    "Name -> Exercise, over all modules of exercises."
    for m in pkgutil.iter_modules(matmul_course.solutions.__path__):
        module = importlib.import_module(f"matmul_course.solutions.{m.name}")
        for name, value in vars(module).items():
            if isinstance(value, Exercise): yield f"{m.name}.{name}", value

EXERCISES = dict(found())
SLOW = (
    "shared_memory.rows_times_vector", "shared_memory.count_in_a_block", "shared_memory.turned_without_conflicts",
    "thread_tiles.two_columns", "thread_tiles.write_the_patch", "numba_dot.when_it_pays")
each = pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in EXERCISES])

@each
def test_right_answers_pass_and_wrong_ones_are_named(name, count):
    ex = EXERCISES[name]
    assert len(ex.right) >= 2 and len(ex.wrong) >= 3 and ex.hints and ex.solution
    assert len({text(f) for f in ex.right}) == len(ex.right), "two right answers that are one"
    for f in ex.right:
        assert (v := ex.check(f)), f"{text(f)}\n{v.text}"
        count("right answers")
    for f in ex.wrong:
        v = ex.check(f)
        assert not v and v.mistake == python_function(f).__name__, f"{text(f)}\n{v.text}"
        count("wrong answers")

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

def compiled(tree, fn, n):
    "The function of a changed tree, with a source that the emulator can read."
    import linecache
    source = ast.unparse(ast.fix_missing_locations(tree))
    file = f"<mutant {fn.__module__}.{fn.__name__} {n}>"
    linecache.cache[file] = len(source), None, source.splitlines(True), file
    names = {name: getattr(numba, name) for name in DTYPES} | fn.__globals__
    exec(compile(source, file, "exec"), names)
    return names[fn.__name__]

@each
def test_changed_answers_fail(name, count):
    ex, survivors = EXERCISES[name], []
    answer = ex.right[0]
    fn = python_function(answer)
    for n, (was, now, tree) in enumerate(mutants(fn)):
        mutant = compiled(tree, fn, n)
        count("mutants")
        if ex.check(cuda.jit(mutant) if answer is not fn else mutant): survivors.append(f"{was} -> {now}")
    explains = {key: {s for s in survivors if re.fullmatch(re.escape(key).replace(r"\*", ".*"), s, re.S)} for key in ex.harmless}
    unexplained = [s for s in survivors if not any(s in found for found in explains.values())]
    assert not unexplained, "\n".join(unexplained)
    assert all(explains.values()), f"nothing survives like {[key for key, found in explains.items() if not found]}"
    count("survivors, each with a reason", len(survivors))

def test_all_lessons_have_exercises(root):
    numbers = {p.stem for p in (root/"nbs").glob("[01]?_*.ipynb")} - {"19_race"}
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

def test_there_are_two_to_four_for_each_lesson():
    lessons = [ex.solution.partition(".")[0] for ex in EXERCISES.values()]
    assert len(lessons) >= 30 and {lessons.count(page) for page in lessons} <= {2, 3, 4}
