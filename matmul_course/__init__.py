"""One operation, `C = A @ B`, from three Python loops to a CUDA kernel.

`__init__.pyi` lists the public names and the modules that define them, for editors and type checkers as for this file.
`import matmul_course` alone loads nothing heavy: a module is imported when one of its names is first asked for."""
import ast
from importlib import import_module
from pathlib import Path

__version__ = "0.1.0"

_stub = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_home_of = {public.name: line.module for line in _stub.body if isinstance(line, ast.ImportFrom) for public in line.names}
__all__: list[str] = list(_home_of)

def __getattr__(name: str):
    if name not in _home_of: raise AttributeError(f"module 'matmul_course' has no attribute {name!r}")
    return getattr(import_module(f"matmul_course.{_home_of[name]}"), name)

def __dir__(): return [*globals(), *_home_of]
