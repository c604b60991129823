# The one front door: people, CI and the Dockerfile all come in here.
# `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory --no-builtin-rules
.DEFAULT_GOAL := help
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)

CLANG ?= clang
BPFTOOL ?= $(firstword $(shell PATH="$$PATH:/usr/sbin:/sbin" command -v bpftool) bpftool)
# What is compiled for. Another one than this machine: by Debian's cross compilers (the image's builder).
MACHINE ?= $(shell uname -m)
ARCH := $(subst aarch64,arm64,$(subst x86_64,x86,$(MACHINE)))
ifneq ($(MACHINE),$(shell uname -m))
export CC := $(MACHINE)-linux-gnu-gcc
export CXX := $(MACHINE)-linux-gnu-g++
export AR := $(MACHINE)-linux-gnu-ar
GYP_ARCH := --arch=$(subst aarch64,arm64,$(subst x86_64,x64,$(MACHINE)))
endif
# Node's own headers, which come with it: node-gyp would fetch them. Expanded when used: `npm ci` brings Node.
NODEDIR = --nodedir=$$(dirname "$$(dirname "$$(readlink -f "$$(command -v node)")")")

BPF_SKELETONS := bpf/build/janusd.skel.h bpf/build/hold.skel.h bpf/build/arrivals.skel.h bpf/build/decide.skel.h
ADDON := native/build/Release/janusd.node
NPM_STAMP := node_modules/.package-lock.json
TS_STAMP := dist/.built

.PHONY: help
help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

## Building

.PHONY: build
build: install-deps ## Install what is missing (apt, npm), then build the eBPF program, the addon and the TypeScript
	@$(MAKE) compile

.PHONY: install-deps
install-deps: ## Only install what building and running need (apt, npm)
	@scripts/install.sh compile demo
	@scripts/require.sh node
	@$(MAKE) -s $(NPM_STAMP)

$(NPM_STAMP): package-lock.json
	@# By whatever npm there is: the Node.js that the rest wants is one of the packages.
	npm ci --engine-strict=false --loglevel=error --no-update-notifier
	@touch $@

# What the Dockerfile's builder runs, too: no apt, no root.
.PHONY: compile
compile: $(ADDON) $(TS_STAMP)

