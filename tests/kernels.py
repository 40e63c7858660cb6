"""Kernels as people write them, each with its NumPy answer: `KERNELS[name]` is a function of a random generator that gives
(kernel, grid, block, arguments, expected outputs by argument position, dynamic shared bytes). None of them is the course's own.
`python kernels.py` runs them all, under Numba's simulator where NUMBA_ENABLE_CUDASIM=1."""
import math, os
import numpy as np
from numba import float32, float64, int32, int64, uint32, uint64

if os.environ.get("NUMBA_ENABLE_CUDASIM") == "1": from numba import cuda
else: from matmul_course.gpu.choice import cuda

KERNELS = {}
def case(fn): KERNELS[fn.__name__] = fn; return fn
CONST = np.array([0.25, 0.5, 0.25], np.float32)
RADIUS, TILE, COARSE = 2, 8, 4

@case
def increment(rng):
    @cuda.jit
    def kernel(a):
        pos = cuda.grid(1)
        if pos < a.size: a[pos] += 1
    a = rng.random(77)
    return kernel, 3, 32, [a], {0: a + 1}, 0

@case
def increment_2d(rng):
    @cuda.jit
    def kernel(a):
        x, y = cuda.grid(2)
        if x < a.shape[0] and y < a.shape[1]: a[x, y] += 1
    a = rng.random((21, 13)).astype(np.float32)
    return kernel, (2, 1), (16, 16), [a], {0: a + 1}, 0

@case
def axpy_grid_stride(rng):
    @cuda.jit
    def kernel(r, a, x, y):
        start = cuda.grid(1)
        stride = cuda.gridsize(1)
        for i in range(start, x.shape[0], stride): r[i] = a * x[i] + y[i]
    x, y = rng.random(100), rng.random(100)
    return kernel, 2, 8, [np.zeros(100), 2.5, x, y], {0: 2.5 * x + y}, 0

@case
def puzzle_dot(rng):
    @cuda.jit
    def kernel(out, a, b, size):
        shared = cuda.shared.array(TILE, float32)
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        local_i = cuda.threadIdx.x
        if i < size:
            shared[local_i] = a[i] * b[i]
            cuda.syncthreads()
            if local_i == 0:
                total = 0.0
                for k in range(size): total += shared[k]
                out[0] = total
    a, b = rng.random(8).astype(np.float32), rng.random(8).astype(np.float32)
    return kernel, 1, 8, [np.zeros(1, np.float32), a, b, 8], {0: [a @ b]}, 0

@case
def puzzle_convolution(rng):
    @cuda.jit
    def kernel(out, a, b, a_size, b_size):
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        local_i = cuda.threadIdx.x
        shared_a = cuda.shared.array(TILE + 4, float32)
        shared_b = cuda.shared.array(4, float32)
        if i < a_size: shared_a[local_i] = a[i]
        if local_i < b_size: shared_b[local_i] = b[local_i]
        else:
            local_i2 = local_i - b_size
            if i - b_size + TILE < a_size and local_i2 < b_size: shared_a[TILE + local_i2] = a[i - b_size + TILE]
        cuda.syncthreads()
        acc = 0
        for k in range(b_size):
            if i + k < a_size: acc += shared_a[local_i + k] * shared_b[k]
        if i < a_size: out[i] = acc
    a, b = np.arange(15, dtype=np.float32), np.arange(4, dtype=np.float32)
    expected = [sum(a[i + k] * b[k] for k in range(4) if i + k < 15) for i in range(15)]
    return kernel, 2, 8, [np.zeros(15, np.float32), a, b, 15, 4], {0: expected}, 0

