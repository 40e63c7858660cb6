"What several tests share."
import os
from collections import Counter
from configparser import ConfigParser
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ["MATMUL_COURSE_PREDICTIONS"] = "off"              # no test touches what a reader's guesses have left, nor does what it starts
os.environ["MATMUL_COURSE_TIMES"] = "unread"                 # two samples of each time: nobody reads what a lesson measures in a test

def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="the tests marked slow as well, and ten times as many drawn examples")

def pytest_xdist_auto_num_workers(config): return 2

def pytest_collection_modifyitems(config, items):
    if config.getoption("--full"): return
    for item in items:
        if item.get_closest_marker("slow"): item.add_marker(pytest.mark.skip(reason="slow: `pytest --full` runs it"))

@pytest.fixture(scope="session")
def root() -> Path: return ROOT

@pytest.fixture
def examples(request):
    "How many to draw: what is asked for, or with --full ten times that."
    return lambda n: 10 * n if request.config.getoption("--full") else n

@pytest.fixture(scope="session")
def settings():
    parser = ConfigParser(delimiters=["="], interpolation=None)
    parser.read(ROOT/"settings.ini", encoding="utf-8")
    return parser["DEFAULT"]

@pytest.fixture
def count(record_property):
    "`count(what, n)` adds to a number in the last lines of pytest. It travels with the test's report, from whichever process it ran in."
    counts = Counter()
    yield lambda what, n=1: counts.update({what: n})
    for what, n in counts.items(): record_property("count", (what, n))

def pytest_terminal_summary(terminalreporter):
    "What the tests counted, each file's on a line."
    totals = {}
    for report in sum(terminalreporter.stats.values(), []):
        if getattr(report, "when", None) != "teardown": continue
        for key, value in report.user_properties:
            if key == "count": totals.setdefault(report.nodeid.partition("::")[0], Counter()).update({value[0]: value[1]})
    for file, counts in sorted(totals.items()):
        terminalreporter.write_line(f"{file}: " + ", ".join(f"{n:,} {what}" for what, n in counts.items()))
