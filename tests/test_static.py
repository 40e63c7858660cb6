"ruff over modules, notebooks and tests; mypy over the package; and what can be imported from the top says its types."
import inspect, re, subprocess, sys
from importlib.metadata import version
from types import FunctionType
import pytest
import matmul_course
from packaging.version import Version

def pinned(root, *names):
    "Skip unless the checker, and what it reads types from, are those of constraints.txt: another version may say something else."
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (root/"constraints.txt").read_text(encoding="utf-8"), re.M))
    other = [f"{name} {version(name)}" for name in names if Version(version(name)).public != pins[name]]
    if other: pytest.skip(f"not what constraints.txt pins: {', '.join(other)}")

def passes(root, *command):
    run = subprocess.run([sys.executable, "-m", *command], cwd=root, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout

def test_ruff_finds_nothing(root):
    pinned(root, "ruff")
    passes(root, "ruff", "check", "--no-cache", "--output-format", "concise", ".")

@pytest.mark.parametrize("name, text, said", [
    ("ruff", "import os\n", "F401"), ("ruff", "def f(x)->int: return x\n", "E225"), ("ruff", "M,K = 1, 2\n", "E231"),
    ("ruff", "def f(): return nothing\n", "F821"), ("mypy", "def f(x: int) -> str: return x\n", "return-value")])
def test_each_checker_sees_a_mistake(root, tmp_path, name, text, said):
    "With the project's own settings, on a file of a line."
    (tmp_path/"wrong.py").write_text(text, encoding="utf-8")
    settings = ["--config" if name == "ruff" else "--config-file", str(root/"pyproject.toml")]
    command = {"ruff": ["check", "--no-cache", "--output-format", "json-lines"], "mypy": ["--cache-dir", str(tmp_path)]}[name]
    run = subprocess.run([sys.executable, "-m", name, *command, *settings, "wrong.py"], cwd=tmp_path, capture_output=True, text=True)
    assert run.returncode == 1 and said in run.stdout, run.stdout + run.stderr

# ---------------------------------------------------------------- types of what is public

MEANINGLESS = callable, any, tuple, list, dict, set

def functions():
    "(name, function) for all that can be imported from the top, and the public methods of classes there. Compiled code has its own types."
    for name in sorted(matmul_course._home_of):
        thing = getattr(matmul_course, name)
        if isinstance(thing, FunctionType): yield name, inspect.unwrap(thing)
        if isinstance(thing, type): yield from ((f"{name}.{m}", f) for m, f in vars(thing).items() if inspect.isfunction(f) and m[0] != "_")

def untyped(fn):
    "Parameters of a function, and its `return`, whose annotation is missing or means nothing. `*args` are whatever they are passed on to."
    sig = inspect.signature(fn)
    named = [p for p in sig.parameters.values() if p.name != "self" and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    types = {p.name: p.annotation for p in named} | {"return": sig.return_annotation}
    return [name for name, t in types.items() if t is inspect.Parameter.empty or t in MEANINGLESS]

def test_what_means_nothing_is_found():
    def f(a, b: int, c: callable, *args, d: tuple[int, int] = (1, 2)): pass
    assert untyped(f) == ["a", "c", "return"]

def test_public_functions_say_their_types():
    found = {name: names for name, fn in functions() if (names := untyped(fn))}
    assert not found, "\n" + "\n".join(f"{name}: {', '.join(names)}" for name, names in found.items())

def test_mypy_finds_nothing_and_knows_what_is_imported_from_the_top(root, tmp_path):
    "The names are loaded when asked for, and decorated on the way: neither may hide their types. The second run reads what the first kept."
    pinned(root, "mypy", "numpy", "torch")
    passes(root, "mypy", "--cache-dir", str(tmp_path))
    names = [name for name, fn in functions() if "." not in name and inspect.isroutine(fn)]
    assert len(names) > 20
    use = f"from matmul_course import {', '.join(names)}\n" + "".join(f"reveal_type({name})\n" for name in names)
    (tmp_path/"use.py").write_text(use, encoding="utf-8")
    said = passes(root, "mypy", "--cache-dir", str(tmp_path), "--no-error-summary", str(tmp_path/"use.py"))
    shown = re.findall(r'note: Revealed type is "(.*)"$', said, re.M)
    unknown = [name for name, t in zip(names, shown, strict=True) if not t.startswith(("def ", "Overload"))]
    assert not unknown, f"mypy knows no type of {', '.join(unknown)}"
