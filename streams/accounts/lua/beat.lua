-- Purpose: says that a partition's values stand where its owner left them, while the owner cannot go on.
-- KEYS[1] the partition's position hash; KEYS[2] its mark of the journal of holds (read only).
-- ARGV[1] ledger id; ARGV[2] the ledger offset it was left at; ARGV[3] now in ms (the beat).
-- Returns 1 done; 0 another position stands, a part of some values, what nobody serves, or what a Redis has kept that has
--         restarted since and may have lost holds: nothing is said.
-- Atomic because comparing and saying must not be parted: another owner may take over at any moment. Cost: four commands.
local stands = redis.call('HMGET', KEYS[1], 'ledger', 'offset', 'serving', 'half')
if stands[1] ~= ARGV[1] or stands[2] ~= ARGV[2] or stands[3] ~= '1' or stands[4] then
  return 0
end
local run = redis.call('HGET', KEYS[2], 'run')
if run and run ~= string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') then return 0 end
redis.call('HSET', KEYS[1], 'beat', ARGV[3])
return 1
