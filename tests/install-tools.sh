#!/usr/bin/env bash
# Makes sure that the programs the tests start are there: redis-server, prometheus and promtool (package prometheus),
# prometheus-alertmanager and amtool (package prometheus-alertmanager); gawk, which a bench compares with;
# docker-compose; chromium and chromedriver (package chromium-driver); python3 with Grafana's schema for dashboards;
# axe-core, which checks the status page; libfaketime and libnss-wrapper, by which one process alone is given another
# clock and other host names.
# Installs them by apt-get where that is possible; elsewhere says what is missing and fails. The schema is a package of
# PyPI and goes into the user's cache, tests/it/dashboards.rs knows where; axe-core goes under target/.
set -euo pipefail
cd "$(dirname "$0")/.."

# Whether all of these programs are there.
has() {
  local program
  for program in "$@"; do
    command -v "$program" >/dev/null || return 1
  done
}

# The newest of Grafana's schemas that the package carries: a plain install takes that of 10.1.
sdk='grafana-foundation-sdk==1769699379!11.6.0'
venv=${XDG_CACHE_HOME:-$HOME/.cache}/cache-storm-exporter/grafana-sdk-11.6

grafana_sdk() {
  [[ -e $venv/complete ]] && return
  echo "installing $sdk"
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "$sdk"
  touch "$venv/complete"
}

# axe-core (MPL-2.0) is used and not carried along: it comes out of a package that ships it.
axe_package=axe-playwright-python==0.1.8
axe_sha256=84494fec757e4710dc751c8d7a636e457f4532f08f85c86dc9070133fbff53bc

axe() {
  local folder
  [[ -s target/axe/axe.min.js ]] && return
  echo "fetching $axe_package"
  folder=$(mktemp -d)
  "$venv/bin/pip" download --quiet --disable-pip-version-check --no-deps --dest "$folder" "$axe_package"
  python3 -m zipfile -e "$folder"/*.whl "$folder"
  echo "$axe_sha256  $folder/axe_playwright_python/axe.min.js" | sha256sum --check --quiet
  mkdir -p target/axe
  mv "$folder/axe_playwright_python/axe.min.js" target/axe/
  rm -rf "$folder"
}

packages=()
has redis-server redis-cli || packages+=(redis-server)
has gawk || packages+=(gawk)
has prometheus promtool || packages+=(prometheus)
has prometheus-alertmanager amtool || packages+=(prometheus-alertmanager)
has docker-compose || packages+=(docker-compose)
has chromium chromedriver || packages+=(chromium chromium-driver)
compgen -G '/usr/lib/*/faketime/libfaketimeMT.so.1' >/dev/null || packages+=(libfaketime)
compgen -G '/usr/lib/*/libnss_wrapper.so' >/dev/null || packages+=(libnss-wrapper)
python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
if [[ ${#packages[@]} -eq 0 ]]; then
  grafana_sdk
  axe
  exit 0
fi

sudo=()
if [[ $EUID -ne 0 ]]; then
  sudo=(sudo)
fi
if ! command -v apt-get >/dev/null || ! command -v "${sudo[0]:-true}" >/dev/null; then
  echo "The tests need Redis, Prometheus and Alertmanager with their tools, docker-compose, Chromium with its driver, Python, libfaketime and nss_wrapper; missing here: ${packages[*]}." >&2
  echo "Install them by your system's package manager and try again (Debian calls alertmanager prometheus-alertmanager)." >&2
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
grafana_sdk
axe
