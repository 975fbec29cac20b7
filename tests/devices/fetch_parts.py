"""Fetches the parts that the device tests are made of into a folder: `fetch_parts.py FOLDER`.

`amd64/` holds adb, adbd, ssh and sshd of Debian trixie with their libraries, and qemu-aarch64; `arm64/` the root of an
ARM64 board with Python, numpy, ONNX Runtime, LiteRT and sshd. Packages come from the mirror that this machine's own apt
uses, by an apt configuration of their own, checked against Debian's archive keys; nothing outside FOLDER is touched and
nothing needs root. The folder appears whole or not at all. It cannot be moved: programs name their libraries by path.

Exit code 0: the parts are there. 3: they cannot be had on this machine, and stderr says why.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SUITE = "trixie"
KEYRING = Path(f"/usr/share/keyrings/debian-archive-{SUITE}-stable.gpg")
UPDATES_KEYRING = Path(f"/usr/share/keyrings/debian-archive-{SUITE}-automatic.gpg")
PACKAGES = {
    "amd64": ("base-files", "adbd", "adb", "openssh-client", "openssh-server", "qemu-user", "patchelf"),
    # What a bare Linux board has, and the C++ library that the wheels need.
    "arm64": ("base-files", "coreutils", "dash", "libstdc++6", "openssh-server", "python3", "tar"),
}
# Brought by dependencies that only a booted system has, or read by people.
LEFT_OUT = (
    "./usr/share/*",
    "./usr/lib/*/gconv",
    "./usr/lib/*/perl-base",
    "./usr/bin/perl*",
    "./usr/bin/qemu-[!a]*",
    "./usr/bin/qemu-a[!a]*",
    "./usr/bin/qemu-aarch64_be",
    "./usr/lib/systemd",
    "./usr/lib/*/systemd",
)
BOARD_PYTHON = "3.13"  # trixie's
WHEELS = ("numpy", "onnxruntime", "ai-edge-litert")
WHEEL_PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64")
CONSTRAINTS = Path(__file__).resolve().parents[2] / "constraints.txt"


class UnavailableError(Exception):
    """The parts cannot be had on this machine; the text says why."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", dir=folder.parent))
    try:
        fetch(staging, folder)
    except UnavailableError as error:
        say(f"the device tests will skip: {error}")
        return 3
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return 0


def fetch(staging: Path, folder: Path) -> None:
    """Make the parts in `staging` as they must be in `folder`, and move them there."""
    check_machine()
    parts = staging / "parts"
    for architecture, names in PACKAGES.items():
        archives = download(architecture, names, staging / architecture)
        say(f"unpacking {len(archives)} packages for {architecture}")
        unpack(archives, parts / architecture)
    relocate(parts / "amd64", folder / "amd64")
    install_wheels(parts / "arm64")
    make_board(parts / "arm64", parts / "amd64" / "usr/bin/qemu-aarch64")
    shutil.rmtree(folder, ignore_errors=True)
    parts.rename(folder)


def check_machine() -> None:
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise UnavailableError(f"the parts are for Linux x86-64, and this is {platform.system()} {platform.machine()}")
    for tool in ("apt-get", "dpkg-deb", "tar"):
        if shutil.which(tool) is None:
            raise UnavailableError(f"{tool} is not on PATH; the parts are Debian packages")
    if not KEYRING.exists():
        raise UnavailableError(f"{KEYRING} is missing; `apt-get install debian-archive-keyring` brings it")


def mirrors() -> list[str]:
    """The base addresses that this machine's apt uses, in its order."""
    uris = run("apt-get", "update", "--print-uris").stdout
    return list(dict.fromkeys(re.findall(r"^'(\S+)/dists/\S+/InRelease'", uris, re.MULTILINE)))


