"The rules of the house: how large things may grow, what a name may mean, and what is written down. test_static.py holds the spaces."
import ast, io, re, subprocess, sys, tokenize
from collections import Counter, defaultdict
import pytest
from test_notebooks import cells, modules, notebooks

# 6,500 lines are the goal with all lessons in; 7,850 holds what there is since lessons 13, 17 and the command `hardware` (about 400),
# and since the exercises run, time and watch answers (about 570); 107 more are lesson 20's, 215 lesson 22's, 198 lesson 23's, and 290 serve
# kernels that other people have written.
MODULE_LINES, CODE_CELLS, PACKAGE_LINES, TEST_COLUMNS = 450, 60, 9_280, 140
FUNCTIONS = ast.FunctionDef, ast.AsyncFunctionDef
DEFINITIONS = *FUNCTIONS, ast.ClassDef

def told(found):
    "What a test found, one line for each, none of them cut short."
    return "\n" + "\n".join(f"{k}: {v}" for k, v in found.items()) if isinstance(found, dict) else "\n" + "\n".join(found)

def is_solution(name): return name.startswith("solutions.")

def package(root):
    "Name -> tree of every module, solutions apart, with the `__init__.py` of each folder under the folder's name."
    inits = {".".join(p.parent.relative_to(root/"matmul_course").parts): p for p in (root/"matmul_course").rglob("__init__.py")}
    files = {n: p for n, p in (modules(root) | inits).items() if not is_solution(n + ".")}
    return {name: ast.parse(p.read_text(encoding="utf-8")) for name, p in files.items()}

# ---------------------------------------------------------------- how large

def test_no_module_is_over_450_lines(root):
    lines = {name: len(p.read_text(encoding="utf-8").splitlines()) for name, p in modules(root).items()}
    assert not (long := {n: k for n, k in lines.items() if k > MODULE_LINES}), told(long)

def test_no_notebook_has_more_than_60_code_cells(root):
    count = {p.relative_to(root/"nbs").as_posix(): sum(c["cell_type"] == "code" for c in cells(p)) for p in notebooks(root)}
    assert not (long := {n: k for n, k in count.items() if k > CODE_CELLS}), told(long)

SILENT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}

def docstring(node):
    "The docstring of a module, a function or a class as a node, or None."
    first = node.body[0] if isinstance(node, (*DEFINITIONS, ast.Module)) and node.body else None
    text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return first if text else None

def code_lines(text):
    "How many lines of a source are code: neither blank nor comment nor docstring."
    tokens = [t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in SILENT]
    code = {line for t in tokens for line in range(t.start[0], t.end[0] + 1)}
    silent = {line for node in ast.walk(ast.parse(text)) if (d := docstring(node)) for line in range(d.lineno, d.end_lineno + 1)}
    return len(code - silent)

def test_code_lines_are_counted():
    assert code_lines('"A module."\n\n# a comment\nx = 1  # another\ndef f():\n    """Two\n    lines."""\n    return """\ntext"""\n') == 4

def test_the_package_is_small(root):
    files = [p for p in (root/"matmul_course").rglob("*.py") if p.name != "_modidx.py" and p.parent.name != "solutions"]
    assert sum(code_lines(p.read_text(encoding="utf-8")) for p in files) <= PACKAGE_LINES

# ---------------------------------------------------------------- what a name means

OWN_SCOPE = *DEFINITIONS, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp

def bound(node):
    "(name, statement) for each name that a module binds at its top level, under `if`, `try`, `for` and `with` too; imports apart."
    for s in ast.iter_child_nodes(node):
        if isinstance(s, DEFINITIONS): yield s.name, s
        elif isinstance(s, ast.Name) and isinstance(s.ctx, ast.Store): yield s.id, node
        elif not isinstance(s, OWN_SCOPE): yield from bound(s)

def test_bound_names_are_those_of_the_top():
    text = "import os\nif os:\n  a, b = 1, 2\nelse:\n  def f(): x = 1\nfor c in range(3): d = [e for e in 'x']\nclass G: h = 1"
    assert [name for name, _ in bound(ast.parse(text))] == ["a", "b", "f", "c", "d", "G"]

def is_dunder(name): return name.startswith("__") and name.endswith("__")

def homes(trees):
    "Name -> the modules that define it at their top level."
    out = defaultdict(set)
    for module, tree in trees.items():
        for name, _ in bound(tree):
            if not is_dunder(name) and name != "_": out[name].add(module)
    return out

def test_a_name_is_defined_in_one_module(root):
    "Private names too. A solution is a page of its own, and may call things what its lesson calls them."
    assert not (twice := {n: sorted(m) for n, m in homes(package(root)).items() if len(m) > 1}), told(twice)

def private_imports(tree):
    "Private names that a module takes from another module of the package, by `from` or through a module's name."
    aliases = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").startswith("matmul_course")):
            yield from (f"{node.module}.{a.name}" for a in node.names if is_private(a.name))
            aliases |= {a.asname or a.name for a in node.names}
        elif isinstance(node, ast.Import):
            aliases |= {a.asname for a in node.names if a.asname and a.name.startswith("matmul_course")}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in aliases and is_private(node.attr):
            yield f"{node.value.id}.{node.attr}"

