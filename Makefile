# hotlap: see README.md. Every target is safe to run again.
GO      ?= go
PREFIX  ?= /usr/local
VERSION  = $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BIN      = hotlap

.PHONY: all demo test check lint generate bench compare peers profile soak fuzz install clean build

all: build

build:
	$(GO) build -o $(BIN) ./cmd/hotlap

demo: build
	./$(BIN) demo

test:
	$(GO) test -timeout 12m ./...

# What CI adds to the tests: form, vet, staticcheck, and the tests under the
# race detector.
check: lint
	$(GO) test -race -timeout 12m ./...

lint:
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod tidy -diff

# The BPF objects, with clang 14: only after a change of ebpf/internal/prog/bpf.
generate:
	$(GO) generate ./ebpf/...

bench:
	$(GO) run ./bench/run

# hotlap bench beside every load generator on this machine: about half an hour.
compare:
	$(GO) run ./bench/run compare

# Installs those that are Go modules, into bench/build/bin.
peers:
	$(GO) run ./bench/run peers

profile:
	bench/profile.sh

# The long campaigns, at their full figures: tens of minutes.
soak:
	$(GO) run ./bench/soak

fuzz:
	for f in $$($(GO) test ./httpcodec -list 'Fuzz.*' | grep ^Fuzz); do $(GO) test ./httpcodec -run '^$$' -fuzz "^$$f$$" -fuzztime 60s || exit 1; done

install: build
	install -D -m 0755 $(BIN) $(DESTDIR)$(PREFIX)/bin/$(BIN)

clean:
	rm -rf $(BIN) bench/build
