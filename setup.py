"Hands the facts in settings.ini to setuptools. It has none of its own."
import shutil
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

parser = ConfigParser(delimiters=["="], interpolation=None)
parser.read(Path(__file__).with_name("settings.ini"), encoding="utf-8")
facts = parser["DEFAULT"]

def lines(key): return [line for line in facts[key].splitlines() if line.strip()]

# Tests compile kernels for real where that takes no more than a wheel: on Linux `dev` holds what `gpu` does.
on_linux = [line.replace('sys_platform != "darwin"', 'sys_platform == "linux"') for line in lines("gpu_requirements")]

class WithNotebooks(build_py):
    "A wheel carries the notebooks; a checkout that is installed with -e has them beside the package."
    def run(self):
        super().run()
        if self.editable_mode: return
        to = Path(self.build_lib, facts["lib_name"], "nbs")
        shutil.copytree(Path(__file__).with_name("nbs"), to, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))

low, high = (int(facts[key].split(".")[1]) for key in ("min_python", "max_python"))
course = lines("course_requirements")
setup(
    name=facts["lib_name"],
    version=facts["version"],
    description=facts["description"],
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=facts["author"],
    license=facts["license"],
    keywords=facts["keywords"].split(),
    classifiers=["Natural Language :: " + facts["language"]]
        + [f"Programming Language :: Python :: 3.{minor}" for minor in range(low, high + 1)],
    python_requires=f">={facts['min_python']}",
    install_requires=lines("requirements"),
    extras_require=dict(course=course, dev=course + lines("dev_requirements") + on_linux, gpu=lines("gpu_requirements")),
    packages=[*find_packages(include=[facts["lib_name"], facts["lib_name"] + ".*"]), f"{facts['lib_name']}.lab"],
    package_data={facts["lib_name"]: ["mnist.npz", "mnist.LICENSE.md", "py.typed", "__init__.pyi", "lab/*.json"]},
    cmdclass=dict(build_py=WithNotebooks),
    entry_points=dict(console_scripts=lines("console_scripts")),
)
