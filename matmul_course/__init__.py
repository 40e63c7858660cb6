"One operation, `C = A @ B`, from three Python loops to a CUDA kernel. `import matmul_course` alone loads nothing heavy."
from importlib import import_module

__version__ = "0.1.0"

# Public name -> the module that defines it: loaded when it is first asked for.
_where = dict(load_mnist="data", linear_layer="data", race="ladder", rungs="ladder", bench="ladder",
              check_matmul="checks", error_bound="checks", profile="profiler", compile_kernel="gpu",
              matmul="threads")

def __getattr__(name):
    if name not in _where: raise AttributeError(f"module 'matmul_course' has no attribute {name!r}")
    return getattr(import_module(f"matmul_course.{_where[name]}"), name)

def __dir__(): return [*globals(), *_where]
