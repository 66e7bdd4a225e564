PYTHON ?= python3

.PHONY: help .venv demo app test lab bench lock clean
help:
	@echo "make demo   the main job on the embedded photos: chapters, figures and runs, in demo/"
	@echo "make app    highlight regions and crops in a browser, on the demo's runs; on your own:"
	@echo "            make app RUN=runs/mine (and GAP_RUN=runs/gap for crops by another run;"
	@echo "            PHOTOS=my_photos SCORES=my_photos/scores.csv where they have moved)"
	@echo "make test   all tests, and every notebook at smoke size"
	@echo "make lab    JupyterLab, among the demo's executed notebooks if there is a demo"
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
	.venv/bin/rsrl demo

RUN =
GAP_RUN =
PHOTOS =
SCORES =
SOURCE =
OPTIONS =

app: .venv/ready
	.venv/bin/rsrl app $(if $(RUN),--run "$(RUN)") $(if $(GAP_RUN),--gap-run "$(GAP_RUN)") \
		$(if $(PHOTOS),--photos "$(PHOTOS)") $(if $(SCORES),--scores "$(SCORES)") \
		$(if $(SOURCE),--source "$(SOURCE)") $(if $(OPTIONS),--options '$(OPTIONS)')

# Two processes of one thread each: two that ask for every core wait for one another. Then the
# browser, which is not to wait for either.
BROWSER = tests/test_browser.py
test: .venv/ready
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest --numprocesses 2 --dist loadfile --ignore $(BROWSER)
	.venv/bin/python -m pytest $(BROWSER)

# An uploaded photo is one message; the server's own limit of 10 MB would drop the connection.
# Kernels are this environment's, and nobody on the machine listens to what they say.
LAB = --ServerApp.tornado_settings='{"websocket_max_message_size": 134217728}' \
	--ServerApp.kernel_spec_manager_class=rsrl_lib.interface.kernels.OwnSpecs \
	--KernelManager.transport_encryption=auto

# It begins among the executed notebooks, whose runs are trained already, where a demo was made.
BEGIN = $(firstword $(wildcard demo/notebooks) notebooks)
lab: .venv/ready
	.venv/bin/jupyter lab $(LAB) --LabApp.default_url=/lab/tree/$(BEGIN)

# What it is compared with lives in an environment of its own, on the same PyTorch.
SITE = 'import sysconfig; print(sysconfig.get_path("purelib"))'
.venv-others/ready: .venv/ready
	$(PYTHON) -m venv .venv-others
	.venv/bin/python -c $(SITE) > "$$(.venv-others/bin/python -c $(SITE))/shared.pth"
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
	rm -rf $(if $(wildcard demo/made_by_rsrl_demo.txt),demo) data/cache .pytest_cache .ruff_cache