@case
def puzzle_prefix_sum(rng):
    @cuda.jit
    def kernel(out, a, size):
        cache = cuda.shared.array(TILE, float32)
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        local_i = cuda.threadIdx.x
        if i < size: cache[local_i] = a[i]
        else: cache[local_i] = 0
        cuda.syncthreads()
        p = 2
        while p <= TILE:
            if local_i % p == 0: cache[local_i] += cache[local_i + p // 2]
            cuda.syncthreads()
            p *= 2
        if local_i == 0: out[cuda.blockIdx.x] = cache[0]
    a = np.arange(15, dtype=np.float32)
    return kernel, 2, 8, [np.zeros(2, np.float32), a, 15], {0: [a[:8].sum(), a[8:].sum()]}, 0

@case
def puzzle_axis_sum(rng):
    @cuda.jit
    def kernel(out, a, size):
        cache = cuda.shared.array(TILE, float32)
        i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
        local_i = cuda.threadIdx.x
        batch = cuda.blockIdx.y
        cache[local_i] = a[batch, i] if i < size else 0
        cuda.syncthreads()
        step = 1
        while step < TILE:
            if local_i % (2 * step) == 0: cache[local_i] += cache[local_i + step]
            cuda.syncthreads()
            step = step * 2
        if local_i == 0: out[batch, 0] = cache[0]
    a = np.arange(24, dtype=np.float32).reshape(4, 6)
    return kernel, (1, 4), 8, [np.zeros((4, 1), np.float32), a, 6], {0: a.sum(1, keepdims=True)}, 0

@case
def fast_matmul_of_the_docs(rng):
    @cuda.jit
    def kernel(A, B, C):
        sA = cuda.shared.array(shape=(TILE, TILE), dtype=float32)
        sB = cuda.shared.array(shape=(TILE, TILE), dtype=float32)
        x, y = cuda.grid(2)
        tx, ty = cuda.threadIdx.x, cuda.threadIdx.y
        tmp = float32(0.)
        for i in range((A.shape[1] + TILE - 1) // TILE):
            sA[ty, tx] = 0
            sB[ty, tx] = 0
            if y < A.shape[0] and (tx + i * TILE) < A.shape[1]: sA[ty, tx] = A[y, tx + i * TILE]
            if x < B.shape[1] and (ty + i * TILE) < B.shape[0]: sB[ty, tx] = B[ty + i * TILE, x]
            cuda.syncthreads()
            for j in range(TILE): tmp += sA[ty, j] * sB[j, tx]
            cuda.syncthreads()
        if y < C.shape[0] and x < C.shape[1]: C[y, x] = tmp
    A, B = rng.random((11, 19)).astype(np.float32), rng.random((19, 9)).astype(np.float32)
    return kernel, (2, 2), (8, 8), [A, B, np.zeros((11, 9), np.float32)], {2: A @ B}, 0

@case
def sgemm_1d_block_tiles(rng):
    "Each thread computes a column of COARSE results, kept in a local array."
    BM, BN, BK, TM = 16, 16, 4, COARSE
    @cuda.jit
    def kernel(M, N, K, A, B, C):
        As = cuda.shared.array((BM * BK,), float32)
        Bs = cuda.shared.array((BK * BN,), float32)
        results = cuda.local.array(TM, float32)
        tid = cuda.threadIdx.x
        c_row, c_col = cuda.blockIdx.y, cuda.blockIdx.x
        thread_col, thread_row = tid % BN, tid // BN
        a_col, a_row = tid % BK, tid // BK
        b_col, b_row = tid % BN, tid // BN
        for r in range(TM): results[r] = 0
        for k in range(0, K, BK):
            As[a_row * BK + a_col] = A[(c_row * BM + a_row) * K + k + a_col]
            Bs[b_row * BN + b_col] = B[(k + b_row) * N + c_col * BN + b_col]
            cuda.syncthreads()
            for d in range(BK):
                tmp = Bs[d * BN + thread_col]
                for r in range(TM): results[r] += As[(thread_row * TM + r) * BK + d] * tmp
            cuda.syncthreads()
        for r in range(TM): C[(c_row * BM + thread_row * TM + r) * N + c_col * BN + thread_col] = results[r]
    A, B = rng.random((32, 8)).astype(np.float32), rng.random((8, 16)).astype(np.float32)
    return kernel, (1, 2), 64, [32, 16, 8, A.ravel(), B.ravel(), np.zeros(32 * 16, np.float32)], {5: (A @ B).ravel()}, 0

@case
def sgemm_2d_register_tiles(rng):
    BM, BN, BK, TM, TN = 16, 16, 8, 4, 4
    @cuda.jit(fastmath=True)
    def kernel(A, B, C):
        As = cuda.shared.array((BK, BM), float32)
        Bs = cuda.shared.array((BK, BN), float32)
        acc = cuda.local.array((TM, TN), float32)
        m, n = cuda.local.array(TM, float32), cuda.local.array(TN, float32)
        tid = cuda.threadIdx.x
        row, col = tid // (BN // TN), tid % (BN // TN)
        for i in range(TM):
            for j in range(TN): acc[i, j] = 0.
        for k in range(0, A.shape[1], BK):
            for e in range(tid, BM * BK, cuda.blockDim.x): As[e % BK, e // BK] = A[cuda.blockIdx.y * BM + e // BK, k + e % BK]
            for e in range(tid, BN * BK, cuda.blockDim.x): Bs[e // BN, e % BN] = B[k + e // BN, cuda.blockIdx.x * BN + e % BN]
            cuda.syncthreads()
            for d in range(BK):
                for i in range(TM): m[i] = As[d, row * TM + i]
                for j in range(TN): n[j] = Bs[d, col * TN + j]
                for i in range(TM):
                    for j in range(TN): acc[i, j] += m[i] * n[j]
            cuda.syncthreads()
        for i in range(TM):
            for j in range(TN): C[cuda.blockIdx.y * BM + row * TM + i, cuda.blockIdx.x * BN + col * TN + j] = acc[i, j]
    A, B = rng.random((16, 16)).astype(np.float32), rng.random((16, 32)).astype(np.float32)
    return kernel, (2, 1), 16, [A, B, np.zeros((16, 32), np.float32)], {2: A @ B}, 0

@case
def reduce_with_atomics(rng):
    @cuda.jit
    def kernel(x, out):
        s = cuda.shared.array(0, float64)
        tid = cuda.threadIdx.x
        i = cuda.grid(1)
        s[tid] = x[i] if i < x.size else 0.
        cuda.syncthreads()
        stride = cuda.blockDim.x // 2
        while stride > 0:
            if tid < stride: s[tid] += s[tid + stride]
            cuda.syncthreads()
            stride >>= 1
        if tid == 0: cuda.atomic.add(out, 0, s[0])
    x = rng.random(50)
    return kernel, 4, 16, [x, np.zeros(1)], {1: [x.sum()]}, 16 * 8

@case
def histogram(rng):
    @cuda.jit
    def kernel(x, low, width, bins):
        mine = cuda.shared.array(6, int32)
        for b in range(cuda.threadIdx.x, 6, cuda.blockDim.x): mine[b] = 0
        cuda.syncthreads()
        for i in range(cuda.grid(1), x.size, cuda.gridsize(1)):
            b = int32((x[i] - low) / width)
            if b >= 0 and b < 6: cuda.atomic.add(mine, b, 1)
        cuda.syncthreads()
        if cuda.threadIdx.x < 6: cuda.atomic.add(bins, cuda.threadIdx.x, mine[cuda.threadIdx.x])
    x = rng.random(200) * 6
    return kernel, 3, 8, [x, 0.0, 1.0, np.zeros(6, np.int32)], {3: np.histogram(x, 6, (0, 6))[0]}, 0

@case
def maximum(rng):
    @cuda.jit
    def kernel(x, best, lowest):
        i = cuda.grid(1)
        if i >= x.size: return
        cuda.atomic.max(best, 0, x[i])
        cuda.atomic.min(lowest, (0, 0), x[i])
    x = rng.random(30) - .5
    return kernel, 4, 8, [x, np.array([-9.]), np.array([[9.]])], {1: [x.max()], 2: [[x.min()]]}, 0

@case
def scan_hillis_steele(rng):
    @cuda.jit
    def kernel(x, out):
        buffers = cuda.shared.array((2, 16), float32)
        t = cuda.threadIdx.x
        now, old = 0, 1
        buffers[now, t] = x[t]
        cuda.syncthreads()
        offset = 1
        while offset < 16:
            now, old = old, now
            if t >= offset: buffers[now, t] = buffers[old, t] + buffers[old, t - offset]
            else: buffers[now, t] = buffers[old, t]
            cuda.syncthreads()
            offset *= 2
        out[t] = buffers[now, t]
    x = rng.random(16).astype(np.float32)
    return kernel, 1, 16, [x, np.zeros(16, np.float32)], {1: np.cumsum(x)}, 0

@case
def scan_blelloch(rng):
    @cuda.jit
    def kernel(x):
        s = cuda.shared.array(16, int64)
        t = cuda.threadIdx.x
        s[2 * t], s[2 * t + 1] = x[2 * t], x[2 * t + 1]
        offset = 1
        d = 8
        while d > 0:
            cuda.syncthreads()
            if t < d: s[offset * (2 * t + 2) - 1] += s[offset * (2 * t + 1) - 1]
            offset *= 2
            d //= 2
        if t == 0: s[15] = 0
        d = 1
        while d < 16:
            offset //= 2
            cuda.syncthreads()
            if t < d:
                ai, bi = offset * (2 * t + 1) - 1, offset * (2 * t + 2) - 1
                left = s[ai]
                s[ai] = s[bi]
                s[bi] += left
            d *= 2
        cuda.syncthreads()
        x[2 * t] = s[2 * t]
        x[2 * t + 1] = s[2 * t + 1]
    x = rng.integers(0, 9, 16)
    return kernel, 1, 8, [x], {0: np.cumsum(x) - x}, 0

@case
def transpose(rng):
    @cuda.jit
    def kernel(a, out):
        tile = cuda.shared.array((TILE, TILE + 1), float32)
        x = cuda.blockIdx.x * TILE + cuda.threadIdx.x
        y = cuda.blockIdx.y * TILE + cuda.threadIdx.y
        if y < a.shape[0] and x < a.shape[1]: tile[cuda.threadIdx.y, cuda.threadIdx.x] = a[y, x]
        cuda.syncthreads()
        x = cuda.blockIdx.y * TILE + cuda.threadIdx.x
        y = cuda.blockIdx.x * TILE + cuda.threadIdx.y
        if y < out.shape[0] and x < out.shape[1]: out[y, x] = tile[cuda.threadIdx.x, cuda.threadIdx.y]
    a = rng.random((11, 21)).astype(np.float32)
    return kernel, (3, 2), (8, 8), [a, np.zeros((21, 11), np.float32)], {1: a.T}, 0

@case
def stencil_with_halo(rng):
    @cuda.jit
    def kernel(x, out):
        s = cuda.shared.array(TILE + 2 * RADIUS, int32)
        g = cuda.grid(1)
        l = cuda.threadIdx.x + RADIUS
        s[l] = x[g]
        if cuda.threadIdx.x < RADIUS:
            s[l - RADIUS] = x[g - RADIUS] if g >= RADIUS else 0
            s[l + TILE] = x[g + TILE] if g + TILE < x.size else 0
        cuda.syncthreads()
        total = 0
        for d in range(-RADIUS, RADIUS + 1): total += s[l + d]
        out[g] = total
    x = rng.integers(0, 100, 24).astype(np.int32)
    return kernel, 3, TILE, [x, np.zeros(24, np.int32)], {1: np.convolve(x, np.ones(5, int), "same")}, 0

@case
def convolution_2d_halo(rng):
    @cuda.jit
    def kernel(image, mask, out):
        tile = cuda.shared.array((TILE + 2, TILE + 2), float32)
        i, j = cuda.grid(2)
        ty, tx = cuda.threadIdx.x, cuda.threadIdx.y
        for dy in range(ty, TILE + 2, TILE):
            for dx in range(tx, TILE + 2, TILE):
                y, x = cuda.blockIdx.x * TILE + dy - 1, cuda.blockIdx.y * TILE + dx - 1
                inside = 0 <= y < image.shape[0] and 0 <= x < image.shape[1]
                tile[dy, dx] = image[y, x] if inside else float32(0)
        cuda.syncthreads()
        if i < out.shape[0] and j < out.shape[1]:
            acc = float32(0)
            for u in range(3):
                for v in range(3): acc += tile[ty + u, tx + v] * mask[u, v]
            out[i, j] = acc
    image, mask = rng.random((13, 10)).astype(np.float32), rng.random((3, 3)).astype(np.float32)
    padded = np.pad(image, 1)
    expected = sum(padded[u:u + 13, v:v + 10] * mask[u, v] for u in range(3) for v in range(3))
    return kernel, (2, 2), (TILE, TILE), [image, mask, np.zeros_like(image)], {2: expected}, 0

@case
def smooth_with_constants(rng):
    @cuda.jit
    def kernel(x, out):
        w = cuda.const.array_like(CONST)
        i = cuda.grid(1)
        if 0 < i < x.size - 1: out[i] = w[0] * x[i - 1] + w[1] * x[i] + w[2] * x[i + 1]
    x = rng.random(20).astype(np.float32)
    expected = np.zeros(20); expected[1:-1] = .25 * x[:-2] + .5 * x[1:-1] + .25 * x[2:]
    return kernel, 3, 8, [x, np.zeros(20, np.float32)], {1: expected}, 0

@case
def game_of_life(rng):
    @cuda.jit
    def kernel(old, new):
        x, y = cuda.grid(2)
        h, w = old.shape
        if x >= w or y >= h: return
        alive = 0
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                if dx != 0 or dy != 0: alive += old[(y + dy) % h, (x + dx) % w]
        new[y, x] = 1 if alive == 3 or (alive == 2 and old[y, x] == 1) else 0
    old = rng.integers(0, 2, (9, 12)).astype(np.uint8)
    alive = sum(np.roll(old, (a, b), (0, 1)) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b)
    return kernel, (2, 2), (8, 8), [old, old * 0], {1: (alive == 3) | ((alive == 2) & (old == 1))}, 0

@case
def mandelbrot(rng):
    @cuda.jit(device=True)
    def escape(re, im, most):
        c = complex(re, im)
        z = 0.0j
        for i in range(most):
            z = z * z + c
            if z.real * z.real + z.imag * z.imag >= 4: return i
        return most
    @cuda.jit
    def kernel(x0, y0, step, image, most):
        x, y = cuda.grid(2)
        if x < image.shape[1] and y < image.shape[0]: image[y, x] = escape(x0 + x * step, y0 + y * step, most)
    expected = np.zeros((8, 12), np.int32)
    for y in range(8):
        for x in range(12):
            c, z, n = complex(-2 + x * .25, -1 + y * .25), 0j, 20
            for i in range(20):
                z = z * z + c
                if abs(z) >= 2: n = i; break
            expected[y, x] = n
    return kernel, (2, 1), (8, 8), [-2.0, -1.0, .25, expected * 0, 20], {3: expected}, 0

@case
def n_body_tiles(rng):
    @cuda.jit(device=True)
    def pull(xi, yi, xj, yj):
        dx, dy = xj - xi, yj - yi
        inv = 1.0 / math.sqrt(dx * dx + dy * dy + 0.01)
        return dx * inv ** 3, dy * inv ** 3
    @cuda.jit
    def kernel(p, force):
        tile = cuda.shared.array((8, 2), float64)
        i, t = cuda.grid(1), cuda.threadIdx.x
        fx = fy = 0.0
        for base in range(0, p.shape[0], 8):
            tile[t, 0], tile[t, 1] = p[base + t, 0], p[base + t, 1]
            cuda.syncthreads()
            for j in range(8):
                ax, ay = pull(p[i, 0], p[i, 1], tile[j, 0], tile[j, 1])
                fx += ax
                fy += ay
            cuda.syncthreads()
        force[i, 0], force[i, 1] = fx, fy
    p = rng.random((16, 2))
    d = p[None] - p[:, None]
    return kernel, 2, 8, [p, p * 0], {1: (d / ((d ** 2).sum(-1) + .01)[..., None] ** 1.5).sum(1)}, 0

@case
def monte_carlo_pi(rng):
    @cuda.jit(device=True)
    def advance(state):
        state ^= (state << uint32(13)) & uint32(0xffffffff)
        state ^= state >> uint32(17)
        state ^= (state << uint32(5)) & uint32(0xffffffff)
        return state
    @cuda.jit
    def kernel(seeds, hits, rounds):
        i = cuda.grid(1)
        if i < seeds.size:
            state = uint64(seeds[i])
            inside = 0
            for _ in range(rounds):
                state = advance(state)
                x = state / 4294967296.0
                state = advance(state)
                y = state / 4294967296.0
                if x * x + y * y <= 1.0: inside += 1
            hits[i] = inside
    def reference(s):
        def advance(s):
            s ^= (s << 13) & 0xffffffff
            s ^= s >> 17
            return s ^ ((s << 5) & 0xffffffff)
        n = 0
        for _ in range(50):
            x = advance(s)
            s = advance(x)
            n += (x / 2**32) ** 2 + (s / 2**32) ** 2 <= 1.0
        return n
    seeds = rng.integers(1, 2**32, 12).astype(np.uint32)
    return kernel, 2, 8, [seeds, np.zeros(12, np.int64), 50], {1: [reference(int(s)) for s in seeds]}, 0

@case
def dot_with_votes(rng):
    @cuda.jit
    def kernel(x, above, every, some):
        i = cuda.grid(1)
        n = cuda.syncthreads_count(x[i] > 0.5)
        a = cuda.syncthreads_and(x[i] > 0.05)
        o = cuda.syncthreads_or(x[i] > 0.95)
        if cuda.threadIdx.x == 0: above[cuda.blockIdx.x], every[cuda.blockIdx.x], some[cuda.blockIdx.x] = n, a, o
    x = rng.random(32)
    b = x.reshape(4, 8)
    z = np.zeros(4, np.int32)
    return kernel, 4, 8, [x, z, z + 5, z + 5], {1: (b > .5).sum(1), 2: (b > .05).all(1), 3: (b > .95).any(1)}, 0

@case
def bitonic_sort(rng):
    @cuda.jit
    def kernel(x):
        s = cuda.shared.array(16, float32)
        t = cuda.threadIdx.x
        s[t] = x[t]
        cuda.syncthreads()
        k = 2
        while k <= 16:
            j = k // 2
            while j > 0:
                other = t ^ j
                if other > t:
                    if (t & k) == 0 and s[t] > s[other] or (t & k) != 0 and s[t] < s[other]:
                        s[t], s[other] = s[other], s[t]
                cuda.syncthreads()
                j //= 2
            k *= 2
        x[t] = s[t]
    x = rng.random(16).astype(np.float32)
    return kernel, 1, 16, [x], {0: np.sort(x)}, 0

@case
def softmax_rows(rng):
    @cuda.jit(device=True)
    def block_max(s, t):
        cuda.syncthreads()
        half = cuda.blockDim.x // 2
        while half > 0:
            if t < half: s[t] = max(s[t], s[t + half])
            cuda.syncthreads()
            half //= 2
        best = s[0]
        cuda.syncthreads()
        return best
    @cuda.jit(device=True)
    def block_sum(s, t):
        cuda.syncthreads()
        half = cuda.blockDim.x // 2
        while half > 0:
            if t < half: s[t] += s[t + half]
            cuda.syncthreads()
            half //= 2
        total = s[0]
        cuda.syncthreads()
        return total
    @cuda.jit
    def kernel(x, out):
        s = cuda.shared.array(8, float64)
        t, row = cuda.threadIdx.x, cuda.blockIdx.x
        best = -math.inf
        for j in range(t, x.shape[1], cuda.blockDim.x): best = max(best, x[row, j])
        s[t] = best
        top = block_max(s, t)
        total = 0.0
        for j in range(t, x.shape[1], cuda.blockDim.x): total += math.exp(x[row, j] - top)
        s[t] = total
        norm = block_sum(s, t)
        for j in range(t, x.shape[1], cuda.blockDim.x): out[row, j] = math.exp(x[row, j] - top) / norm
    x = rng.random((3, 13)) * 5
    e = np.exp(x - x.max(1, keepdims=True))
    return kernel, 3, 8, [x, x * 0], {1: e / e.sum(1, keepdims=True)}, 0

@case
def heat_3d(rng):
    @cuda.jit
    def kernel(u, out):
        x, y, z = cuda.grid(3)
        nz, ny, nx = u.shape
        if 0 < x < nx - 1 and 0 < y < ny - 1 and 0 < z < nz - 1:
            out[z, y, x] = (u[z, y, x - 1] + u[z, y, x + 1] + u[z, y - 1, x] + u[z, y + 1, x] + u[z - 1, y, x] + u[z + 1, y, x]) / 6
    u = rng.random((5, 6, 7))
    e = np.zeros_like(u)
    e[1:-1, 1:-1, 1:-1] = (u[1:-1, 1:-1, :-2] + u[1:-1, 1:-1, 2:] + u[1:-1, :-2, 1:-1] + u[1:-1, 2:, 1:-1]
                           + u[:-2, 1:-1, 1:-1] + u[2:, 1:-1, 1:-1]) / 6
    return kernel, (2, 2, 2), (4, 4, 4), [u, u * 0], {1: e}, 0

@case
def compact_with_counter(rng):
    @cuda.jit
    def kernel(x, out, count):
        i = cuda.grid(1)
        if i < x.size and x[i] % 3 == 0:
            at = cuda.atomic.add(count, 0, 1)
            out[at] = x[i]
    x = np.arange(40)
    kept = x[x % 3 == 0]
    return kernel, 5, 8, [x, np.zeros(kept.size, np.int64), np.zeros(1, np.int64)], {1: kept, 2: [kept.size]}, 0

@case
def swap_until_sorted(rng):
    "Odd-even sort: the loop's end is a vote."
    @cuda.jit
    def kernel(x, rounds):
        t = cuda.threadIdx.x
        n = 0
        moved = 1
        while cuda.syncthreads_or(moved):
            moved = 0
            for odd in range(2):
                left = 2 * t + odd
                if left + 1 < x.size and x[left] > x[left + 1]:
                    x[left], x[left + 1] = x[left + 1], x[left]
                    moved = 1
                cuda.syncthreads()
            n += 1
        if t == 0: rounds[0] = n
    x = rng.permutation(16)
    return kernel, 1, 8, [x, np.zeros(1, np.int64)], {0: np.sort(x)}, 0

@case
def row_views(rng):
    @cuda.jit(device=True)
    def dot(u, v):
        total = 0.0
        for k in range(u.size): total += u[k] * v[k]
        return total
    @cuda.jit
    def kernel(a, b, c):
        i, j = cuda.grid(2)
        if i < c.shape[0] and j < c.shape[1]: c[i, j] = dot(a[i], b[:, j])
    a, b = rng.random((5, 7)), rng.random((7, 4))
    return kernel, (1, 1), (8, 8), [a, b, np.zeros((5, 4))], {2: a @ b}, 0

def hold(name, launch):
    "Run a kernel by `launch(kernel, grid, block, shared, *args)` and hold what it wrote to NumPy's answer."
    kernel, grid, block, args, expected, shared = KERNELS[name](np.random.default_rng(3))
    launch(kernel, grid, block, shared, *args)
    for i, want in expected.items(): np.testing.assert_allclose(args[i], want, rtol=1e-5, atol=1e-6, err_msg=name)

if __name__ == "__main__":
    for name in KERNELS:
        hold(name, lambda kernel, grid, block, shared, *args: kernel[grid, block, 0, shared](*args))
        print(name, flush=True)
