#!/usr/bin/env bash
# Every test. cargo-nextest gives each test its own process and keeps those that start servers apart
# (.config/nextest.toml); without it cargo's own runner does the same, one test at a time.
set -euo pipefail

if command -v cargo-nextest >/dev/null; then
  cargo nextest run --locked --no-fail-fast
else
  cargo test --locked --no-fail-fast --lib --bins
  cargo test --locked --no-fail-fast --test it -- --test-threads=1
fi
