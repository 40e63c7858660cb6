"""Each question of the course is asked once, by its own lesson, before the page shows the answer.

Right guesses are judged right and wrong ones wrong."""
import ast, importlib, json, math, os, pkgutil, re, subprocess, sys
from collections import Counter
import pytest
import matmul_course.solutions
from matmul_course.app.predictions import Question, Questions, find_question, judge
from test_honesty import parsed
from test_notebooks import cells, lessons, source

def questions():
    "Name of a lesson's module -> its questions."
    for m in pkgutil.iter_modules(matmul_course.solutions.__path__):
        yield m.name, getattr(importlib.import_module(f"matmul_course.solutions.{m.name}"), "QUESTIONS", Questions())

QUESTIONS = dict(questions())
LESSON_OF = {key: lesson for lesson, asked in QUESTIONS.items() for key in asked}
each = pytest.mark.parametrize("key", LESSON_OF)

def test_keys_are_unique_and_found():
    assert len(LESSON_OF) == sum(map(len, QUESTIONS.values())) >= 40
    for key, lesson in LESSON_OF.items(): assert find_question(key) is QUESTIONS[lesson][key]
    assert all(type(asked) is Questions for asked in QUESTIONS.values())

# ---------------------------------------------------------------- asking

def calls(text):
    "All calls of `predict` in a cell, however it is written."
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Call) and "predict" in (getattr(node.func, "id", ""), getattr(node.func, "attr", "")): yield node

def asked_key(text):
    "The key, if the cell is `predict(\"key\")` and nothing else: no answer, no kept guess."
    body = parsed(text).body
    if len(body) != 1 or not isinstance(body[0], ast.Expr) or not isinstance(call := body[0].value, ast.Call): return None
    bare = isinstance(call.func, ast.Name) and len(call.args) == 1 and not call.keywords
    return call.args[0].value if bare and isinstance(call.args[0], ast.Constant) else None

def asks(page):
    "(place of the cell, key) for each cell of a page that calls `predict`."
    for at, c in enumerate(cells(page)):
        if c["cell_type"] == "code" and list(calls(source(c))): yield at, asked_key(source(c))

def test_each_lesson_asks_its_own_questions_once(root):
    pages = {p.stem[3:]: p for p in lessons(root)}
    assert QUESTIONS.keys() <= pages.keys()
    for lesson, page in pages.items():
        assert Counter(key for _, key in asks(page)) == Counter(list(QUESTIONS.get(lesson, ()))), page.name

def test_a_cell_that_holds_more_than_the_key_is_seen():
    assert asked_key('predict("x")') == "x"
    for text in ('predict("x", 5)', 'predict("x", guess=5)', 'predict("x") if y else None', 'n = 5\npredict("x")',
                 "predict(key)", 'p = predict("x")'):
        assert asked_key(text) is None and len(list(calls(text))) == 1, text

def test_the_score_stands_at_the_end(root):
    for page in lessons(root):
        last = max((at for at, _ in asks(page)), default=None)
        scores = [at for at, c in enumerate(cells(page)) if source(c) == "predictions()"]
        assert len(scores) == 1 and scores[0] > last if last is not None else not scores, page.name

# ---------------------------------------------------------------- judging

def leaves(answer): return [v for part in answer for v in leaves(part)] if isinstance(answer, tuple) else [answer]

def wrong_guesses(q, answer):
    "Two, each as near to the answer as a wrong one can be."
    if q.choices: return [c for c in q.choices if c != answer][:2]         # so the answer is one of them, or else it is judged wrong
    if isinstance(answer, str): return [answer + "s", "zebra"]
    if isinstance(answer, tuple): return [tuple(leaves(answer)[:-1]), (*leaves(answer)[:-1], leaves(answer)[-1] + 1)]
    if answer == float("inf"): return [1e308, -answer]
    step = max(q.within, 1.02) * 1.01
    return [answer + 1, answer - 1] if q.within == 1 and not answer % 1 else [answer * step, answer / step]

