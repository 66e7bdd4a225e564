PYTHON ?= python3

.PHONY: help .venv demo app test lab bench lock clean
help:
	@echo "make demo   the main job on the embedded photos: notebooks, figures and a run, in demo/"
	@echo "make app    highlight regions and crops in a browser, on the demo's runs; on your own:"
	@echo "            make app RUN=runs/mine PHOTOS=my_photos SCORES=my_photos/scores.csv"
	@echo "            (and GAP_RUN=runs/gap for crops by another run, SOURCE=ava,"
	@echo "            OPTIONS='{score_column: rating}' as in the notebooks)"
	@echo "make test   all tests, and every notebook at smoke size"
	@echo "make lab    JupyterLab on notebooks/"
	@echo "make bench  how fast, against whom, how far from the machine's limit: one table"

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
UPLOADS = "websocket_max_message_size": 134217728

# The page answers this machine alone, and by no name that another site may point here; it gives no
# file beside the notebook, takes no template that its address names, and ends what nobody looks at.
PAGE = --Voila.ip=127.0.0.1 \
	--Voila.tornado_settings='{$(UPLOADS), "allow_remote_access": False}' \
	--VoilaConfiguration.file_allowlist='[]' \
	--VoilaConfiguration.allow_template_override=NO --VoilaConfiguration.allow_theme_override=NO \
	--MappingKernelManager.cull_idle_timeout=600 --MappingKernelManager.cull_interval=60

# Paths are made absolute: the kernel's folder is that of the page, not the caller's.
app: .venv/ready $(if $(filter demo/run,$(RUN)),demo/run/network_last.safetensors)
	@mkdir -p demo
	.venv/bin/python -m papermill --prepare-only notebooks/app.ipynb demo/app.ipynb \
		-r run "$$(realpath -m "$(RUN)")" \
		-r gap_run "$$(realpath -m "$(GAP_RUN)")" $(if $(SOURCE),-r source "$(SOURCE)") \
		$(if $(PHOTOS),-r photos "$$(realpath -m "$(PHOTOS)")") \
		$(if $(SCORES),-r scores "$$(realpath -m "$(SCORES)")") \
		$(if $(OPTIONS),-y 'options: $(OPTIONS)')
	.venv/bin/voila demo/app.ipynb $(PAGE)

# Two processes of one thread each: two that ask for every core wait for one another. Then the
# browser, which is not to wait for either.
BROWSER = tests/test_browser.py
test: .venv/ready
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses 2 --dist loadfile --ignore $(BROWSER)
	.venv/bin/python -m pytest $(BROWSER)

lab: .venv/ready
	.venv/bin/jupyter lab notebooks --ServerApp.tornado_settings='{$(UPLOADS)}'

# What it is compared with lives in an environment of its own, on the same PyTorch.
.venv-others/ready: .venv/ready
	$(PYTHON) -m venv .venv-others
	realpath .venv/lib/python3*/site-packages > $$(echo .venv-others/lib/python3*/site-packages)/shared.pth
	.venv-others/bin/python -m pip install --quiet fastai==2.8.12 timm==1.0.31
	@touch $@

BENCH =
bench: .venv-others/ready
	.venv/bin/python benchmarks/bench.py $(BENCH)

lock: pyproject.toml
	uv pip compile --universal --python-version 3.11 --all-extras --no-header --no-annotate \
		--no-emit-index-url --upgrade pyproject.toml --output-file requirements.lock

environment.yml: pyproject.toml tests/environment_file.py
	$(PYTHON) tests/environment_file.py

clean:
	rm -rf demo data/cache .pytest_cache .ruff_cache
