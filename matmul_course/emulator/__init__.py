"CUDA kernels without a GPU: a kernel's own source, compiled for this processor, with every index checked."
from .source import BarrierError, RaceError, Unsupported
from .simple import launch_simply
from .races import Watch
from .run import launch

__all__ = ["launch", "launch_simply", "Watch", "Unsupported", "BarrierError", "RaceError"]
