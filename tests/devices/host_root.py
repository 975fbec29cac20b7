"""A device that is this system in other clothes: its programs, the tests' Python, and nothing else of its files."""

import sys
from pathlib import Path

from tests.devices.device import PARTS

LAYOUT = """
mount -t tmpfs -o mode=755 tmpfs "$ROOT"
for folder in /bin /sbin /lib /lib64; do
  if [ -L "$folder" ]; then cp -P "$folder" "$ROOT"; elif [ -d "$folder" ]; then
    mkdir "$ROOT$folder"; mount --rbind "$folder" "$ROOT$folder"; fi
done
for folder in /etc /usr; do mkdir "$ROOT$folder"; mount --rbind "$folder" "$ROOT$folder"; done
mkdir -p "$ROOT/data/local/tmp" "$ROOT/var/tmp"
chmod 1777 "$ROOT/data/local/tmp" "$ROOT/var/tmp"
"""
PATH = f"{Path(sys.executable).parent}:/usr/bin:/bin:/usr/sbin:/sbin"
BINDS: dict[str | Path, str] = {path: path for path in (sys.base_prefix, sys.prefix, str(PARTS))}
