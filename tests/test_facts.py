"Facts that stand in two files agree."
import json, re, tomllib
from configparser import ConfigParser
from importlib import import_module
from pathlib import Path
import pytest
from packaging.requirements import Requirement
from packaging.version import Version
import matmul_course

def lines(settings, key): return [line for line in settings[key].splitlines() if line.strip()]

def pyproject(root): return tomllib.loads((root/"pyproject.toml").read_text(encoding="utf-8"))

def test_name_and_version(root, settings):
    project = pyproject(root)["project"]
    assert project["name"] == settings["lib_name"] == matmul_course.__name__
    assert project["license"] == settings["license"]
    assert settings["version"] == matmul_course.__version__

def passed(root, monkeypatch, **facts):
    "What setup.py passes to setuptools, with some facts of settings.ini changed."
    found = {}
    monkeypatch.setattr("setuptools.setup", lambda **kw: found.update(kw))
    def read(parser, path, **kw):
        parser.read_string(Path(path).read_text(encoding="utf-8"))
        parser["DEFAULT"].update(facts)
    monkeypatch.setattr(ConfigParser, "read", read)
    exec(compile((root/"setup.py").read_text(encoding="utf-8"), str(root/"setup.py"), "exec"), dict(__file__=str(root/"setup.py")))
    return found

def test_every_dynamic_field_is_passed_by_setup(root, monkeypatch):
    keys = dict(readme="long_description", authors="author", dependencies="install_requires", scripts="entry_points", urls="project_urls",
                **{"requires-python": "python_requires", "optional-dependencies": "extras_require", "entry-points": "entry_points"})
    found = passed(root, monkeypatch, user="somebody")
    missing = [f for f in pyproject(root)["project"]["dynamic"] if not found.get(keys.get(f, f))]
    assert not missing, f"setup.py passes nothing for {missing}"

@pytest.mark.parametrize("user", ["", "somebody"])
def test_no_link_of_the_description_leads_nowhere(root, monkeypatch, user):
    "A package index shows README.md, and has none of the files beside it."
    found = passed(root, monkeypatch, user=user)
    links = re.findall(r"\]\(([^)]*)\)", found["long_description"])
    assert links and all(re.match("https?:|#", to) for to in links)
    assert bool(found["project_urls"]) == any("/somebody/" in to for to in links) == bool(user)
    assert found["long_description"].count("![") == bool(user)
    assert "CONTRIBUTING.md" in found["long_description"]

def test_the_links_of_the_readme_lead_to_files(root):
    links = re.findall(r"\]\(([^)#]+)", (root/"README.md").read_text(encoding="utf-8"))
    missing = [to for to in links if not re.match("https?:", to) and (".." in to or not (root/to).is_file())]
    assert len(links) > 20 and not missing

def test_citation_and_changes(root, settings):
    assert f"\nversion: {settings['version']}\n" in (root/"CITATION.cff").read_text(encoding="utf-8")
    assert f"## {settings['version']}" in (root/"CHANGELOG.md").read_text(encoding="utf-8")

def test_python_range(root, settings):
    low, tried = settings["min_python"], settings["tried_pythons"].split()
    workflow = (root/".github/workflows/test.yml").read_text(encoding="utf-8")
    asked = re.search(r"python: \[(.*)\]", workflow)[1].replace('"', "").split(", ")
    assert low == asked[0] == tried[0] and set(tried) <= set(asked)
    assert f"Python {low} or later" in (root/"README.md").read_text(encoding="utf-8")

def test_console_scripts_exist(settings):
    for line in lines(settings, "console_scripts"):
        module, function = line.partition("=")[2].strip().split(":")
        assert callable(getattr(import_module(module), function))

def test_constraints_are_inside_the_ranges(root, settings):
    text = (root/"constraints.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.M))
    pins = {name.lower().replace("_", "-"): Version(v) for name, v in pins.items()}
    wanted = [Requirement(r) for key in settings if key.endswith("requirements") for r in lines(settings, key)]
    assert len(wanted) >= 20
    for r in wanted: assert r.specifier.contains(pins[r.name]), f"{r} against {pins[r.name]}"

def test_one_test_command(root):
    "README, .ci/run and the workflow run the same."
    command = 'python -m pip install -c constraints.txt -e ".[dev,gpu,tiles]" && nbdev_test && pytest'
    readme = (root/"README.md").read_text(encoding="utf-8")
    assert readme.count(command) == 1
    assert f"run: {command}" in (root/".github/workflows/test.yml").read_text(encoding="utf-8")
    assert f"{command.partition(' && ')[0]}\n" in (root/"CONTRIBUTING.md").read_text(encoding="utf-8")

def test_tiles_ask_for_nothing_but_on_linux(settings):
    "So that .[dev,gpu,tiles] can be installed everywhere; where there is a wheel, it is asked for."
    [triton] = [Requirement(r) for r in lines(settings, "tiles_requirements")]
    here = [dict(sys_platform=p, platform_machine=m) for p, m in
            (("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64"), ("win32", "AMD64"), ("linux", "armv7l"))]
    assert [triton.marker.evaluate(h) for h in here] == [True, True, False, False, False]

def test_containers_install_what_the_readme_says(root, settings):
    "For repo2docker and for an editor: the pinned versions, and the extras that open the course, on the oldest Python."
    extras = re.search(r'-c constraints.txt -e "(\.\[.*?\])" && matmul-course', (root/"README.md").read_text(encoding="utf-8"))[1]
    lines = (root/".binder/requirements.txt").read_text(encoding="utf-8").splitlines()
    assert lines[1:] == ["-c ../constraints.txt", f"-e {extras}"]
    assert (root/".binder/runtime.txt").read_text(encoding="utf-8") == f"python-{settings['min_python']}\n"
    container = json.loads((root/".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
    assert container["image"].endswith(f":{settings['min_python']}")
    assert container["postCreateCommand"] == f"python -m pip install -c constraints.txt -e '{extras}'"

def test_the_gpu_asks_for_nothing_on_macos(settings):
    "There are no wheels for it, so that .[dev,gpu] can be installed everywhere."
    wanted = [Requirement(r) for r in lines(settings, "gpu_requirements") if not r.lstrip().startswith("#")]
    assert wanted and not [r for r in wanted if r.marker is None or r.marker.evaluate(dict(sys_platform="darwin"))]
    assert all(any(r.marker.evaluate(dict(sys_platform=p)) for r in wanted) for p in ("linux", "win32"))