def download(architecture: str, names: tuple[str, ...], work: Path) -> list[Path]:
    """The verified archives of packages and all they depend on."""
    (work / "lists" / "partial").mkdir(parents=True)
    (work / "archives" / "partial").mkdir(parents=True)
    (work / "status").touch()  # an empty system: every dependency is fetched
    configuration = work / "apt.conf"
    configuration.write_text(
        f"""
        Dir::State "{work}"; Dir::State::status "{work}/status"; Dir::Cache "{work}";
        Dir::Etc::sourcelist "{work}/sources.list"; Dir::Etc::sourceparts "/dev/null";
        Dir::Etc::preferences "/dev/null"; Dir::Etc::preferencesparts "/dev/null";
        #clear APT::Architectures;
        APT::Architecture "{architecture}"; APT::Architectures {{ "{architecture}"; }};
        APT::Install-Recommends "false"; APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::Retries "3";
        #clear APT::Update::Post-Invoke; #clear APT::Update::Post-Invoke-Success; #clear DPkg::Post-Invoke;
        """
    )
    apt = ("apt-get", "-c", str(configuration), "-qq")
    failure = "this machine's apt has no sources"
    for mirror in mirrors():
        # A repository that is not Debian's has no such suite, or one that these keys did not sign.
        (work / "sources.list").write_text(f"deb [signed-by={KEYRING},{UPDATES_KEYRING}] {mirror} {SUITE} main\n")
        say(f"reading Debian {SUITE}'s packages for {architecture}")
        # `update` alone ends with 0 although it could not reach the mirror.
        updated = run(*apt, "update", "--error-on=any", check=False)
        if updated.returncode == 0:
            break
        failure = updated.stderr.strip()
    else:
        raise UnavailableError(f"no mirror of Debian {SUITE}: {failure}")
    say(f"fetching {', '.join(names)} for {architecture}")
    run(*apt, "install", "--yes", "--download-only", *names)
    return sorted((work / "archives").glob("*.deb"))


def unpack(archives: list[Path], root: Path) -> None:
    root.mkdir(parents=True)
    exclusions = [f"--exclude={pattern}" for pattern in LEFT_OUT]
    for archive in archives:
        with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", archive], stdout=subprocess.PIPE) as package:
            subprocess.run(
                ["tar", "--extract", "--directory", root, "--no-same-owner", *exclusions],
                stdin=package.stdout,
                check=True,
            )
        if package.returncode:
            raise RuntimeError(f"{archive.name} cannot be unpacked")


def relocate(root: Path, final: Path) -> None:
    """Bind the programs to trixie's loader and libraries where they will stand; this machine's are older."""
    libraries = "usr/lib/x86_64-linux-gnu"
    loader = "usr/lib64/ld-linux-x86-64.so.2"
    search = f"{final / libraries / 'android'}:{final / libraries}"
    patchelf: list[str | Path] = [root / loader, "--library-path", root / libraries, root / "usr/bin/patchelf"]
    programs = [
        *(root / "usr/lib/android-sdk/platform-tools" / name for name in ("adb", "adbd")),
        *(root / "usr/bin" / name for name in ("ssh", "ssh-keygen")),
        *(root / "usr/lib/openssh" / name for name in ("sshd-auth", "sshd-session")),
        root / "usr/sbin/sshd",
    ]
    for program in programs:
        run(*patchelf, "--set-interpreter", final / loader, "--force-rpath", "--set-rpath", search, program)
    for library in (root / libraries / "android").iterdir():
        run(*patchelf, "--force-rpath", "--set-rpath", search, library)


def install_wheels(root: Path) -> None:
    say(f"fetching {', '.join(WHEELS)} for the board")
    run(
        *(sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"),
        *("--no-compile", "--only-binary=:all:", "--constraint", CONSTRAINTS),
        *("--implementation", "cp", "--python-version", BOARD_PYTHON),
        *(argument for name in WHEEL_PLATFORMS for argument in ("--platform", name)),
        *("--target", root / "usr/lib/python3/dist-packages", *WHEELS),
    )


def make_board(root: Path, qemu: Path) -> None:
    """Make the files that no package brings, and check that the board's Python imports the runtimes."""
    for name in ("passwd", "group"):
        (root / "etc" / name).touch()
    modules = "numpy, onnxruntime, ai_edge_litert.interpreter"
    say("importing the runtimes on the board's Python")  # compiles its modules too: later the root is read-only
    python = (qemu, "-cpu", "cortex-a76", "-L", root, "-U", "PYTHONDONTWRITEBYTECODE", root / "usr/bin/python3")
    run(*python, "-c", f"import {modules}, json, platform, threading; assert platform.machine() == 'aarch64'")


def run(*command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if check and done.returncode:
        raise UnavailableError(f"{' '.join(map(str, command))} ended with {done.returncode}: {done.stderr.strip()}")
    return done


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main())
