"What several tests share."
import sys
from configparser import ConfigParser
from pathlib import Path
import pytest

ROOT = Path(__file__).resolve().parent.parent

def pytest_addoption(parser):
    parser.addoption("--full", action="store_true", help="every lesson in the browser, ten times as many drawn examples, every condition")

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

def pytest_terminal_summary(terminalreporter):
    "How many answers the exercises have been shown, where test_exercises.py ran."
    module = sys.modules.get("test_exercises")
    if module and any(module.shown.values()):
        terminalreporter.write_line(f"{len(module.EXERCISES)} exercises: " + ", ".join(f"{n} {what}" for what, n in module.shown.items()))
