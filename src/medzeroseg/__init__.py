"""MedZeroSeg: text-prompted, zero-shot medical image segmentation.

An experiment framework around the method of Zhang, Huang and Li, "MedZeroSeg: Zero-shot medical image
segmentation via vision foundation models", PLOS ONE 21(3) e0344978 (2026), doi 10.1371/journal.pone.0344978.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medzeroseg.export.folder import from_pretrained
    from medzeroseg.inference.api import segment

__version__ = "0.1.0"
__all__ = ["__version__", "from_pretrained", "segment"]


def __getattr__(name: str) -> object:
    # torch takes seconds to import: `import medzeroseg` does not wait for it
    if name == "segment":
        from medzeroseg.inference.api import segment

        return segment
    if name == "from_pretrained":
        from medzeroseg.export.folder import from_pretrained

        return from_pretrained
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
