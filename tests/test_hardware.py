"The command `hardware` on a machine without a card: a device that is described by hand, a clock that is told, and a stand-in for `ncu`."
import json, os, sys
from dataclasses import replace
from types import SimpleNamespace
import numpy as np, pytest
from matmul_course.app import hardware as h
from matmul_course.gpu.choice import cuda
from matmul_course.gpu.compiler import COMPILER, compile_kernel, installed
from matmul_course.profiler.bounds import GPUS
from stand_in_ncu import M, N, REPORT
from test_cli import run

pytestmark = pytest.mark.skipif(not cuda.emulated, reason="a card is there: the command itself is the test")

def device(name, cc, sms, clock, memory_clock, width, l2=16 * M):
    return SimpleNamespace(name=name, compute_capability=cc, MULTIPROCESSOR_COUNT=sms, CLOCK_RATE=clock, MEMORY_CLOCK_RATE=memory_clock,
                           GLOBAL_MEMORY_BUS_WIDTH=width, L2_CACHE_SIZE=l2)

A100 = device(b"NVIDIA A100-SXM4-40GB", (8, 0), 108, 1_410_000, 1_215_000, 5120)

@pytest.fixture
def ncu(tmp_path, monkeypatch):
    "`ncu(python)` puts a program of that source on the PATH, alone, in a folder with a space in its name."
    folder = tmp_path/"a folder"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    def put(source):
        (folder/"ncu.py").write_text(source, encoding="utf-8")
        start = folder/("ncu.bat" if os.name == "nt" else "ncu")
        start.write_text(f'@"{sys.executable}" "{folder/"ncu.py"}" %*' if os.name == "nt" else
                         f'#!/bin/sh\nexec "{sys.executable}" "{folder/"ncu.py"}" "$@"\n', encoding="utf-8")
        start.chmod(0o755)
    return put

def measured(tmp_path, capsys, device=A100, seconds=(1e-3,) * 3, shapes=()):
    "What is written and what is printed, where the runs of each launch take that long."
    out = tmp_path/"the result.json"
    h.hardware(out, device, lambda launch: seconds, shapes, N)
    assert [f.name for f in tmp_path.iterdir() if f.is_file()] == [out.name]
    return json.loads(out.read_text(encoding="utf-8")), capsys.readouterr().out

@pytest.mark.slow
def test_counters_are_held_against_the_model(tmp_path, capsys, ncu):
    "The stand-in runs the second Python as well; its report has one thing that the profiler does not say."
    ncu(f"import runpy; runpy.run_path({str(REPORT.with_name('stand_in_ncu.py'))!r}, run_name='__main__')")
    found, said = measured(tmp_path, capsys)
    rows = {r["name"]: r for r in found["kernels"]}
    assert found["notes"] == [] and len(rows) == 10 and all(r["counters"].keys() == set(h.PREDICTED) for r in rows.values())
    assert [name for name, r in rows.items() if r["off"]] == ["8 bytes"]
    assert rows["8 bytes"]["off"] == [f"{h.WAVEFRONTS[0]} 2,048, not 1,024"]
    assert said.count("OFF") == 1 and f"OFF: {h.WAVEFRONTS[0]}" in said
    assert rows["copy"]["counters"][h.SECTORS] == 4 * N / 32 and rows["empty"]["counters"][h.SECTORS] is None
    assert found["versions"].keys() >= {"Python", "numba", "numpy"}

@pytest.mark.parametrize("source, note", [
    ("print('==ERROR== ERR_NVGPUCTRPERM - The user does not have permission to access NVIDIA GPU Performance Counters')",
     "says how to allow it"),
    ("print('==ERROR== Failed to find metric'); raise SystemExit(1)", "0 launches, and not the 10 that were made"),
    (f"lines = open({str(REPORT)!r}).read().splitlines(); print(*lines[:-1], sep='\\n')", "9 launches"),
    (f"print(open({str(REPORT)!r}).read().replace('copy_kernel', 'other'))", "10 launches"),
    ("print('x' * 10**6, chr(0x263a), sep='\\n')", "0 launches"), (None, "not on the PATH")])
