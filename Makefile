# Everything is built and tested with Go and make alone. make help lists the targets.

VERSION := $(shell git describe --always --dirty --tags 2>/dev/null || echo devel)
BUILT   := $(shell git log -1 --format=%ct 2>/dev/null)
TOOLS   := $(or $(TOOLS_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/collectord-tools)/bin
export TEST_MINIO := $(or $(TEST_MINIO),$(TOOLS)/minio)
export TEST_VERSITYGW := $(or $(TEST_VERSITYGW),$(TOOLS)/versitygw)
export TEST_BAREFS := $(or $(TEST_BAREFS),$(TOOLS)/barefs)
export TEST_CADDY := $(or $(TEST_CADDY),$(TOOLS)/caddy)

SHELL         := bash
.SHELLFLAGS   := -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help build run test torture torture-proofs siege-v2 mutate mutate-http readers compaction compaction-spark api-test stores monitoring soak lint tools bench profile package package-test situations release image clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/collectord
	CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION) -X main.built=$(BUILT)' -o bin/collectord ./collectord

# The daemon's own line shows that it listens: another program may have the port.
define HINTS

Send a usage, from another terminal:

  curl -H 'Content-Type: application/json' -d '{"patientId":"100"}' http://localhost:3000/api/usages

Read it back from the archive, about three seconds later:

  bin/collectord cat --config packaging/run.yaml

endef
run: export HINTS := $(HINTS)
run: build ## start the daemon in the foreground, with its data in ./var
	@exec bin/collectord run --config packaging/run.yaml \
	  2> >(trap '' INT TERM; while IFS= read -r line; do echo "$$line"; [[ $$line != *'collectord is running'* ]] || echo "$$HINTS"; done >&2)

# Every failed call, and so many distinct crash states, of a log on a simulated disk.
SIMULATE := go test -timeout 60m -count 1 ./wal -run 'NoCrashLoses|NoFailedCallLoses' -v -simulate-every 1 -simulate-processes $(shell nproc)

test: export TEST_ALL := 1
test: tools ## run all tests, and all cases of each; the first time this builds a MinIO and a versitygw to test against
	go vet ./...
	go test -timeout 30m -count 1 ./... # go would spend a minute on what to keep of the log's tests, which open a million files
	cd packaging/parsers && go vet . && go test .
	cd packaging/monitoring && go vet . && go test .
	cd packaging/sbom && go vet . && go test .
	go test -timeout 30m -count 1 ./wal -run 'ItStartsWhatever|FailsDuringTheStart' -every-start -start-step 1
	$(SIMULATE) -simulate-states 100000
	go test -timeout 60m -race ./wal/... ./shipper/... ./collectord/usage ./collectord/auth/... ./collectord/http1 ./collectord/httpserver ./collectord/udpserver ./collectord/admin ./collectord/send

KILLS        := 200
PUT_KILLS    := 1000
SEGMENTS     := 10000
BACKLOG      := 5120
POWER_LOSSES := 50
UPLINK       := 1
STEPS        := 10000
STATES       := 1000000
RECORDED     := 10
FUZZ         := 60s
REQUESTS     := 300

TORTURE_LOG  := bin/torture.log
TORTURE_PAGE := docs/torture.md
SIEGE_LOG    := bin/siege-v2.log

torture: tools ## kill it, cut its power, fill and break its disk, many times (root; minutes); then write docs/torture.md
	@mkdir -p bin
	$(MAKE) --no-print-directory torture-proofs 2>&1 | tee $(TORTURE_LOG)
	@cat $(SIEGE_LOG) >>$(TORTURE_LOG) 2>/dev/null || true # of the last make siege-v2, if there was one
	go run ./packaging/torture $(TORTURE_LOG) >$(TORTURE_PAGE)

