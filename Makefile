# Each target names commands that can be typed by hand as well.
BIN     ?= bin
TAGS    ?=
PREFIX  ?= /usr/local
VERSION ?= $(or $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null),2.0.0-dev+$(shell git rev-parse --short HEAD 2>/dev/null))
GO_BUILD = CGO_ENABLED=0 go build -trimpath -tags '$(TAGS)' -ldflags '-s -w -X main.version=$(VERSION)'

.PHONY: build demo test lint bench install
build: # the four programs, into bin/
	$(GO_BUILD) -o $(BIN)/rkt ./rkt
	$(GO_BUILD) -o $(BIN)/rkt-fetch ./image/rkt-fetch
	$(GO_BUILD) -o $(BIN)/stage1 ./stage1
	$(GO_BUILD) -o $(BIN)/stage1-init ./stage1/init
demo: # a signed image from a registry becomes a pod, on a fresh machine, in a few minutes
	tests/setup.sh demo
	tests/demo.sh
test: # everything; needs root and installs what is missing
	tests/setup.sh test
	tests/run.sh
lint:
	tests/setup.sh lint
	.cache/bin/golangci-lint run
bench: # ratios to crun, podman, skopeo and umoci on this machine
	tests/setup.sh bench
	go run ./tests/bench
install: build
	install -D -t $(DESTDIR)$(PREFIX)/bin $(BIN)/rkt
	install -D -t $(DESTDIR)$(PREFIX)/lib/rkt $(BIN)/rkt-fetch $(BIN)/stage1 $(BIN)/stage1-init
