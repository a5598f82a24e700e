# make build    the static binary, bin/sql2metrics
# make demo     the whole journey on this machine, with faults, in half a minute; needs only Go
# make test     all tests with the race detector; on Debian it installs the servers they need
# make check    everything a machine can say without running the program
# make bench    speed and allocations        make fuzz   FUZZTIME=30s on each target
# make chdb     the ClickHouse source on a current engine, which is a library from npm
# make soak     the long loops               make image  the container image

GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
REVISION ?= $(shell git rev-parse HEAD 2>/dev/null || echo unknown)
FUZZTIME ?= 30s
IMAGE    ?= sql2metrics:$(VERSION)

STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.8.2
PLATFORMS   := linux/arm64 darwin/arm64
VERSION_PKG := github.com/prometheus/common/version
LDFLAGS      = -s -w -X $(VERSION_PKG).Version=$(VERSION) -X $(VERSION_PKG).Revision=$(REVISION)

.PHONY: build demo check test chdb bench fuzz soak image clean
.DEFAULT_GOAL := build

# The version is given here, so Go needs no working git to find one itself.
build:
	CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags '$(LDFLAGS)' -o bin/sql2metrics .

demo: build
	./bin/sql2metrics demo

check:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "run gofmt -w on:" $$unformatted; exit 1; }
	$(GO) vet ./...
	$(GO) run $(STATICCHECK) ./...
	@set -e; for platform in $(PLATFORMS); do \
		echo "compile for $$platform"; \
		CGO_ENABLED=0 GOOS=$${platform%/*} GOARCH=$${platform#*/} $(GO) build -buildvcs=false -o /dev/null .; \
	done

# -count=1: results that depend on servers and on random kill points are not cached.
test:
	@e2e/install.sh
	$(GO) test -race -count=1 -timeout 30m ./...

# The engine is ClickHouse as a library, half a gigabyte of it, so nothing else
# needs it.
chdb:
	@e2e/install.sh npm
	library=$$(e2e/chdb/fetch.sh) && CGO_ENABLED=1 CHDB_LIBRARY=$$library $(GO) test -count=1 -tags chdb ./e2e/chdb

soak:
	@e2e/install.sh
	SOAK=1 $(GO) test -race -count=1 -timeout 4h ./...

# The parts first, then the whole program beside Prometheus's agent, once each.
bench:
	@e2e/install.sh prometheus
	$(GO) test -run '^$$' -bench . -benchmem $$($(GO) list ./... | grep -v '/e2e')
	$(GO) test -run '^$$' -bench . -benchtime 1x -timeout 1h ./e2e

# Left to itself, Go spends most of a short search on making its finds smaller.
fuzz:
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz' || true); do \
			echo "$$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 100x $$package; \
		done; \
	done

image:
	docker build --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) -t $(IMAGE) .

# The log under data/ is left alone: it may hold what nobody has received yet.
clean:
	rm -rf bin
