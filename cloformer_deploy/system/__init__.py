"""Files, packages, processor cores and child processes of this machine."""
