"One operation, `C = A @ B`, from three Python loops to a CUDA kernel. `import matmul_course` alone loads nothing heavy."
from importlib import import_module

__version__ = "0.1.0"

# Module -> the public names that it defines. Each is loaded when it is first asked for.
_HOMES = {
    "tools.data": "load_mnist linear_layer",
    "tools.checks": "matmul_shape error_bound check_matmul",
    "tools.machine": "this_machine",
    "app.ladder": "rung rungs bench race",
    "app.predictions": "predict predictions",
    "gpu.choice": "cuda",
    "gpu.compiler": "compile_kernel",
    "profiler.run": "profile",
    "loops": "matmul_loops",
    "numba_dot": "dot matmul_dot",
    "elementwise": "matmul_elementwise matmul_torch_dot",
    "broadcasting": "broadcast_shape matmul_broadcast",
    "einsum": "einsum_by_hand matmul_einsum",
    "library": "matmul_torch matmul_numpy",
    "memory": "matmul_ikj arithmetic_intensity",
    "registers": "matmul_packed matmul_tile",
    "threads": "matmul_parallel matmul_skinny matmul",
    "grid": "launch_kernel ceil_div",
    "cuda_kernel": "matmul_cuda",
    "coalescing": "coalesced_kernel matmul_cuda_coalesced",
    "shared_memory": "matmul_cuda_shared",
    "thread_tiles": "matmul_cuda_tiles",
    "machine_code": "occupancy",
}
_home_of = {name: home for home, names in _HOMES.items() for name in names.split()}

def __getattr__(name):
    if name not in _home_of: raise AttributeError(f"module 'matmul_course' has no attribute {name!r}")
    return getattr(import_module(f"matmul_course.{_home_of[name]}"), name)

def __dir__(): return [*globals(), *_home_of]
