"What a kernel asks of a GPU's memory, counted on a machine that has none. Names are loaded when they are first asked for."
from importlib import import_module

_ROOMS = dict(profile="look", KernelProfile="result", GPU="bounds", GPUS="bounds",
    bounds_table="report")
__all__ = list(_ROOMS)

def __getattr__(name):
    if name not in _ROOMS: raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_ROOMS[name]}", __name__), name)
