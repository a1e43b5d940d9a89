from tests.inference.conftest import checkpoint, prepared, quick_method

__all__ = ["checkpoint", "prepared", "quick_method"]
