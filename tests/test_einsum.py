"einsum_by_hand does what np.einsum does, on thousands of drawn specs, whole and damaged."
import re
from collections import Counter
import numpy as np
import pytest
from matmul_course.subscripts import einsum_by_hand

DTYPES = ["i8", "f8", "?", "i1", "u2", "f4", "c16"]

def numpys(spec, *operands): return np.einsum(spec, *operands, optimize=False)

def draw_term(rng, letters, size, free, n_terms):
    "The letters of one operand and its shape: now and then with an ellipsis, a size of 1, or a size that fits nothing."
    own = [str(l) for l in rng.choice(letters, rng.integers(0, 4))]
    shape = [size[l] if rng.random() > 0.08 else int(rng.choice([1, 1, 2, 4])) for l in own]
    if n_terms == 1: shape = [max(n, 1) for n in shape]        # of one operand NumPy reads past the end: see the test below
    if rng.random() < 0.35:
        at, n = rng.integers(0, len(own) + 1), rng.integers(0, len(free) + 1)
        shape[at:at] = [s if rng.random() > 0.2 else 1 for s in free[len(free) - n:]]
        own.insert(at, "...")
    return "".join(own), tuple(shape)

def draw_output(rng, letters, spec):
    used = [l for l in letters if l in spec]
    out = [str(l) for l in rng.permutation(used)[:rng.integers(0, len(used) + 1)]] if used else []
    if rng.random() < (0.93 if "..." in spec else 0.03): out.insert(rng.integers(0, len(out) + 1), "...")
    if out and rng.random() < 0.05: out.append(str(rng.choice([*out, "q"])))
    return "->" + "".join(out)

def damage(rng, spec):
    "Insert, replace or remove a character."
    at, kind = rng.integers(0, len(spec) + 1), rng.integers(0, 3)
    new = str(rng.choice(list("ijkZ,.-> 1_*\té["))) if kind else ""
    return spec[:at] + new + spec[at + (kind != 1):]

def draw_case(rng):
    "A spec and its operands; about one in three is not valid."
    letters = [str(l) for l in rng.permutation(list("ijkZaB"))[:rng.integers(1, 6)]]
    size = {l: int(rng.choice([0, 1, 2, 3], p=[0.06, 0.14, 0.4, 0.4])) for l in letters}
    free = [int(n) for n in rng.integers(1, 4, rng.integers(0, 3))]
    n_terms = rng.choice([1, 2, 3, 4], p=[0.35, 0.4, 0.2, 0.05])
    terms, shapes = zip(*[draw_term(rng, letters, size, free, n_terms) for _ in range(n_terms)])
    spec = ",".join(terms)
    if rng.random() < 0.65: spec += draw_output(rng, letters, spec)
    if rng.random() < 0.2: spec = " ".join(spec.partition(str(rng.choice([*letters, ",", "->"]))))
    for _ in range(rng.choice([0, 1, 2], p=[0.8, 0.13, 0.07])): spec = damage(rng, spec)
    if rng.random() < 0.05: shapes = shapes[:-1] if rng.random() < 0.5 else (*shapes, (2,))
    dtypes = rng.choice(DTYPES, len(shapes)) if rng.random() < 0.5 else ["i8"] * len(shapes)
    low = {"u2": 0}                                             # -3 as uint16 is 65533: its products would round in float32
    return spec, [rng.integers(low.get(d, -3), 4, s).astype(d) if s else int(rng.integers(-3, 4)) for s, d in zip(shapes, dtypes)]

def outcome(fn, spec, operands):
    try: return fn(spec, *operands)
    except ValueError as e: return e

def is_view(result, operands): return any(isinstance(x, np.ndarray) and np.shares_memory(result, x) for x in operands)

def same(got, want, operands):
    "Both refused, or the same number: type, dtype, shape, values, and whether it is a view."
    if isinstance(want, ValueError) or isinstance(got, ValueError): return isinstance(want, ValueError) and isinstance(got, ValueError)
    return (type(got) is type(want) and got.dtype == want.dtype and got.shape == want.shape
            and np.array_equal(got, want)                                              # whole numbers: exact
            and is_view(got, operands) == is_view(want, operands))

