PYTHON ?= python3

.PHONY: help .venv demo app test lab lock clean
help:
	@echo "make demo   the main job on the embedded photos: notebooks, figures and a run, in demo/"
	@echo "make app    highlight regions and crops in a browser, on the demo's runs; on your own:"
	@echo "            make app RUN=runs/mine PHOTOS=my_photos SCORES=my_photos/scores.csv"
	@echo "            (and GAP_RUN=runs/gap for crops by another run, SOURCE=ava,"
	@echo "            OPTIONS='{score_column: rating}' as in the notebooks)"
	@echo "make test   all tests, and every notebook at smoke size"
	@echo "make lab    JupyterLab on notebooks/"

.venv: .venv/ready

# The stamp is written last, so a set-up that broke off is done again.
.venv/ready: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed, $$($(PYTHON) --version) was found; give one by make PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -c 'import ensurepip' || \
		{ echo "Python's venv is incomplete; on Debian: apt-get install python3-venv"; exit 1; }
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-deps --requirement requirements.lock
	.venv/bin/python -m pip install --quiet --no-deps --editable .
	@touch $@

demo: .venv/ready
	rm -rf demo
	.venv/bin/rsrl notebooks --out demo/notebooks -p run demo/run -p gap_run demo/gap -p figures demo/figures
	@echo "Executed notebooks: demo/notebooks, figures: demo/figures, runs: demo/run, demo/gap"

demo/run/network_last.safetensors: | .venv/ready
	$(MAKE) demo

RUN = demo/run
GAP_RUN = $(if $(filter demo/run,$(RUN)),demo/gap,$(RUN))
PHOTOS =
SCORES =
SOURCE =
OPTIONS =

# An uploaded photo is one message; the servers' own limit of 10 MB would drop the connection.
UPLOADS = tornado_settings='{"websocket_max_message_size": 134217728}'

# Paths are made absolute: the kernel's folder is that of the page, not the caller's.
app: .venv/ready $(if $(filter demo/run,$(RUN)),demo/run/network_last.safetensors)
	@mkdir -p demo
	.venv/bin/python -m papermill --prepare-only notebooks/app.ipynb demo/app.ipynb \
		-r run "$$(realpath -m "$(RUN)")" \
		-r gap_run "$$(realpath -m "$(GAP_RUN)")" $(if $(SOURCE),-r source "$(SOURCE)") \
		$(if $(PHOTOS),-r photos "$$(realpath -m "$(PHOTOS)")") \
		$(if $(SCORES),-r scores "$$(realpath -m "$(SCORES)")") \
		$(if $(OPTIONS),-y 'options: $(OPTIONS)')
	.venv/bin/voila demo/app.ipynb --Voila.ip=127.0.0.1 --Voila.$(UPLOADS)

test: .venv/ready
	.venv/bin/python -m pytest

lab: .venv/ready
	.venv/bin/jupyter lab notebooks --ServerApp.$(UPLOADS)

lock: pyproject.toml
	uv pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate \
		--no-emit-index-url --upgrade pyproject.toml --output-file requirements.lock

environment.yml: pyproject.toml tests/environment_file.py
	$(PYTHON) tests/environment_file.py

clean:
	rm -rf demo data/cache .pytest_cache .ruff_cache
