"Random kernels with barriers, votes, shuffles, atomics, returns and divergence: the compiled way held to the simple way."
import itertools, linecache, random, re
from functools import cache
import numpy as np
from numba import int64, njit, types
from matmul_course.emulator import BarrierError, launch, launch_simply
from matmul_course.emulator.checks import ERROR_SIZE
from matmul_course.emulator.devices import lower
from matmul_course.emulator.emit import namespace, translate
from matmul_course.emulator.host import Cuda
from matmul_course.emulator.simple import ATOMICS
from matmul_course.emulator.warps import meet, take
cuda = Cuda()
THREADS = 5                     # of a block; 40 for kernels with calls of a warp
BLOCK, WARP, ALONE = 2, 1, 0    # who is meant to come to a statement: all threads, all lanes of a warp, or some

class Random:
    "A kernel from a seed: statements over the names a, b, c, d, t, n, the arrays x and y, the shared array s."
    def __init__(self, seed, threads=THREADS):
        self.random, self.loops, self.threads = random.Random(seed), itertools.count(), threads
        start = [f"s = cuda.shared.array({threads}, int64)", "t = cuda.threadIdx.x", "a = t; b = n; c = x[t]; d = 1",
                 "s[t] = x[t]", "cuda.syncthreads()"]
        body = [line for _ in range(2) for line in self.body([*"abcdtn"], 0, False, BLOCK)]
        end = ["y[t] = a + 100 * b + 10000 * c + 1000000 * d + s[t]"]
        self.text = "def kernel(x, y, n):\n" + "".join(f"    {line}\n" for line in start + body + end)
    def pick(self, *choices): return self.random.choice(choices)
    def number(self, names):
        v, r = lambda: self.random.choice(names), self.random.randint
        return self.pick(f"({v()} + {r(1, 9)}) % 13", f"({v()} * {v()} + {v()}) % 11", f"s[({v()} + {r(0, 9)}) % {self.threads}]",
                         f"({v()} if {self.test(names)} else {v()})", f"x[{v()} % {self.threads}]")
    def test(self, names, uniform=False):
        if uniform: return f"n % {self.random.randint(2, 3)} == {self.random.randint(0, 1)}"
        return f"{self.random.choice(names)} % {self.random.randint(2, 4)} < {self.random.randint(1, 2)}"
    def body(self, names, depth, loop, whole):
        "`whole`: BLOCK if all threads are meant to come here, so that a barrier may stand here; WARP, ALONE."
        out = []
        for _ in range(self.random.randint(1, 4)): out += self.statement(names, depth, loop, whole)
        return out or ["a += 1"]
    def inside(self, *args): return ["    " + line for line in self.body(*args)]
    def warp(self, names):
        "A call that the lanes of a warp make together, or those of them for which something holds."
        value, mask, lanes = self.number(names), self.pick("-1", "0xffffffff"), f"m{next(self.loops)}"
        where = self.pick("1", "7", "16", "n")
        call = lambda mask: self.pick(f"shfl_{self.pick('up_', 'down_', 'xor_', '')}sync({mask}, {value}, {where})",
                                      f"{self.pick('all', 'any', 'eq', 'ballot')}_sync({mask}, {self.test(names)})")
        target = self.pick(*"abcd")
        if self.random.random() < .6: return [f"{target} {self.pick('', '+')}= int64(cuda.{call(mask)})"]
        return [f"{lanes} = cuda.ballot_sync({mask}, {self.test(names)})", f"if {lanes} >> (t % 32) & 1:",
                f"    {target} = int64(cuda.{call(lanes)})", *self.pick([], ["else:", f"    {target} = {self.number(names)}"])]
    def statement(self, names, depth, loop, whole):
        k, uniform = self.random.random(), self.random.random() < .93
        if self.threads > 32 and whole and self.random.random() < .25: return self.warp(names)
        if whole == WARP and k > .36: whole = self.pick(WARP, ALONE)
        if k < .28: return [f"{self.pick(*'abcd')} = {self.number(names)}"]
        if k < .36: return [f"{self.pick(*'abcd')} += {self.number(names)}"]
        if k < .44 and whole == BLOCK:
            return ["cuda.syncthreads()", f"s[t] = ({self.test(names)}) + {self.random.choice(names)}", "cuda.syncthreads()"]
        if k < .48 and whole == BLOCK:
            atomic, index = self.pick("add", "max", "sub"), self.random.choice(names)
            return ["cuda.syncthreads()", f"cuda.atomic.{atomic}(s, {index} % {self.threads}, {self.number(names)})", "cuda.syncthreads()"]
        if k < .54: return [f"y[t] = {self.number(names)}"]
        if k < .68: return ["cuda.syncthreads()"] if whole == BLOCK else []
        if k < .80 and depth < 3:
            if self.threads > 32 and whole and self.random.random() < .3:
                return [f"if t // 32 == {self.pick(0, 1)}:", *self.inside(names, depth + 1, loop, WARP)]
            new = whole and (uniform or self.random.random() < .3) and whole
            out = [f"if {self.test(names, whole and uniform)}:", *self.inside(names, depth + 1, loop, new)]
            return out + (["else:", *self.inside(names, depth + 1, loop, new)] if self.random.random() < .5 else [])
        if k < .90 and depth < 3:
            i = f"i{next(self.loops)}"
            turns = self.pick("3", "1, 8, 3", "t, t + 4, 2", "n % 4", "5, 0, -2")
            return [f"for {i} in range({turns}):", *self.inside([*names, i], depth + 1, True, uniform and whole)]
        if k < .94 and depth < 3:
            w = f"w{next(self.loops)}"
            return [f"{w} = 3", f"while {w} > 0:", f"    {w} -= 1", *self.inside([*names, w], depth + 1, True, uniform and whole)]
        if k < .97 and loop: return [f"if {self.test(names, whole and uniform)}: {self.pick('break', 'continue')}"]
        return [f"if {self.test(names, uniform)}: return"] if k > .98 else []

