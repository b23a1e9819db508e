-- Purpose: opens a hold if every one of its constraints has room.
-- KEYS     as the prelude; KEYS[7] the directory key of the hold's id, where that lies in the same partition
-- ARGV     as the prelude; [3] account seen; [4] ledger id and [5] least ledger offset of a trusted partition
--          [6] hold id; [7] digest of what was asked; [8] how long in ms; [9] session; [10] allocation; [11] currency;
--          [12] body, JSON text; [13] how long in ms the directory key is kept
--          [14..] four for each constraint: name, meter (empty: money), room ('*' any, '-' none), wanted
-- Returns  {granted, ledger offset, expires ms, held after of each constraint...}
--          {moved, ledger offset, expires ms, the account, held after...}: granted as well, for there is room also beside the
--          account that stands, which is another than was seen: see `drifted`
--          {refused, ledger offset, which constraint, held of each...}: nothing changed
--          {same, ledger offset, the open hold, held of each...}, {ended, ledger offset, the ended hold, held of each...}
--          {conflict}: the id names another hold; {stale, ledger, offset, account}; {untrusted, ledger, offset, serving, beat}
-- Atomic because comparing the account, adding up what is held and holding must not be parted: two that ask at once
-- must not both get the last of it. The account's bytes stand for all that rooms were computed from.
-- Cost: some 15 commands on small values, 20-40 us.
local now = clock(ARGV[2])
if expire(now) == DUE_MAX then return MORE end
local id, digest = ARGV[6], ARGV[7]
if KEYS[7] then
  local customer = redis.call('GET', KEYS[7])
  if customer and customer ~= NAME then return {'conflict'} end
end
local names, meters, rooms, wanted, fields = {}, {}, {}, {}, {'h:' .. id, 'e:' .. id}
for i = 14, #ARGV, 4 do
  local n = #names + 1
  names[n], meters[n], rooms[n], wanted[n] = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  fields[n + 2] = 'c:' .. ARGV[i]
end
local stands, held = redis.call('HMGET', HOLDS, unpack(fields)), {}
for n = 1, #names do held[n] = stands[n + 2] or ZERO end
if stands[1] and cmsgpack.unpack(stands[1])[DIGEST] ~= digest then return {'conflict'} end
if stands[2] then
  local told = cmsgpack.unpack(stands[2])[3]
  if told ~= '' and told ~= digest then return {'conflict'} end
end
local wrong, offset = look(ARGV[3], ARGV[4], ARGV[5])
local moved
if wrong then
  if wrong[1] ~= 'stale' or stands[1] or stands[2] then return wrong end
  local more = drifted(ARGV[3], wrong[4], names, wanted)
  if not more or refusing(held, rooms, more) > 0 then return wrong end
  offset, moved = wrong[3], wrong[4]
else
  if stands[1] then return answer('same', offset, stands[1], held) end
  if stands[2] then return answer('ended', offset, stands[2], held) end
  local which = refusing(held, rooms, wanted)
  if which > 0 then return answer('refused', offset, which, held) end
end
local expires = now + tonumber(ARGV[8])
open(id, {digest, 1, expires, ARGV[9], ARGV[10], names, meters, wanted, '', ARGV[11], '', ARGV[12]}, held)
if KEYS[7] then redis.call('SET', KEYS[7], NAME, 'PX', ARGV[13]) end
for i = 1, #held do held[i] = plus(held[i], wanted[i]) end
if moved then return answer('moved', offset, expires, moved, held) end
return answer('granted', offset, expires, held)
