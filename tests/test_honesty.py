"No cell that nobody runs, no exported function without a check on its page, no number in prose that is not what its cell shows."
import ast, re
from test_notebooks import cells, notebooks, source

# ---------------------------------------------------------------- cells that are not run

LEFT_OUT = re.compile(r"^#\|\s*(slow|cuda|tiles|eval:\s*false)", re.M)
NEVER = re.compile(r"^\s*(if (False|0)\s*:|%%(script|writefile|false|html|javascript|markdown|latex)|raise SkipTest|pytest\.skip)", re.M)

def code_cells(path): return [source(c) for c in cells(path) if c["cell_type"] == "code"]

def left_out(root): return {(p.name, m[1]) for p in notebooks(root) for text in code_cells(p) if (m := LEFT_OUT.search(text))}

def test_cells_that_are_left_out_are_listed_with_a_reason(root):
    "Six want a real GPU, three Triton, which nbdev_test runs where it is. `slow` and `eval: false` are not used, as is promised."
    why = {"06_library.ipynb": "torch on a GPU, and the copies there", "12_cuda_kernel.ipynb": "the kernel on a GPU, copies apart",
           "14_coalescing.ipynb": "both kernels on a GPU", "15_shared_memory.ipynb": "the tiled kernel on a GPU",
           "16_thread_tiles.ipynb": "all kernels on a GPU", "17_pipeline.ipynb": "both kernels on a GPU"}
    triton = {"23_tiles.ipynb", "tiles.ipynb"}                   # a lesson, its solutions, and what both use
    assert left_out(root) == {(name, "cuda") for name in why} | {(name, "tiles") for name in triton}

def test_no_cell_is_run_for_show_only(root):
    for p in notebooks(root):
        for text in code_cells(p): assert not (m := NEVER.search(text)), f"{p.name}: {m[0]}"

# ---------------------------------------------------------------- exported functions without a check

CHECK = re.compile(r"test_\w+|expect_fail|check_\w+")
UNCHECKED = {
    "nbdev_export": "rewrites the project; test_notebooks.py runs it on a copy", "nbdev_clean": "as nbdev_export",
    "nbdev_prepare": "the three before it, in turn", "write_readme": "rewrites README.md; `readme`, which it writes, is checked",
}

def parsed(text): return ast.parse(re.sub(r"^(\s*)[%!].*$", r"\1pass", text, flags=re.M))       # IPython's magics are no Python

def refers_to(node):
    "The names that code reads. What a string says, or an attribute is called, is no name."
    return {n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}

def stored(statement): return [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]

def checks(tree):
    "Is there an assertion in a cell, or a call of one of the functions that assert?"
    called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
    return any(isinstance(n, ast.Assert) for n in ast.walk(tree)) or any(map(CHECK.fullmatch, called))

def unchecked(texts):
    """Public functions and classes of a page that no cell with a check names.

    Directly, through functions and classes of the page, or through what the module keeps in a table."""
    within, exported, named = {}, set(), set()
    for text in texts:
        tree, exports = parsed(text), text.startswith("#| export")
        for s in tree.body:
            defines = isinstance(s, (ast.FunctionDef, ast.ClassDef))
            if defines or exports:
                for name in [s.name] if defines else stored(s): within.setdefault(name, set()).update(refers_to(s))
            if defines and exports and not s.name.startswith("_"): exported.add(s.name)
        if not exports and checks(tree): named |= refers_to(tree)
    while more := set().union(*(within.get(name, ()) for name in named)) - named: named |= more
    return exported - named

def pages(root): return [p for p in notebooks(root) if p.parent.name != "solutions"]

def test_every_exported_function_is_checked_on_its_page(root):
    found = {name: p.relative_to(root).as_posix() for p in pages(root) for name in unchecked(code_cells(p))}
    lost = [f"{page}: {name}" for name, page in found.items() if name not in UNCHECKED]
    assert not lost, "without a check:\n" + "\n".join(lost)
    assert not (more := UNCHECKED.keys() - found), f"listed for nothing: {more}"

def test_an_unchecked_function_is_found():
    "What a cell computed, a string, an attribute and a cell that checks nothing lead nowhere."
    page = ["#| export\ndef f(x): return TABLE[x]\ndef g(x): return x\nTABLE = [g]\ndef h(x): return 'f'",
            "#| export\ndef i(): pass\ndef j(): pass\nclass K: pass",
            "x = h(1)\n'assert h'", "assert f(1) == x.i == 'j'", "def helper(): return K()", "test_eq(helper(), 1)"]
    assert unchecked(page) == {"h", "i", "j"}

# ---------------------------------------------------------------- numbers in prose

TIED = re.compile(r"(?<![\w.,])(\d[\d,]*(?:\.\d+)?)<!-- ([\w-]+) -->")
NUMBER = re.compile(r"(?<![\w.])\d[\d,_]*(?:\.\d+)?")

def value(text): return float(text.replace(",", "").replace("_", ""))

def shown(path):
    "Cell's id -> the numbers in what it shows as text."
    says = {c["id"]: "\n".join("".join(o.get("text", "")) + "".join(o.get("data", {}).get("text/plain", "")) for o in c["outputs"])
            for c in cells(path) if c["cell_type"] == "code"}
    return {id: {value(n.rstrip(",_")) for n in NUMBER.findall(text)} for id, text in says.items()}

def tied(path):
    "(number, id of a cell) for each `39,200<!-- 01-loops-039 -->` in a page's prose."
    return [pair for c in cells(path) if c["cell_type"] == "markdown" for pair in TIED.findall(source(c))]

def test_a_number_tied_to_a_cell_is_what_the_cell_shows(root):
    "Prose may tie a number to a cell by a comment that no reader sees; other numbers are for reviewers."
    pairs = [(p, *pair) for p in notebooks(root) for pair in tied(p)]
    wrong = [f"{p.name}: {number} is not in what {id} shows" for p, number, id in pairs if value(number) not in shown(p).get(id, ())]
    assert len(pairs) >= 5 and not wrong, wrong
    for p in notebooks(root):                        # and no comment that only looks like one
        comments = sum(source(c).count("<!-- ") for c in cells(p) if c["cell_type"] == "markdown")
        assert comments == len(tied(p)), f"{p.name}: {comments} comments, {len(tied(p))} of them after a number"
