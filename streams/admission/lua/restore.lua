-- Purpose: brings a hold back that Redis lost, or an extension of it, as its journal tells it; never one that is known to
-- have ended.
-- KEYS     as the prelude; KEYS[7] the directory key of the hold's id, where that lies in the same partition
-- ARGV     as the prelude; [3] hold id; [4] the open hold, packed; [5] how long in ms the directory key is kept
-- Returns  1 if it is open again as told, 0 if it is there in this generation or a later one, has ended or has expired
-- Atomic because it may end or be made again by its holder at the same time.
-- Cost: some 10 commands, 20 us.
local now = clock(ARGV[2])
local id = ARGV[3]
local stands = redis.call('HMGET', HOLDS, 'h:' .. id, 'e:' .. id)
local hold = cmsgpack.unpack(ARGV[4])
if stands[2] or hold[EXPIRES] <= now then return 0 end
if stands[1] then
  local known = cmsgpack.unpack(stands[1])
  if known[GENERATION] >= hold[GENERATION] or known[SETTLING] ~= '' then return 0 end
  -- What was charged against it since is known here alone.
  if known[SEQ] ~= hold[SEQ] then
    hold[NAMES], hold[METERS], hold[AMOUNTS], hold[SEQ] = known[NAMES], known[METERS], known[AMOUNTS], known[SEQ]
  end
  give(known[NAMES], known[AMOUNTS])
else
  link(id, hold[SESSION], hold[ALLOCATION])
  if KEYS[7] then redis.call('SET', KEYS[7], NAME, 'PX', ARGV[5]) end
end
local after = held_of(hold[NAMES])
for i, amount in ipairs(hold[AMOUNTS]) do after[i] = plus(after[i], amount) end
write(id, cmsgpack.pack(hold), hold[NAMES], hold[AMOUNTS], after, hold[EXPIRES])
return 1
