"""Machine code as text: what `compile_kernel` keeps of a disassembly, and which of its loops it calls the hot one."""
import pytest
from numba import float32
from matmul_course.coalescing import coalesced_kernel
from matmul_course.cuda_kernel import matmul_kernel
from matmul_course.gpu import compiler
from matmul_course.gpu.choice import cuda
from matmul_course.gpu.compiler import ARCHITECTURES, COMPILER, compile_kernel, installed
from matmul_course.shared_memory import shared_kernel
from matmul_course.thread_tiles import tiles_kernel

MATRICES = "void(float32[:,::1], float32[:,::1], float32[:,::1])"
needs_compiler = pytest.mark.skipif(not all(map(installed, COMPILER)), reason="the extra gpu is not installed")
few, rest = ("sm_75", "sm_120"), [a for a in ARCHITECTURES if a not in ("sm_75", "sm_120")]
every_arch = pytest.mark.parametrize("arch", [*few, *(pytest.param(a, marks=pytest.mark.slow) for a in rest)])

# ---------------------------------------------------------------- without a compiler

def disassembly(*lines):
    "Lines as nvdisasm would write them: labels as they are, instructions behind an address."
    written = (line if line.endswith(":") else f"        /*{16 * n:04x}*/              {line} ;" for n, line in enumerate(lines))
    head = "\t.target\tsm_80\n        .global         _Zk\n.text._Zk:\n"
    return head + "\n".join(written) + "\n.L_x_98:\n        /*0ff0*/                   BRA `(.L_x_98);\n" + \
        "        /*1000*/                   NOP;\n" * 3 + ".L_x_99:\n"

def read(*lines): return compiler._readable(disassembly(*lines), "kernel")
def loops(*lines): return compiler._loops(read("_Zk:", *lines, "EXIT"))

def test_a_text_is_labels_and_instructions():
    text = read("_Zk:", "MOV R1, c[0x0][0x28]", "BSSY B0, `(.L_x_1)", ".L_x_0:", "@!P0 FFMA R2.reuse, R3, R4, R2", "NOP",
                "BRA.U UP0, `(.L_x_0)", ".L_x_1:", "EXIT")
    assert text.splitlines() == ["kernel:", "    MOV R1, c[0x0][0x28]", "    BSSY B0, .L_x_1", ".L_x_0:",
        "    @!P0 FFMA R2.reuse, R3, R4, R2", "    NOP", "    BRA.U UP0, .L_x_0", ".L_x_1:", "    EXIT"]

def test_a_function_keeps_its_name():
    text = read("_Zk:", "MOV R20, 32@lo((_Zk + .L_x_0@srel))", "CALL.ABS.NOINC `(__cuda_div)", ".L_x_0:", "EXIT",
                "__cuda_div:", "RET.ABS.NODEC R20 0x0")
    assert "\n__cuda_div:\n" in text and "CALL.ABS.NOINC __cuda_div" in text and "32@lo((kernel + .L_x_0@srel))" in text

@pytest.mark.parametrize("back", ["BRA `(.L_x_0)", "@P0 BRA `(.L_x_0)", "@!P0 BRA !P1, `(.L_x_0)", "BRA.U UP0, `(.L_x_0)",
                                  "@!UP0 BRA `(.L_x_0)"])
def test_every_branch_back_closes_a_loop(back):
    (loop,) = loops("MOV R0, RZ", ".L_x_0:", "FFMA R0, R1, R2, R0", "@P3 BRA `(.L_x_1)", back, ".L_x_1:")
    assert (loop.fmas, loop.flops, loop.counts) == (1, 2, {"FFMA": 1, "BRA": 2})

def test_a_part_out_of_the_way_is_no_loop():
    "A block that the compiler has put behind the end branches back, and is no loop: nothing leads from there to it again."
    assert loops("@P0 BRA `(.L_x_1)", ".L_x_0:", "FFMA R0, R1, R2, R0", "EXIT", ".L_x_1:", "MOV R1, RZ", "BRA `(.L_x_0)") == []

