-- Purpose: ends an open hold, once: all it holds is free again.
-- KEYS     as the prelude
-- ARGV     as the prelude; [3] hold id; [4] state: released or expired
-- Returns  {ended, the ended hold, 1 if this call ended it}, {settling, the open hold}: a settlement is on its way
--          and will end it; {unknown}
-- Atomic because of two that end it at once one must find it ended.
-- Cost: some 10 commands, 20 us.
local now = clock(ARGV[2])
if expire(now) == DUE_MAX then return MORE end
local id = ARGV[3]
local stands = redis.call('HMGET', HOLDS, 'h:' .. id, 'e:' .. id)
if stands[1] then
  local hold = cmsgpack.unpack(stands[1])
  if hold[SETTLING] ~= '' then return {'settling', stands[1]} end
  local finish = ending()
  finish(id, hold, ARGV[4], '', now)
  return {'ended', redis.call('HGET', HOLDS, 'e:' .. id), 1}
end
if stands[2] then return {'ended', stands[2], 0} end
return {'unknown'}
