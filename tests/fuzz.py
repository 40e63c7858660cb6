"Random kernels with barriers, votes, atomics, returns and divergence: the compiled way held to the simple way."
import itertools, linecache, random
import numpy as np
from numba import int64, types
from matmul_course.emulator import BarrierError, launch, launch_simply
from matmul_course.emulator.checks import ERROR_SIZE
from matmul_course.emulator.devices import lower
from matmul_course.emulator.emit import namespace, translate
from matmul_course.emulator.host import Cuda
from matmul_course.emulator.simple import ATOMICS
cuda = Cuda()
THREADS = 5

class Random:
    "A kernel from a seed: statements over the names a, b, c, d, t, n, the arrays x and y, the shared array s."
    def __init__(self, seed):
        self.random, self.loops = random.Random(seed), itertools.count()
        start = ["s = cuda.shared.array(5, int64)", "t = cuda.threadIdx.x", "a = t; b = n; c = x[t]; d = 1",
                 "s[t] = x[t]", "cuda.syncthreads()"]
        body = [line for _ in range(2) for line in self.body([*"abcdtn"], 0, False, True)]
        end = ["y[t] = a + 100 * b + 10000 * c + 1000000 * d + s[t]"]
        self.text = "def kernel(x, y, n):\n" + "".join(f"    {line}\n" for line in start + body + end)
    def pick(self, *choices): return self.random.choice(choices)
    def number(self, names):
        v, r = lambda: self.random.choice(names), self.random.randint
        return self.pick(f"({v()} + {r(1, 9)}) % 13", f"({v()} * {v()} + {v()}) % 11", f"s[({v()} + {r(0, 9)}) % 5]",
                         f"({v()} if {self.test(names)} else {v()})", f"x[{v()} % 5]")
    def test(self, names, uniform=False):
        if uniform: return f"n % {self.random.randint(2, 3)} == {self.random.randint(0, 1)}"
        return f"{self.random.choice(names)} % {self.random.randint(2, 4)} < {self.random.randint(1, 2)}"
    def body(self, names, depth, loop, whole):
        "`whole`: all threads of the block are meant to come here, so that a barrier may stand here."
        out = []
        for _ in range(self.random.randint(1, 4)): out += self.statement(names, depth, loop, whole)
        return out or ["a += 1"]
    def inside(self, *args): return ["    " + line for line in self.body(*args)]
    def statement(self, names, depth, loop, whole):
        k, uniform = self.random.random(), self.random.random() < .93
        if k < .28: return [f"{self.pick(*'abcd')} = {self.number(names)}"]
        if k < .36: return [f"{self.pick(*'abcd')} += {self.number(names)}"]
        if k < .44 and whole:
            return ["cuda.syncthreads()", f"s[t] = ({self.test(names)}) + {self.random.choice(names)}", "cuda.syncthreads()"]
        if k < .48 and whole:
            atomic, index = self.pick("add", "max", "sub"), self.random.choice(names)
            return ["cuda.syncthreads()", f"cuda.atomic.{atomic}(s, {index} % 5, {self.number(names)})", "cuda.syncthreads()"]
        if k < .54: return [f"y[t] = {self.number(names)}"]
        if k < .68: return ["cuda.syncthreads()"] if whole else []
        if k < .80 and depth < 3:
            new = whole and (uniform or self.random.random() < .3)
            out = [f"if {self.test(names, whole and uniform)}:", *self.inside(names, depth + 1, loop, new)]
            return out + (["else:", *self.inside(names, depth + 1, loop, new)] if self.random.random() < .5 else [])
        if k < .90 and depth < 3:
            i = f"i{next(self.loops)}"
            turns = self.pick("3", "1, 8, 3", "t, t + 4, 2", "n % 4", "5, 0, -2")
            return [f"for {i} in range({turns}):", *self.inside([*names, i], depth + 1, True, whole and uniform)]
        if k < .94 and depth < 3:
            w = f"w{next(self.loops)}"
            return [f"{w} = 3", f"while {w} > 0:", f"    {w} -= 1", *self.inside([*names, w], depth + 1, True, whole and uniform)]
        if k < .97 and loop: return [f"if {self.test(names, whole and uniform)}: {self.pick('break', 'continue')}"]
        return [f"if {self.test(names, uniform)}: return"] if k > .98 else []

def define(text, name, **env):
    file = f"<{name}>"
    linecache.cache[file] = len(text), None, text.splitlines(True), file
    env = dict(cuda=cuda, int64=int64) | env
    exec(compile(text, file, "exec"), env)
    return env["kernel"]

def interpreted(kernel, x, y, n):
    "The emitted text, run by Python: all passes but Numba's compiler."
    tree, unit = lower(kernel)
    kinds = (types.int64[::1],) * 2 + (types.int64,)
    text, sites = translate(tree, unit, kinds, (THREADS, 1, 1))
    names = namespace(unit) | dict(_njit=lambda **_: lambda f: f, _go_on=lambda err: None)
    names |= {f"_atomic_{name}": f.py_func for name, f in ATOMICS.items()}
    exec(compile(text, "<emitted>", "exec"), names)
    error = np.zeros(ERROR_SIZE, np.int64)
    names["_blocks"](0, 1, 1, 1, 1, 0, error, 0, x, y, n)
    return "diverged" if error[0] else None

def compiled(kernel, x, y, n):
    try: launch(kernel, 1, THREADS, x, y, n)
    except BarrierError: return "diverged"

def simple(kernel, x, y, n):
    try: launch_simply(kernel, 1, THREADS, x, y, n)
    except BarrierError: return "diverged"

def compare(seed, way):
    "'equal', 'both diverged', or 'stricter': only the compiled way saw a divergence. AssertionError for all else."
    text, outcome = Random(seed).text, []
    kernel = define(text, f"fuzz {seed}")
    for n in (2, 3):
        x = np.arange(THREADS) * 3 + 1
        y, z = x * 0, x * 0
        mine, theirs = way(kernel, x, y, n), simple(kernel, x, z, n)
        if theirs: assert mine, f"seed {seed}, n {n}: divergence missed\n{text}"
        if not mine: assert (y == z).all(), f"seed {seed}, n {n}: {y} is not {z}\n{text}"
        outcome.append("equal" if not mine else "both diverged" if theirs else "stricter")
    return outcome

if __name__ == "__main__":
    import collections, sys, time
    np.seterr(over="ignore")
    start, tally = time.time(), collections.Counter()
    way = globals()[sys.argv[3] if len(sys.argv) > 3 else "interpreted"]
    for seed in range(int(sys.argv[1]), int(sys.argv[2])): tally.update(compare(seed, way))
    print(dict(tally), round(time.time() - start, 1), "s")
