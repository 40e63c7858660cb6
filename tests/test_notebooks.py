"Notebooks and modules agree, notebooks are clean, and nothing imports what stands above it."
import ast, json, re, shutil, subprocess, sys
from pathlib import Path
import pytest
from matmul_course.app.commands import readme
from matmul_course.app.ladder import LESSONS

ROOT = Path(__file__).resolve().parent.parent

@pytest.fixture(scope="session")
def copy(root, tmp_path_factory):
    "The project as git would hand it over: nothing that was built."
    to = tmp_path_factory.mktemp("copy")/"project"
    shutil.copytree(root, to, ignore=shutil.ignore_patterns(".git", ".venv*", "__pycache__", "*.egg-info", ".ipynb_checkpoints", "*.npz"))
    return to

def notebooks(root): return sorted(p for p in (root/"nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)

def cells(path): return json.loads(path.read_text(encoding="utf-8"))["cells"]

def text(path): return path.read_text(encoding="utf-8")

def run_there(folder, code):
    "Run Python in a folder; what it says on stderr, should it fail."
    run = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr

def source(cell): return "".join(cell["source"])

def modules(root): return {p.relative_to(root/"matmul_course").with_suffix("").as_posix().replace("/", "."): p
                           for p in sorted((root/"matmul_course").rglob("*.py")) if p.name not in ("__init__.py", "_modidx.py")}

def exported(path):
    "The module that a notebook exports to, or None."
    return next((m[1] for c in cells(path) if (m := re.match(r"#\|\s*default_exp\s+(\S+)", source(c)))), None)

def test_there_are_notebooks(root):
    "And none that nbdev passes over: it skips names that begin with _ and cells that call a shell pass whatever happens."
    assert len(notebooks(root)) >= 13
    for p in notebooks(root):
        assert not any(part.startswith(("_", ".")) for part in p.relative_to(root/"nbs").parts), p
        for c in cells(p): assert not re.search(r"^\s*(!|%%(bash|sh|script)|%sx|%system)", source(c), re.M), f"{p.name}: {source(c)[:60]}"

def module_of(root, path):
    "A notebook's path is its module's path, without the number."
    return ".".join([*path.parent.relative_to(root/"nbs").parts, re.sub(r"^\d+[a-z]?_", "", path.stem)])

def test_a_notebooks_path_is_its_modules_path(root):
    for path in notebooks(root):
        if exported(path): assert exported(path) == module_of(root, path)
        else: assert not any(source(c).startswith("#| export") for c in cells(path)), path.name

def test_modules_are_what_the_notebooks_export(root, copy):
    "A fresh export into a tree without modules gives the same files: no edit by hand, no module left behind."
    for path in modules(copy).values(): path.unlink()
    run_there(copy, "from nbdev.doclinks import nbdev_export; nbdev_export()")
    here, fresh = modules(root), modules(copy)
    assert here.keys() == fresh.keys()
    for name in here: assert text(here[name]) == text(fresh[name]), f"{name} differs: run nbdev_export"
    for name in ("__init__.py", "_modidx.py"): assert text(root/"matmul_course"/name) == text(copy/"matmul_course"/name), name

def test_notebooks_are_clean(root, copy):
    run_there(copy, "from nbdev.clean import nbdev_clean; nbdev_clean()")
    for path in notebooks(root): assert text(path) == text(copy/path.relative_to(root)), f"{path.name}: run nbdev_clean"

def test_readme_is_made_from_the_index(root):
    text, pictures = readme(root/"nbs"/"index.ipynb")
    assert (root/"README.md").read_text(encoding="utf-8") == text, "run nbdev_prepare"
    assert len(text.splitlines()) < 150
    assert pictures and {p.name for p in (root/"nbs"/"images").iterdir()} == set(pictures)
    for name, svg in pictures.items(): assert (root/"nbs"/"images"/name).read_text(encoding="utf-8") == svg

def test_readme_examples_run(root):
    "As a reader would paste them: in order, in a new process."
    fences = re.findall(r"```python\n(.*?)```", (root/"README.md").read_text(encoding="utf-8"), re.S)
    assert len(fences) >= 3
    run = subprocess.run([sys.executable, "-c", "\n".join(fences)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "broadcast" in run.stdout and "GFLOP/s" in run.stdout

def test_links_lead_somewhere(root):
    for path in [root/"README.md", *notebooks(root)]:
        prose = text(path) if path.suffix == ".md" else "\n".join(source(c) for c in cells(path) if c["cell_type"] == "markdown")
        for link in re.findall(r"\]\((?!https?:|#)([^)#]+)\)", prose): assert (path.parent/link).exists(), f"{path.name}: {link}"

def test_every_lesson_is_on_the_map_and_on_the_ladder(root):
    index = "\n".join(source(c) for c in cells(root/"nbs"/"index.ipynb"))
    assert tuple(p.stem[3:] for p in lessons(root) if p.stem[3:] in LESSONS) == LESSONS
    for p in lessons(root):
        title = source(next(c for c in cells(p) if c["cell_type"] == "markdown")).splitlines()[0].removeprefix("# ")
        asked = re.search(r"(\d+) minutes", "\n".join(source(c) for c in cells(p)))[1]
        row = f"[{title}]({p.name}) | {asked} |"                           # with the minutes that the lesson asks for
        assert row in index, f"{p.name} is not on the map of index.ipynb as {row!r}"

def test_every_tool_is_named_on_the_index(root):
    index = "\n".join(source(c) for c in cells(root/"nbs"/"index.ipynb"))
    missing = [p.name for p in notebooks(root) if p.parent.name == "tools" and f"](tools/{p.name})" not in index]
    assert not missing

@pytest.mark.parametrize("pattern", [r"/(home|root|Users|tmp|work)/", r"C:\\\\", r"\bTraceback\b", r"Warning:"])
def test_kept_outputs_hold_no_path_error_or_warning(root, pattern):
    for path in notebooks(root):
        for c in cells(path):
            for out in c.get("outputs", []):
                assert out["output_type"] != "error", f"{path.name}: {source(c)[:80]}"
                found = re.search(pattern, json.dumps({k: v for k, v in out.items() if k != "metadata"}))
                assert not found, f"{path.name}: {found[0]} in the output of {source(c)[:80]}"

def lessons(root): return [p for p in notebooks(root) if re.match(r"\d\d_", p.stem) and p.parent.name == "nbs"]

def test_kept_outputs_are_small(root):
    "A lesson's outputs take less than 300 KB, so that a page opens at once."
    for p in lessons(root):
        size = sum(len(json.dumps(out)) for c in cells(p) for out in c.get("outputs", []))
        assert size < 300_000, f"{p.name}: {size // 1000} KB"

def test_every_lesson_has_a_figure_that_says_what_it_shows(root):
    "At least one, drawn by a function of the course, with words for whoever does not see it."
    for p in lessons(root):
        html = "".join("".join(out.get("data", {}).get("text/html", "")) for c in cells(p) for out in c.get("outputs", []))
        said = re.findall(r'<img alt="([^"]*)"', html)
        assert said and all(len(words) > 15 for words in said), f"{p.name}: {said}"

# ---------------------------------------------------------------- who may import whom

FLOORS = ("tools", "emulator", "profiler", "gpu", "app", "lessons", "solutions")

def imports(path, package):
    "Modules of the package that a file imports, at any depth of its code."
    found, here = set(), path.relative_to(package).with_suffix("").parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name.removeprefix("matmul_course.") for a in node.names if a.name.startswith("matmul_course.")}
        if not isinstance(node, ast.ImportFrom): continue
        if not node.level and not node.module.startswith("matmul_course"): continue
        base = ".".join(here[:len(here) - node.level]) if node.level else node.module.removeprefix("matmul_course").lstrip(".")
        full = ".".join(filter(None, [base, node.module if node.level else ""]))
        found |= {full, *(".".join(filter(None, [full, a.name])) for a in node.names)}
    return found & set(modules(package.parent))

def floors(root):
    "Module -> (its floor, and for a lesson its number)."
    out = {}
    for p in notebooks(root):
        if not exported(p): continue
        floor = p.parent.name if p.parent.name != "nbs" else "lessons"
        out[exported(p)] = FLOORS.index(floor), p.stem if floor == "lessons" else ""
    return out

def test_nothing_imports_what_stands_above_it(root):
    floor = floors(root)
    assert len(floor) >= 30
    for name, path in modules(root).items():
        for other in imports(path, root/"matmul_course"):
            lesson = FLOORS[floor[name][0]] == "lessons" and floor[other][0] == floor[name][0]
            assert floor[other] < floor[name] if lesson else floor[other][0] <= floor[name][0], f"{name} imports {other}"

def test_no_circle(root):
    graph = {n: imports(p, root/"matmul_course") for n, p in modules(root).items()}
    def visit(n, path):
        assert n not in path, " -> ".join([*path, n])
        for m in graph[n]: visit(m, [*path, n])
    for n in graph: visit(n, [])

def test_notebooks_import_only_what_stands_below_them(root):
    floor = floors(root)
    for path in lessons(root):
        code = "\n".join(source(c) for c in cells(path) if c["cell_type"] == "code")
        for other in re.findall(r"(?:from|import) matmul_course\.([\w.]+)", code):
            if other not in floor or other.startswith("solutions"): continue
            assert floor[other] <= (FLOORS.index("lessons"), path.stem), f"{path.name} imports {other}"
