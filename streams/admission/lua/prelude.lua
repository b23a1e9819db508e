-- What every script of admission begins with. It is put in front of each; nothing here runs by itself.
--
-- Keys of a customer, all with the partition's tag, in this order in every script:
-- KEYS[1]  the partition's position hash (read only: the worker writes it)
-- KEYS[2]  the customer's packed account (read only)
-- KEYS[3]  its holds, a hash: h:<hold> an open one, e:<hold> an ended one, c:<name> what open holds hold of a counter,
--          s:<session> and a:<allocation> the open holds made with it
-- KEYS[4]  its open holds by when they expire (ms);  KEYS[5]  its ended holds by when they are forgotten (ms)
-- KEYS[6]  of the partition: its customers by when the sweeper should look at them, never later than something is due
-- ARGV[1]  the customer's account key, its name in KEYS[6];  ARGV[2]  now in ms, empty: Redis's own clock
--
-- Amounts are 30 decimal digits of nanos or nano-units, added in two limbs of 15 digits: a double holds each exactly.
-- `settle` is called by the script that applies the ledger, the others by admission's own.
-- An open hold is a MessagePack array, see streams.admission.values.Hold; an ended one, see values.Ended.
local KEPT_MS = 86400000
local DUE_MAX = 200
-- The answer of any script of admission that has ended so many and done nothing else: to be called again, so that no
-- call takes long and no answer counts what has expired.
local MORE = {'more'}
-- Whose holds the functions below are about; a script about several customers sets them for each.
local HOLDS, EXPIRY, FORGET, SWEEP, NAME = KEYS[3], KEYS[4], KEYS[5], KEYS[6], ARGV[1]
local ZERO = string.rep('0', 30)
local LIMB = 1e15
-- Sums and differences of four amounts up to this are exact as doubles, 2^51.
local SURE = 2251799813685248
local DIGEST, GENERATION, EXPIRES, SESSION, ALLOCATION, NAMES, METERS, AMOUNTS, SEQ, CURRENCY, SETTLING, BODY =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12

local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Whether this Redis runs anew since its holds were last brought up to their journal; mark: see mark.lua.
local function restarted(mark)
  local run = redis.call('HGET', mark, 'run')
  return run and run ~= string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
end

local function plus(a, b)
  local low = tonumber(string.sub(a, 16)) + tonumber(string.sub(b, 16))
  local high = tonumber(string.sub(a, 1, 15)) + tonumber(string.sub(b, 1, 15))
  if low >= LIMB then low = low - LIMB; high = high + 1 end
  return string.format('%015.0f%015.0f', high, low)
end

-- Never below zero: what is given back was taken before.
local function minus(a, b)
  local low = tonumber(string.sub(a, 16)) - tonumber(string.sub(b, 16))
  local high = tonumber(string.sub(a, 1, 15)) - tonumber(string.sub(b, 1, 15))
  if low < 0 then low = low + LIMB; high = high - 1 end
  if high < 0 then return ZERO end
  return string.format('%015.0f%015.0f', high, low)
end

-- What open holds hold of these counters.
local function held_of(names)
  if #names == 0 then return {} end
  local fields = {}
  for i, name in ipairs(names) do fields[i] = 'c:' .. name end
  local held = redis.call('HMGET', HOLDS, unpack(fields))
  for i = 1, #names do held[i] = held[i] or ZERO end
  return held
end

local function give(names, amounts)
  local held = held_of(names)
  for i, name in ipairs(names) do
    local left = minus(held[i], amounts[i])
    if left == ZERO then redis.call('HDEL', HOLDS, 'c:' .. name) else redis.call('HSET', HOLDS, 'c:' .. name, left) end
  end
end

