"""Occupancy, by hand and by `cuda_occupancy.h`, NVIDIA's own calculator, which comes with the CUDA runtime that the compiler needs."""
import random, shutil, subprocess
from importlib.util import find_spec
from pathlib import Path
import pytest
from matmul_course.gpu.compiler import ARCHITECTURES, installed
from matmul_course.machine_code import occupancy
from matmul_course.profiler.bounds import GPU, SM_LIMITS

# GPU, registers, threads, shared bytes; blocks that fit and warps of one, worked out by hand; places for warps; how, or who says so
BY_HAND = [
    ("A6000", 37, 1024, 0, 1, 32, 48),            # siboehm.com/articles/22/CUDA-MMM: 1280 registers a warp, 40960 a block, 66%
    ("A100", 64, 512, 0, 2, 16, 64),              # CUDA C++ programming guide, multiprocessor level: 2 × 512 × 64 are 65536 …
    ("A100", 65, 512, 0, 1, 16, 64),              # … and one more register leaves only one
    ("A100", 168, 96, 0, 4, 3, 64),               # 5376 a warp, 3 warps in a quarter, 12 in all
    ("A100", 40, 96, 0, 16, 3, 64),               # 1280 a warp, 12 in a quarter (of 12.8), 48 in all; 51 would be 17 blocks
    ("A100", 80, 256, 8192, 3, 8, 64),            # 2560 a warp, 6 in a quarter, 24 in all
    ("A100", 16, 256, 40_960, 4, 8, 64),          # 41984 bytes with the system's, four times exactly 164 KB
    ("A100", 16, 256, 40_961, 3, 8, 64),          # 42112 bytes, as one unit of 128 more
    ("A100", 16, 32, 10_166, 14, 1, 64),          # 11190 bytes would go 15 times, rounded up to 11264 they do not
    ("A100", 32, 1024, 163 * 1024, 1, 32, 64),    # the most that a block may have
    ("A100", 32, 1024, 163 * 1024 + 1, 0, 32, 64),
    ("A100", 16, 33, 0, 32, 2, 64),               # a second warp for one thread
    ("A100", 16, 32, 0, 32, 1, 64),               # places for blocks
    ("T4", 32, 1024, 0, 1, 32, 32),
    ("T4", 64, 256, 0, 4, 8, 32),                 # 2048 a warp, 8 in a quarter
    ("T4", 65, 256, 0, 3, 8, 32),                 # 2304 a warp, 7 in a quarter, 28 in all
    ("T4", 16, 32, 0, 16, 1, 32),
    ("T4", 32, 128, 16_384, 4, 4, 32),            # nothing for the system
    ("T4", 32, 128, 16_385, 3, 4, 32),            # 16640, as units have 256 bytes
    ("RTX 4060 Laptop", 16, 32, 0, 24, 1, 48),
    ("A6000", 16, 32, 0, 16, 1, 48),
    ("H100", 40, 128, 32_768, 6, 4, 64),          # 33792 bytes of 228 KB
    ("RTX 5090", 128, 256, 0, 2, 8, 48),          # 4096 a warp, 4 in a quarter
    ("RTX 5090", 255, 320, 0, 0, 10, 48),         # 8192 a warp, 8 in all, and a block has ten
]

@pytest.mark.parametrize("gpu, registers, threads, shared, blocks, warps, places", BY_HAND)
def test_by_hand(gpu, registers, threads, shared, blocks, warps, places):
    assert occupancy(registers, threads, shared, gpu) == blocks * warps / places

def test_every_architecture_that_is_compiled_for_has_limits(): assert set(SM_LIMITS) == set(ARCHITECTURES)

HEADER = next((p for place in (find_spec("nvidia.cu13").submodule_search_locations or [] if installed("nvidia.cu13") else [])
               for p in Path(place).rglob("cuda_occupancy.h")), None)
CC = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
CALCULATOR = """
#include <stdio.h>
#include <limits.h>
#include <stddef.h>
#include "cuda_occupancy.h"
int main(void) {
    int major, minor, threads_sm, shared_sm, system, registers, threads, shared;
    while (scanf("%d %d %d %d %d %d %d %d", &major, &minor, &threads_sm, &shared_sm, &system, &registers, &threads, &shared) == 8) {
        struct cudaOccDeviceProp gpu = {major, minor, 1024, threads_sm, 65536, 65536, 32, 48 * 1024, shared_sm, 1,
                                        shared_sm - system, system};
        struct cudaOccFuncAttributes kernel = {0};
        struct cudaOccDeviceState state = {CACHE_PREFER_NONE, SHAREDMEM_CARVEOUT_DEFAULT};
        struct cudaOccResult result = {0};
        kernel.maxThreadsPerBlock = 1024; kernel.numRegs = registers; kernel.maxDynamicSharedSizeBytes = shared;
        kernel.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN; kernel.numBlockBarriers = 1;
        if (cudaOccMaxActiveBlocksPerMultiprocessor(&result, &gpu, &kernel, &state, threads, shared)) return 1;
        printf("%d\\n", result.activeBlocksPerMultiprocessor);
    }
}"""

@pytest.mark.skipif(not (HEADER and CC), reason="no cuda_occupancy.h, or no compiler of C")
def test_by_nvidias_calculator(tmp_path):
    (tmp_path / "calculator.c").write_text(CALCULATOR)
    program = str(tmp_path / "calculator")
    subprocess.run([CC, "-I", str(HEADER.parent), str(tmp_path / "calculator.c"), "-o", program], check=True, capture_output=True)
    draw = random.Random(0)
    cases = [(arch, draw.randint(1, 255), draw.choice((draw.randint(1, 1024), 32 * draw.randint(1, 16))),
              draw.choice((0, draw.randint(0, 20_000), draw.randint(0, 240_000)))) for arch in SM_LIMITS for _ in range(1000)]
    lines = (f"{arch[3:-1]} {arch[-1]} {32 * sm.warps} {sm.shared} {sm.system} {' '.join(map(str, case))}"
             for arch, *case in cases for sm in [SM_LIMITS[arch]])
    said = subprocess.run([program], input="\n".join(lines), text=True, capture_output=True, check=True).stdout.split()
    assert len(said) == len(cases)
    for (arch, registers, threads, shared), blocks in zip(cases, map(int, said)):
        gpu = GPU("", 1, 1.0, 1, 1, 1.0, "", arch)
        share = blocks * -(-threads // 32) / SM_LIMITS[arch].warps
        assert occupancy(registers, threads, shared, gpu) == share, (arch, registers, threads, shared)
