-- What the scripts begin with, behind the prelude, that ask beside an account: it has to be the one the caller saw.
-- Sums and differences of four amounts up to this are exact as doubles, 2^51.
local SURE = 2251799813685248

-- Whether an account is the one the caller saw, in a partition it trusts: the ledger's offset; else what to answer.
-- how: '' none was seen, '=' `seen` is its bytes, '#' it is the SHA-1 of its bytes, digits: its bytes as `drifted` takes them.
local function look(account, how, seen, ledger, floor)
  local stands = redis.call('HMGET', KEYS[1], 'ledger', 'offset', 'serving')
  local offset = stands[2]
  -- Offsets are decimal texts without leading zeros.
  if stands[3] ~= '1' or stands[1] ~= ledger or #offset < #floor or (#offset == #floor and offset < floor) then
    return nil, {'untrusted', stands[1], offset, stands[3], redis.call('HGET', KEYS[1], 'beat')}
  end
  local stood = account
  if how == '' then seen = false
  elseif how == '#' then stood = account and redis.sha1hex(account) end
  if stood ~= seen then return nil, {'stale', stands[1], offset, account or ''} end
  return offset
end

-- Where an account is another than the caller saw, but only for money that was charged and usage that was counted since,
-- as it is whenever a customer is at work: what is wanted of each name, and beside it what has gone of its room since.
-- Whatever fits so, fits. nil: something else is new (terms, a plan, a window, an allocation), or money is beyond SURE.
-- What has come since is not counted: where that is needed the caller is told, and asks again with what stands.
-- how: how many bytes plan, spans and terms are of what was seen, see schemas.account.Account. They are compared as they
-- are, like all before the balance and behind `receivable`.
local function drifted(how, seen, account, names, wanted)
  local terms = tonumber(how)
  if not terms or account == '' then return nil end
  -- How much a counter of a quota has counted since, 30 digits, 0 where it has given back; nil: its window is another one.
  -- Its state is text, as rating.quotas has it: start|quantity, or start|quantity|carried over.
  local function counted_since(before, after)
    if before == after then return ZERO end
    if type(after) ~= 'string' or (before and type(before) ~= 'string') then return nil end
    local start, quantity, carried = string.match(after, '^(%d+)|(%d+)(.*)$')
    if not start then return nil end
    local was, had, had_carried = start, '0', carried
    if before then was, had, had_carried = string.match(before, '^(%d+)|(%d+)(.*)$')
    elseif carried ~= '' and carried ~= '|0' then return nil end
    if was ~= start or had_carried ~= carried or #quantity > 30 or #had > 30 then return nil end
    return minus(string.rep('0', 30 - #quantity) .. quantity, string.rep('0', 30 - #had) .. had)
  end
  local head = string.byte(seen) == 220 and 3 or 1
  local named = cmsgpack.unpack_limit(seen, 4, head)
  if string.sub(seen, 1, named) ~= string.sub(account, 1, named) then return nil end
  local at, balance, _, counters = cmsgpack.unpack_limit(seen, 3, named)
  local at_now, balance_now, _, counters_now = cmsgpack.unpack_limit(account, 3, named)
  if string.sub(seen, at + 1, at + terms) ~= string.sub(account, at_now + 1, at_now + terms) then return nil end
  local rest, owed = cmsgpack.unpack_one(seen, at + terms)
  local rest_now, owed_now = cmsgpack.unpack_one(account, at_now + terms)
  if string.sub(seen, rest + 1) ~= string.sub(account, rest_now + 1) then return nil end
  for _, money in ipairs({balance, balance_now, owed, owed_now}) do
    if math.abs(money) > SURE then return nil end
  end
  local more = {}
  for i, name in ipairs(names) do
    local gone
    if name == 'money' then
      gone = string.format('%030.0f', math.max(balance - balance_now, 0) + math.max(owed_now - owed, 0))
    else
      gone = counted_since(counters[name], counters_now[name])
    end
    if not gone then return nil end
    more[i] = plus(wanted[i], gone)
  end
  return more
end

-- The first constraint that does not hold, 0 if all do, and what is held of each then. room: '*' any, '-' none at all.
local function refusing(held, rooms, wanted)
  local after = {}
  for i = 1, #held do
    local sum, room = plus(held[i], wanted[i]), rooms[i]
    if #sum > 30 or room == '-' or (room ~= '*' and sum > room) then return i end
    after[i] = sum
  end
  return 0, after
end

-- An answer with a list behind it.
local function answer(told, list)
  local many = #told
  for i = 1, #list do told[many + i] = list[i] end
  return told
end
