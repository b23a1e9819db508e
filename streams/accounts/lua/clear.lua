-- Purpose: forgets what a partition keeps of the ledger, so that its owner folds the ledger again.
-- KEYS[1] the partition's position hash; KEYS[2..n] keys of accounts and documents of the same slot.
-- ARGV[1] mark of whoever clears; ARGV[2] "begin", "more" or "end"; ARGV[3] until when, in ms, the others wait for it.
-- Returns 1 done; 0 another mark, or the owner again, stands there: whoever was away too long deletes nothing more.
-- Atomic because keys may be deleted only while nobody can read or write them: with the mark in the place of the ledger's
-- name every other script refuses. Cost: one UNLINK of at most the part's keys.
if ARGV[2] == 'begin' then
  local beat = redis.call('HGET', KEYS[1], 'beat') or '0'
  redis.call('DEL', KEYS[1])
  redis.call('HSET', KEYS[1], 'ledger', ARGV[1], 'offset', '-1', 'seq', '0', 'usage', '0', 'account', '0',
             'catalog', '0', 'serving', '0', 'beat', beat, 'until', ARGV[3])
  return 1
end
if redis.call('HGET', KEYS[1], 'ledger') ~= ARGV[1] then
  return 0
end
if ARGV[2] == 'end' then
  redis.call('DEL', KEYS[1])
  return 1
end
for i = 2, #KEYS do
  redis.call('UNLINK', KEYS[i])
end
redis.call('HSET', KEYS[1], 'until', ARGV[3])
return 1
