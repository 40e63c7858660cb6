"Facts that stand in two files agree."
import re, tomllib
from importlib import import_module
from packaging.requirements import Requirement
from packaging.version import Version
import matmul_course

def lines(settings, key): return [line for line in settings[key].splitlines() if line.strip()]

def pyproject(root): return tomllib.loads((root/"pyproject.toml").read_text(encoding="utf-8"))

def test_name_and_version(root, settings):
    assert pyproject(root)["project"]["name"] == settings["lib_name"] == matmul_course.__name__
    assert settings["version"] == matmul_course.__version__

def test_every_dynamic_field_is_passed_by_setup(root, monkeypatch):
    passed = {}
    monkeypatch.setattr("setuptools.setup", lambda **kw: passed.update(kw))
    exec(compile((root/"setup.py").read_text(encoding="utf-8"), str(root/"setup.py"), "exec"), dict(__file__=str(root/"setup.py")))
    keys = dict(readme="long_description", authors="author", dependencies="install_requires", scripts="entry_points",
                **{"requires-python": "python_requires", "optional-dependencies": "extras_require"})
    missing = [f for f in pyproject(root)["project"]["dynamic"] if not passed.get(keys.get(f, f))]
    assert not missing, f"setup.py passes nothing for {missing}"

def test_citation_and_changes(root, settings):
    assert f"\nversion: {settings['version']}\n" in (root/"CITATION.cff").read_text(encoding="utf-8")
    assert f"## {settings['version']}" in (root/"CHANGELOG.md").read_text(encoding="utf-8")

def test_python_range(root, settings):
    low, high = settings["min_python"], settings["max_python"]
    workflow = (root/".github/workflows/test.yml").read_text(encoding="utf-8")
    tried = re.search(r"python: \[(.*)\]", workflow)[1].replace('"', "").split(", ")
    assert (tried[0], tried[-1]) == (low, high)
    assert f"Python {low} or later" in (root/"README.md").read_text(encoding="utf-8")

def test_console_scripts_exist(settings):
    for line in lines(settings, "console_scripts"):
        module, function = line.partition("=")[2].strip().split(":")
        assert callable(getattr(import_module(module), function))

def test_constraints_are_inside_the_ranges(root, settings):
    text = (root/"constraints.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.M))
    pins = {name.lower().replace("_", "-"): Version(v) for name, v in pins.items()}
    wanted = [Requirement(r) for key in ("requirements", "course_requirements", "dev_requirements") for r in lines(settings, key)]
    assert len(wanted) >= 10
    for r in wanted: assert r.specifier.contains(pins[r.name]), f"{r} against {pins[r.name]}"

def test_one_test_command(root):
    "README, .ci/run and the workflow run the same."
    command = 'python -m pip install -c constraints.txt -e ".[dev]" && nbdev_test && pytest'
    readme = (root/"README.md").read_text(encoding="utf-8")
    assert readme.count(command) == 1
    assert f"run: {command}" in (root/".github/workflows/test.yml").read_text(encoding="utf-8")
