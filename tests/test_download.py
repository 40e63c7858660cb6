"load_mnist('download') against a server on this machine: what may go wrong on the way does, and no half file is left."
import errno, gzip, os, pickle, subprocess, sys, threading, time
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
import pooch, pytest, torch
from matmul_course.tools import data

GOOD = bytes(range(256)) * 400
NAME = sha1(b"blob %d\0" % len(GOOD) + GOOD).hexdigest()

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        path, asked = self.path.lstrip("/"), self.server.asked
        asked.append(path)
        if path == "404" or path == "twice503" and asked.count(path) < 3: return self.send_error(404 if path == "404" else 503)
        if path == "loop":
            self.send_response(302); self.send_header("Location", "/loop"); self.end_headers()
            return
        body = GOOD[:-1] + b"x" if path == "corrupt" else GOOD
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        if path == "truncated": body = body[:len(body) // 2]
        if path == "slow": time.sleep(3)
        if path != "drip": return self.wfile.write(body)
        for k in range(0, len(body), 1000):
            self.wfile.write(body[k:k + 1000]); self.wfile.flush(); time.sleep(.05)

@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as s:
        s.asked = []
        threading.Thread(target=s.serve_forever, daemon=True).start()
        s.url = f"http://127.0.0.1:{s.server_address[1]}"
        yield s
        s.shutdown()

@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("MATMUL_COURSE_DATA", str(tmp_path/"cache"))
    monkeypatch.setattr(data, "GIT_SHA1", NAME)
    monkeypatch.setattr(data, "TIMEOUT", .5)
    monkeypatch.setattr(pooch.core, "time", SimpleNamespace(sleep=lambda s: None))      # between two tries
    return tmp_path/"cache"

def left(folder): return {p.name for p in folder.iterdir()} - {"mnist.lock"}

@pytest.mark.parametrize("path, tries", [("good", 1), ("twice503", 3)])
def test_it_arrives_and_is_kept(server, folder, path, tries):
    for _ in range(2): assert data._download(f"{server.url}/{path}").read_bytes() == GOOD
    assert server.asked == [path] * tries and left(folder) == {"mnist.pkl.gz"}

@pytest.mark.parametrize("path", ["404", "truncated", "slow", "loop"])
def test_what_cannot_be_had_is_said(server, folder, path):
    with pytest.raises(OSError, match="mnist.pkl.gz.*cannot be fetched.*needs no network"): data._download(f"{server.url}/{path}")
    assert not left(folder)

def test_nobody_there(folder):
    with pytest.raises(OSError, match="cannot be fetched"): data._download("http://127.0.0.1:9/x")
    assert not left(folder)

def test_another_file_is_deleted(server, folder):
    with pytest.raises(ValueError, match="mnist.pkl.gz.*is not the published file"): data._download(f"{server.url}/corrupt")
    assert not left(folder)

def test_a_damaged_file_of_before_is_fetched_anew(server, folder):
    folder.mkdir()
    (folder/"mnist.pkl.gz").write_bytes(GOOD[:99])
    assert data._download(f"{server.url}/good").read_bytes() == GOOD

def test_a_full_disk_leaves_nothing(server, folder, monkeypatch):
    class Full(pooch.HTTPDownloader):
        def __call__(self, url, output_file, *a, **kw):
            with open(output_file, "wb") as f: f.write(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(pooch, "HTTPDownloader", Full)
    with pytest.raises(OSError, match="No space left"): data._download(f"{server.url}/good")
    assert not left(folder)

SCRIPT = "import sys; from matmul_course.tools import data; data.GIT_SHA1 = sys.argv[2]; print(data._download(sys.argv[1]).stat().st_size)"
def start(url): return subprocess.Popen([sys.executable, "-c", SCRIPT, url, NAME], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def test_two_at_once_fetch_it_once(server, folder):
    both = [start(f"{server.url}/drip") for _ in range(2)]
    assert [p.communicate(timeout=60)[0].strip() for p in both] == [str(len(GOOD))] * 2
    assert server.asked == ["drip"]

def test_killed_half_way(server, folder):
    p = start(f"{server.url}/drip")
    while not server.asked: time.sleep(.05)
    time.sleep(.5)
    p.kill(); p.communicate()
    assert not (folder/"mnist.pkl.gz").exists()
    assert data._download(f"{server.url}/good").read_bytes() == GOOD

def test_the_numbers_are_held_against_the_bundled_ones(folder, monkeypatch, tmp_path):
    own = data.load_mnist()
    x, y, vx, vy = (t.numpy() for t in own)
    def serve(arrays):
        path = tmp_path/"mnist.pkl.gz"
        path.write_bytes(gzip.compress(pickle.dumps(arrays, 2), 1))
        monkeypatch.setattr(data, "_download", lambda url: path)
    serve(((x, y), (vx, vy), (vx, vy)))
    assert all(map(torch.equal, data.load_mnist("download"), own))
    serve(((x, y), (vx[::-1].copy(), vy), (vx, vy)))
    with pytest.raises(ValueError, match="are not those of the package"): data.load_mnist("download")

@pytest.mark.parametrize("what", ["a folder", "missing", "without permission"])
def test_a_path_that_cannot_be_read_is_named(what, tmp_path):
    "In a process of its own, which gives up being root: root may read anything."
    path = tmp_path/"mnist.pkl.gz"
    if what == "a folder": path.mkdir()
    if what == "without permission": path.write_bytes(b"x"); path.chmod(0)
    if what == "without permission" and not hasattr(os, "geteuid"): pytest.skip("chmod takes nobody's right to read here")
    code = ("import os, sys; from matmul_course.tools.data import load_mnist\n"
            "if getattr(os, 'geteuid', int)() == 0 and sys.argv[2] == 'without permission': os.seteuid(65534)\n"
            "try: load_mnist(sys.argv[1])\n"
            "except ValueError as e: print(e)")
    run = subprocess.run([sys.executable, "-c", code, str(path), what], capture_output=True, text=True)
    assert str(path) in run.stdout and "no mnist.pkl.gz can be read here" in run.stdout, run.stdout + run.stderr
    assert ("Permission" in run.stdout) == (what == "without permission")