def kind(e): return re.sub(r"'[^']*'|\d+|\(.*", "", str(e))[:60] if isinstance(e, ValueError) else "value"

def test_does_as_numpy_does():
    rng, seen = np.random.default_rng(0), Counter()
    for _ in range(5000):
        spec, operands = draw_case(rng)
        want, got = (outcome(fn, spec, operands) for fn in (numpys, einsum_by_hand))
        assert same(got, want, operands), f"{spec!r} on {[np.shape(x) for x in operands]}: NumPy gives {want!r}, we {got!r}"
        seen[kind(want)] += 1
    assert seen["value"] > 2500 and len([k for k, n in seen.items() if n >= 5]) >= 12, seen    # most of NumPy's reasons to refuse

@pytest.mark.parametrize("spec, shapes, says", [
    ("ik,kj->ij", [(2, 3), (4, 2)], "'k' is 3 in one operand and 4 in another"),
    ("...,...", [(2, 3), (3, 2)], "axis -2 under '...' is 2 in one operand and 3 in another"),
    ("ij->ii", [(2, 3)], "'ij->ii' keeps 'i'"),
    ("ij->k", [(2, 3)], "'ij->k' keeps 'k'"),
    ("i...->i", [(2, 3)], "'i' names 1 axes; the result has 2"),
    ("ijk,k", [(2, 3), (3,)], "'ijk' names 3 axes; operand 0 has 2"),
    ("i,j", [(2,)], "'i,j' is for 2 operands; there are 1"),
    ("i..j", [(2, 3)], "'i..j' has '.'")])
def test_messages_name_the_culprit(spec, shapes, says):
    with pytest.raises(ValueError, match=re.escape(says)): einsum_by_hand(spec, *map(np.ones, shapes))

@pytest.mark.parametrize("spec, shape", [("ii->i", (0, 3)), ("ii->i", (0, 1)), ("iii->i", (0, 2, 2)), ("ii", (0, 3)), ("ii->i", (3, 0))])
def test_a_diagonal_stays_in_its_memory(spec, shape):
    with pytest.raises(ValueError, match="in one operand"): einsum_by_hand(spec, np.empty(shape))

@pytest.mark.parametrize("spec, shape", [
    ("ii->i", (0, 0)), ("ii", (0, 0)), ("ij->j", (0, 3)), ("jii->ij", (2, 0, 0)), ("...ii->...i", (0, 2, 2))])
def test_sizes_of_zero(spec, shape):
    assert same(einsum_by_hand(spec, np.empty(shape)), numpys(spec, np.empty(shape)), [])

def test_many_operands():
    operands = [np.arange(1, 3) + n for n in range(12)]
    for spec in (",".join("i" * 12), ",".join("abcdefghijkl") + "->alc"):
        assert same(einsum_by_hand(spec, *operands), numpys(spec, *operands), operands)

def test_read_only_and_reversed():
    x = np.arange(12.).reshape(3, 4)[::-1, ::-2]
    x.flags.writeable = False
    for spec in ("ij->ji", "ij->i", "ij,ij->j"):
        ops = [x] * (spec.count(",") + 1)
        assert same(einsum_by_hand(spec, *ops), numpys(spec, *ops), ops)
    assert not einsum_by_hand("ij->ji", x).flags.writeable

def test_objects_are_multiplied_exactly():
    big = np.array([10**30, 1], dtype=object)
    assert einsum_by_hand("i,i->", big, big) == 10**60 + 1

@pytest.mark.parametrize("spec", [None, 3, b"i", ["i"], np.array("i")])
def test_a_spec_is_a_string(spec):
    with pytest.raises(TypeError, match="spec: .* should be a string"): einsum_by_hand(spec, np.ones(3))

@pytest.mark.parametrize("dtype", ["U3", "S3", "M8[s]", "m8[s]"])
def test_a_dtype_of_no_numbers_is_refused(dtype):
    with pytest.raises(TypeError, match="no dtype of numbers"): einsum_by_hand("i->", np.zeros(3, dtype))
