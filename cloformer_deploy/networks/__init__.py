"""Network families that can be exported: one folder per family, behind the Protocol of `base`."""