@each
def test_the_right_answer_is_right_and_two_wrong_ones_are_not(key):
    q = find_question(key)
    assert isinstance(q, Question) and "?" in q.text and q.why.endswith(".") and q.within >= 1
    if callable(q.answer) and q.within > 1:                               # it is measured anew each time
        answer = q.solved()
        assert judge(q, answer).right and not judge(q, answer * 100).right and not judge(q, answer / 100).right
        return
    answer = q.solved()
    told = judge(q, answer)
    assert told.right and q.why in told.verdict
    wrong = wrong_guesses(q, answer)
    assert len(wrong) == 2
    for guess in wrong:
        told = judge(q, guess)
        assert told.right is False and q.why not in told.verdict
        hint = told.verdict.partition(": ")[2]                    # after the guess itself
        assert not shows(hint, q) and not (isinstance(answer, str) and re.search(rf"\b{re.escape(answer)}\b", hint)), told.verdict

# ---------------------------------------------------------------- the score

def score(env, code=""):
    "The score of all lessons in a new process, after some guesses."
    code = f"from matmul_course import predict, predictions\n{code}\nprint(predictions().lessons)"
    run = subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True, check=True)
    return ast.literal_eval(run.stdout)

def test_the_score_survives_a_restart(tmp_path):
    here = dict(MATMUL_COURSE_CACHE=str(tmp_path), MATMUL_COURSE_PREDICTIONS="")
    assert score(here, "predict('multiplications', 39_200); predict('one_row_too_many')") == {"loops": (1, 2)}
    assert score(here, "predict('one_row_too_many', 'an error'); predict('type_of_the_sum', 'float64')") == score(here)
    assert score(here) == {"loops": (1, 2), "numba_dot": (1, len(QUESTIONS["numba_dot"]))}
    assert [p.name for p in tmp_path.rglob("*")] == ["predictions.json"]

def test_no_test_keeps_a_guess(tmp_path):
    assert os.environ["MATMUL_COURSE_PREDICTIONS"] == "off"
    assert score(dict(MATMUL_COURSE_CACHE=str(tmp_path)), "predict('multiplications', 39_200)") == {} and not any(tmp_path.iterdir())

def test_running_the_pages_keeps_no_guess(root, tmp_path):
    env = os.environ | dict(MATMUL_COURSE_CACHE=str(tmp_path), MATMUL_COURSE_PREDICTIONS="", PYTHONPATH=str(root))
    page = tmp_path/"guesses.ipynb"
    source = "from matmul_course import predict, predictions\npredict('multiplications', 39_200)\nassert not predictions().lessons"
    page.write_text(json.dumps(dict(nbformat=4, nbformat_minor=5, metadata={}, cells=[
        dict(cell_type="code", id="a", metadata={}, execution_count=None, outputs=[], source=source)])), encoding="utf-8")
    code = "from matmul_course.app.commands import nbdev_test; nbdev_test()"
    subprocess.run([sys.executable, "-c", code, str(page), "--n-workers", "0"], cwd=root, env=env, check=True, capture_output=True)
    assert [p.name for p in tmp_path.iterdir() if p.suffix == ".json"] == []

# ---------------------------------------------------------------- nothing is given away

def numbers_in(text):
    "The numbers of a text in the order in which they stand there. 39,200 and 39_200 are one number; times and speeds are passed over."
    text = re.sub(r"\d[\d.]* ?([nµum]?s|[GM]?(FLOP|B)/s)\b", " ", text)
    found = re.findall(r"(?<![\w.])\d{1,3}(?:[,_]\d{3})+(?!\w)|(?<![\w.])\d+(?:\.\d+)?(?:e[+-]?\d+)?(?!\w)|\binf\b", text)
    return [float(re.sub("[,_]", "", n)) for n in found]

def without_drawings(text):
    "A cell's code without its functions `draw_…`, whose numbers are places on the page."
    lines = text.split("\n")
    for node in parsed(text).body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("draw_"):
            lines[node.lineno - 1:node.end_lineno] = [""] * (node.end_lineno - node.lineno + 1)
    return "\n".join(lines)

NO_NUMBER = ast.Name, ast.Call, ast.Attribute, ast.Subscript, ast.JoinedStr

def worked_out(text):
    "The values of all expressions of numbers alone, such as 5 * 784 * 10."
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.BinOp) and not any(isinstance(n, NO_NUMBER) for n in ast.walk(node)):
            try: yield float(eval(compile(ast.Expression(node), "", "eval")))
            except (TypeError, ValueError, OverflowError, ZeroDivisionError): pass

