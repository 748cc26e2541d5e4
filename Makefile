# Every habit has one door here. `make serve` needs nothing but Python 3.11+; all others set up the full environment.
PYTHON ?= python3
VENV := .venv
SERVE := .venv-serve
BIN := $(VENV)/bin

SOAK_SECONDS ?= 600

.PHONY: setup serve pose test check bench soak fuzz demo tutorial reproduce screenshots clean

setup: $(VENV)/.ready          ## .venv with every extra that development needs
serve: $(SERVE)/.ready         ## the server with the default model, on http://127.0.0.1:8000
	$(SERVE)/bin/poseline serve

# torch is pinned before all else: an unpinned one would bring gigabytes of CUDA libraries.
$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

$(SERVE)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(SERVE)
	$(SERVE)/bin/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[service]'
	touch $@

check: $(VENV)/.ready          ## format, lint, types, imports
	$(BIN)/ruff format --check core service training video benchmarks cli tests
	$(BIN)/ruff check core service training video benchmarks cli tests
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/lint-imports

pose: pose/.ready              ## the pose extractor's model, for videos, and the browser's
pose/.ready: | $(VENV)/.ready
	$(BIN)/poseline pose-model build --output pose
	touch $@

test: check pose               ## check, then every test
	$(BIN)/python -m pytest -n auto --dist loadfile

bench: $(VENV)/.ready          ## speed: the engine beside its limit and its rivals, and the whole server
	$(BIN)/poseline bench all

soak: $(VENV)/.ready           ## SOAK_SECONDS=600: a server under churn must not grow; then one is killed under 200 live streams, one attacked
	$(BIN)/poseline bench soak --seconds $(SOAK_SECONDS) --json docs/performance/soak.json --plots docs/performance
	$(BIN)/poseline bench kill
	$(BIN)/poseline bench hostile --json docs/performance/hostile.json

fuzz: $(VENV)/.ready           ## SEED=0: 100 000 messages of all that is wrong, beside streams that must not notice; then HTTP
	$(BIN)/poseline bench fuzz --seed $(or $(SEED),0)
	POSELINE_FUZZ_EXAMPLES=100 $(BIN)/python -m pytest tests/service/test_openapi_fuzz.py

demo: $(VENV)/.ready           ## train on the scripted actor from nothing, export, serve, localize
	scripts/demo.sh $(BIN)

tutorial: $(VENV)/.ready       ## docs/tutorial.md as it stands: own actions, from recordings to a served model, in ten minutes
	POSELINE_TUTORIAL=1 $(BIN)/python -m pytest -q tests/e2e/test_tutorial.py

reproduce: $(VENV)/.ready      ## RUN=name: train a row of docs/results.md again and show it beside the kept one
	$(BIN)/poseline reproduce $(RUN)

screenshots: $(VENV)/.ready    ## every state of the console as a picture, in screenshots/
	$(BIN)/python scripts/screenshots.py

clean:
	rm -rf $(VENV) $(SERVE) runs/demo
