# The house's commands. `make` alone prints this list. Everything is built from source through
# the Go module proxy: Go, git and make are all that has to be on the machine. A C compiler is
# used when there is one, for the race detector.

SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

TOOLS  := bin/tools
# What `make sim` plays: the number that the design asks for.
SCHEDULES ?= 100000
# How long `make soak` runs, and on which server.
SOAK    ?= 10m
DIALECT ?= mysql
# What `make contend` plays: the stage, how many decisions, and whether one write in 10,000 decisions is lost.
STAGE     ?= shadow
DECISIONS ?= 1000000
LOSE      ?=
# What `make chaos` plays: all, or names of scenarios with commas between, so many trials of each fault.
SCENARIO ?=
TRIALS   ?= 20
# What `make mutants` runs: all. RUN=regexp picks by file name, JOBS runs that many at a time.
RUN    ?= .
JOBS   ?= 1
# What `make bench` measures: all, or names of metrics with commas between. QUICK=1 is the short form.
ONLY   ?=
QUICK  ?=
# Bounds of one package's tests. `make test` has ten minutes for everything.
TEST_TIMEOUT     ?= 9m
TEST_ALL_TIMEOUT ?= 20m

.PHONY: help
help: ## print this list
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

.PHONY: demo
demo: build ## build the proxy if it is stale, and play a rollout from first to last, in about a minute
	bin/crossfade demo

.PHONY: demo-short
demo-short: build ## play the demo's main steps only, as CI does
	bin/crossfade demo --short

.PHONY: build
build: ## build bin/crossfade if it is stale
	@echo "building bin/crossfade (the first build takes a minute or two)" >&2
	@go build -o bin/crossfade ./cmd/crossfade

.PHONY: test
test: ## run the tests, on real servers that are fetched if need be; at most ten minutes, cold
	@go run ./cmd/internal/house/testrun -servers mysql,redis,etcd -race auto -- -timeout $(TEST_TIMEOUT)

.PHONY: test-all
test-all: ## run the full matrix of servers with the long forms, under the race detector
	@CROSSFADE_LONG=1 go run ./cmd/internal/house/testrun -servers mysql,mariadb,redis,valkey,etcd -race on -- -timeout $(TEST_ALL_TIMEOUT) -count=1

.PHONY: test-clients
test-clients: ## run stock Redis clients against the RESP door (fetches them)
	go test -tags clients -count=1 -timeout 10m ./cmd/internal/clienttest/

.PHONY: test-browser
test-browser: ## open the report's page in a real browser (fetches one), and keep pictures of it
	go test -tags browser -count=1 -v -timeout 15m ./cmd/internal/browsertest/

.PHONY: mutants
mutants: ## break each promise on purpose and see that the tests notice (RUN=regexp, JOBS=n)
	@go run ./cmd/internal/mutants -run '$(RUN)' -j $(JOBS) -schedules $(SCHEDULES)

.PHONY: sim
sim: ## play 100,000 random schedules against the promises (SCHEDULES=n; CROSSFADE_SEED=n replays one)
ifdef CROSSFADE_SEED
	CROSSFADE_SEED=$(CROSSFADE_SEED) go test -count=1 -v -run '^TestReplay$$' ./cmd/internal/sim
else
	CROSSFADE_SCHEDULES=$(SCHEDULES) go test -count=1 -v -timeout 30m -run '^TestSchedules$$' ./cmd/internal/sim
endif

.PHONY: spec
spec: ## check the specification of switch, kill and failover in docs/spec, exhaustively within bounds, and each rule broken (RUN=regexp)
	@go run ./cmd/internal/spec -run '$(RUN)'

.PHONY: bench
bench: build ## measure against the opponents, side by side, and judge the targets, about 40 minutes (ONLY=names, QUICK=1)
	@bin/crossfade bench $(if $(ONLY),--only '$(ONLY)') $(if $(QUICK),--quick)

.PHONY: soak
soak: build ## run the unit pool on a durable MySQL, and check its promises under traffic (SOAK=length, DIALECT=mysql or mariadb)
	bin/crossfade soak --for $(SOAK) --dialect $(DIALECT)

.PHONY: contend
contend: build ## let buyers fight for the last units through four proxies, and check what is found (STAGE=live, DECISIONS=n, LOSE=1)
	bin/crossfade contend --stage $(STAGE) --decisions $(DECISIONS) $(if $(LOSE),--lose)

.PHONY: chaos
chaos: build ## switch and kill a pod of three proxies under load, with one thing broken after the other (SCENARIO=names, TRIALS=n)
	bin/crossfade chaos --trials $(TRIALS) $(if $(SCENARIO),--scenario '$(SCENARIO)')

.PHONY: verify
verify: verify-format verify-vet verify-lint verify-generated verify-house verify-modules ## all checks that read the code: format, vet, lint, arrows, links, generated code, modules
	@echo "verify: all is well"

.PHONY: verify-format
verify-format:
	@echo "verify: gofmt"
	@bad=$$(git ls-files -co --exclude-standard '*.go' | xargs gofmt -l); \
	if [ -n "$$bad" ]; then echo "gofmt would change these files; run gofmt -w on them:"; echo "$$bad"; exit 1; fi

.PHONY: verify-vet
verify-vet:
	@echo "verify: go vet"
	@go vet ./...
	@go vet -tags clients,browser ./cmd/internal/...

.PHONY: verify-lint
verify-lint: $(TOOLS)/golangci-lint
	@echo "verify: golangci-lint"
	@$(TOOLS)/golangci-lint run ./...

# Generated into a folder of its own and compared, so that a check never changes the tree.
.PHONY: verify-generated
verify-generated: $(TOOLS)/buf
	@echo "verify: the protobuf files are well-formed, and what is generated from them is fresh"
	@$(TOOLS)/buf lint
	@$(TOOLS)/buf format --diff --exit-code
	@rm -rf bin/.generated && $(TOOLS)/buf generate -o bin/.generated
	@diff -r bin/.generated/cmd/internal/admin/gen cmd/internal/admin/gen || { echo "generated code is stale; run 'make generate'"; exit 1; }
	@rm -rf bin/.generated

.PHONY: verify-house
verify-house:
	@echo "verify: import arrows, links, rules of the house"
	@go test -count=1 ./cmd/internal/house/...

# The tools' own module is not tidied: see docs/dependencies.md.
.PHONY: verify-modules
verify-modules:
	@echo "verify: go.mod and go.sum are tidy, and modules are what go.sum says"
	@go mod tidy -diff
	@go mod verify

.PHONY: lint-fix
lint-fix: $(TOOLS)/golangci-lint ## let the linters mend what they can
	$(TOOLS)/golangci-lint run --fix ./...

.PHONY: generate
generate: $(TOOLS)/buf ## write the code that comes from the .proto files
	$(TOOLS)/buf format -w
	$(TOOLS)/buf generate

.PHONY: tools
tools: $(TOOLS)/golangci-lint $(TOOLS)/buf ## build the pinned tools into bin/tools (some minutes, once)

# Built inside their own module, so that what they need is not in the proxy's go.mod.
$(TOOLS)/golangci-lint: tools/go.mod tools/go.sum
	@echo "building golangci-lint (a minute or two, once)" >&2
	@go -C tools build -o ../$@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	@touch $@

$(TOOLS)/buf: tools/go.mod tools/go.sum
	@echo "building buf (a minute or two, once)" >&2
	@go -C tools build -o ../$@ github.com/bufbuild/buf/cmd/buf
	@touch $@

.PHONY: clean
clean: ## remove what was built; running lab servers and fetched packages stay ('crossfade lab down' stops the servers)
	rm -rf bin
