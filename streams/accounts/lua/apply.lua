-- Purpose: sets account values and documents of one partition, ends holds and moves its position, only from the
-- expected position on. The prelude of admission stands in front.
-- KEYS[1]  the partition's position hash; KEYS[2] its mark of the journal of holds (read only); KEYS[3..n+2] keys of
--          accounts and documents of the same slot; then, where holds end: the partition's list of what is due, and for each customer its holds, their expiries, the ended ones.
-- ARGV[1]  ledger id; ARGV[2] expected ledger offset; ARGV[3] last part? ("1"/"0"; only the last one moves the position)
-- ARGV[4..8] position after: ledger offset, seq, usage offset, account offset, catalogue position (decimal text)
-- ARGV[9]  now in ms (the beat); ARGV[10] serving? ("1"/"0")
-- ARGV[11] how long in ms a value is kept that is kept for a while
-- ARGV[12] n; ARGV[13] b; then n values, one for each of KEYS[3..n+2]; then b places in KEYS of those that are kept for a
--          while; then for each customer its account key, how many of its holds are told of, and of each: id, state,
--          charged (30 digits), seq (30 digits), how many meters, and of each meter its id and quantity (30 digits).
-- Returns  {1} done; {2} this Redis has restarted since holds were last brought back, and may have lost some: it is not to
--          be said that it serves (nothing was written, or all but the position); {0, ledger id, offset, ...} the position that stands (ledger id false: none).
-- Atomic because comparing and writing must not be parted: a wiped or set back store is found before it is built on.
-- While the field `half` is set, a part of some accounts' new values stands beside the old position: proofs wait for its
-- end, whoever owns the partition writes all of them again.
-- Numbers are compared as text: no arithmetic on money here, so doubles cannot lie.
-- Cost: one MSET of at most the part's accounts, 20 us a hold, 10 us to look at the run; the caller bounds parts so that a call stays under 1 ms.
local stands = redis.call('HMGET', KEYS[1], 'ledger', 'offset', 'seq', 'usage', 'account', 'catalog')
local fresh = not stands[1] and ARGV[2] == '0'
if not fresh and (stands[1] ~= ARGV[1] or stands[2] ~= ARGV[2]) then
  return {0, stands[1], stands[2], stands[3], stands[4], stands[5], stands[6]}
end
if ARGV[3] == '1' and ARGV[10] == '1' then
  local run = redis.call('HGET', KEYS[2], 'run')
  if run and run ~= string.match(redis.call('INFO', 'server'), 'run_id:(%x+)') then return {2} end
end
local count, brief = tonumber(ARGV[12]), tonumber(ARGV[13])
if count > 0 then
  local pairs_to_set = {}
  for i = 1, count do
    pairs_to_set[2 * i - 1] = KEYS[i + 2]
    pairs_to_set[2 * i] = ARGV[i + 13]
  end
  redis.call('MSET', unpack(pairs_to_set))
  for i = count + 14, count + brief + 13 do
    redis.call('PEXPIRE', KEYS[tonumber(ARGV[i])], ARGV[11])
  end
end
local key, at = count + 3, count + brief + 14
if KEYS[key] then
  local now, _, settle = clock(''), ending()
  SWEEP = KEYS[key]
  while ARGV[at] do
    NAME, HOLDS, EXPIRY, FORGET = ARGV[at], KEYS[key + 1], KEYS[key + 2], KEYS[key + 3]
    local told = tonumber(ARGV[at + 1])
    key, at = key + 3, at + 2
    for _ = 1, told do
      local meters, used, many = {}, {}, tonumber(ARGV[at + 4])
      for i = 1, many do
        meters[i], used[i] = ARGV[at + 3 + 2 * i], ARGV[at + 4 + 2 * i]
      end
      settle(ARGV[at], ARGV[at + 1], ARGV[at + 2], ARGV[at + 3], meters, used, now)
      at = at + 5 + 2 * many
    end
  end
end
if ARGV[3] == '1' then
  redis.call('HSET', KEYS[1], 'ledger', ARGV[1], 'offset', ARGV[4], 'seq', ARGV[5], 'usage', ARGV[6],
             'account', ARGV[7], 'catalog', ARGV[8], 'beat', ARGV[9], 'serving', ARGV[10])
  redis.call('HDEL', KEYS[1], 'half')
else
  redis.call('HSET', KEYS[1], 'half', '1')
end
return {1}
