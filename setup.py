"Hands the facts in settings.ini to setuptools. It has none of its own."
import re, shutil
from configparser import ConfigParser
from pathlib import Path
from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

HERE = Path(__file__).resolve().parent
parser = ConfigParser(delimiters=["="], interpolation=None)
parser.read(HERE/"settings.ini", encoding="utf-8")
facts = parser["DEFAULT"]
name = facts["lib_name"]
home = f"https://github.com/{facts['user']}/{facts['repo']}" if facts["user"] else ""

def lines(key): return [line for line in facts[key].splitlines() if line.strip()]

def extras():
    "Each X_requirements is an extra X. Who develops the course takes what its pages need, too."
    found = {key.removesuffix("_requirements"): lines(key) for key in facts if key.endswith("_requirements")}
    return found | dict(dev=found["course"] + found["docs"] + found["dev"])

def described():
    """README.md for a package index, where a link to a file of the repository leads nowhere.

    It becomes the file's whole address, or, while settings.ini names no owner, its words alone."""
    def link(m):
        picture, words, to = m.groups()
        if not home: return "" if picture else words
        return f"{picture}[{words}]({home}/{'raw' if picture else 'blob'}/{facts['branch']}/{to})"
    return re.sub(r"(!?)\[([^\]]*)\]\((?!https?:|#)([^)]*)\)", link, (HERE/"README.md").read_text(encoding="utf-8"))

class WithNotebooks(build_py):
    "A wheel carries the notebooks; a checkout that is installed with -e has them beside the package."
    def run(self):
        super().run()
        if self.editable_mode: return
        shutil.copytree(HERE/"nbs", Path(self.build_lib, name, "nbs"), dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns(".ipynb_checkpoints"))

setup(
    version=facts["version"],
    description=facts["description"],
    long_description=described(),
    long_description_content_type="text/markdown",
    author=facts["author"],
    keywords=facts["keywords"].split(),
    classifiers=[f"Natural Language :: {facts['language']}", "Programming Language :: Python :: 3 :: Only"]
        + [f"Programming Language :: Python :: {version}" for version in facts["tried_pythons"].split()],
    project_urls=dict(Repository=home) if home else {},
    python_requires=f">={facts['min_python']}",
    install_requires=lines("requirements"),
    extras_require=extras(),
    packages=[*find_packages(include=[name, name + ".*"]), f"{name}.lab", f"{name}.page"],
    package_data={name: ["mnist.npz", "mnist.LICENSE.md", "py.typed", "__init__.pyi", "lab/*.json", "page/*"]},
    cmdclass=dict(build_py=WithNotebooks),
    entry_points=dict(console_scripts=lines("console_scripts"), nbdev=[f"{name} = {name}._modidx:d"]),
)
