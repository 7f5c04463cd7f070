# `make` lists what there is.
.DEFAULT_GOAL := help
.PHONY: help compare demo run stack dashboards test test-rules test-newer test-slots lint bench soak bench-monitor month lab lab-smoke pager pictures audit fuzz

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## a simulated fleet with storms, no Redis needed: http://localhost:9736
	cargo run --locked -- demo

run: ## serve with defaults: redis://127.0.0.1:6379; CONFIG=file for your own
	cargo run --locked -- serve $(if $(CONFIG),--config $(CONFIG))

stack: ## Redis fleet, exporter, Prometheus, Alertmanager on this machine (ports: deploy/stack.sh)
	tests/install-tools.sh
	deploy/stack.sh

dashboards: ## renders dashboards/*.json anew
	DASHBOARDS_WRITE=1 cargo test --locked --quiet --test it -- --exact dashboards::files_are_what_is_rendered

test: ## every test; installs what they need on Debian and Ubuntu
	tests/install-tools.sh
	$(MAKE) --no-print-directory lab-smoke
	tests/run.sh

test-rules: ## alert rules and routes only, by promtool and amtool
	tests/install-tools.sh
	promtool check rules --lint=all alerts/*.yml
	promtool test rules alerts/tests/*.yml
	promtool check config deploy/prometheus/prometheus.yml
	amtool check-config deploy/alertmanager/alertmanager.yml

test-newer: ## the same by other versions: PROMTOOL=path AMTOOL=path; AMLINT=path for the routing tests, too
	$(PROMTOOL) check rules --lint=all alerts/*.yml
	$(PROMTOOL) test rules alerts/tests/*.yml
	$(PROMTOOL) check config deploy/prometheus/prometheus.yml
	$(AMTOOL) check-config deploy/alertmanager/alertmanager.yml
	$(if $(AMLINT),$(AMLINT) check --strict --rules 'alerts/*.yml' deploy/alertmanager/alertmanager.yml)
	$(if $(AMLINT),$(AMLINT) test deploy/alertmanager/alertmanager.yml deploy/alertmanager/routing_test.yml --fail-under 100)

compare: ## every series of /scrape beside redis_exporter's, on real servers: PEER=path of it; SERVER=path of another redis-server; DASHBOARDS=folder of dashboards (json) and rules (yml) whose expressions must find the same in both
	tests/install-tools.sh
	PEER=$(PEER) $(if $(SERVER),REDIS_SERVER=$(SERVER)) $(if $(DASHBOARDS),DASHBOARDS=$(abspath $(DASHBOARDS))) cargo test --locked --test it -- --ignored --nocapture --test-threads 1 dropin::

test-slots: ## which node of a cluster is sampled first: SERVER=path of a Redis from 8.2 or a Valkey from 8.0, of which Debian has none
	REDIS_SERVER=$(or $(SERVER),$(error SERVER=path is missing)) cargo test --locked --test it -- --ignored --exact live::hotkeys::the_node_with_the_hottest_slot_comes_first

lint: ## formatting, clippy and rustdoc, warnings denied
	cargo fmt --check
	cargo clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

bench: ## cost of polling, detection, reading captures, thousands of nodes; PEER=redis_exporter compares (a quarter of an hour)
	tests/install-tools.sh
	cargo bench --locked --profile month --bench poll_cost
	cargo bench --locked --profile month --bench detect
	cargo bench --locked --profile month --bench hotkeys
	cargo bench --locked --profile month --bench scale

soak: ## half an hour of 1,000 simulated nodes and faults that come and go (MINUTES=n)
	cargo bench --locked --profile month --bench scale -- soak

bench-monitor: ## what the sampler of hot keys costs a busy server (40 minutes; PAIRS=n SECONDS=n CLIENTS=n)
	tests/install-tools.sh
	cargo bench --locked --profile dev --bench monitor_cost

month: ## false alarms in a simulated month of 50 nodes (optimised build, minutes; SEED=n for another)
	cargo bench --locked --profile month --bench month

lab: ## every kind of storm on real servers, hours; resumes; writes docs/accuracy.md (benches/lab/main.rs: ONLY, SEED, RUNS, SCALE)
	tests/install-tools.sh
	cargo bench --locked --profile dev --bench lab

lab-smoke: ## five storms on real servers; fails on a wrong verdict
	tests/install-tools.sh
	cargo bench --locked --profile dev --bench lab -- smoke

pager: ## from storm to pager at the real pace, some eleven minutes (make test does it six times as fast)
	tests/install-tools.sh
	PAGER_SPEED=1 cargo test --locked --test it -- --exact --nocapture live::pager::each_storm_calls_its_team_once_and_again_at_its_limit

pictures: ## the README's pictures of the status page, from a demo in a storm (a quarter of an hour)
	docs/images/take.sh

audit: ## licences, advisories, duplicates; needs cargo-deny and the network
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install --locked cargo-deny"; exit 1; }
	cargo deny check

fuzz: ## ten minutes of hostile INFO; needs cargo-fuzz and a nightly toolchain
	@command -v cargo-fuzz >/dev/null || { echo "cargo-fuzz is missing: cargo install --locked cargo-fuzz"; exit 1; }
	cargo +nightly fuzz run info -- -max_total_time=600