local function link(field, id)
  local raw = redis.call('HGET', HOLDS, field)
  local ids = raw and cmsgpack.unpack(raw) or {}
  ids[#ids + 1] = id
  redis.call('HSET', HOLDS, field, cmsgpack.pack(ids))
end

local function unlink(field, id)
  local raw = redis.call('HGET', HOLDS, field)
  if not raw then return end
  local left = {}
  for _, other in ipairs(cmsgpack.unpack(raw)) do
    if other ~= id then left[#left + 1] = other end
  end
  if #left == 0 then redis.call('HDEL', HOLDS, field) else redis.call('HSET', HOLDS, field, cmsgpack.pack(left)) end
end

-- Counts what is held beside what is held already; `told`, a list of fields and values, is written with it.
local function take(names, amounts, held, told)
  for i, name in ipairs(names) do
    if amounts[i] ~= ZERO then
      told[#told + 1] = 'c:' .. name
      told[#told + 1] = plus(held[i], amounts[i])
    end
  end
  if #told > 0 then redis.call('HSET', HOLDS, unpack(told)) end
end

-- Opens a hold beside what is held of its names: its value, its counters, its names.
local function open(id, hold, held)
  take(hold[NAMES], hold[AMOUNTS], held, {'h:' .. id, cmsgpack.pack(hold)})
  if hold[SESSION] ~= '' then link('s:' .. hold[SESSION], id) end
  if hold[ALLOCATION] ~= '' then link('a:' .. hold[ALLOCATION], id) end
  redis.call('ZADD', EXPIRY, hold[EXPIRES], id)
  redis.call('ZADD', SWEEP, 'LT', hold[EXPIRES], NAME)
end

-- Remembers that a hold has ended, for whoever asks and so that nothing brings it back.
local function bury(id, state, digest, charged, currency, generation, now)
  redis.call('HSET', HOLDS, 'e:' .. id, cmsgpack.pack({state, now, digest, charged, currency, generation}))
  redis.call('ZADD', FORGET, now + KEPT_MS, id)
  redis.call('ZADD', SWEEP, 'LT', now + KEPT_MS, NAME)
end

-- Ends an open hold: all it holds is given back. It can only be done once, for the open hold is gone then.
local function finish(id, hold, state, charged, now)
  give(hold[NAMES], hold[AMOUNTS])
  redis.call('HDEL', HOLDS, 'h:' .. id)
  if hold[SESSION] ~= '' then unlink('s:' .. hold[SESSION], id) end
  if hold[ALLOCATION] ~= '' then unlink('a:' .. hold[ALLOCATION], id) end
  redis.call('ZREM', EXPIRY, id)
  bury(id, state, hold[DIGEST], charged, hold[CURRENCY], hold[GENERATION], now)
end

-- What an entry of the ledger says of a hold: that it ended, or, with state `open`, that it was charged against. Applied
-- again it changes nothing. `seq` is the entry's, 30 digits; `meters` and `used` what it measured.
local function settle(id, state, charged, seq, meters, used, now)
  local stands = redis.call('HMGET', HOLDS, 'h:' .. id, 'e:' .. id)
  if not stands[1] then
    if not stands[2] and state ~= 'open' then bury(id, state, '', charged, '', 0, now) end
    return
  end
  local hold = cmsgpack.unpack(stands[1])
  if state ~= 'open' then finish(id, hold, state, charged, now) return end
  if hold[SEQ] >= seq then return end
  local by_meter = {[''] = charged}
  for i, meter in ipairs(meters) do by_meter[meter] = used[i] end
  for i, name in ipairs(hold[NAMES]) do
    local off = by_meter[hold[METERS][i]]
    if off then
      local left = minus(hold[AMOUNTS][i], off)
      give({name}, {minus(hold[AMOUNTS][i], left)})
      hold[AMOUNTS][i] = left
    end
  end
  hold[SEQ] = seq
  redis.call('HSET', HOLDS, 'h:' .. id, cmsgpack.pack(hold))
end

-- Ends what has expired, DUE_MAX at most; how many.
local function expire(now)
  local ids = redis.call('ZRANGEBYSCORE', EXPIRY, '-inf', now, 'LIMIT', 0, DUE_MAX)
  for _, id in ipairs(ids) do
    local raw = redis.call('HGET', HOLDS, 'h:' .. id)
    if raw then finish(id, cmsgpack.unpack(raw), 'expired', '', now) else redis.call('ZREM', EXPIRY, id) end
  end
  return #ids
end

-- Decimal texts without leading zeros.
local function below(a, b)
  return #a < #b or (#a == #b and a < b)
end

-- Whether the account is the one the caller saw, in a partition it trusts; else what to answer.
-- seen: '' none, '=' and its bytes, '#' and the SHA-1 of its bytes, '~' and its bytes as `drifted` takes them.
local function look(seen, ledger, floor)
  local stands = redis.call('HMGET', KEYS[1], 'ledger', 'offset', 'serving', 'beat')
  if stands[3] ~= '1' or stands[1] ~= ledger or below(stands[2], floor) then
    return {'untrusted', stands[1], stands[2], stands[3], stands[4]}
  end
  local account = redis.call('GET', KEYS[2])
  local how = string.sub(seen, 1, 1)
  local same
  if how == '' then same = not account
  elseif how == '=' then same = account and '=' .. account == seen
  elseif how == '~' then same = account and account == string.sub(seen, 6)
  else same = account and '#' .. redis.sha1hex(account) == seen end
  if not same then return {'stale', stands[1], stands[2], account or ''} end
  return nil, stands[2]
end

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

-- Where an account is another than the caller saw, but only for money that was charged and usage that was counted since,
-- as it is whenever a customer is at work: what is wanted of each name, and beside it what has gone of its room since.
-- Whatever fits so, fits. nil: something else is new (terms, a plan, a window, an allocation), or money is beyond SURE.
-- What has come since is not counted: where that is needed the caller is told, and asks again with what stands.
-- seen: '~', how many bytes plan, spans and terms are (4 digits), the bytes: see schemas.account.Account. They are compared
-- as they are, like all before the balance and behind `receivable`.
local function drifted(seen, account, names, wanted)
  if string.sub(seen, 1, 1) ~= '~' or account == '' then return nil end
  local saw, terms = string.sub(seen, 6), tonumber(string.sub(seen, 2, 5))
  local head = string.byte(saw) == 220 and 3 or 1
  local named = cmsgpack.unpack_limit(saw, 4, head)
  if string.sub(saw, 1, named) ~= string.sub(account, 1, named) then return nil end
  local at, balance, _, counters = cmsgpack.unpack_limit(saw, 3, named)
  local at_now, balance_now, _, counters_now = cmsgpack.unpack_limit(account, 3, named)
  if string.sub(saw, at + 1, at + terms) ~= string.sub(account, at_now + 1, at_now + terms) then return nil end
  local rest, owed = cmsgpack.unpack_one(saw, at + terms)
  local rest_now, owed_now = cmsgpack.unpack_one(account, at_now + terms)
  if string.sub(saw, rest + 1) ~= string.sub(account, rest_now + 1) then return nil end
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

-- The first constraint that does not hold, 0 if all do. room: '*' any, '-' none at all.
local function refusing(held, rooms, wanted)
  for i = 1, #held do
    local sum = plus(held[i], wanted[i])
    if #sum > 30 or rooms[i] == '-' or (rooms[i] ~= '*' and sum > rooms[i]) then return i end
  end
  return 0
end

local function answer(word, ...)
  local told = {word}
  for _, value in ipairs({...}) do
    if type(value) == 'table' then
      for _, one in ipairs(value) do told[#told + 1] = one end
    else
      told[#told + 1] = value
    end
  end
  return told
end
