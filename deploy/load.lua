-- Cache-aside clients in the server itself, 20 lookups a call: one of twenty asks for what nobody stores, a missed key
-- is written. Lua's generator starts the same for every call, therefore the seed.
local now = redis.call('TIME')
math.randomseed(now[1] % 1000 * 1000000 + now[2])
for i = 1, 19 do
  local key = 'key:' .. math.random(20000)
  if not redis.call('GET', key) then redis.call('SET', key, string.rep('x', 64)) end
end
redis.call('GET', 'absent:' .. now[2])
return 0