# Kept: their sections are what bpftool and the kernel's verifier name.
.PRECIOUS: bpf/build/%.bpf.o
bpf/build/%.bpf.o: bpf/%.bpf.c $(wildcard bpf/*.h)
	@mkdir -p $(@D)
	$(CLANG) -O2 -g -Wall -target bpf -mcpu=v3 -D__TARGET_ARCH_$(ARCH) -I/usr/include/$(MACHINE)-linux-gnu -c $< -o $@

bpf/build/%.skel.h: bpf/build/%.bpf.o
	$(BPFTOOL) gen skeleton $< name $*_bpf > $@

native/build/Makefile: native/binding.gyp $(NPM_STAMP)
	node-gyp configure --silent --directory native $(NODEDIR) $(GYP_ARCH)
	@touch $@

$(ADDON): native/build/Makefile $(BPF_SKELETONS) $(filter-out native/test/% native/build/%,$(wildcard native/*.cc native/*.h native/*/*.cc native/*/*.h)) bpf/event.h
	node-gyp build --silent --jobs max --directory native
	@touch $@

$(TS_STAMP): $(NPM_STAMP) tsconfig.json $(shell find src -name '*.ts' 2>/dev/null)
	tsc
	@touch $@

.PHONY: clean
clean: ## Remove all that was built (not node_modules)
	rm -rf dist bpf/build native/build native/test/build test/support/build test/bypass/build bench/build build .tap

## Looking after the sources

.PHONY: generate
generate: $(NPM_STAMP) ## Generate src/gen from proto/
	npm run --silent generate

.PHONY: docs
docs: $(TS_STAMP) ## Generate pages of docs/, the custom resources, the chart's values, dashboard and alerts
	npm run --silent docs

.PHONY: manifests
manifests: docs ## Render deploy/*.yaml from the Helm chart
	@scripts/kube.sh helm
	node deploy/helm/plain.ts "$${JANUSD_KUBE_CACHE:-$$HOME/.cache/janusd/kube/bin}/helm"

.PHONY: fmt
fmt: $(NPM_STAMP) ## Format the sources
	npm run --silent format

.PHONY: check
check: $(NPM_STAMP) ## Generate, lint and type-check; fails if anything generated was out of date
	@$(MAKE) generate docs
	npm run --silent check
	git diff --exit-code -- src/gen docs deploy

.PHONY: image
image: $(NPM_STAMP) ## Build the image with buildah, into build/image: with what is in it (SPDX), and its size. PLATFORM=linux/arm64
	@scripts/image.sh $(PLATFORM)

## Trying and testing

.PHONY: demo
demo: root build ## Guard a real container, and watch it: KEEP=1 stays up to play with
	@KEEP=$(KEEP) demo/demo.sh

.PHONY: test
test: root build test-deps ## Everything: units (C++ with sanitizers, TypeScript), kernel and containers, bypass attempts (short). TESTS="files" for some
	@scripts/install.sh kernels
	@scripts/test.sh $(TESTS)

.PHONY: test-deps
test-deps:
	@scripts/install.sh test

.PHONY: asan
asan: build ## C++ units under AddressSanitizer and UBSan
	native/test/run asan

.PHONY: tsan
tsan: build ## C++ units under ThreadSanitizer
	native/test/run tsan

.PHONY: fuzz
fuzz: build test-deps ## The native parts that take what a container controls, for FOR=60 seconds each, with sanitizers
	native/test/fuzz/run $(or $(FOR),60)

.PHONY: hostile
hostile: root build test-deps ## Containers that try to stall, starve, fool or end the daemon: each for FOR=20 seconds and more
	HOSTILE_SECONDS=$(or $(FOR),20) scripts/test.sh test/hostile/*.test.ts

.PHONY: bypass
bypass: root build ## Every attempt to walk around a guard, as a table
	test/bypass/run

.PHONY: soak
soak: root build test-deps ## What takes long: bypass races in loops of 10,000 and more; hostile containers; fuzzing; each way to end, 20 times
	ENDING_RUNS=20 scripts/test.sh test/kernel/ending.test.ts
	ENDING_RUNS=20 taskset --cpu-list 0 scripts/test.sh test/kernel/ending.test.ts
	ARRIVALS=500 scripts/test.sh test/kernel/arrivals.test.ts
	SOAK=1 test/bypass/run
	$(MAKE) hostile FOR=60
	native/test/fuzz/run 300

.PHONY: kernels
kernels: root build ## On Debian's kernels 6.1, 6.12, the newest, and 6.12 for arm64, each in a virtual machine (QEMU, no KVM needed): minutes
	@scripts/install.sh kernels kernels_arm64
	test/kernels/run

.PHONY: kube-programs
kube-programs: ## Build API server, kubelet, helm and so on from their Go modules, into a cache: 20 minutes the first time
	@scripts/kube.sh

.PHONY: kube
kube: root build kube-programs image ## On a Kubernetes cluster of one node, on this machine, from real parts (kubelet, containerd): 15 minutes. ONLY="names" for some
	@scripts/install.sh test kube
	test/kube/run --image "$$(ls -t build/image/janusd-*-$$(dpkg --print-architecture).tar | head -n 1)" $(if $(ONLY),--only "$(ONLY)")

.PHONY: bench
bench: root build ## Measure; table on the screen, JSON in bench/out/latest.json
	bench/run

.PHONY: bench-kernel
bench-kernel: root build ## Measure where the kernel decides by itself, in virtual machines: an hour a kernel; JSON in bench/out/kernel.json
	@scripts/install.sh kernels
	bench/run kernel

.PHONY: root
root:
	@scripts/require.sh root btf