def define(text, name, **env):
    file = f"<{name}>"
    linecache.cache[file] = len(text), None, text.splitlines(True), file
    env = dict(cuda=cuda, int64=int64) | env
    exec(compile(text, file, "exec"), env)
    return env["kernel"]

@njit
def meeting(*given): return meet(*given)

@cache
def emitted(kernel, threads):
    "What a kernel's text defines, for Python to run: all passes but Numba's compiler."
    tree, unit = lower(kernel)
    kinds = (types.int64[::1],) * 2 + (types.int64,)
    text, sites = translate(tree, unit, kinds, (threads, 1, 1))
    names = namespace(unit) | dict(_njit=lambda **_: lambda f: f, _go_on=lambda err: None)
    names |= {f"_atomic_{name}": f.py_func for name, f in ATOMICS.items()}
    names |= dict(_take=take.py_func, _meet=meeting)
    text = re.sub(r"(_(?:yes|came)\d+) = 0", r"\1 = _np.int64(0)", text)    # NumPy's int32 & int is none
    exec(compile(text, "<emitted>", "exec"), names)
    return names

def interpreted(kernel, x, y, n):
    "The emitted text, run by Python."
    names = emitted(kernel, len(x))
    error = np.zeros(ERROR_SIZE, np.int64)
    names["_blocks"](0, 1, 1, 1, 1, 0, error, 0, x, y, n)
    return "diverged" if error[0] else None

def compiled(kernel, x, y, n):
    try: launch(kernel, 1, len(x), x, y, n)
    except BarrierError: return "diverged"

def simple(kernel, x, y, n):
    try: launch_simply(kernel, 1, len(x), x, y, n)
    except BarrierError: return "diverged"

def compare(seed, way, threads=THREADS):
    "'equal', 'both diverged', or 'stricter': only the compiled way saw a divergence. AssertionError for all else."
    text, outcome = Random(seed, threads).text, []
    kernel = define(text, f"fuzz {seed} {threads}")
    for n in (2, 3):
        x = np.arange(threads) * 3 + 1
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
    threads = int(sys.argv[4]) if len(sys.argv) > 4 else THREADS
    for seed in range(int(sys.argv[1]), int(sys.argv[2])): tally.update(compare(seed, way, threads))
    print(dict(tally), round(time.time() - start, 1), "s")
