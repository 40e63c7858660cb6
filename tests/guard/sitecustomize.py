"""Found by Python at its start where this folder is on PYTHONPATH: refuses what a lesson must not do.

GUARD_WRITE: folders that may be written to, all others are read-only, for root too. GUARD_NETWORK: no address but loopback."""
import os, sys

WRITE = os.environ.get("GUARD_WRITE")
CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod", "sqlite3.connect"}

def inside(path):
    path = os.path.realpath(os.fsdecode(path))
    return path.startswith(("/dev/", "/proc/")) or any(path == d or path.startswith(d + os.sep) for d in WRITE.split(os.pathsep))

def refuse_writing(event, args):
    if event == "open":
        path, mode, flags = args
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT) if isinstance(flags, int) else set(mode or "") & set("wax+")
    elif event in CHANGES: path, writes = args[0], True
    else: return
    if writes and isinstance(path, (str, bytes)) and path not in ("", ":memory:") and not inside(path):
        raise PermissionError(13, f"the guard: {event} outside of {WRITE}", os.fsdecode(path))

def refuse_network(event, args):
    if event in ("socket.getaddrinfo", "socket.gethostbyname"): host = args[0]
    elif event in ("socket.connect", "socket.sendto") and isinstance(args[1], tuple): host = args[1][0]
    else: return
    if host not in (None, "", "localhost", "127.0.0.1", "::1", "0.0.0.0", b"127.0.0.1"): raise OSError(f"the guard: {event} to {host}")

if WRITE: sys.addaudithook(refuse_writing)
if os.environ.get("GUARD_NETWORK"): sys.addaudithook(refuse_network)
