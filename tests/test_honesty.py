"No cell that nobody runs, no exported function without a check on its page, no number in prose that nothing computes."
import ast, re
import pytest
from test_notebooks import cells, lessons, notebooks, source

# ---------------------------------------------------------------- cells that are not run

LEFT_OUT = re.compile(r"^#\|\s*(slow|cuda|eval:\s*false)", re.M)
NEVER = re.compile(r"^\s*(if (False|0)\s*:|%%(script|writefile|false|html|javascript|markdown|latex)|raise SkipTest|pytest\.skip)", re.M)

def left_out(root): return {(p.name, LEFT_OUT.search(source(c))[1]): source(c) for p in notebooks(root) for c in cells(p)
                            if c["cell_type"] == "code" and LEFT_OUT.search(source(c))}

def test_cells_that_are_left_out_are_listed_with_a_reason(root):
    "Six want a real GPU. That `slow` and `eval: false` are not used at all is part of the promise."
    why = {"06_library.ipynb": "torch on a GPU, and the copies there", "12_cuda_kernel.ipynb": "the kernel on a GPU, copies apart", "14_coalescing.ipynb": "both kernels on a GPU",
           "15_shared_memory.ipynb": "the tiled kernel on a GPU", "16_thread_tiles.ipynb": "all kernels on a GPU"}
    found = left_out(root)
    assert {name for name, _ in found} == set(why) and {flag for _, flag in found} == {"cuda"}, found.keys()

def test_no_cell_is_run_for_show_only(root):
    for p in notebooks(root):
        for c in cells(p):
            if c["cell_type"] == "code": assert not (m := NEVER.search(source(c))), f"{p.name}: {m[0]}"

# ---------------------------------------------------------------- exported functions without a check

CHECK = re.compile(r"\bassert\b|\btest_\w+\(|\bexpect_fail\(|\bcheck_\w+\(")
UNCHECKED = {
    "nbdev_export": "rewrites the project; test_notebooks.py runs it on a copy", "nbdev_clean": "as nbdev_export", "nbdev_prepare": "the three before it, in turn",
    "write_readme": "rewrites README.md; `readme`, which it writes, is checked", "checked_part": "called by Numba, for a slice of an array", "checked_text": "called by checked_part",
}

def code(text): return re.sub(r"^(\s*)%.*$", r"\1pass", text, flags=re.M)       # IPython's magics are no Python

def words(node):
    "All names, attributes and one-word strings."
    for n in ast.walk(node):
        if isinstance(n, ast.Name): yield n.id
        elif isinstance(n, ast.Attribute): yield n.attr
        elif isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value.isidentifier(): yield n.value

def defined(statement):
    "Names that a statement binds; a patched method counts for its class."
    if isinstance(statement, (ast.FunctionDef, ast.ClassDef)):
        patched = any("patch" in ast.unparse(d) for d in statement.decorator_list)
        return [ast.unparse(statement.args.args[0].annotation)] if patched else [statement.name]
    return [n.id for n in ast.walk(statement) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]

def unchecked(texts):
    "Exported functions and classes that no cell with a check leads to, by the names in it and in what those names stand for."
    stands_for, exported, todo = {}, set(), set()
    for text in texts:
        tree, exports = ast.parse(code(text)), text.startswith("#| export")
        for s in tree.body:
            for name in defined(s): stands_for.setdefault(name, set()).update(words(s))
            if exports and isinstance(s, (ast.FunctionDef, ast.ClassDef)): exported |= {*defined(s)}
        if not exports and CHECK.search(text): todo |= {*words(tree)}
    seen = set()
    while todo:
        seen.add(name := todo.pop())
        todo |= stands_for.get(name, set()) - seen
    return {n for n in exported - seen if not n.startswith("_")}

def pages(root): return [p for p in notebooks(root) if p.parent.name != "solutions"]

def test_every_exported_function_is_checked_on_its_page(root):
    found = {n for p in pages(root) for n in unchecked([source(c) for c in cells(p) if c["cell_type"] == "code"])}
    assert found == set(UNCHECKED), f"without a check: {found - set(UNCHECKED)}; listed for nothing: {set(UNCHECKED) - found}"

def test_an_unchecked_function_is_found():
    page = ["#| export\ndef f(x): return g(x)\ndef g(x): return x\ndef h(x): return x", "y = f(1)\nh(2)", "assert y == 1"]
    assert unchecked(page) == {"h"}

# ---------------------------------------------------------------- numbers in prose

SEED = "measured on the seed's machine (SEED.md), and the sentence says so"
CITED = {"01_loops": {"296": SEED}, "02_numba_dot": {"272": SEED, "118": SEED}, "04_broadcasting": {"300": SEED, "0.1": SEED, "296": SEED, "126": SEED, "501": SEED},
         "05_einsum": {"501": SEED, "11541": "an issue's number"}, "06_library": {"10.9": SEED, "5.9": SEED, "501": SEED}, "09_threads": {"3.13": "a version of Python"},
         "10_grid": {"50,000": "what the next lesson runs"}, "13_shared_memory": {"6884": "an issue's number"}}
SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
NOT_PROSE = re.compile(r"```.*?```|`[^`]*`|\$\$.*?\$\$|\$[^$]*\$|<[^>]+>|\]\([^)]*\)|https?://\S+|\*You need\*.*"
                       r"|\b(?:lessons?|Python|CUDA|step|exercise|section)s? (?:\d\d?(?:, | and | to )?)+", re.S | re.I)
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?:e-?\d+)?(?!\w)")

def value(text): return float(text.replace(",", "").replace("_", ""))

def claims(markdown):
    "Numbers over twelve, or with a fraction. Years of books, and what stands in code, formulas and links, are none."
    text = re.sub(r"·10([⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+)", lambda m: "e" + m[1].translate(SUPERSCRIPTS), markdown)
    for m in NUMBER.findall(NOT_PROSE.sub(" ", text)):
        number = m.rstrip(",")
        if not (value(number) <= 12 and "." not in number) and not re.fullmatch(r"(19|20)\d\d", number): yield number

def shown(path):
    "All numbers in the page's code and in what it shows."
    text = ""
    for c in cells(path):
        if c["cell_type"] != "code": continue
        text += source(c) + "\n"
        for out in c.get("outputs", []):
            data = out.get("data", {})
            text += "".join(out.get("text", "")) + " ".join("".join(data.get(k, "")) for k in ("text/plain", "text/markdown", "text/html")) + "\n"
    return {value(n) for n in re.findall(r"\d[\d,_]*(?:\.\d+)?(?:e-?\d+)?", text)}

def test_numbers_in_prose_are_computed_on_the_page(root):
    for path in lessons(root):
        known, cited = shown(path), CITED.get(path.stem, {})
        said = {n for c in cells(path) if c["cell_type"] == "markdown" for n in claims(source(c))}
        lost = {n for n in said if value(n) not in known and n not in cited}
        assert not lost, f"{path.name}: no cell computes {sorted(lost)}"
        assert set(cited) <= said, f"{path.name}: {set(cited) - said} is not said any more"

def test_a_number_that_nothing_computes_is_found():
    text = "It took 4,321 steps, 0.25 of them in `f(99)`, as in lesson 07, in 2009, ten at a time, 3.4·10³⁸ in all, and $x=77$."
    assert [*claims(text)] == ["4,321", "0.25", "3.4e38"]
