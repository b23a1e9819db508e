-- Purpose: gives an open hold more time, and more to hold if every constraint has room for it.
-- KEYS     as the prelude
-- ARGV     as the prelude; [3] how the account was seen and [4] what was seen; [5] ledger id and [6] least ledger offset of
--          a trusted partition
--          [7] hold id; [8] generation it must have, empty: any; [9] how long in ms from now on
--          [10..] four for each constraint: name, meter (empty: money), room ('*' any, '-' none), wanted besides
-- Returns  {extended, ledger offset, the hold after, held after of each constraint...}; its generation is one more
--          {moved, ledger offset, the hold after, the account, held after...}: extended as well, see reserve
--          {refused, ledger offset, which constraint, held of each...}: nothing changed, not even its time
--          {ended, the ended hold}, {unknown}, {conflict, the open hold}: another generation, or it is being settled
--          {stale, ...}, {untrusted, ...} as reserve
-- Atomic for the same reason as reserve. An expiry never moves to before where it was: a stream that renews is not swept.
-- Cost: as reserve.
local now = clock(ARGV[2])
local expired, first = expire(now)
if expired == DUE_MAX then return MORE end
local id = ARGV[7]
local stands = redis.call('HMGET', HOLDS, 'h:' .. id, 'e:' .. id)
if not stands[1] then
  if stands[2] then return {'ended', stands[2]} end
  return {'unknown'}
end
local hold = cmsgpack.unpack(stands[1])
if hold[SETTLING] ~= '' or (ARGV[8] ~= '' and tonumber(ARGV[8]) ~= hold[GENERATION]) then
  return {'conflict', stands[1]}
end
local offset, wrong = look(redis.call('GET', KEYS[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6])
if wrong and wrong[1] ~= 'stale' then return wrong end
local names, rooms, wanted, meters = {}, {}, {}, {}
for i = 10, #ARGV, 4 do
  local n = #names + 1
  names[n], meters[n], rooms[n], wanted[n] = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
end
local held = held_of(names)
local which, after = refusing(held, rooms, wanted)
if wrong then
  local more = which == 0 and drifted(ARGV[3], ARGV[4], wrong[4], names, wanted)
  if not more or refusing(held, rooms, more) > 0 then return wrong end
  offset = wrong[3]
elseif which > 0 then
  return answer({'refused', offset, which}, held)
end
local place = {}
for i, name in ipairs(hold[NAMES]) do place[name] = i end
for i, name in ipairs(names) do
  local at = place[name]
  if at then
    hold[AMOUNTS][at] = plus(hold[AMOUNTS][at], wanted[i])
  else
    at = #hold[NAMES] + 1
    hold[NAMES][at], hold[METERS][at], hold[AMOUNTS][at] = name, meters[i], wanted[i]
    place[name] = at
  end
end
hold[GENERATION] = hold[GENERATION] + 1
hold[EXPIRES] = math.max(hold[EXPIRES], now + tonumber(ARGV[9]))
local raw = cmsgpack.pack(hold)
write(id, raw, names, wanted, after, hold[EXPIRES], first)
return answer(wrong and {'moved', offset, raw, wrong[4]} or {'extended', offset, raw}, after)