def test_a_part_out_of_the_way_belongs_to_its_loop():
    (loop,) = loops(".L_x_0:", "FFMA R0, R1, R2, R0", "@P1 BRA `(.L_x_2)", ".L_x_1:", "@P0 BRA `(.L_x_0)", "STG.E [R2], R0", "EXIT",
                    ".L_x_2:", "FADD R0, R0, R1", "BRA `(.L_x_1)")
    assert loop.counts == {"FFMA": 1, "BRA": 3, "FADD": 1}

def test_a_label_that_nothing_leads_to_is_no_loop():
    "The line before the second label runs on into it, and nothing leads back to that line."
    assert loops("EXIT", ".L_x_0:", "FFMA R0, R1, R2, R0", ".L_x_1:", "FADD R0, R0, R1") == []

def test_a_loop_that_a_call_leaves():
    "On sm_80 the way out can be a CALL to a label, and the line behind it is not reached otherwise."
    (loop,) = loops(".L_x_0:", "FFMA R0, R1, R2, R0", "@!P1 CALL.REL.NOINC `(.L_x_1)", "BRA `(.L_x_0)",
                    ".L_x_1:", "BSYNC B8", ".L_x_2:")
    assert loop.counts == {"FFMA": 1, "CALL": 1, "BRA": 1}

def test_two_ways_back_are_one_loop():
    (loop,) = loops(".L_x_0:", "FFMA R0, R1, R2, R0", "@P1 BRA `(.L_x_2)", "@P0 BRA `(.L_x_0)", "EXIT",
                    ".L_x_2:", "FADD R0, R0, R1", "BRA `(.L_x_0)")
    assert loop.counts == {"FFMA": 1, "BRA": 3, "FADD": 1}

def test_a_loop_that_is_entered_in_its_middle():
    (loop,) = loops("BRA `(.L_x_1)", ".L_x_0:", "FADD R0, R0, R1", ".L_x_1:", "FFMA R0, R1, R2, R0", "@P0 BRA `(.L_x_0)")
    assert loop.counts == {"FFMA": 1, "BRA": 1, "FADD": 1}

def test_the_innermost_of_a_nest():
    (loop,) = loops(".L_x_0:", "DFMA R0, R2, R4, R0", ".L_x_1:", "FFMA R0, R1, R2, R0", "@P0 BRA `(.L_x_1)", "@P1 BRA `(.L_x_0)")
    assert loop.counts == {"FFMA": 1, "BRA": 1}

def test_counts_by_width_and_kind():
    (loop,) = loops(
        ".L_x_0:", "LDS.U R1, [R2]", "LDS.U.128 R4, [R2]", "@P0 LDS.64 R4, [R2+0x10]", "LDG.E.128.CONSTANT R8, [R2.64]",
        "STG.E [R2.64], R1", "LDS R1, [R2.X4]", "LDG.E.U8 R8, [R2.64]", "I2F.F64 R0, R1", "@!P1 F2F.F32.F64 R0, R2",
        "F2FP.BF16.PACK_AB R0, R1", "UI2F UR1, UR2", "I2FP.F32.S32 R0, R1", "HFMA2 R0, -RZ, RZ, 0, 0",
        "FFMA2 R0, R2, R4, R0", "DADD R0, R2, R4", "IMAD.MOV.U32 R0, RZ, RZ, RZ", "@P0 BRA `(.L_x_0)")
    assert loop.widths == {"LDS": 2, "LDS.128": 1, "LDS.64": 1, "LDG.128": 1, "LDG.U8": 1, "STG": 1}
    assert (loop.counts["LDS"], loop.conversions, loop.fmas, loop.flops) == (4, 5, 2, 5)      # a HFMA2 of zeros is a move

