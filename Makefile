# The commands of the project. `make` lists them.
#
# What is expensive to make (the cluster's programs, ONNX Runtime, cargo-deny) is kept in $TIDEWRIGHT_CACHE, default ~/.cache/tidewright, and outlives a
# checkout. What the checks print is kept in target/test.

CARGO ?= cargo

.DEFAULT_GOAL := help
.PHONY: help demo test unit control-plane cluster conformance fuzz images crds lint bench bench-cluster bench-server bench-scaling soak chart deps fetch clean-cache

help: ## List the commands
	@echo "Tidewright: an operator that serves and scales ONNX models on Kubernetes"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Start a cluster, install the charts, serve a model, load it, watch it scale; KEEP=1 leaves the cluster up
	@# One build for all of them: built one by one, their common dependencies would have other features each time and be compiled three times.
	@start=$$(date +%s); e2e/make/environment.sh cluster && echo "── compile" && \
	$(CARGO) build --quiet --locked --release --bins -p tidewright-e2e -p tidewright-operator -p tidewright-server && \
	seconds=$$(($$(date +%s) - start)) && echo "── compile: $$seconds s" && \
	TIDEWRIGHT_COMPILE_SECONDS=$$seconds TIDEWRIGHT_BINARIES="$${CARGO_TARGET_DIR:-target}/release" \
		"$${CARGO_TARGET_DIR:-target}/release/tidewright-demo"

test: ## Everything that must hold before a change is taken, fast things first; prints the time of each part
	@e2e/make/test.sh all

unit: ## Unit, golden and property tests; no cluster
	@e2e/make/test.sh environment unit

control-plane: ## Tests against a real API server and controllers, without containers
	@e2e/make/test.sh environment control-plane

cluster: ## Tests on a whole cluster of one node, with real images, load and autoscaling
	@e2e/make/test.sh environment images cluster

conformance: ## Clients and test suites of others against the server: SUITES="tritonclient grpc kserve openapi h2spec onnx"; report in target/conformance
	@e2e/make/environment.sh
	@e2e/make/conformance.sh $(SUITES)

fuzz: ## The fuzz targets for longer than `make unit` runs them: RUNS=10000000 each, SEED=1
	@FUZZ_RUNS="$(or $(RUNS),10000000)" FUZZ_SEED="$(SEED)" $(CARGO) test --quiet --locked --release -p tidewright-server --test fuzz -- --nocapture

chart: ## Lint the charts and check what they render against the API server's own schemas
	@e2e/make/test.sh environment chart

lint: ## Formatting, clippy, dependencies
	@e2e/make/test.sh environment fmt clippy deny

images: ## Build the container images with buildah
	@e2e/make/test.sh environment images

bench: ## Measure the server against a bare HTTP echo, interleaved; prints ratios
	@e2e/make/environment.sh
	@$(CARGO) run --quiet --locked -p tidewright-e2e --release --bin tidewright-bench

bench-server: ## Measure the server beside an echo, ONNX Runtime alone, and five others: ROUNDS=3 SECONDS=3 ONLY=1,4 FLAGS=; in target/bench-server
	@e2e/make/environment.sh
	@$(CARGO) run --quiet --locked -p tidewright-e2e --release --bin tidewright-bench -- rows --rounds $(or $(ROUNDS),3) --seconds $(or $(SECONDS),3) \
		$(if $(ONLY),--only $(ONLY)) $(FLAGS)

bench-cluster: ## Measure the autoscaler on a cluster in a box: MINUTES=30 SEED=1 TRACES=folder ONLY=chaos,slices,reaction STEPS=20; in target/bench-cluster
	@e2e/make/environment.sh cluster
	@# One build for all of them, as for the demo.
	@$(CARGO) build --quiet --locked --release --bins -p tidewright-e2e -p tidewright-operator -p tidewright-server -p tidewright-sim
	@TIDEWRIGHT_BINARIES="$${CARGO_TARGET_DIR:-target}/release" "$${CARGO_TARGET_DIR:-target}/release/tidewright-bench" cluster \
		--minutes $(or $(MINUTES),30) --seed $(or $(SEED),1) --steps $(or $(STEPS),20) $(if $(TRACES),--traces "$(TRACES)") $(if $(ONLY),--only $(ONLY))

soak: ## The server under load for MINUTES=30 while models come and go: no request fails, nothing grows; target/soak
	@e2e/make/environment.sh
	@$(CARGO) run --quiet --locked -p tidewright-e2e --release --bin tidewright-bench -- soak --minutes $(or $(MINUTES),30)

bench-scaling: ## Compare scaling policies on recorded traces: TRACES=folder, SEEDS=3, SWEEP=1; table and plots in target/bench-scaling
	@e2e/make/bench-scaling.sh "$(TRACES)"

crds: ## Write crds/ and the CRD chart anew from the Rust types
	@UPDATE=1 $(CARGO) test --quiet --locked -p tidewright-api --test crds_are_current
	@UPDATE=1 $(CARGO) test --quiet --locked -p tidewright-e2e --test crd_chart_is_current

deps: ## Check the toolchains and install the missing Debian packages
	@e2e/make/environment.sh tests

fetch: deps ## Build or download everything that is cached, ahead of time
	@e2e/make/test.sh fetch
	@e2e/make/deny.sh fetch
	@inference-server/fetch-onnxruntime.sh

clean-cache: ## Remove the cache
	@e2e/make/clean-cache.sh
