-- Purpose: opens a hold if every one of its constraints has room.
-- KEYS     as the prelude; KEYS[7] the directory key of the hold's id, where that lies in the same partition
-- ARGV     as the prelude; [3] how the account was seen and [4] what was seen; [5] ledger id and [6] least ledger offset of
--          a trusted partition
--          [7] hold id; [8] digest of what was asked; [9] how long in ms; [10] session; [11] allocation;
--          [12] the packed hold up to when it expires, [13] and from there on; [14] how long in ms the directory key is kept
--          [15..] three for each constraint: name, room ('*' any, '-' none), wanted
-- Returns  {granted, ledger offset, expires ms, held after of each constraint...}
--          {moved, ledger offset, expires ms, the account, held after...}: granted as well, for there is room also beside the
--          account that stands, which is another than was seen: see `drifted`
--          {refused, ledger offset, which constraint, held of each...}: nothing changed
--          {same, ledger offset, the open hold, held of each...}, {ended, ledger offset, the ended hold, held of each...}
--          {conflict}: the id names another hold; {stale, ledger, offset, account}; {untrusted, ledger, offset, serving, beat}
-- Atomic because comparing the account, adding up what is held and holding must not be parted: two that ask at once
-- must not both get the last of it. The account's bytes stand for all that rooms were computed from.
-- Cost: some 8 commands on small values, 25 us.
local now = clock(ARGV[2])
local expired, first = expire(now)
if expired == DUE_MAX then return MORE end
local id, digest, account = ARGV[7], ARGV[8], nil
if KEYS[7] then
  local stored = redis.call('MGET', KEYS[2], KEYS[7])
  if stored[2] and stored[2] ~= NAME then return {'conflict'} end
  account = stored[1]
else
  account = redis.call('GET', KEYS[2])
end
local names, rooms, wanted, fields = {}, {}, {}, {'h:' .. id, 'e:' .. id}
for i = 15, #ARGV, 3 do
  local n = #names + 1
  names[n], rooms[n], wanted[n] = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  fields[n + 2] = 'c:' .. ARGV[i]
end
local stands, held = redis.call('HMGET', HOLDS, unpack(fields)), {}
for n = 1, #names do held[n] = stands[n + 2] or ZERO end
if stands[1] and cmsgpack.unpack(stands[1])[DIGEST] ~= digest then return {'conflict'} end
if stands[2] then
  local told = cmsgpack.unpack(stands[2])[3]
  if told ~= '' and told ~= digest then return {'conflict'} end
end
local offset, wrong = look(account, ARGV[3], ARGV[4], ARGV[5], ARGV[6])
if wrong and (wrong[1] ~= 'stale' or stands[1] or stands[2]) then return wrong end
if stands[1] then return answer({'same', offset, stands[1]}, held) end
if stands[2] then return answer({'ended', offset, stands[2]}, held) end
local which, after = refusing(held, rooms, wanted)
if wrong then
  local more = which == 0 and drifted(ARGV[3], ARGV[4], wrong[4], names, wanted)
  if not more or refusing(held, rooms, more) > 0 then return wrong end
  offset = wrong[3]
elseif which > 0 then
  return answer({'refused', offset, which}, held)
end
local expires = now + tonumber(ARGV[9])
write(id, ARGV[12] .. cmsgpack.pack(expires) .. ARGV[13], names, wanted, after, expires, first)
if ARGV[10] ~= '' or ARGV[11] ~= '' then link(id, ARGV[10], ARGV[11]) end
if KEYS[7] then redis.call('SET', KEYS[7], NAME, 'PX', ARGV[14]) end
return answer(wrong and {'moved', offset, expires, wrong[4]} or {'granted', offset, expires}, after)
