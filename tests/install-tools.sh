#!/usr/bin/env bash
# Makes sure that the programs the tests start are there: redis-server, promtool (package prometheus) and amtool
# (package prometheus-alertmanager).
# Installs them by apt-get where that is possible; elsewhere says what is missing and fails.
set -euo pipefail

packages=()
command -v redis-server >/dev/null || packages+=(redis-server)
command -v promtool >/dev/null || packages+=(prometheus)
command -v amtool >/dev/null || packages+=(prometheus-alertmanager)
[[ ${#packages[@]} -eq 0 ]] && exit 0

sudo=()
if [[ $EUID -ne 0 ]]; then
  sudo=(sudo)
fi
if ! command -v apt-get >/dev/null || ! command -v "${sudo[0]:-true}" >/dev/null; then
  echo "The tests need redis-server, promtool and amtool; missing here: ${packages[*]}." >&2
  echo "Install them by your system's package manager and try again (promtool is part of Prometheus, amtool of Alertmanager)." >&2
  exit 1
fi

echo "installing ${packages[*]}"
# Only the programs are wanted: a policy that forbids starting keeps the packages' services off.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod +x "$policy"
  trap '"${sudo[@]}" rm -f "$policy"' EXIT
fi
"${sudo[@]}" apt-get update -qq
"${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}" >/dev/null
