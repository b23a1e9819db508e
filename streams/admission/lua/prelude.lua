-- What every script of admission begins with. It is put in front of each; nothing here runs by itself.
-- A script makes its functions anew with every call, 0.2 us each: what few calls need is made within what they call.
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
local ZERO = '000000000000000000000000000000'
local LIMB = 1e15
local DIGEST, GENERATION, EXPIRES, SESSION, ALLOCATION, NAMES, METERS, AMOUNTS, SEQ, CURRENCY, SETTLING, BODY =
  1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12

local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
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

-- Writes an open hold as it is now with what is held of its names after it, and when it expires. `first`: when the first
-- of the customer's open holds does, where that is known; if that is sooner, the sweeper knows of it and comes soon enough.
local function write(id, raw, names, amounts, after, expires, first)
  local told = {'h:' .. id, raw}
  for i, name in ipairs(names) do
    if amounts[i] ~= ZERO then
      local many = #told
      told[many + 1], told[many + 2] = 'c:' .. name, after[i]
    end
  end
  redis.call('HSET', HOLDS, unpack(told))
  redis.call('ZADD', EXPIRY, expires, id)
  if not first or expires < tonumber(first) then redis.call('ZADD', SWEEP, 'LT', expires, NAME) end
end

-- Finds an open hold by its session and its allocation, where it has them.
local function link(id, session, allocation)
  for _, field in ipairs({session ~= '' and 's:' .. session, allocation ~= '' and 'a:' .. allocation}) do
    if field then
      local raw = redis.call('HGET', HOLDS, field)
      local ids = raw and cmsgpack.unpack(raw) or {}
      ids[#ids + 1] = id
      redis.call('HSET', HOLDS, field, cmsgpack.pack(ids))
    end
  end
end

-- What ends holds: `finish` and `settle`.
local function ending()
  local function unlink(field, id)
    local raw = redis.call('HGET', HOLDS, field)
    if not raw then return end
    local left = {}
    for _, other in ipairs(cmsgpack.unpack(raw)) do
      if other ~= id then left[#left + 1] = other end
    end
    if #left == 0 then redis.call('HDEL', HOLDS, field) else redis.call('HSET', HOLDS, field, cmsgpack.pack(left)) end
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

  return finish, settle
end

-- Ends what has expired, DUE_MAX at most; how many, and where nothing has, when the first open hold expires.
local function expire(now)
  local first = redis.call('ZRANGE', EXPIRY, 0, 0, 'WITHSCORES')[2]
  if not first or tonumber(first) > now then return 0, first end
  local ids, finish = redis.call('ZRANGEBYSCORE', EXPIRY, '-inf', now, 'LIMIT', 0, DUE_MAX), ending()
  for _, id in ipairs(ids) do
    local raw = redis.call('HGET', HOLDS, 'h:' .. id)
    if raw then finish(id, cmsgpack.unpack(raw), 'expired', '', now) else redis.call('ZREM', EXPIRY, id) end
  end
  return #ids
end
