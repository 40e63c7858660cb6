"CUDA kernels without a GPU: a kernel's own source, compiled for this processor, with every index checked."
from .run import BarrierError, RaceError, Unsupported, Watch, launch, launch_simply

__all__ = ["launch", "launch_simply", "Watch", "Unsupported", "BarrierError", "RaceError"]
