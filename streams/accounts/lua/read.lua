-- Purpose: reads account values of one partition as they are at the expected position.
-- KEYS[1] the partition's position hash; KEYS[2..n] account keys of the same slot.
-- ARGV[1] ledger id; ARGV[2] expected ledger offset.
-- Returns {1, value or false, ...} in the order of the keys; {0, ledger id, offset, ...} the position that stands.
-- Atomic so that values of two positions are never mixed. Cost: one MGET of at most the part's accounts.
local stands = redis.call('HMGET', KEYS[1], 'ledger', 'offset', 'seq', 'usage', 'account', 'catalog')
local fresh = not stands[1] and ARGV[2] == '0'
if not fresh and (stands[1] ~= ARGV[1] or stands[2] ~= ARGV[2]) then
  return {0, stands[1], stands[2], stands[3], stands[4], stands[5], stands[6]}
end
local keys = {}
for i = 2, #KEYS do keys[i - 1] = KEYS[i] end
local values = redis.call('MGET', unpack(keys))
table.insert(values, 1, 1)
return values
