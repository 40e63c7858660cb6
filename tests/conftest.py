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
    "What some tests were shown, where they ran."
    def say(module, counts, words):
        there = sys.modules.get(module)
        found = getattr(there, counts, {}) if there else {}
        if any(found.values()): terminalreporter.write_line(words + ", ".join(f"{n:,} {what}" for what, n in found.items()))
    say("test_exercises", "shown", f"{len(getattr(sys.modules.get('test_exercises'), 'EXERCISES', ()))} exercises: ")
    say("test_arguments", "tried", "nonsense for arguments: ")
    say("test_properties", "drawn", "drawn matrices: ")