torture-proofs: export ALLOW_MISSING := $(ALLOW_MISSING)
torture-proofs:
	@packaging/tools/build $(TOOLS) proxies
	go test -timeout 4h -tags torture -count 1 -v ./collectord -run 'Killed|RepeatedUntil|PowerLoss|FullDisk|FailingCalls|LossyNetwork|Nginx|Proxies|ClosingConnection|Chromium|StandardClients|AuthenticationIsSetUp|DocumentedRequests|OwnerOfTheData|Backlog|EveryLimit|OneFamily|KeepAlive|SlowClients|StrangersHold|TenThousand|SlowUplink|Unreadable|WearsTheDisk|StartHangs|VersionBefore|FleetOf' \
	  -every-slowness -uplinkscale $(UPLINK) -kills $(KILLS) -putkills $(PUT_KILLS) -powerlosses $(POWER_LOSSES) -backlog $(BACKLOG) | grep -v 'level='
	go test -timeout 60m -tags torture -count 1 -v ./shipper/bucket -run 'CanNeitherLink|CanOnlyBeClaimed'
	go test -timeout 2h -count 1 -v ./shipper -run 'DoesEverythingWrong|ALiarLoses' -segments $(SEGMENTS) | grep -v 'level='
	go test -count 1 ./wal -run Model -steps $(STEPS) -v | grep -v 'level='
	$(SIMULATE) -simulate-states $(STATES) -simulate-seed 1000000 -simulate-recorded $(RECORDED)
	packaging/tools/fuzz ./wal FuzzDamagedSegment $(FUZZ)
	packaging/tools/fuzz ./wal/segment FuzzFrames $(FUZZ)
	packaging/tools/fuzz ./shipper/bucket FuzzKey $(FUZZ)
	for f in FuzzUsage FuzzSplit FuzzDatagram; do packaging/tools/fuzz ./collectord/usage $$f $(FUZZ) || exit 1; done
	packaging/tools/fuzz ./collectord/http1 FuzzRequests $(FUZZ)
	cd packaging/parsers && ../tools/fuzz . FuzzRequests $(FUZZ)
	packaging/tools/fuzz ./collectord/httpserver FuzzBody $(FUZZ)
	packaging/tools/fuzz ./collectord/origin FuzzRule $(FUZZ)
	packaging/tools/fuzz ./collectord/send FuzzResponse $(FUZZ)
	packaging/tools/fuzz ./collectord FuzzShipped $(FUZZ)

siege-v2: export ALLOW_MISSING := $(ALLOW_MISSING)
siege-v2: export TEST_VM := $(TOOLS)/vm
siege-v2: ## strangers fill the memory of a small cgroup of version 2, in a virtual machine (qemu; 15 minutes)
	@mkdir -p bin
	@packaging/tools/build $(TOOLS) vm
	go test -timeout 90m -tags torture -count 1 -v ./collectord -run 'CgroupOfVersion2' | grep -v 'level=' | tee $(SIEGE_LOG)

mutate: ## take out each sync, step and check of the log, one at a time, and see that the simulation notices (an hour)
	go run ./packaging/mutate

mutate-http: export TEST_ALL := 1
mutate-http: ## take out each check of framing, each replacement of state, each deadline and each step of the HTTP server, and see that a test notices (half an hour)
	go run ./packaging/mutate -target http

ENGINES := .

readers: export ALLOW_MISSING := $(ALLOW_MISSING)
readers: tools ## have DuckDB, ClickHouse, Spark and more (ENGINES: which) read what was shipped, and print what each makes of it (installs them; python3, java, mvn, npm, cargo)
	@ENGINES='$(ENGINES)' packaging/tools/build $(TOOLS) readers
	TEST_TOOLS=$(TOOLS) go test -timeout 60m -tags torture -count 1 -v ./collectord -run '(Readers|Notification|Fidelity)/each/($(ENGINES))' $(if $(UPDATE),-update-readers) | grep -v 'level='

COMPACT_KILLS := 30
COMPACT_RACES := 10
COMPACT_BYTES := 2147483648

compaction: export ALLOW_MISSING := $(ALLOW_MISSING)
compaction: tools ## kill, repeat and race the compaction of packaging/compact, and count each id (installs DuckDB and boto3; python3; minutes)
	@packaging/tools/build $(TOOLS) compact
	TEST_TOOLS=$(TOOLS) go test -timeout 60m -tags torture -count 1 -v ./collectord -run 'Compaction' -compactkills $(COMPACT_KILLS) -compactraces $(COMPACT_RACES) -compactbytes $(COMPACT_BYTES) | grep -v 'level='

SPARK_KILLS := 8
SPARK_RACES := 3
SPARK_HOSTS := 100
SPARK_HOURS := 24

compaction-spark: export ALLOW_MISSING := $(ALLOW_MISSING)
compaction-spark: tools ## compact objects into an Iceberg table with Spark; kill it, and run two at once (installs Spark; python3, java; half an hour)
	@packaging/tools/build $(TOOLS) spark
	TEST_TOOLS=$(TOOLS) go test -timeout 3h -tags torture -count 1 -v ./collectord -run 'SparkJobCompactsEach' -sparkkills $(SPARK_KILLS) -sparkraces $(SPARK_RACES) | grep -v 'level='
	TEST_TOOLS=$(TOOLS) go test -timeout 3h -tags torture -count 1 -v ./collectord -run 'SparkJobCompactsADay' -sparkhosts $(SPARK_HOSTS) -sparkhours $(SPARK_HOURS) | grep -v 'level='

api-test: export ALLOW_MISSING := $(ALLOW_MISSING)
api-test: tools ## make up requests by docs/openapi.yaml, and run the programs of docs/clients.md (installs schemathesis; python3, node, java)
	@packaging/tools/build $(TOOLS) api
	TEST_TOOLS=$(TOOLS) go test -timeout 30m -tags torture -count 1 -v ./collectord -run 'APIIsAsDocumented|ClientExamples' -requests $(REQUESTS) | grep -v 'level='

