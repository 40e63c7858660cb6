"Lessons in a real browser: in JupyterLab, run from top to bottom, and as plain pages with the network off."
import json, os, re, shutil, subprocess, sys, time
import pytest
from matmul_course.app.commands import main, notebooks
from matmul_course.app.site import export_site

NAMES = "chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge"
FEW = "11_grid",                                                    # the rest with --full
ALL = sorted(p.stem for p in notebooks().glob("[0-2]?_*.ipynb"))

@pytest.fixture(scope="module")
def browser():
    "Chromium, headless; MATMUL_COURSE_BROWSER names one that is not on the PATH."
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: it is in the extra dev")
    path = os.environ.get("MATMUL_COURSE_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None: pytest.skip(f"no browser on the PATH: none of {', '.join(NAMES)}")
    with playwright.sync_playwright() as p:
        off = ["--disable-background-networking", "--disable-component-update", "--no-first-run", "--disable-quic", "--disable-gpu"]
        root = ["--no-sandbox"] * (hasattr(os, "geteuid") and os.geteuid() == 0)
        browser = p.chromium.launch(executable_path=path, args=[*off, *root])
        yield browser
        browser.close()

class Watched:
    "A page, and what it should not do: errors on the console, requests to another host."
    def __init__(self, browser, **kw):
        self.page = browser.new_context(**kw).new_page()
        self.errors, self.hosts = [], set()
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("console", lambda m: m.type == "error" and self.errors.append(m.text))
        self.page.on("request", lambda r: self.hosts.add(re.match(r"[a-z]+:(?://[^/:]*)?", r.url)[0]))
    def close(self): self.page.context.close()

# ---------------------------------------------------------------- JupyterLab

@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    "`matmul-course` on a copy of the notebooks: its address with the token, and the folder."
    place = tmp_path_factory.mktemp("lab")
    settings = place/"settings"/"@jupyterlab"/"notebook-extension"
    settings.mkdir(parents=True)
    (settings/"tracker.jupyterlab-settings").write_text('{"windowingMode": "none"}', encoding="utf-8")   # all cells in the page
    (place/"config").mkdir()
    (place/"config"/"jupyter_lab_config.json").write_text('{"LabApp": {"expose_app_in_browser": true}}', encoding="utf-8")
    env = os.environ | dict(HOME=str(place), JUPYTER_CONFIG_DIR=str(place/"config"), JUPYTER_RUNTIME_DIR=str(place/"run"),
                            JUPYTERLAB_SETTINGS_DIR=str(place/"settings"), JUPYTERLAB_WORKSPACES_DIR=str(place/"workspaces"))
    start = "from matmul_course.app.commands import main; main(['--no-browser', '--folder', 'mine'])"
    server = subprocess.Popen([sys.executable, "-c", start], cwd=place, env=env, text=True, encoding="utf-8",
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    said, found = [], None
    for line in server.stdout:
        said.append(line)
        if found := re.search(r"(http://127\.0\.0\.1:\d+)/lab\S*\?token=(\w+)", line): break
    assert found, "".join(said)
    yield found[1], found[2], place/"mine"
    server.kill()
    server.wait()

RUN_ALL = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
IDLE = "() => { const w = window.jupyterapp?.shell.currentWidget; return w?.sessionContext?.session?.kernel?.status === 'idle' }"
WAITING = "() => [...document.querySelectorAll('.jp-InputArea-prompt')].some(p => p.textContent.includes('*'))"
PICTURES = "() => [...document.querySelectorAll('.jp-OutputArea img')].map(i => [i.alt, i.complete && i.naturalWidth > 0])"

@pytest.mark.parametrize("name", [n if n in FEW else pytest.param(n, marks=pytest.mark.slow) for n in ALL])
def test_a_lesson_runs_in_jupyterlab(name, lab, browser):
    address, token, folder = lab
    w = Watched(browser, viewport=dict(width=1200, height=900))
    w.page.goto(f"{address}/lab/tree/{name}.ipynb?token={token}&reset")
    w.page.wait_for_function(IDLE, timeout=90_000)
    w.page.evaluate(RUN_ALL)
    w.page.wait_for_function(f"() => !({WAITING})() && ({IDLE})()", timeout=240_000)
    w.page.evaluate("() => window.jupyterapp.commands.execute('docmanager:save')")
    cells = ran(folder/f"{name}.ipynb")
    assert not [o for c in cells for o in c["outputs"] if o["output_type"] == "error"]
    assert all(c["execution_count"] for c in cells if "".join(c["source"]).strip())
    pictures = w.page.evaluate(PICTURES)
    assert pictures and all(drawn for _, drawn in pictures) and all(len(alt) > 15 for alt, _ in pictures)
    text = (folder/f"{name}.ipynb").read_text(encoding="utf-8")
    if "$$" in text: assert w.page.locator("mjx-container").count() > 0
    for n in range(w.page.locator("form.steps").count()): steps_through(w.page.locator("form.steps").nth(n), w.page)
    assert w.hosts <= {"http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:http://127.0.0.1", "blob:"}, w.hosts
    assert not w.errors, w.errors
    w.close()

def test_a_lesson_opens_beside_its_contents(lab, browser):
    "Its headings stand in the panel at the side, and its checks are folded. The reader's settings are not asked."
    address, token, folder = lab
    w = Watched(browser, viewport=dict(width=1200, height=900))
    w.page.goto(f"{address}/lab/workspaces/course/tree/11_grid.ipynb?token={token}")
    headings = w.page.locator("#table-of-contents .jp-tocItem")
    headings.nth(3).wait_for(timeout=90_000)
    titles = re.findall(r'"#+ ([^"\\]+)', (folder/"11_grid.ipynb").read_text(encoding="utf-8"))
    assert set(headings.first.inner_text().splitlines()) <= set(titles)         # the others stand inside the first
    assert w.page.locator(".jp-NotebookPanel .jp-InputPlaceholder").count() > 2
    w.close()

def ran(path):
    "The code cells of a notebook, once JupyterLab has saved it."
    deadline = time.time() + 20
    while time.time() < deadline:
        cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
        if cells[0]["execution_count"]: return cells
        time.sleep(.2)
    raise AssertionError(f"{path.name} was not saved")

def steps_through(form, page):
    "The mouse and the arrow keys choose another figure, and one shows at a time."
    def shown():
        return form.evaluate("""f => [...f.querySelectorAll('figure')]
            .map((g, n) => getComputedStyle(g).display == 'none' ? -1 : n).filter(n => n >= 0)""")
    assert shown() == [0]
    form.locator("label").nth(1).click()
    assert shown() == [1]
    page.keyboard.press("ArrowLeft")
    assert shown() == [0]

# ---------------------------------------------------------------- plain pages

OPENED = "index", *FEW, "solutions/15_shared_memory", "tools/checks"
NEXT = "01_loops", "02_numba_dot"                                   # whose links and hints are tried

@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    "Those that are opened."
    source, to = tmp_path_factory.mktemp("notebooks"), tmp_path_factory.mktemp("pages")
    for name in (*OPENED, *NEXT):
        (source/name).parent.mkdir(exist_ok=True)
        shutil.copy(notebooks()/f"{name}.ipynb", source/f"{name}.ipynb")
    made = {p.relative_to(to).as_posix() for p in export_site(to, source, {"commands/race": "# Race"})}
    assert {f"{name}.html" for name in (*OPENED, *NEXT, "api", "search", "commands/race")} <= made
    return to

@pytest.mark.parametrize("width, scheme", [(390, "dark"), (1200, "light"), *(
    pytest.param(*p, marks=pytest.mark.slow) for p in ((390, "light"), (700, "light"), (1200, "dark")))])
def test_pages_need_no_network(pages, browser, width, scheme):
    "On a phone and on a screen, light and dark: figures drawn, formulas set, nothing wider than the page, and what is looked for is found."
    w = Watched(browser, viewport=dict(width=width, height=800), color_scheme=scheme, offline=True)
    for name in (*OPENED, "api"):
        w.page.goto((pages/f"{name}.html").as_uri())
        assert all(w.page.evaluate("() => [...document.images].map(i => i.complete && i.naturalWidth > 0)")), name
        assert w.page.evaluate("() => document.documentElement.scrollWidth") <= width, f"{name} is wider than {width}"
        paper = w.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper)[:3])) < 200) == (scheme == "dark"), f"{name}: {paper}"
        assert "$$" not in w.page.inner_text("article") and w.page.locator("article h1").count() == 1
    w.page.goto((pages/"tools/checks.html").as_uri())
    assert w.page.locator("math").count() > 0                          # the bound
    w.page.goto((pages/"01_loops.html").as_uri())
    steps_through(w.page.locator("form.steps").first, w.page)
    hint = w.page.locator(".cell_output details").last
    hint.locator("summary").focus()
    w.page.keyboard.press("Enter")
    assert hint.evaluate("d => d.open")
    following = w.page.locator("a.right-next")                         # at both ends of the page
    assert following.count() == 2
    following.last.click()
    assert w.page.url.endswith("02_numba_dot.html")
    w.page.goto((pages/"search.html").as_uri() + "?q=barrier")
    w.page.locator("#search-results li a").first.wait_for(timeout=20_000)
    assert w.hosts <= {"file://", "data:"} and not w.errors, (w.hosts, w.errors)
    w.close()

@pytest.mark.slow
def test_all_pages_are_made_without_a_warning(tmp_path, capfd):
    "Each is in the table of contents, and each link to a page or to a heading leads there."
    main(["export", str(tmp_path)])
    assert len(list(tmp_path.rglob("*.html"))) > len(list(notebooks().rglob("*.ipynb"))) and not capfd.readouterr().err
