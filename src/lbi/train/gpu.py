"""Whether the Triton kernels may run: only after plain PyTorch gave the same results on this machine's GPU.

``lbi.train.session.gpu_check`` compares them and sets the flag; without it, everything on a GPU is plain PyTorch.
"""

from __future__ import annotations

_checked = False


def allow(value: bool) -> None:
    """Allow or forbid the Triton kernels in this process.

    Args:
        value: True if they were compared with plain PyTorch on this GPU.
    """
    global _checked
    _checked = value


def allowed() -> bool:
    """Whether the Triton kernels may run.

    Returns:
        False unless ``allow(True)`` was called.
    """
    return _checked
