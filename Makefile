# The two commands of the course are `make book` and `make test`; `make help` lists the others.
# Only relative paths here: the folder's own path may hold spaces and accents. Programs of the
# environment are run as `python -m`, because scripts do not stand a space in their first line.

# The first Python of the right version; otherwise tools/venv.py says what is needed.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	"$$p" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& { echo "$$p"; exit; }; done; echo python3)
PY = .venv/bin/python
VENV = .venv/installed.txt
PROFILE = quick
TORCH = torch==2.13.0
COLAB_PYTHON = python3.12

unexport PYTHONDONTWRITEBYTECODE  # without compiled files TensorFlow takes 10 s to import, not 4

.DEFAULT_GOAL := help
.PHONY: help book test run new offline bench pairs repository lock backends colab lint format links clean

help:  ## list these commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

book: $(VENV)  ## build the site from the committed outputs and say where to open it
	@$(PY) tools/book.py

test: $(VENV)  ## lint, build the site, then unit tests, notebooks (quick, no network) and site tests
	@failed=""; \
	$(PY) -m ruff check . || failed="$$failed ruff-check"; \
	$(PY) -m ruff format --check . || failed="$$failed ruff-format"; \
	$(PY) tools/book.py || failed="$$failed book"; \
	COURSE_SITE_DIR="$(CURDIR)/_build/html" $(PY) tools/run_tests.py || failed="$$failed tests"; \
	if [ -n "$$failed" ]; then echo "make test: failed:$$failed"; exit 1; fi

run: $(VENV)  ## NB=10_siamese PROFILE=quick|full: execute one notebook and stamp its provenance
	@$(PY) -m utils.execute "$(NB)" --profile "$(PROFILE)"

new: $(VENV)  ## NB=12_name: a chapter that already passes the tests, to be rewritten
	@$(PY) tools/new_chapter.py "$(NB)"

offline: $(VENV)  ## the site, then one zip and one PDF of it, checked (needs Chromium or Chrome)
	@$(PY) tools/offline.py

bench: $(VENV)  ## [NB=10_siamese]: time and peak memory in the quick profile against the budget
	@$(PY) tools/bench.py $(NB)

pairs: $(VENV)  ## bring each notebooks/*.py into its .ipynb, keeping outputs (never the reverse)
	@$(PY) -m jupytext --quiet --to ipynb --update notebooks/*.py

repository: $(VENV)  ## URL=https://github.com/owner/name: change the repository's address everywhere
	@$(PY) tools/repository.py "$(URL)"

lock: $(VENV)  ## [UPGRADE=1]: recompile requirements.txt from requirements.in
	@$(PY) -m uv --version >/dev/null 2>&1 || $(PY) -m pip install --quiet uv
	@$(PY) -m uv pip compile --quiet --universal --python-version 3.11 \
	--custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) \
	requirements.in --output-file requirements.txt

backends: $(VENV) .venv-jax/installed.txt .venv-torch/installed.txt  ## the notebooks on JAX and PyTorch; on XLA, and twice
	@failed=""; for backend in tensorflow:.venv jax:.venv-jax torch:.venv-torch; do \
	KERAS_BACKEND=$${backend%:*} $${backend#*:}/bin/python -m pytest -m backends tests \
	|| failed="$$failed $${backend%:*}"; done; \
	if [ -n "$$failed" ]; then echo "make backends: failed:$$failed"; exit 1; fi

colab: .venv-colab/installed.txt  ## [NB=10_siamese]: the notebooks as Colab runs them, with its versions (needs the network)
	@.venv-colab/bin/python tools/colab.py $(NB)

lint: $(VENV)  ## ruff: rules and formatting
	@failed=""; $(PY) -m ruff check . || failed=1; $(PY) -m ruff format --check . || failed=1; \
	[ -z "$$failed" ]

format: $(VENV)  ## ruff: mend what it can
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

links: $(VENV)  ## check every link of the book (needs the network)
	@$(PY) tools/book.py --links

clean:  ## remove what is built (not .venv, not data)
	@rm -rf _build build .pytest_cache .ruff_cache .jupyter_cache

# An environment is whole when installed.txt is there (see tools/venv.py).
$(VENV): requirements.txt tools/venv.py
	@"$(PYTHON)" tools/venv.py .venv

.venv-jax/installed.txt: requirements.txt tools/venv.py
	@"$(PYTHON)" tools/venv.py .venv-jax --without tensorflow

.venv-torch/installed.txt: requirements.txt tools/venv.py
	@"$(PYTHON)" tools/venv.py .venv-torch --without tensorflow --add "$(TORCH)"

.venv-colab/installed.txt: tools/colab.txt tools/venv.py
	@"$(COLAB_PYTHON)" tools/venv.py .venv-colab --pins tools/colab.txt
