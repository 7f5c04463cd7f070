#!/usr/bin/env bash
# Takes the pictures of the README: the status page of a real demo in a storm, light and dark. Needs Chromium.
# The chart shows fifteen minutes, so the storm is one after the first quarter of an hour; SECONDS_BEFORE=n for less.
set -euo pipefail
cd "$(dirname "$0")/../.."
port=19737
page=http://127.0.0.1:$port/

cargo build --locked
folder=$(mktemp -d)
target/debug/cache-storm-exporter demo --seed 7 --listen "127.0.0.1:$port" 2>"$folder/log" &
exporter=$!
trap 'kill "$exporter"; wait "$exporter" || true; rm -rf "$folder"' EXIT

picture() { # FILE, and what else Chromium is told
  chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking \
    --disable-component-update --disable-sync --hide-scrollbars --user-data-dir="$folder/profile" \
    --window-size=1180,1000 "${@:2}" --screenshot="$PWD/docs/images/$1" "$page" 2>>"$folder/log"
}

echo "some minutes of history (SECONDS_BEFORE, 900), then the next storm of a whole cache"
sleep "${SECONDS_BEFORE:-900}"
severity() { curl -sf "${page}api/v1/report" | sed -n 's/.*"time":[0-9.]*,"severity":\([0-3]\).*/\1/p'; }
until [[ $(severity) == 0 ]]; do sleep 1; done
until [[ $(severity) == 3 ]]; do sleep 1; done
picture status-page-light.png
picture status-page-dark.png --blink-settings=preferredColorScheme=0
ls -l docs/images
