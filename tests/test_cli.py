"The commands, run as a person would."
import json, os, re, signal, socket, subprocess, sys, time, urllib.error, urllib.request
from pathlib import Path
import nbformat, pytest
from nbformat.v4 import new_code_cell, new_notebook
from matmul_course.app import commands as cli

def run(*argv, **kw):
    code = f"from matmul_course.app import commands as cli; import sys; sys.exit(cli.{argv[0]}({list(map(str, argv[1:]))!r}))"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, **kw)

def notebook(path, *sources):
    nbformat.write(new_notebook(cells=[new_code_cell(s) for s in sources]), path)

def test_a_failing_cell_fails_and_is_named(tmp_path):
    notebook(tmp_path/"bad.ipynb", "x = 1", "assert x == 2, 'no'")
    notebook(tmp_path/"good.ipynb", "x = 1")
    r = run("nbdev_test", tmp_path)
    assert r.returncode == 1 and "failed: bad.ipynb" in r.stdout and "AssertionError" in r.stderr
    assert r.stdout.splitlines()[-1] == "notebooks: 1 passed, 1 failed, 0 skipped"

LOST = ["import threading; t = threading.Thread(target=lambda: 1/0); t.start(); t.join()",
        "class A:\n    def _repr_html_(self): 1/0\nA()", "class A:\n    def __repr__(self): 1/0\nA()",
        "class A:\n    def __del__(self): 1/0\na = A(); del a", "%%capture\n1/0"]

def test_an_error_that_is_only_printed_fails_too(tmp_path):
    "nbdev itself passes all of these."
    for n, source in enumerate(LOST): notebook(tmp_path/f"lost{n}.ipynb", source)
    r = run("nbdev_test", tmp_path)
    assert r.returncode == 1 and r.stdout.splitlines()[-1] == f"notebooks: 0 passed, {len(LOST)} failed, 0 skipped", r.stdout

def test_a_notebook_over_its_budget_fails(tmp_path):
    notebook(tmp_path/"slow.ipynb", "import time; time.sleep(0.2)")
    r = run("nbdev_test", tmp_path, "--budget", "0.1")
    assert r.returncode == 1 and "SLOW   slow.ipynb" in r.stdout and r.stdout.splitlines()[-1] == "notebooks: 0 passed, 1 failed, 0 skipped"
    assert run("nbdev_test", tmp_path, "--budget", "0").returncode == 0

def test_flags_run_what_is_left_out(tmp_path):
    notebook(tmp_path/"slow.ipynb", "1", "#| slow\n1/0")
    assert run("nbdev_test", tmp_path).returncode == 0
    r = run("nbdev_test", tmp_path, "--flags", "slow")
    assert r.returncode == 1 and "ZeroDivisionError" in r.stderr

@pytest.mark.parametrize("argv", [["--flags", "slwo"], ["--flags", "slow,cuda"], ["other.ipynb"], ["--n-workers", "two"]])
def test_words_that_would_change_what_runs_are_refused(tmp_path, argv, capsys):
    notebook(tmp_path/"good.ipynb", "1")
    with pytest.raises(SystemExit) as e: cli.nbdev_test([str(tmp_path), *argv])
    said = capsys.readouterr()
    assert e.value.code == 2 and argv[-1] in said.err and argv[0].strip("-") in said.err and "good.ipynb" not in said.out

def test_only_left_out_cells_is_not_a_pass(tmp_path):
    notebook(tmp_path/"gpu.ipynb", "#| cuda\n1")
    r = run("nbdev_test", tmp_path)
    assert r.returncode == 1 and r.stdout.splitlines()[-1] == "notebooks: 0 passed, 0 failed, 1 skipped"

def test_save_keeps_outputs(tmp_path):
    notebook(tmp_path/"a.ipynb", "6 * 7")
    r = run("nbdev_test", tmp_path/"a.ipynb", "--save")
    assert r.returncode == 0 and re.search(r"^ok +a.ipynb: 1 cells, \d+\.\d s$", r.stdout, re.M), r.stdout + r.stderr
    assert json.loads((tmp_path/"a.ipynb").read_text(encoding="utf-8"))["cells"][0]["outputs"][0]["data"]["text/plain"] == ["42"]

