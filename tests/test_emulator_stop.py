"Ctrl-C ends any kernel within a second, and the next launch works: one block or many, watched or profiled, at a barrier or not."
import os, signal, subprocess, sys, threading, time
from _thread import interrupt_main
import numpy as np, pytest
from matmul_course.emulator import launch
from matmul_course.emulator.host import Cuda
from matmul_course.profiler import profile

cuda = Cuda()

@pytest.fixture(autouse=True)
def listening():
    "Where a shell has started all of this in the background, Python does not listen to Ctrl-C, and the kernels here would never end."
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before or signal.SIG_DFL)

READS, COUNTS, WAITS, CALLS, BLOCKS = range(5)

@cuda.jit(device=True)
def never(x):
    while x[1] == 0: pass
    return x[1]

@cuda.jit
def endless(x, way):
    if way == READS:
        while x[1] == 0: pass
    if way == COUNTS:
        for i in range(2**62): x[0] += i % 7
    if way == CALLS: x[0] = never(x)
    while way == WAITS: cuda.syncthreads()
    x[0] = 9

def interrupted(run, *args):
    "Seconds from Ctrl-C to its exception."
    sent = []
    def send(): sent.append(time.perf_counter()); interrupt_main()
    timer = threading.Timer(0.2, send)
    timer.start()
    try:
        with pytest.raises(KeyboardInterrupt): run(*args)
        return time.perf_counter() - sent[0]
    finally: timer.join()

@pytest.mark.parametrize("grid", [1, 64])
def test_a_launch_can_be_stopped(grid):
    x = np.zeros(2)
    endless[grid, 2](x, -1)                                     # compiled, so that none of the time is the compiler's
    for way in (READS, COUNTS, WAITS, CALLS):
        assert interrupted(endless[grid, 2], x, way) < 0.9
        endless[grid, 2](x, -1)
        assert x[0] == 9

def test_a_launch_of_more_blocks_than_anybody_waits_for():
    assert interrupted(endless[2**31 - 1, 1], np.zeros(2), -1) < 0.9

def test_a_watched_launch_and_a_profile_can_be_stopped():
    @cuda.jit
    def counts(x, way):
        while way == COUNTS: x[0] += 1
    x = np.zeros(1)
    for run in (lambda way: launch(counts, 1, 1, x, way, check="races")), (lambda way: profile(counts, 1, 1, x, way)):
        run(-1)
        assert interrupted(run, COUNTS) < 0.9

SCRIPT = """
import signal
import numpy as np
from matmul_course.emulator import launch
signal.signal(signal.SIGINT, signal.default_int_handler)
def kernel(x, ever):
    while ever: x[0] += 1
x = np.zeros(1)
launch(kernel, 4, 1, x, False)
print("ready", flush=True)
try: launch(kernel, 4, 1, x, True)
except KeyboardInterrupt: print("stopped", flush=True)
launch(kernel, 4, 1, x, False)
print("done")
"""

@pytest.mark.skipif(os.name == "nt", reason="there is no way to send Ctrl-C to another process alone")
def test_a_signal_from_outside(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    with subprocess.Popen([sys.executable, "script.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.2)
        start = time.perf_counter()
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "stopped\n" and time.perf_counter() - start < 0.9
        assert process.stdout.readline() == "done\n" and process.wait(10) == 0
