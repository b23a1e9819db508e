-- Purpose: brings a hold back that Redis lost, as its journal tells it; never one that is known to have ended.
-- KEYS     as the prelude; KEYS[7] the directory key of the hold's id, where that lies in the same partition
-- ARGV     as the prelude; [3] hold id; [4] the open hold, packed; [5] how long in ms the directory key is kept
-- Returns  1 if it is open again, 0 if it is there, has ended or has expired
-- Atomic because it may end or be made again by its holder at the same time.
-- Cost: some 10 commands, 20 us.
local now = clock(ARGV[2])
local id = ARGV[3]
local stands = redis.call('HMGET', HOLDS, 'h:' .. id, 'e:' .. id)
local hold = cmsgpack.unpack(ARGV[4])
if stands[1] or stands[2] or hold[EXPIRES] <= now then return 0 end
open(id, hold)
if KEYS[7] then redis.call('SET', KEYS[7], NAME, 'PX', ARGV[5]) end
return 1
