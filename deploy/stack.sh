#!/usr/bin/env bash
# Everything on this machine, from the distribution's packages: two small Redis caches under a light load, the exporter,
# Prometheus with the alert rules, Alertmanager with the routes. Ctrl-C stops what it started; nothing is left behind.
#
# Ports by environment: REDIS_PORT (the first of five), EXPORTER_PORT, PROMETHEUS_PORT, ALERTMANAGER_PORT.
set -euo pipefail
cd "$(dirname "$0")/.."

redis_port=${REDIS_PORT:-16379}
exporter_port=${EXPORTER_PORT:-9736}
prometheus_port=${PROMETHEUS_PORT:-9090}
alertmanager_port=${ALERTMANAGER_PORT:-9093}
# sessions: three masters; catalog: a master and its replica.
sessions=("$redis_port" "$((redis_port + 1))" "$((redis_port + 2))")
catalog=("$((redis_port + 3))" "$((redis_port + 4))")

# Cache-aside clients.
load=$(cat deploy/load.lua)
fill="for i = 1, 20000 do redis.call('SET', 'key:' .. i, string.rep('x', 64)) end return 0"

answers() {
  (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null
}

for port in "${sessions[@]}" "${catalog[@]}" "$exporter_port" "$prometheus_port" "$alertmanager_port"; do
  # Another program's Redis must not be filled with our keys.
  if answers "$port"; then
    echo "port $port is taken; choose others, such as REDIS_PORT=26379 PROMETHEUS_PORT=19090 make stack" >&2
    exit 1
  fi
done
cargo build --locked

dir=$(mktemp -d)
pids=()

stop() {
  # Some may have ended already.
  kill "${pids[@]}" 2>/dev/null || true
  wait
  rm -rf "$dir"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

start() {
  local name=$1
  shift
  "$@" >"$dir/$name.log" 2>&1 &
  pids+=($!)
}

# Fails with the last words of whatever ended instead of listening.
await() {
  local name=$1 port=$2 deadline=$((SECONDS + 30))
  until answers "$port"; do
    if ((SECONDS > deadline)); then
      echo "$name does not listen on port $port:" >&2
      tail -n 5 "$dir/$name.log" >&2
      exit 1
    fi
    sleep 0.1
  done
}

redis() {
  local port=$1
  shift
  mkdir "$dir/$port"
  start "redis-$port" redis-server --port "$port" --bind 127.0.0.1 --dir "$dir/$port" --save "" "$@"
  await "redis-$port" "$port"
}

for port in "${sessions[@]}" "${catalog[0]}"; do
  redis "$port" --maxmemory 64mb --maxmemory-policy allkeys-lru
  redis-cli -p "$port" eval "$fill" 0 >/dev/null
  start "load-$port" redis-cli -p "$port" -r -1 -i 0.1 eval "$load" 0
done
redis "${catalog[1]}" --replicaof 127.0.0.1 "${catalog[0]}"

urls() {
  local list
  list=$(printf 'redis://127.0.0.1:%s, ' "$@")
  echo "[${list%, }]"
}
cat >"$dir/exporter.yaml" <<YAML
listen: 127.0.0.1:$exporter_port
caches:
  - {name: sessions, nodes: $(urls "${sessions[@]}")}
  - {name: catalog, nodes: $(urls "${catalog[@]}")}
YAML
# On Unix cargo becomes the program it runs: the process to stop is the exporter.
watchers=()
start exporter cargo run --locked --quiet -- serve --config "$dir/exporter.yaml"
watchers+=($!)

sed -e "s|\.\./\.\./alerts|$PWD/alerts|" -e "s|127.0.0.1:9093|127.0.0.1:$alertmanager_port|" \
  -e "s|127.0.0.1:9736|127.0.0.1:$exporter_port|" -e "s|127.0.0.1:9090|127.0.0.1:$prometheus_port|" \
  deploy/prometheus/prometheus.yml >"$dir/prometheus.yml"
start prometheus prometheus --config.file="$dir/prometheus.yml" --storage.tsdb.path="$dir/prometheus" \
  --storage.tsdb.retention.time=45d --web.listen-address="127.0.0.1:$prometheus_port"
watchers+=($!)
# No cluster: one Alertmanager has nobody to gossip with.
start alertmanager prometheus-alertmanager --config.file=deploy/alertmanager/alertmanager.yml \
  --storage.path="$dir/alertmanager" --cluster.listen-address= --web.listen-address="127.0.0.1:$alertmanager_port"
watchers+=($!)
await exporter "$exporter_port"
await prometheus "$prometheus_port"
await alertmanager "$alertmanager_port"

cat <<TEXT

exporter      http://127.0.0.1:$exporter_port
Prometheus    http://127.0.0.1:$prometheus_port/alerts
Alertmanager  http://127.0.0.1:$alertmanager_port
Redis         sessions ${sessions[*]}, catalog ${catalog[*]} (logs: $dir)

A storm, after a minute and a half of quiet:
  for port in ${sessions[*]}; do redis-cli -p \$port flushall; done
Ctrl-C stops everything.
TEXT

# A Redis that is shut down by hand is a storm to watch; without one of these there is nothing to see.
wait -n "${watchers[@]}" || true
echo "one of the exporter, Prometheus and Alertmanager ended; their last words:" >&2
tail -n 3 "$dir"/{exporter,prometheus,alertmanager}.log >&2
false
