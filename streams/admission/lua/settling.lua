-- Purpose: says of an open hold that its settlement is on its way through the log, and shrinks it to what that charges.
-- KEYS     as the prelude
-- ARGV     as the prelude; [3] hold id; [4] digest of the settlement, empty: it came to nothing
--          [5] money it charges, 30 digits, empty: not known; [6] how long in ms the hold stays at least, for the settlement to arrive
-- Returns  {settling, the open hold, 1 if it is this settlement}; {ended, the ended hold}; {unknown}
-- Atomic because of two settlements at once one must be the first. What it holds is given back when the ledger entry is
-- applied, in that same step: in no moment does the money look free.
-- Cost: some 6 commands, 15 us.
local now = clock(ARGV[2])
if expire(now) == DUE_MAX then return MORE end
local id = ARGV[3]
local stands = redis.call('HMGET', HOLDS, 'h:' .. id, 'e:' .. id)
if not stands[1] then
  if stands[2] then return {'ended', stands[2]} end
  return {'unknown'}
end
local hold = cmsgpack.unpack(stands[1])
if hold[SETTLING] ~= '' and ARGV[4] ~= '' then return {'settling', stands[1], hold[SETTLING] == ARGV[4] and 1 or 0} end
hold[SETTLING] = ARGV[4]
hold[EXPIRES] = math.max(hold[EXPIRES], now + tonumber(ARGV[6]))
if ARGV[5] ~= '' then
  for i, name in ipairs(hold[NAMES]) do
    if name == 'money' and ARGV[5] < hold[AMOUNTS][i] then
      give({name}, {minus(hold[AMOUNTS][i], ARGV[5])})
      hold[AMOUNTS][i] = ARGV[5]
    end
  end
end
local raw = cmsgpack.pack(hold)
redis.call('HSET', HOLDS, 'h:' .. id, raw)
redis.call('ZADD', EXPIRY, hold[EXPIRES], id)
return {'settling', raw, 1}