def test_a_notebook_survives_where_its_outputs_do_not_fit(tmp_path):
    "The third cell's outputs would make the file larger than a file may be: nbdev itself leaves an empty one."
    pytest.importorskip("resource")
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))"
    notebook(tmp_path/"a.ipynb", limit, "1", "print(9999 * 'x')")
    was = (tmp_path/"a.ipynb").read_bytes()
    r = run("nbdev_test", tmp_path/"a.ipynb", "--save")
    assert r.returncode == 1 and "File too large" in r.stderr, r.stdout + r.stderr
    assert (tmp_path/"a.ipynb").read_bytes() == was and [f.name for f in tmp_path.iterdir()] == ["a.ipynb"]

def test_a_project_that_knows_no_flags_of_ours_is_tested_too(tmp_path):
    notebook(tmp_path/"a.ipynb", "1")
    paths = os.pathsep.join([str(Path(cli.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    r = run("nbdev_test", "a.ipynb", cwd=tmp_path, env=os.environ | {"PYTHONPATH": paths})
    assert r.returncode == 0, r.stdout + r.stderr

def test_no_notebook_is_a_failure(tmp_path):
    r = run("nbdev_test", tmp_path)
    assert r.returncode == 1 and "nothing was tested" in r.stderr

def test_a_damaged_notebook_is_named(tmp_path):
    notebook(tmp_path/"good.ipynb", "1")
    (tmp_path/"torn.ipynb").write_bytes((tmp_path/"good.ipynb").read_bytes()[:99])
    r = run("nbdev_test", tmp_path)
    assert r.returncode == 2 and "torn.ipynb" in r.stderr and "Traceback" not in r.stderr

MEET = """
import time; from pathlib import Path
mine, other = Path("{0}"), Path("{1}")
mine.write_text("here")
deadline = time.time() + {2}
while not other.exists() and time.time() < deadline: time.sleep(.05)
assert other.exists(), "alone" """

@pytest.mark.parametrize("words, together", [([], True), (["--save"], False), (["--n-workers", "1"], False)])
def test_two_notebooks_run_at_a_time_unless_their_outputs_are_kept(tmp_path, words, together):
    "Each waits for the other to start; the second finds what the first one left, in any case."
    for mine, other in ("ab", "ba"): notebook(tmp_path/f"{mine}.ipynb", MEET.format(mine, other, 60 if together else 1))
    r = run("nbdev_test", tmp_path, *words)
    assert r.stdout.splitlines()[-1] == f"notebooks: {1 + together} passed, {1 - together} failed, 0 skipped", r.stdout + r.stderr

def alive(pid):
    "Does the process run? One that ended and was not waited for by anybody does not."
    try: return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError): return False

@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="there is no /proc to look into")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_notebooks_end_with_the_command(tmp_path, sent):
    "The signal goes to the command alone, and not as Ctrl-C in a terminal does to its children, too."
    for name in ("a", "b"):
        notebook(tmp_path/f"{name}.ipynb", f"import os, time; open('{name}.pid', 'x').write(str(os.getpid())); time.sleep(600)")
    start = f"from matmul_course.app.commands import nbdev_test; nbdev_test([{str(tmp_path)!r}])"
    p = subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    def pids(): return [int(text) for f in tmp_path.glob("*.pid") if (text := f.read_text())]
    def soon(happens):
        deadline = time.time() + 60
        while not happens() and time.time() < deadline: time.sleep(.1)
        return happens()
    assert soon(lambda: len(pids()) == 2), p.kill()
    p.send_signal(sent)
    said = p.communicate(timeout=60)
    assert p.returncode == (130 if sent == signal.SIGINT else -sent) and "Traceback" not in said[1], said
    assert soon(lambda: not any(map(alive, pids())))

@pytest.mark.slow                       # each of the commands has a test of its own
def test_the_shell_commands_of_the_readme_run(root):
    "The line that installs is what .ci/run runs; the lab has its own test."
    fences = re.findall(r"^```(\w*)\n(.*?)^```", (root/"README.md").read_text(encoding="utf-8"), re.S | re.M)
    lines = [line for language, fence in fences if not language for line in fence.splitlines() if line.startswith("matmul-course ")]
    assert len(lines) >= 2
    for line in lines:
        r = run("main", *line.split()[1:])
        assert r.returncode == 0 and len(r.stdout.splitlines()) > 5, line + r.stderr

RACE = "from matmul_course.app.commands import main; main(['race', '--shapes', '5x7x3', '--rungs', 'numpy'])"

def test_a_terminal_that_does_not_know_a_letter_shows_a_question_mark():
    r = subprocess.run([sys.executable, "-c", RACE], env=os.environ | dict(PYTHONIOENCODING="ascii"), capture_output=True, text=True)
    assert r.returncode == 0 and "? first" in r.stdout and not r.stderr, r.stderr

@pytest.mark.parametrize("start", [RACE, RACE.partition(";")[0] + "; main(['--help'])"])
def test_nothing_is_said_where_nobody_reads_any_more(start):
    "What is written last is in a buffer until the process ends, unless PYTHONUNBUFFERED is set."
    env = {k: v for k, v in os.environ.items() if k != "PYTHONUNBUFFERED"}
    p = subprocess.Popen([sys.executable, "-c", start], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    p.stdout.close()
    assert (p.stderr.read(), p.wait()) == ("", 141)

@pytest.mark.parametrize("command", ["copy", "export", "assign"])
def test_a_folder_has_a_name(command, capsys):
    with pytest.raises(SystemExit): cli.main([command, ""])
    assert "one of the words is empty" in capsys.readouterr().err

@pytest.mark.parametrize("words, code", [("--help", 0), ("everything", 2)])
def test_who_asks_nbdev_prepare_for_help_starts_nothing(words, code, capsys):
    with pytest.raises(SystemExit) as e: cli.nbdev_prepare([words])
    assert e.value.code == code and "usage: nbdev_prepare" in "".join(capsys.readouterr())

def test_what_a_person_gets_wrong_is_said(tmp_path, capsys):
    (tmp_path/"file").write_text("mine", encoding="utf-8")
    wrong = {"copy": "required: folder", f"copy {tmp_path}/file": "is a file", f"export {tmp_path}/file": "is a file", "dance": "'dance'",
             "race --shapes 5x784": "shapes: '5x784'", "race --threads 0 --shapes 2x2x2": "threads", "--port 0x1": "--port",
             "lab --port 70000": "port: 70000", "race --fast": "--fast"}
    for words, says in wrong.items():
        with pytest.raises(SystemExit) as e: cli.main(words.split())
        assert e.value.code == 2 and says in (said := capsys.readouterr().err), said
    assert (tmp_path/"file").read_text(encoding="utf-8") == "mine"

def test_copy_keeps_what_was_saved_and_renews_the_rest(tmp_path):
    assert run("main", "copy", tmp_path/"mine").returncode == 0
    (tmp_path/"mine"/"index.ipynb").write_text("notes", encoding="utf-8")
    (tmp_path/"mine"/"01_loops.ipynb").unlink()
    r = run("main", "copy", tmp_path/"mine")
    assert ": 1 new, 0 updated, " in r.stdout and r.stdout.rstrip().endswith("kept as you changed them: index.ipynb."), r.stdout + r.stderr
    assert (tmp_path/"mine"/"index.ipynb").read_text(encoding="utf-8") == "notes"

def test_the_version(settings):
    r = run("main", "--version")
    assert (r.returncode, r.stdout) == (0, f"matmul_course {settings['version']}\n")

def ask(url):
    try: return urllib.request.urlopen(url, timeout=5).status
    except urllib.error.HTTPError as e: return e.code

def test_matmul_course_serves_the_course_behind_its_token(tmp_path):
    """Without a display: it prints a URL that works, one without the token does not, and it says what it did. A
    configuration of the reader's that listens everywhere is overruled."""
    (tmp_path/"jupyter_server_config.py").write_text("c.ServerApp.ip = '0.0.0.0'\n", encoding="utf-8")
    env = {k: v for k, v in os.environ.items() if k not in ("DISPLAY", "WAYLAND_DISPLAY")}
    env |= dict(HOME=str(tmp_path), JUPYTER_CONFIG_DIR=str(tmp_path), JUPYTER_RUNTIME_DIR=str(tmp_path/"run"), SSH_CONNECTION="x")
    p = subprocess.Popen([sys.executable, "-c", "from matmul_course.app.commands import main; main([])"], stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, text=True, env=env)
    try:
        said, url = [], None
        for line in p.stdout:
            said.append(line)
            if url := re.search(r"(http://127\.0\.0\.1:\d+)(/\S*\?token=\w+)", line): break
        assert url, "".join(said)
        deadline = time.time() + 60
        while time.time() < deadline:
            try: status = ask(url[0]); break
            except (urllib.error.URLError, OSError): time.sleep(0.2)
        assert status == 200
        assert ask(f"{url[1]}/api/contents/index.ipynb?{url[0].partition('?')[2]}") == 200
        assert ask(f"{url[1]}/api/contents/index.ipynb") == 403
        with pytest.raises(OSError):                                                                 # it would, on 0.0.0.0
            socket.create_connection(("127.0.0.2", int(url[1].rpartition(":")[2])), timeout=2).close()
        page = urllib.request.urlopen(url[0], timeout=5).read().decode()
        assert "apputils-extension:announcements" in re.search(r'"disabledExtensions": \[(.*?)\]', page, re.S)[1]
        text = "".join(said)
        assert "The course is in" in text and "no browser is opened" in text
        assert ("You are root" in text) == (hasattr(os, "geteuid") and os.geteuid() == 0)
    finally: p.kill(); p.wait()

@pytest.fixture
def opened(monkeypatch, tmp_path):
    "What JupyterLab would be started with, by somebody whose home is empty."
    for name in ("HOME", "USERPROFILE", "JUPYTERLAB_WORKSPACES_DIR"): monkeypatch.setenv(name, str(tmp_path))
    options = []
    monkeypatch.setattr("jupyterlab.labapp.LabApp.launch_instance", options.extend)
    return options

def test_a_checkout_that_cannot_be_written_in_is_copied(opened, monkeypatch, tmp_path):
    monkeypatch.setattr(os, "access", lambda *a: False)
    cli.lab(no_browser=True)
    assert f"--ServerApp.root_dir={tmp_path/'matmul_course'}" in opened and (tmp_path/"matmul_course"/"index.ipynb").is_file()

def test_the_contents_stay_closed_where_the_reader_closed_them(opened, tmp_path):
    "The workspace is given once; one that is damaged, or that cannot be written, stops nobody."
    cli.lab(no_browser=True)
    kept, = tmp_path.glob("*.jupyterlab-workspace")
    assert '"current": "@jupyterlab/toc:plugin"' in kept.read_text(encoding="utf-8")
    for there in ('{"data": {"mine": 1}, "metadata": {}}', "{}", "{"):
        kept.write_text(there, encoding="utf-8")
        cli.lab(no_browser=True)
        assert kept.read_text(encoding="utf-8") == there
    kept.unlink(); kept.mkdir()
    cli.lab(no_browser=True)

@pytest.mark.parametrize("root", [True, False])
@pytest.mark.parametrize("display", [True, False])
def test_nothing_makes_the_server_less_safe(monkeypatch, tmp_path, root, display):
    monkeypatch.setattr(cli, "_is_root", lambda: root)
    monkeypatch.setattr(cli, "_has_display", lambda: display)
    options, said = cli._lab_options(tmp_path, True, 0)
    assert ("--no-browser" in options) == (not display)
    assert [o for o in options if "ip=" in o.lower()] == ["--ServerApp.ip=127.0.0.1"] and ("--allow-root" in options) == root
    assert not [o for o in options if re.search("token|password|origin|xsrf|remote|credential|certfile", o, re.I)]

def test_a_port_that_is_taken_is_said(tmp_path):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0)); s.listen()
        port = s.getsockname()[1]
        env = os.environ | dict(HOME=str(tmp_path), JUPYTER_CONFIG_DIR=str(tmp_path))
        r = run("main", "--no-browser", "--port", port, env=env, timeout=120)
    assert r.returncode != 0 and f"port {port} is not available" in r.stdout + r.stderr
