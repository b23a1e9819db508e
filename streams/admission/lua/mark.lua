-- Purpose: how far the journal of holds is known to stand in this Redis, and in which run of it.
-- KEYS[1]  the partition's mark, a hash: offset, run
-- ARGV[1]  the run it must still be, empty: only look; ARGV[2] the offset up to which the journal stands here
-- Returns  {1 if the mark was set, offset or false, run of the mark or false, the run it is now}
-- Atomic because a Redis that restarts between looking and setting may have lost what the mark would vouch for. It keeps
-- writes in their order, so what came before a mark it kept is there.
-- Cost: one INFO of the server section, 30 us; every few seconds.
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local set = 0
if ARGV[1] ~= '' and ARGV[1] == run then
  redis.call('HSET', KEYS[1], 'offset', ARGV[2], 'run', run)
  set = 1
end
local stands = redis.call('HMGET', KEYS[1], 'offset', 'run')
return {set, stands[1], stands[2], run}