def test_without_counters_there_are_times_and_a_sentence(tmp_path, capsys, ncu, source, note):
    if source: ncu(source)
    found, said = measured(tmp_path, capsys)
    assert note in found["notes"][0] and len(found["notes"]) == 1 and found["notes"][0] in said and len(found["notes"][0]) < 400
    assert all(r["counters"] == {} and r["off"] == [] and r["seconds"]["median"] == 1e-3 for r in found["kernels"])

def test_a_profiler_that_hangs_is_left(ncu):
    ncu("import time; time.sleep(60)")
    with pytest.raises(OSError, match="ncu ran over 0.5 s"): h._read_counters("", [], seconds=0.5)

def test_a_run_that_beats_its_bound_is_marked(tmp_path, capsys, ncu):
    "A copy of 8 N bytes takes an A100 84 ns. The empty kernel has no bound, and the bounds of the copy in L2 leave DRAM out."
    found, said = measured(tmp_path, capsys, seconds=(1e-3, 50e-9, 1e-3))         # one fast run is enough
    rows = {r["name"]: r for r in found["kernels"]}
    assert rows["copy"]["limited_by"] == "dram" and rows["copy"]["bound"] == pytest.approx(8 * N / 1555.2e9)
    assert rows["copy"]["off"] == ["faster than its bound"] and rows["copy in L2"]["bounds"]["dram"] == 0
    assert rows["empty"]["off"] == rows["copy in L2"]["off"] == []
    assert said.count("faster than its bound") == sum(bool(r["off"]) for r in found["kernels"]) > 3

@pytest.mark.slow
def test_each_rung_is_found_and_a_wrong_one_is_named(tmp_path, capsys, ncu, monkeypatch):
    found, said = measured(tmp_path, capsys, shapes=[(33, 40, 17)])
    names = [f"{r.name} 33x40x17" for r in h.rungs().values() if r.device == "cuda"]
    assert [r["name"] for r in found["kernels"]][10:] == names and len(names) >= 4
    assert all(r["right"] and r["bound"] > 0 for r in found["kernels"][1:])

@pytest.mark.parametrize("spoilt", [lambda c: 2 * c, lambda c: c[:1], lambda c: c.astype(np.float64)])
def test_a_product_of_wrong_numbers_shape_or_dtype_is_wrong(spoilt, monkeypatch):
    "The first row stands for all of them in a shape that broadcasts against the right one."
    right = h.rungs()["cuda"]
    wrong = {"cuda": replace(right, fn=lambda a, b: spoilt(right.fn(a, b)), takes="numpy")}
    monkeypatch.setattr(h, "rungs", lambda: wrong)
    monkeypatch.setattr(h, "workload", lambda *shape: (np.ones((33, 40), np.float32), np.ones((40, 17), np.float32)))
    assert [launch.right for launch in h.launches([(33, 40, 17)], N, M)][10:] == [False]
    monkeypatch.setattr(h, "rungs", lambda: {"cuda": replace(right, takes="numpy")})
    assert [launch.right for launch in h.launches([(33, 40, 17)], N, M)][10:] == [True]

@pytest.mark.parametrize("cc, reason", [((99, 0), "no GPU of the architecture sm_990"), ((8, 0), "driver does not tell")])
def test_a_card_that_is_not_known_has_times_and_a_reason(tmp_path, capsys, ncu, cc, reason):
    found, said = measured(tmp_path, capsys, SimpleNamespace(name="NVIDIA X", compute_capability=cc))
    assert found["gpu"] is None and reason in found["notes"][0] and found["notes"][0] in said and "NVIDIA X" in said
    assert all(r["bounds"] == {} and r["bound"] == 0 and r["off"] == [] for r in found["kernels"])

CARDS = {"T4": ((7, 5), 40, 1_590_000, 5_001_000, 256), "A100": ((8, 0), 108, 1_410_000, 1_215_000, 5120),
         "H100": ((9, 0), 132, 1_980_000, 2_619_000, 5120), "A6000": ((8, 6), 84, 1_800_000, 8_001_000, 384),
         "RTX 4060 Laptop": ((8, 9), 24, 2_370_000, 8_001_000, 128), "RTX 5090": ((12, 0), 170, 2_407_000, 14_001_000, 512)}

