# The public names, each with the module that defines it: `from .module import name as name`.
# __init__.py reads this list, so it is the only one.
__version__: str

from .tools.data import load_mnist as load_mnist, linear_layer as linear_layer
from .tools.checks import (
    matmul_shape as matmul_shape, error_bound as error_bound, check_matmul as check_matmul)
from .tools.timing import bench as bench
from .tools.machine import this_machine as this_machine
from .app.ladder import rung as rung, rungs as rungs, race as race
from .app.predictions import predict as predict, predictions as predictions
from .gpu.choice import cuda as cuda
from .gpu.compiler import compile_kernel as compile_kernel
from .profiler.look import profile as profile
from .loops import matmul_loops as matmul_loops
from .numba_dot import dot as dot, matmul_dot as matmul_dot
from .elementwise import (
    matmul_elementwise as matmul_elementwise, matmul_torch_dot as matmul_torch_dot)
from .broadcasting import broadcast_shape as broadcast_shape, matmul_broadcast as matmul_broadcast
from .einsum import matmul_einsum as matmul_einsum
from .subscripts import einsum_by_hand as einsum_by_hand
from .library import matmul_torch as matmul_torch, matmul_numpy as matmul_numpy
from .memory import matmul_ikj as matmul_ikj, arithmetic_intensity as arithmetic_intensity
from .registers import matmul_packed as matmul_packed, matmul_tile as matmul_tile
from .threads import matmul_parallel as matmul_parallel
from .shapes import (
    matmul_skinny as matmul_skinny, matmul_wide as matmul_wide, matmul as matmul)
from .grid import launch_kernel as launch_kernel, ceil_div as ceil_div
from .cuda_kernel import matmul_cuda as matmul_cuda
from .multiprocessor import warps_to_hide as warps_to_hide
from .coalescing import (
    coalesced_kernel as coalesced_kernel, matmul_cuda_coalesced as matmul_cuda_coalesced)
from .shared_memory import matmul_cuda_shared as matmul_cuda_shared
from .thread_tiles import matmul_cuda_tiles as matmul_cuda_tiles
from .pipeline import matmul_cuda_pipelined as matmul_cuda_pipelined
from .machine_code import occupancy as occupancy
from .precision import matmul_mixed as matmul_mixed
from .layer import linear as linear, train as train
from .machines import matmul_sharded as matmul_sharded