def shows(text, q):
    """Does a text hold the answer?

    It is looked for where it is a number over 20, or several values of which one is, or three values in a row."""
    answer = [] if callable(q.answer) or q.choices else leaves(q.answer)
    if not answer or isinstance(answer[0], str): return bool(answer) and re.search(rf"\b{re.escape(answer[0])}\b", text, re.I) is not None
    def near(n, a): return n == a or a % 1 != 0 and math.isfinite(a) and math.isclose(n, a, rel_tol=0.005)     # 118 shows 117.6
    found = numbers_in(text)
    if len(answer) < 3 and max(answer) <= 20: return False
    return any(all(map(near, found[at:], answer)) for at in range(len(found) - len(answer) + 1))

def outputs(cell):
    "What a reader sees of the kept outputs: the text, and the words for pictures."
    for out in cell.get("outputs", []):
        yield "".join(out.get("text", ""))
        for kind, data in out.get("data", {}).items():
            text = "".join(data) if isinstance(data, list) else str(data)
            if kind == "text/html": text = re.sub(r"<[^>]*>", lambda tag: " ".join(["", *re.findall('alt="([^"]*)"', tag[0]), ""]), text)
            if kind.startswith("text/"): yield text

def singles_out(text, q):
    "Does a text name the right one of the choices and none of the others?"
    named = [c for c in q.choices if len(c) > 2 and re.search(rf"\b{re.escape(c)}\b", text)]
    return len(named) == 1 and named == [q.solved()]                     # which may have to be measured

@each
def test_no_cell_up_to_the_asking_one_shows_the_answer(root, key):
    """In prose, code or kept output. What it cannot see: numbers up to 20 and single letters, which stand everywhere; an answer that is
    measured; one that words or a picture give away; a word to choose from, which has to be named, but for an output that names it alone;
    what code with names in it works out without showing it."""
    page, q = next(p for p in lessons(root) if p.stem[3:] == LESSON_OF[key]), find_question(key)
    at = next(at for at, k in asks(page) if k == key)
    assert not shows(q.text, q)
    for n, c in enumerate(cells(page)[:at + 1]):
        own = source(c) if c["cell_type"] == "markdown" else without_drawings(source(c))
        for text in [own, *outputs(c)]: assert not shows(text, q), f"{page.name}, cell {n}: {text[:300]}"
        if c["cell_type"] == "code": assert not any(shows(repr(value), q) for value in worked_out(own)), f"{page.name}, cell {n}: {own}"
        for text in outputs(c): assert n == at or not singles_out(text, q), f"{page.name}, cell {n}: {text[:300]}"

def test_what_shows_an_answer_is_seen():
    number, shape, fraction = (Question("", a, "") for a in (39200, ((784, 10), 7840), 117.6))
    for text in ("39200", "it is 39,200.", "c=39_200;", "39200.0 steps"): assert shows(text, number), text
    for text in ("392000", "x39200", "1.39200", "39,201", "39 200"): assert not shows(text, number), text
    assert shows("(torch.Size([784, 10]), 7840)", shape) and not shows("784 and 7840 and 10", shape)
    assert shows("118 times", fraction) and not shows("119", fraction) and not shows("5", Question("", 5, ""))
    assert shows("tensor(inf)", Question("", float("inf"), ""))
    assert shows("A Word.", Question("", "word", "")) and not shows("words", Question("", "word", ""))
    assert 39200.0 in worked_out("x = f(5 * 784 * 10)") and not list(worked_out("5 * n"))
    picked = Question("", "skinny", "", choices=("skinny", "wide"))
    assert singles_out("-> skinny", picked) and not singles_out("skinny or wide", picked) and not singles_out("wide", picked)
    drawn = without_drawings("def draw_x():\n    a = 39200\nb = 39201")
    assert "39200" not in drawn and "39201" in drawn
    html = {"outputs": [{"data": {"text/html": '<img src="77.png" alt="a 39200" width="88"> <b>99</b>'}}]}
    assert [numbers_in(text) for text in outputs(html)] == [[], [39200, 99]]
    assert numbers_in("157 µs, 12.5 GFLOP/s and 3 rows, 5s") == [3]
