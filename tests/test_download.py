"load_mnist of a path and of a download, from a server on this machine: what may go wrong on the way does."
import errno, gzip, io, json, os, pickle, struct, subprocess, sys, threading, time
from hashlib import sha1
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
import pytest, torch
from matmul_course.tools import data

def known(content):
    "The size and the hash that `_published` is to expect."
    return dict(size=len(content), git_sha1=sha1(b"blob %d\0" % len(content) + content).hexdigest())

def read(path, **known): return data._from_pickle(data._published(path, **known))

# ---------------------------------------------------------------- a path

class Python2(pickle._Pickler):
    "Writes as Python 2 did: bytes and text are one type, which Python 3 reads as text."
    dispatch = dict(pickle._Pickler.dispatch)
    def text(self, value):
        raw = value.encode("latin-1") if isinstance(value, str) else value
        self.write(b"T" + struct.pack("<i", len(raw)) + raw)
        self.memoize(value)
    dispatch[bytes] = dispatch[str] = text

def python2(value):
    out = io.BytesIO()
    Python2(out, 2).dump(value)
    return out.getvalue().replace(b"cnumpy._core.", b"cnumpy.core.")

@pytest.fixture(scope="module")
def packed():
    "The bytes of a file like the published one, with the digits of the package."
    x, y, vx, vy = (t.numpy() for t in data.load_mnist())
    raw = python2(((x, y), (vx, vy), (vx[:9], vy[:9])))
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in raw and b"_codecs" not in raw
    return gzip.compress(raw, 1)

@pytest.fixture
def stand_in(tmp_path, packed):
    path = tmp_path/"mnist.pkl.gz"
    path.write_bytes(packed)
    return path

def test_a_file_that_python_2_wrote_is_read(stand_in):
    got = read(stand_in, **known(stand_in.read_bytes()))
    own = data.load_mnist()
    assert all(map(torch.equal, got, own)) and [t.dtype for t in got] == [t.dtype for t in own]
    got.x_train[0, 0] = 1                                                    # it can be written to, as the bundled one can

def test_nothing_is_unpickled_before_the_hash_is_right(stand_in, monkeypatch):
    def never(*a, **kw): raise AssertionError("unpickled")
    monkeypatch.setattr(data, "_ArraysOnly", never)
    content = stand_in.read_bytes()
    right = known(content)
    for n in (0, 99, len(content) // 2, len(content) - 1):                   # one bit, anywhere
        stand_in.write_bytes(content[:n] + bytes([content[n] ^ 1]) + content[n + 1:])
        with pytest.raises(ValueError, match="^source: .*mnist.pkl.gz is not the published"): read(stand_in, **right)
    stand_in.write_bytes(content)
    with pytest.raises(AssertionError, match="unpickled"): read(stand_in, **right)

class Runs:
    def __init__(self, *what): self.what = what
    def __reduce__(self): return self.what

@pytest.mark.parametrize("raw", [
    python2(Runs(os.system, ("false",))), b"cnumpy\nload\n(S'/etc/passwd'\ntR.", b"(S'true'\nios\nsystem\n.", b"\x82\x01.", b"Pid\n.",
    b"c__builtin__\ngetattr\n(cnumpy\nndarray\nS'tofile'\ntR.", b"cnumpy.core.multiarray\nscalar\n."])
def test_a_pickle_gets_no_function_even_with_the_right_hash(raw, tmp_path):
    path = tmp_path/"mnist.pkl.gz"
    path.write_bytes(gzip.compress(raw))
    with pytest.raises((pickle.UnpicklingError, ValueError), match="has no place in|persistent id|unregistered extension"):
        read(path, **known(path.read_bytes()))

ASK = ("import os, sys; from matmul_course.tools.data import load_mnist\n"
       "def ask(path):\n"
       "    try: load_mnist(path)\n"
       "    except ValueError as e: print(e)\n"
       "ask(__file__)\n"                                                     # whatever it imports, it has imported then
       "if 'nobody' in sys.argv: os.setegid(65534); os.seteuid(65534)\n"
       "for path in sys.argv[1].split(','): ask(path)")

def answers(place, *words):
    "What a process of its own says of each path in `place`, in a minute at most: a pipe may be waited on for ever."
    (place/"ask.py").write_text(ASK, encoding="utf-8")
    run = subprocess.run([sys.executable, "ask.py", *words], cwd=place, capture_output=True, text=True, timeout=60)
    first, *lines = run.stdout.splitlines()
    assert run.returncode == 0 and "ask.py is not the published" in first, run.stdout + run.stderr
    return lines

def test_a_path_that_is_no_such_file_is_named(tmp_path):
    "A folder, nothing, a file of a terabyte that has no blocks on the disk, and a pipe, where pipes have names."
    (tmp_path/"folder").mkdir()
    with open(tmp_path/"huge", "wb") as f: f.truncate(2**40)
    says = dict(folder="is not the published", missing="No such file", huge="is not the published")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path/"pipe")
        says["pipe"] = "is not the published"
    for (path, said), answer in zip(says.items(), answers(tmp_path, ",".join(says)), strict=True):
        assert answer.startswith("source: ") and path in answer and said in answer, answer