STORAGES      := .
STORAGE_KILLS := 6
STORAGE_CUTS  := 2s,35s,host
STORAGE_KEEP  := 5m
# A copy of a mount in another mount namespace would keep what a power cut is to take.
OWN_MOUNTS     = $(shell unshare --mount true 2>/dev/null && echo unshare --mount)

stores: export ALLOW_MISSING := $(ALLOW_MISSING)
stores: tools ## ask, kill and cut the power of the storages that people run (installs them; python3, cargo, root; half an hour), and print the tables of docs/storages.md
	@STORAGES='$(STORAGES)' packaging/tools/build $(TOOLS) storages
	TEST_TOOLS=$(TOOLS) go test -timeout 60m -tags torture -count 1 -v ./shipper/bucket -run 'StoragesConform/($(STORAGES))' | grep -v 'level='
	TEST_TOOLS=$(TOOLS) $(OWN_MOUNTS) go test -timeout 60m -tags torture -count 1 -parallel 64 -v ./collectord -run 'Storages/each/($(STORAGES))|WhatIsToBeSet|StolenHost|PolicyOfAHost|NginxThatIs' -storagekills $(STORAGE_KILLS) -storagecuts $(STORAGE_CUTS) -storagekeep $(STORAGE_KEEP) | grep -v 'level='

monitoring: export ALLOW_MISSING := $(ALLOW_MISSING)
monitoring: tools ## check alert rules and dashboard with promtool, and with a real Prometheus that scrapes a real daemon (root; minutes)
	@packaging/tools/build $(TOOLS) monitoring
	cd packaging/monitoring && go vet . && go test -count 1 .
	@if [ -x $(TOOLS)/promtool ]; then cd packaging/monitoring && $(TOOLS)/promtool check rules --lint=all --lint-fatal collectord.rules.yml && $(TOOLS)/promtool test rules collectord.rules.test.yml; else echo "without promtool: the rules are not tested" >&2; [ "$(ALLOW_MISSING)" = 1 ]; fi
	TEST_TOOLS=$(TOOLS) go test -timeout 20m -tags torture -count 1 -v ./collectord -run 'Monitoring|AlertsAre|PrometheusFires' | grep -v 'level='

LEDGER_FOR := 60s

soak: tools ## watch the ledger at every scrape, under load, faults and restarts, for LEDGER_FOR
	go test -timeout 60m -count 1 -v ./collectord -run TheLedgerBalances -ledger-for $(LEDGER_FOR) | grep -v 'level='

lint: tools ## run the linters
	$(TOOLS)/golangci-lint run --build-tags torture,packages ./...

tools: ## build the programs that tests and linters need, once, outside the tree
	@packaging/tools/build $(TOOLS)

bench: build ## measure beside what the machine can do, and print a table
	go run ./packaging/bench

profile: build ## record where time goes under load, for the compiler to optimize
	go run ./packaging/bench -profile collectord/default.pgo

package: ## build deb and rpm, for amd64 and arm64, and the binaries in them, into bin/packages
	@packaging/tools/build $(TOOLS) nfpm
	NFPM=$(TOOLS)/nfpm packaging/package bin/packages

release: ## build what is published of VERSION, a tag, into bin/release/VERSION: packages, binaries, bills of materials, changes, checksums
	@go run ./packaging/release check $(VERSION)
	@packaging/tools/build $(TOOLS) nfpm
	NFPM=$(TOOLS)/nfpm go run ./packaging/release build $(VERSION) bin/release

IMAGE := collectord

image: ## build a container image, with podman or docker
	VERSION=$(VERSION) packaging/image $(IMAGE):$(VERSION) $(IMAGE):latest

PROOFS := .

package-test: export ALLOW_MISSING := $(ALLOW_MISSING)
package-test: tools ## install the packages on a system of their own, use, upgrade and remove them, and run the image (root; minutes)
	@packaging/tools/build $(TOOLS) nfpm
	NFPM=$(TOOLS)/nfpm go test -timeout 60m -tags packages -count 1 -v ./packaging/test -run '$(PROOFS)'

SITUATIONS := .

situations: tools ## play an outage, a full disk, a wrong key and more through on a systemd with MinIO and Prometheus, and print what each place says (root; minutes)
	@packaging/tools/build $(TOOLS) nfpm
	@packaging/tools/build $(TOOLS) monitoring
	NFPM=$(TOOLS)/nfpm go test -timeout 30m -tags packages -count 1 -v ./packaging/test -run SituationsAreSeen -situations '$(SITUATIONS)'

clean: ## remove what make build and make run made
	rm -rf bin var
