#!/bin/sh
# Fills each of the Redis servers named as arguments, then asks them ten times a second what deploy/load.lua asks.
set -eu
for host in "$@"; do
  redis-cli -h "$host" eval \
    "for i = 1, 20000 do redis.call('SET', 'key:' .. i, string.rep('x', 64)) end return 0" 0 >/dev/null
  redis-cli -h "$host" -r -1 -i 0.1 eval "$(cat /load.lua)" 0 >/dev/null &
done
wait
