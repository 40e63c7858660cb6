"""numba-cuda's own tests, which its wheel ships, with the emulated `cuda` in the place of numba.cuda: none finds another number.

In scope is what a program sees that launches kernels and handles arrays, events and streams. Out of it are files about the compiler, its
extensions and caches, the driver, foreign code and types of newer cards, tests whose text reads compiled code or links to some, and
test_flow_control.py, which compares no numbers. 858 are left, of which Numba's own simulator passes 630 and leaves out 225."""
import builtins, importlib, inspect, itertools, json, os, re, subprocess, sys, types, unittest
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
import pytest

PASSED = 620                                 # the fewest that pass
OUT = set("""analysis array_alignment array_reductions bfloat16 bfloat16_bindings byteflow cache_hints caching cffi compiler context_stack
    copy_propagate cpointer cuda_auto_context cuda_devicerecord cuda_driver cuda_memory cupy_bfloat16_interop deallocations debug debuginfo
    debuginfo_types detect emm_plugins extending extending_types fastmath ffi flow_control fp8_bindings init inline inline_ptx inspect ipc
    ir ir_utils is_fp16 launch_config_sensitive libdevice lineinfo linkable_code linker make_function_to_jit_function managed_alloc minmax
    module_callbacks multigpu multiprocessing multithreads numba_interop nvjitlink nvrtc nvvm_driver optimization overload profiler
    reset_device retrieve_autoconverted_arrays runtime select_device serialize streams tracing transpose typeconv typeinfer""".split())
COMPILED = re.compile(r"""inspect_|compile_ptx|nvvm|\.compile\(|cuda\.compile|\.overloads|\bstats\b|lto|subprocess|cupy|importorskip|\blink=
    |current_context|max_cooperative|get_\w+_(per_thread|mem|threads)|libdevice|devicearray\.|auto_device|cuda\.core|_numba_type_
    |nopython|devices\.|driver\.|_driver|cudadrv|pickle|overload\(|intrinsic\(""", re.X)
DIFFERENT = {"test_ex_globals_constant_capture": "a launch sees a global number that was bound anew",
             "test_vector_type_alias": "float4 and float32x4 are two names of one kind", "test_ex_3d_grid": "it takes 7 GB",
             "test_ufunc": "numba.vectorize(target='cuda') is the compiler's own", "test_stream_bind": "an array knows no stream"}
WORDS = re.compile(r"not raised|not found in|does not match|not triggered|DID NOT WARN|isn't supported' !=|isn't supported\" !=")
INTERNAL = re.compile(r"^(KeyError|SyntaxError|NameError|UnboundLocalError|IndentationError|RecursionError|SystemError|llvm\S*):?", re.M)

# ---------------------------------------------------------------- in the process of one file

def not_there(name):
    def ask(*args, **options): raise AttributeError(f"cuda.{name} is not emulated")
    return ask

NUMBERS = itertools.count()

def executed(text, names, local=None, run=builtins.exec):
    "`exec`, after which Python knows the text of what was made, as it knows a notebook's cell: without it, a kernel is refused."
    from matmul_course.emulator.source import remember
    if isinstance(text, str):
        remember(text, file := f"<executed {next(NUMBERS)}>")
        text = compile(text, file, "exec")
    run(text, names, local)

def stand_in():
    "Let `from numba import cuda` give the emulated one, as a device that is young enough for every test."
    for name in ("filecheck", "filecheck.matcher", "filecheck.options", "filecheck.parser", "filecheck.finput"):
        names = dict.fromkeys(("Matcher", "Options", "Parser", "FInput", "pattern_for_opts"), object)
        sys.modules.setdefault(name, types.SimpleNamespace(**names))             # for tests of compiled code, which are left out
    import numba.cuda, numba.cuda.testing as testing
    for name in ("extending", "random"): importlib.import_module(f"numba.cuda.{name}")      # while it is still a package
    from matmul_course import cuda
    kind, device = type(cuda), types.SimpleNamespace(**vars(cuda.get_current_device()) | dict(compute_capability=(9, 0)))
    kind.get_current_device = lambda self: device
    testing.cc_X_or_above, testing.driver._have_nvjitlink = lambda *cc: True, lambda: True
    for name in ("jit", "vectorize", "guvectorize", "declare_device", "get_current_device", "require_context", "compile_ptx"):
        setattr(numba.cuda, name, getattr(cuda, name, not_there(name)))          # for `from numba.cuda import jit`
    numba.cuda, kind.strict, builtins.exec = cuda, kind.__getattr__, executed
    return kind

def loaded(module, kind):
    "The tests of a file. A name that is missing fails the tests that use it, and not the file."
    def lenient(self, name):
        try: return kind.strict(self, name)
        except AttributeError:
            if name.startswith("__"): raise
            return not_there(name)
    kind.__getattr__ = lenient
    suite = unittest.defaultTestLoader.loadTestsFromModule(importlib.import_module(module))
    kind.__getattr__ = kind.strict
    return [test for cases in suite for test in cases]

def text_of(test): return inspect.getsource(inspect.unwrap(getattr(type(test), test._testMethodName)))

def told(test): return getattr(test, "test_case", test).id().removeprefix("numba.cuda.tests.")

if __name__ == "__main__":
    os.environ["MATMUL_COURSE_CUDA"] = "emulate"
    result, tests = unittest.TestResult(), loaded(sys.argv[1], stand_in())
    tests = [t for t in tests if t._testMethodName not in DIFFERENT and not COMPILED.search(text_of(t))]
    unittest.TestSuite(tests).run(result)
    bad = {told(t): text for t, text in result.failures + result.errors}
    skipped = {told(t) for t, _ in result.skipped}
    print(json.dumps({told(t): bad.get(told(t), "skipped" if told(t) in skipped else "") for t in tests}), flush=True)
    os._exit(0)

# ---------------------------------------------------------------- all files

def outcomes(module):
    "Test -> what went wrong with it, or nothing."
    env = os.environ | dict(NUMBA_NUM_THREADS="1", PYTHONPATH=os.pathsep.join(filter(None, sys.path)))
    run = subprocess.run([sys.executable, __file__, module], env=env, capture_output=True, text=True, timeout=1200)
    return json.loads(run.stdout.splitlines()[-1]) if run.returncode == 0 else {module: f"the process ended: {run.stderr[-800:]}"}

@pytest.mark.slow
def test_numba_cudas_own_tests(count):
    if not find_spec("numba_cuda"): pytest.skip("numba-cuda is not installed")
    folder = Path(find_spec("numba_cuda").origin).parent/"numba"/"cuda"/"tests"
    files = [p for name in ("cudadrv", "cudapy", "doc_examples") for p in sorted((folder/name).glob("test_*.py")) if p.stem[5:] not in OUT]
    with ThreadPoolExecutor(2) as pool:
        parts = pool.map(outcomes, (f"numba.cuda.tests.{p.parent.name}.{p.stem}" for p in files))
        found = {t: text for part in parts for t, text in part.items()}
    passed = sum(not text for text in found.values())
    count("of numba-cuda's own tests pass", passed)
    wrong = {t: text for t, text in found.items() if text.startswith("the process ended") or INTERNAL.search(text)
             or re.search(r"^AssertionError", text, re.M) and not WORDS.search(text)}
    assert not wrong, "\n".join(f"{t}\n{text[-800:]}" for t, text in wrong.items())
    assert passed >= PASSED, f"{passed} of {len(found)} pass"
