"What is built can be installed elsewhere, and teaches there."
import os, shutil, subprocess, sys, sysconfig, tarfile, venv, zipfile
from pathlib import Path
import matplotlib, pytest

DATA = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}      # Python 3.11 has it from 3.11.4 on

def call(*words, **kw):
    done = subprocess.run(list(map(str, words)), capture_output=True, text=True, **kw)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout

@pytest.fixture(scope="module")
def built(root, tmp_path_factory):
    "A wheel, built from the sdist and not from the checkout: so the sdist is whole."
    to = tmp_path_factory.mktemp("built")
    leave = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "*.egg-info", "build", "dist", ".ipynb_checkpoints", ".pytest_cache")
    shutil.copytree(root, to/"source", ignore=leave)
    make = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    call(sys.executable, "-c", make, "build_sdist", to, cwd=to/"source")
    sdist = next(to.glob("*.tar.gz"))
    with tarfile.open(sdist) as tar: tar.extractall(to/"unpacked", **DATA)
    call(sys.executable, "-c", make, "build_wheel", to, cwd=next((to/"unpacked").iterdir()))
    return next(to.glob("*.whl"))

@pytest.fixture(scope="module")
def elsewhere(built, tmp_path_factory):
    "A new environment with the wheel in it. What the wheel needs is lent by this one, so that nothing is fetched."
    place = tmp_path_factory.mktemp("elsewhere")
    venv.create(place/"venv", with_pip=False)
    scripts = "Scripts" if os.name == "nt" else "bin"
    python = place/"venv"/scripts/("python.exe" if os.name == "nt" else "python")
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    (site/"lent.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    call(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, built)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | dict(
        HOME=str(place), USERPROFILE=str(place), MPLCONFIGDIR=matplotlib.get_cachedir())           # its list of fonts is lent, too
    return lambda code: call(python, "-c", code, cwd=place, env=env), place

def test_the_wheel_carries_code_data_and_notebooks(built, root):
    names = set(zipfile.ZipFile(built).namelist())
    own = (p for p in (root/"nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts)
    notebooks = {f"matmul_course/{p.relative_to(root).as_posix()}" for p in own}
    assert len(notebooks) >= 40 and notebooks <= names
    page = {f"page/{p.name}" for p in (root/"matmul_course"/"page").iterdir()}
    others = {"mnist.npz", "py.typed", "lab/page_config.json", "lab/workspace.json", "solutions/loops.py"} | page
    assert {f"matmul_course/{name}" for name in others} <= names

def test_an_installed_wheel_copies_its_notebooks_and_runs_one(elsewhere):
    python, place = elsewhere
    where = python("import matmul_course; print(matmul_course.__file__)")
    assert str(place) in where
    said = python("from matmul_course.app.commands import main; main(['copy', 'mine'])")
    assert "0 updated" in said and (place/"mine"/"index.ipynb").is_file()
    said = python("from fastcore.nbio import read_nb; from execnb.shell import CaptureShell; import matmul_course\n"
                  "CaptureShell().run_all(read_nb('mine/11_grid.ipynb'), exc_stop=True); print(matmul_course.__file__)")
    assert str(place) in said

def test_the_doctor_finds_nothing_to_mend_elsewhere(elsewhere):
    python, place = elsewhere
    said = python("import sys; from matmul_course.app.commands import main; sys.exit(main(['doctor']))")
    assert "Nothing to mend" in said and "extra course" in said

def test_nbdev_finds_the_index_of_the_package(elsewhere):
    "So that documentation of other projects can link to a name of the course."
    python, place = elsewhere
    said = python("from nbdev.doclinks import NbdevLookup; print(NbdevLookup(strip_libs='matmul_course').code('check_matmul'))")
    assert "matmul_course/tools/checks.py#L" in said

@pytest.mark.parametrize("command, lacks, extra", [
    ("nbdev_test", "nbdev.config", "dev"), ("nbdev_export", "nbdev.doclinks", "dev"), ("nbdev_clean", "nbdev.clean", "dev"),
    ("nbdev_prepare", "nbdev.doclinks", "dev"), ("main", "jupyterlab.labapp", "course")])
def test_what_is_missing_is_said_with_the_line_that_installs_it(elsewhere, command, lacks, extra):
    "In a wheel there is no constraints.txt, and nothing to install from the folder."
    python, place = elsewhere
    said = python(f"import sys; sys.argv = ['x']; sys.modules[{lacks!r}] = None\nfrom matmul_course.app.commands import {command}\n"
                  f"try: {command}()\nexcept SystemExit as e: print(e)")
    assert said.rstrip().endswith(f'python -m pip install "matmul_course[{extra}]"') and lacks in said

def test_the_licence_is_said_as_an_expression(built):
    wheel = zipfile.ZipFile(built)
    folder = next(n for n in wheel.namelist() if n.endswith("dist-info/METADATA")).rpartition("/")[0]
    said = wheel.read(f"{folder}/METADATA").decode()
    assert "\nLicense-Expression: Apache-2.0\n" in said and "\nLicense: " not in said and "Classifier: License" not in said
    assert {f"{folder}/licenses/LICENSE", f"{folder}/licenses/matmul_course/mnist.LICENSE.md"} <= set(wheel.namelist())