@pytest.mark.parametrize("name", GPUS)
def test_what_a_driver_says_agrees_with_the_table(name):
    "Clocks and widths as these cards' specifications have them; the bandwidth follows, within a hundredth."
    made, listed = h._gpu_of(h._card_facts(device(name, *CARDS[name]))), GPUS[name]
    for field in ("sms", "clock", "fp32", "fp64"): assert getattr(made, field) == getattr(listed, field), field
    assert made.bandwidth == pytest.approx(listed.bandwidth, rel=0.01)

def test_what_cannot_be_written_is_refused_before_anything_runs(tmp_path):
    def never(launch): raise AssertionError("something ran")
    (tmp_path/"mine.json").write_text("mine", encoding="utf-8")
    exists = "File exists; name a new file"
    for out, error, says in ((tmp_path/"mine.json", FileExistsError, exists), (tmp_path, FileExistsError, exists),
                             (tmp_path/"mine.json"/"x", OSError, "name a new file in a folder that is there"),
                             (tmp_path/"no folder"/"x", OSError, "name a new file in a folder that is there"),
                             (tmp_path/("x" * 300), OSError, "File name too long")):
        with pytest.raises(error, match=says): h.hardware(out, A100, never)
    assert [(f.name, f.read_text(encoding="utf-8")) for f in tmp_path.iterdir()] == [("mine.json", "mine")]

def test_nothing_is_left_where_a_run_fails(tmp_path):
    def fails(launch): raise RuntimeError("CUDA_ERROR_LAUNCH_FAILED")
    with pytest.raises(RuntimeError): h.hardware(tmp_path/"out.json", A100, fails, (), N)
    assert [*tmp_path.iterdir()] == []

def test_the_command_says_in_a_sentence_that_there_is_no_card(tmp_path):
    r = run("main", "hardware", tmp_path/"out.json", env=os.environ | {"MATMUL_COURSE_CUDA": "emulate"})
    assert r.returncode == 1 and r.stdout == "" and r.stderr.startswith("There is no NVIDIA card") and len(r.stderr.splitlines()) == 1
    (tmp_path/"mine").write_text("mine", encoding="utf-8")
    r = run("main", "hardware", tmp_path/"mine")
    assert r.returncode == 2 and "mine: File exists" in r.stderr and "Traceback" not in r.stderr
    r = run("main", "hardware")
    assert r.returncode == 2 and "required: out" in r.stderr
    assert [f.name for f in tmp_path.iterdir()] == ["mine"]

F, D = "float32[::1]", "float64[::1]"

@pytest.mark.skipif(not all(map(installed, COMPILER)), reason="the extra gpu is not installed")
@pytest.mark.parametrize("arch", ["sm_90", pytest.param("sm_75", marks=pytest.mark.slow)])
def test_the_compiler_leaves_the_probes_what_they_are(arch):
    "As many loads as the source makes, none of them joined, and next to nothing but multiply-adds where these are timed."
    def counts(kernel, *types): return compile_kernel(kernel, f"void({', '.join(types)})", arch).counts
    for kind, op in ((F, "FFMA"), (D, "DFMA")):
        found = counts(h.multiply_add_kernel, kind, kind)
        assert found[op] == 256 and found.total() < 320, found
        assert (found := counts(h.copy_kernel, kind, kind, "int64"))["LDG"] == found["STG"] == 1
    assert counts(h.column_kernel, "float32[:,::1]", F)["LDG"] == 32
    found = counts(h.shared_sum_kernel, "float32[:,::1]", "float32[:,:,::1]", "boolean")
    assert (found["LDS"], found["STS"], found["LDG"], found["STG"]) == (32, 1, 1, 1)

def test_what_cannot_be_predicted_is_timed_all_the_same(tmp_path, capsys, ncu, monkeypatch):
    def refuses(kernel, *args, **options): raise ValueError("a block makes too many accesses to be profiled")
    monkeypatch.setattr(h, "profile", refuses)
    found, said = measured(tmp_path, capsys)
    assert "copy: not predicted: a block makes too many" in said and len(found["notes"]) == 11
    assert all(r["seconds"]["median"] == 1e-3 and r["counts"] == r["bounds"] == {} for r in found["kernels"])
