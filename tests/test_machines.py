"The file of lesson 22 under torchrun, a product over meshes of every kind, and processes that die."
import os, subprocess, sys, time
import numpy as np, pytest, torch
from matmul_course.machines import matmul_sharded
from matmul_course.tools.checks import error_bound
from matmul_course.tools.processes import Processes, mesh_of

@pytest.fixture(scope="module")
def four():
    processes = Processes(4)
    yield processes
    processes.close()

def product(shape, kind, dtype, sizes):
    "The container, the shape and the dtype of a product in this process, and whether it is right."
    rng, (M, K, N) = np.random.default_rng(0), shape
    a, b = (rng.standard_normal(s).astype(dtype) for s in ((M, K), (K, N)))
    given = (a, b) if kind == "numpy" else (torch.from_numpy(a), torch.from_numpy(b))
    before = [x.copy() for x in (a, b)]
    c = matmul_sharded(*given, mesh_of(*sizes))
    right = np.abs(np.asarray(c) - a.astype(np.float64) @ b) <= 2 * error_bound(a, b)
    same = all(np.array_equal(x, y) for x, y in zip(before, (a, b)))
    return type(c).__module__, tuple(c.shape), str(c.dtype).removeprefix("torch."), bool(right.all()) and same

@pytest.mark.parametrize("sizes", [(4,), (2, 2), (1, 4), (4, 1)])
def test_a_product_over_a_mesh(four, sizes):
    "Sizes that four does not divide, smaller than four, and zero."
    for shape in ((301, 203, 97), (2, 3, 2), (1, 1, 1), (0, 3, 2), (3, 0, 2), (3, 2, 0)):
        for kind, dtype in (("numpy", "float32"), ("torch", "float64")):
            assert four.run(product, shape, kind, dtype, sizes) == [(kind, (shape[0], shape[2]), dtype, True)] * 4, (shape, kind, sizes)

def refused(*sizes):
    try: matmul_sharded(torch.ones(2, 3), torch.ones(2, 3), mesh_of(*sizes))
    except ValueError as e: return str(e)

def test_what_is_refused(four):
    assert "(2, 3) @ (2, 3)" in four.run(refused, 2, 2)[3]
    assert four.run(refused, 1, 2, 2)[0].startswith("mesh: ")
    with pytest.raises(TypeError, match="mesh: 4"): matmul_sharded(np.ones((2, 2)), np.ones((2, 2)), 4)

def gradient():
    a, b = (torch.rand(6, 6, generator=torch.Generator().manual_seed(0)).requires_grad_() for _ in range(2))
    matmul_sharded(a, b, mesh_of(2, 2)).sum().backward()
    return [torch.allclose(x.grad, y) for x, y in ((a, b.sum(1).expand(6, 6)), (b, a.sum(0)[:, None].expand(6, 6)))]

def test_a_gradient_comes_back(four): assert four.run(gradient) == [[True, True]] * 4

@pytest.mark.slow                       # lesson 22 starts it as well
def test_under_torchrun():
    "As a reader types it."
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "matmul_course.machines"]
    env = os.environ | dict(PYTHONPATH=os.pathsep.join(filter(None, sys.path)), USE_LIBUV="0")      # which wheels for Windows lack
    run = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert run.returncode == 0 and "1 × 2 processes, a product of size 1024: within the error bound" in run.stdout, run.stderr[-3000:]

def killed():
    if torch.distributed.get_rank() == 1: os.kill(os.getpid(), 9)
    torch.distributed.all_reduce(torch.ones(9))

@pytest.mark.slow                       # lesson 22 kills one as well
def test_a_process_that_dies_is_named_in_time(four):
    start = time.monotonic()
    with pytest.raises(Exception, match="process 1 terminated with (signal SIGKILL|exit code)"): four.run(killed)
    assert time.monotonic() - start < 20