def is_private(name): return name.startswith("_") and not is_dunder(name)

def test_no_private_name_is_imported(root):
    "Solutions are held to it as well."
    found = {name: sorted({*private_imports(ast.parse(p.read_text(encoding="utf-8")))}) for name, p in modules(root).items()}
    assert not (found := {n: f for n, f in found.items() if f}), told(found)

def test_no_class_is_opened_twice(root):
    "Not by a second `class X`, by `class X(X)`, or by fastcore's `@patch`."
    found = []
    for module, tree in package(root).items():
        count = Counter(s.name for _, s in bound(tree) if isinstance(s, ast.ClassDef))
        found += [f"{module}: class {name}, {n} times" for name, n in count.items() if n > 1]
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name in {ast.unparse(b).split(".")[-1] for b in node.bases}:
                found.append(f"{module}: class {node.name}({node.name})")
            if isinstance(node, FUNCTIONS) and any(re.match(r"patch(_to)?\b", ast.unparse(d)) for d in node.decorator_list):
                found.append(f"{module}: @patch on {node.name}")
    assert not found, told(found)

LISTED = """import sys
from importlib import import_module
print(*dir(import_module(sys.argv[1])))
for name in sys.argv[2:]: print(*getattr(import_module(name), "__all__", ()))"""

def offered(root):
    """Folder -> the names that can be imported from it.

    They are what stands in its `__init__.py`, and what the package itself says in a new process, because a list may be
    worked out there: the outermost by `dir`, before another module is imported, and those in it by `__all__`."""
    out = {}
    for path in sorted((root/"matmul_course").rglob("__init__.py"), key=lambda p: len(p.parts)):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {a.asname or a.name for s in tree.body if isinstance(s, ast.ImportFrom) for a in s.names}
        out[path.parent] = names | {name for name, _ in bound(tree)}
    packages = [".".join(folder.relative_to(root).parts) for folder in out]
    run = subprocess.run([sys.executable, "-c", LISTED, *packages], cwd=root, capture_output=True, text=True, check=True)
    return {folder: out[folder] | {*line.split()} for folder, line in zip(out, run.stdout.splitlines(), strict=True)}

def test_no_module_is_named_like_a_name_that_its_package_offers(root):
    "`from matmul_course import einsum_by_hand` would give a module of that name as soon as somebody had imported it."
    offers = offered(root)
    assert {"matmul", "race"} <= offers[root/"matmul_course"] and "launch" in offers[root/"matmul_course"/"emulator"]
    assert "profile" in offers[root/"matmul_course"/"profiler"]                  # which works its list out
    files = [p for p in (root/"matmul_course").rglob("*") if p.suffix == ".py" or (p/"__init__.py").exists()]
    clash = [str(p.relative_to(root)) for p in files if p.stem != "__init__" and p.stem in offers.get(p.parent, ())]
    assert not clash, told(clash)

# ---------------------------------------------------------------- how it reads

def public(tree):
    "What a module lists in `__all__`. Where the list is worked out, every name of its own that has no underscore may be in it."
    lists = [s.value for name, s in bound(tree) if name == "__all__" and isinstance(s, (ast.Assign, ast.AnnAssign, ast.AugAssign))]
    try: return {name for value in lists for name in ast.literal_eval(value)}
    except ValueError: return {name for name, _ in bound(tree) if not name.startswith("_")}

@pytest.mark.parametrize("line, names", [
    ("__all__ = ['f', 'g']", {"f", "g"}), ("__all__: list[str] = ['f']", {"f"}), ("__all__ = ['f']; __all__ += ['g']", {"f", "g"}),
    ("__all__ = list(_ROOMS)", {"f", "x"}), ("__all__: list[str] = ['f', *_ROOMS]", {"f", "x"}), ("", set())])
def test_public_names_are_read(line, names):
    tree = ast.parse(f"{line}\ndef f(): pass\ndef _g(): 'has one'\nx = 1")
    assert public(tree) == names and [*undocumented(tree)] == ["f"] * bool(names)

def undocumented(tree):
    "Functions and classes of `__all__`, and the public methods of those classes, that have no docstring."
    names = public(tree)
    for s in tree.body:
        if not isinstance(s, DEFINITIONS) or s.name not in names: continue
        if not docstring(s): yield s.name
        if isinstance(s, ast.ClassDef):
            methods = [m for m in s.body if isinstance(m, FUNCTIONS) and not m.name.startswith("_")]
            yield from (f"{s.name}.{m.name}" for m in methods if not docstring(m))

def test_what_is_public_has_a_docstring(root):
    assert not (found := {n: names for n, t in package(root).items() if (names := [*undocumented(t)])}), told(found)

def test_no_line_of_a_test_is_over_140_characters(root):
    long = [f"{p.name}:{n}" for p in sorted((root/"tests").rglob("*.py"))
            for n, line in enumerate(p.read_text(encoding="utf-8").splitlines(), 1) if len(line) > TEST_COLUMNS]
    assert not long, told(long)