@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="chmod takes nobody's right to read here")
def test_a_file_that_may_not_be_read_is_named(tmp_path):
    """Root may read anything, so the process gives that up once it has imported what it needs: the checkout may be in a
    folder that only root may enter. The file has the right size, so that it is the reading that fails."""
    path = tmp_path/"mnist.pkl.gz"
    with open(path, "wb") as f: f.truncate(data._SIZE)
    path.chmod(0)
    tmp_path.chmod(0o755)
    [said] = answers(tmp_path, "mnist.pkl.gz", *["nobody"] * (os.geteuid() == 0))
    assert said.startswith("source: mnist.pkl.gz cannot be read: ") and "Permission denied" in said

# ---------------------------------------------------------------- a download

GOOD = bytes(range(256)) * 400

class Handler(BaseHTTPRequestHandler):
    def log_message(self, *args): pass
    def do_GET(self):
        path = self.path.lstrip("/")
        self.server.asked.append(path)
        if path == "404": return self.send_error(404)
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
    return tmp_path/"cache"

def download(url): return data._download(url, timeout=.5, **known(GOOD))
def left(folder): return {p.name for p in folder.iterdir()}

def test_it_arrives_once_and_is_kept(server, folder):
    for _ in range(2): assert download(f"{server.url}/good") == GOOD
    assert server.asked == ["good"] and left(folder) == {"mnist.pkl.gz"}

@pytest.mark.parametrize("path", ["404", "truncated", "slow", "loop", "corrupt"])
def test_what_cannot_be_had_is_said_and_nothing_is_left(server, folder, path):
    with pytest.raises(OSError, match=f"^source: .*mnist.pkl.gz cannot be fetched from http.*{path}.*needs no network"):
        download(f"{server.url}/{path}")
    assert not folder.exists()

def test_nobody_there(folder):
    with pytest.raises(OSError, match="cannot be fetched"): download("http://127.0.0.1:9/x")
    assert not folder.exists()

def test_a_damaged_file_of_before_is_fetched_anew(server, folder):
    folder.mkdir()
    (folder/"mnist.pkl.gz").write_bytes(GOOD[:-1] + b"x")
    assert download(f"{server.url}/good") == GOOD == (folder/"mnist.pkl.gz").read_bytes() and server.asked == ["good"]

def full(*args): raise OSError(errno.ENOSPC, "No space left on device")

def test_where_nothing_can_be_written_it_is_read_all_the_same(server, folder, monkeypatch):
    "A full disk, a folder of that name, a file in the folder's place."
    monkeypatch.setattr(os, "fsync", full)
    assert download(f"{server.url}/good") == GOOD and not left(folder)
    (folder/"mnist.pkl.gz").mkdir()
    assert download(f"{server.url}/good") == GOOD and left(folder) == {"mnist.pkl.gz"}
    monkeypatch.setenv("MATMUL_COURSE_DATA", __file__)
    assert download(f"{server.url}/good") == GOOD and server.asked == 3 * ["good"]

START = ("import json, sys; from matmul_course.tools import data\n"
         "print(len(data._download(sys.argv[1], **json.loads(sys.argv[2]))))")
def start(url):
    words = [sys.executable, "-c", START, url, json.dumps(known(GOOD))]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

def test_two_at_once_do_not_disturb_each_other(server, folder):
    both = [start(f"{server.url}/drip") for _ in range(2)]
    assert [p.communicate(timeout=60)[0].strip() for p in both] == [str(len(GOOD))] * 2
    assert left(folder) == {"mnist.pkl.gz"}

def test_killed_half_way(server, folder):
    p = start(f"{server.url}/drip")
    while not server.asked: time.sleep(.05)
    time.sleep(.5)
    p.kill(); p.communicate()
    assert not folder.exists()
    assert download(f"{server.url}/good") == GOOD

def test_a_download_is_read_as_a_path_is(stand_in, monkeypatch):
    monkeypatch.setattr(data, "_download", lambda: stand_in.read_bytes())
    assert all(map(torch.equal, data.load_mnist("download"), data.load_mnist()))
