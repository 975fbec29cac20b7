"""File formats: one folder per format, behind the Protocols of `base`, in the registry of `registry`."""
