-- Purpose: a hold as it is.
-- KEYS     as the prelude
-- ARGV     as the prelude; [3] hold id
-- Returns  {open, the open hold}, {ended, the ended hold} or {unknown}
-- Atomic so that one that has expired is answered as such. Cost: two commands, 5 us.
if expire(clock(ARGV[2])) == DUE_MAX then return MORE end
local stands = redis.call('HMGET', HOLDS, 'h:' .. ARGV[3], 'e:' .. ARGV[3])
if stands[1] then return {'open', stands[1]} end
if stands[2] then return {'ended', stands[2]} end
return {'unknown'}
