"""CloFormer on phones and edge boards: export, quantize, validate, profile."""

__version__ = "0.1.0"

__all__ = ["__version__"]
