# hotlap: see README.md. Every target is safe to run again.
GO      ?= go
PREFIX  ?= /usr/local
VERSION  = $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BIN      = hotlap
PYTHON  ?= python3
# Runs in the folder of the Python package, with the program that was built.
PYTHON_RUN = cd cmd/hotlap/python && HOTLAP_BIN=$(CURDIR)/$(BIN) PYTHONDONTWRITEBYTECODE=1 $(PYTHON)

.PHONY: all demo test check lint mypy generate bench compare peers headline profile soak python-soak fuzz wheel install clean build

all: build

build:
	$(GO) build -o $(BIN) ./cmd/hotlap

demo: build
	./$(BIN) demo

test: build
	$(GO) test -timeout 12m ./...
	$(PYTHON_RUN) -m unittest discover -s tests -t .

# What CI adds to the tests: form, vet, staticcheck, types of the Python
# package, and the tests under the race detector.
check: lint mypy
	$(GO) test -race -timeout 12m ./...

lint:
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff

# Where mypy is missing this is skipped, but not in CI.
mypy:
	@command -v mypy >/dev/null || { echo "mypy is not installed: types of the Python package are not checked"; test -z "$$CI"; }
	@! command -v mypy >/dev/null || { cd cmd/hotlap/python && mypy --no-incremental hotlap tests benchmark examples build_wheel.py; }

# The BPF objects, with clang 14: only after a change of ebpf/internal/prog/bpf.
generate:
	$(GO) generate ./ebpf/...

bench:
	$(GO) run ./bench/run

# One Python process against nginx, beside aiohttp and pycurl: minutes.
headline: build
	$(PYTHON_RUN) benchmark/headline.py

# hotlap bench beside every load generator on this machine: about half an hour.
compare:
	$(GO) run ./bench/run compare

# Installs those that are Go modules, into bench/build/bin.
peers:
	$(GO) run ./bench/run peers

profile:
	bench/profile.sh

# The long campaigns, at their full figures: tens of minutes.
soak: build
	$(GO) run ./bench/soak
	HOTLAP_KILLS=100 HOTLAP_MEMORY_REQUESTS=5000000 $(MAKE) -s python-soak

python-soak:
	$(PYTHON_RUN) -m unittest -v tests.test_process tests.test_memory

fuzz:
	for f in $$($(GO) test ./httpcodec -list 'Fuzz.*' | grep ^Fuzz); do $(GO) test ./httpcodec -run '^$$' -fuzz "^$$f$$" -fuzztime 60s || exit 1; done

# The Python package with the program in it, for this platform.
wheel:
	CGO_ENABLED=0 $(GO) build -trimpath -o dist/$(BIN) ./cmd/hotlap
	$(PYTHON) cmd/hotlap/python/build_wheel.py --binary dist/$(BIN) dist

install: build
	install -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/bin/$(BIN)

clean:
	rm -rf $(BIN) dist bench/build