def test_notes_stand_beside_their_instructions():
    (loop,) = loops(".L_x_0:", "LDS R1, [R2]", "LDS R3, [R4]", "IADD3 R0, R0, 0x1, RZ",
                    "@P1 FFMA R5, R1, R3, R5", "FFMA R6, R1, R3, R6", "@P0 BRA `(.L_x_0)")
    notes = {"LDS": "of a", "LDS R3": "of b", "FFMA": "both", "FMUL": "not there"}
    assert loop.annotated(notes).splitlines() == [".L_x_0:", "    LDS R1, [R2]             # of a", "    LDS R3, [R4]             # of b",
        "    … 1 more: IADD3 1", "    @P1 FFMA R5, R1, R3, R5  # both", "    FFMA R6, R1, R3, R6      # both", "    … 1 more: BRA 1"]
    assert "more" not in loop.annotated({"": "anything"})
    assert repr(loop).splitlines() == list(loop.lines)

# ---------------------------------------------------------------- with it

@cuda.jit
def wide_sum(a, b, c):
    j, i = cuda.grid(2)
    if i < c.shape[0] and j < c.shape[1]:
        tmp = 0.
        for k in range(a.shape[1]): tmp += a[i, k] * b[k, j]
        c[i, j] = tmp

@cuda.jit
def nest(a, b, c):
    for i in range(c.shape[0]):
        for j in range(c.shape[1]):
            total = float32(0)
            for k in range(a.shape[1]): total += a[i, k] * b[k, j]
            c[i, j] = total

@cuda.jit
def no_loop(a, b, c):
    i = cuda.grid(1)
    if i < c.shape[0]: c[i, 0] = a[i, 0] + b[i, 0]

@cuda.jit
def by_fours(a, b, c):
    "Rows of four from shared memory whose alignment the compiler knows."
    s = cuda.shared.array((64, 4), float32, alignment=16)
    t = cuda.threadIdx.x
    for q in range(4): s[t, q] = a[t, q]
    cuda.syncthreads()
    total = float32(0)
    for k in range(a.shape[1]):
        row = (t + k) % 64
        total += s[row, 0] * s[row, 1] + s[row, 2] * s[row, 3]
    c[t, 0] = total

def hot(kernel, arch):
    made = compile_kernel(kernel, MATRICES, arch)
    assert "NOP" not in made.sass.splitlines()[-1] and "/*" not in made.sass and "`" not in made.sass
    assert made.loop is None or set(made.loop.lines) <= set(made.sass.splitlines())
    return made.loop

@needs_compiler
@every_arch
@pytest.mark.parametrize("kernel", [matmul_kernel, coalesced_kernel, nest])
def test_unrolled_with_a_remainder(kernel, arch):
    loop = hot(kernel, arch)
    assert loop.fmas == loop.counts["FFMA"] == (8 if arch in ("sm_100", "sm_120") else 4)
    assert loop.widths["LDG"] == loop.counts["LDG"] == 2 * loop.fmas
    assert (loop.conversions, loop.flops) == (0, 2 * loop.fmas)

@needs_compiler
@every_arch
def test_tiles_of_shared_memory(arch):
    loop = hot(shared_kernel, arch)
    assert [loop.counts[op] for op in ("FFMA", "LDS", "LDG", "BAR")] == [16, 32, 2, 2] and loop.widths["LDS"] == 32
    loop = hot(tiles_kernel, arch)
    assert [loop.counts[op] for op in ("FFMA", "LDS", "LDG", "BAR")] == [16, 8, 0, 0]

@needs_compiler
@every_arch
def test_conversions_of_a_wide_sum(arch):
    loop = hot(wide_sum, arch)
    assert loop.counts["F2F"] == loop.conversions == loop.counts["FMUL"] == loop.counts["DADD"] >= 4
    assert (loop.fmas, loop.flops) == (0, 2 * loop.conversions)

@needs_compiler
@every_arch
def test_wide_loads_and_no_loop(arch):
    loop = hot(by_fours, arch)
    assert loop.widths["LDS.128"] == loop.counts["LDS"] > 0
    assert hot(no_loop, arch) is None
