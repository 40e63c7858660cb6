"""Found by Python at its start where this folder is on PYTHONPATH: refuses what a lesson must not do.

GUARD_WRITE: folders that may be written to, all others are read-only, for root too. GUARD_NETWORK: no address but loopback.
GUARD_CLOCK: a file. What the course and its cells read from clocks is written there; where it exists, they read it again."""
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

# ---------------------------------------------------------------- a clock that can be read a second time

def tape(path):
    "Only readings by the course, by cells and by the magics that time them: how often others look at a clock is theirs."
    import atexit, pickle, time
    from pathlib import Path
    again = iter(pickle.loads(Path(path).read_bytes())) if Path(path).exists() else None
    readings = []
    def taped(clock):
        def read(*args):
            if not sys._getframe(1).f_globals.get("__name__", "").startswith(READERS): return clock(*args)
            if again is not None: return next(again)        # StopIteration: more readings than there were
            readings.append(clock(*args))
            return readings[-1]
        return read
    for name in ("time", "time_ns", "monotonic", "perf_counter", "perf_counter_ns", "process_time", "thread_time"):
        setattr(time, name, taped(getattr(time, name)))
    if sys.platform != "win32":
        import resource
        resource.getrusage = taped(resource.getrusage)
    if again is None: atexit.register(lambda: Path(path).write_bytes(pickle.dumps([*map(plain, readings)])))

def plain(reading): return reading if isinstance(reading, (int, float)) else tuple(reading)

READERS = "matmul_course", "__main__", "timeit", "IPython.core.magics.execution", "IPython.utils.timing"
if clock := os.environ.pop("GUARD_CLOCK", None): tape(clock)       # not for processes that this one starts
