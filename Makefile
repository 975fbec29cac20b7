# `make demo` and `make test` set up all they need; `make install` is what both build on.
# Two at a time: environments are made, and code is checked, side by side.
MAKEFLAGS += --jobs=2
PYTHON ?= python3.11
VENV ?= .venv
# Runtimes of devices and apps, a viewer and an exporter, which need other packages than ours: the tests keep each in an
# environment of its own, made of the requirements file of its name.
OTHER_RUNTIMES = tflite-runtime onnxruntime-1.16 onnxruntime-1.17 mediapipe model-explorer ultralytics
OTHER_VENVS = $(OTHER_RUNTIMES:%=.venv-%)
# Programs of Debian that the device tests run: adb and adbd, ssh and sshd, an emulated ARM64 board.
DEVICE_PARTS ?= .device-parts
# timm needs torchvision, which no extra has.
PEERS_VENV ?= .venv-peers
# Linux takes torch from here.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
BIN = $(VENV)/bin
PIP = -m pip --disable-pip-version-check install --quiet

.PHONY: install demo test test-fast lint benchmarks peers clean

install: $(VENV)/.installed

# torch first and pinned, so that no other package chooses it. The default build for Linux brings 6 GB of CUDA: the CPU
# build is taken where its index can be reached within seconds, unless PIP_INDEX_URL or PIP_EXTRA_INDEX_URL name others.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@test "$$(uname -s)" != Linux || test -n "$$PIP_INDEX_URL$$PIP_EXTRA_INDEX_URL" \
	  || $(BIN)/python $(PIP) --timeout 10 --retries 0 --no-deps --index-url $(TORCH_INDEX) \
	    --constraint constraints.txt torch 2> /dev/null \
	  || echo "the CPU build of torch could not be installed from $(TORCH_INDEX): the default build, with CUDA, follows"
	$(BIN)/python $(PIP) --constraint constraints.txt torch
	$(BIN)/python $(PIP) --constraint constraints.txt --editable '.[all,dev]'
	touch $@

$(OTHER_VENVS:%=%/.installed): .venv-%/.installed: tests/requirements-%.txt
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python $(PIP) --requirement $< && touch $@ \
	  || (rm -rf .venv-$* && echo "$* could not be installed (some have Linux wheels only): its tests will skip")

# Without them (no apt, not Linux on x86-64) the script says why, and the tests that need them skip.
$(DEVICE_PARTS)/.installed: tests/devices/fetch_parts.py constraints.txt | $(VENV)/.installed
	$(BIN)/python $< $(DEVICE_PARTS) && touch $@ || test $$? -eq 3

demo: install
	$(BIN)/cloformer-deploy export --precision fp32 --precision fp16 --output exports/demo --overwrite
	$(BIN)/cloformer-deploy validate exports/demo

# One thread for each of the processes: they fill the cores already. A file's tests share what they export, and files
# run in the order in which tests/conftest.py has them.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test: lint $(OTHER_VENVS:%=%/.installed) $(DEVICE_PARTS)/.installed
	$(PYTEST) --maxprocesses 4

test-fast: install
	$(PYTEST) -m "not integration"

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

benchmarks: install
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/memory.py
	$(BIN)/python benchmarks/rendering.py
	$(BIN)/python benchmarks/latency.py
	$(BIN)/python benchmarks/calibration_memory.py
	$(BIN)/python benchmarks/validation_memory.py
	$(BIN)/python benchmarks/int8.py
	$(BIN)/python benchmarks/heads.py
	$(BIN)/python benchmarks/suppression.py
	$(BIN)/python benchmarks/gate.py
	$(BIN)/python benchmarks/scale.py
	$(BIN)/python benchmarks/prepared.py
	$(BIN)/python benchmarks/everyday.py

$(PEERS_VENV)/.installed: benchmarks/requirements-peers.txt
	$(PYTHON) -m venv $(PEERS_VENV)
	$(PEERS_VENV)/bin/python $(PIP) --requirement $<
	touch $@

peers: install $(PEERS_VENV)/.installed
	PYTHONPATH=. $(PEERS_VENV)/bin/python benchmarks/peers_export.py exports/peers
	$(BIN)/python benchmarks/peers_deploy.py exports/peers
	$(BIN)/python benchmarks/peers.py --models exports/peers --output benchmarks/results/peers.json \
	  --plot docs/peers.svg --page docs/peers.md

clean:
	rm -rf $(VENV) $(OTHER_VENVS) $(DEVICE_PARTS) $(PEERS_VENV) exports build dist
