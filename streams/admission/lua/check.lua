-- Purpose: what open holds hold of some counters, beside the account that the caller computed with.
-- KEYS     as the prelude
-- ARGV     as the prelude; [3] account seen; [4] ledger id and [5] least ledger offset of a trusted partition
--          [6..] names of counters
-- Returns  {held, ledger offset, held of each...}; {stale, ledger, offset, account, held of each...}, an empty account
--          being none; or {untrusted, ledger, offset, serving, beat}
-- Atomic because account and holds change together when an entry of the ledger ends a hold: parted they would show money
-- twice or not at all.
-- Cost: four commands, 10 us.
if expire(clock(ARGV[2])) == DUE_MAX then return MORE end
local wrong, offset = look(ARGV[3], ARGV[4], ARGV[5])
if wrong and wrong[1] == 'untrusted' then return wrong end
local names = {}
for i = 6, #ARGV do names[i - 5] = ARGV[i] end
if wrong then return answer('stale', wrong[2], wrong[3], wrong[4], held_of(names)) end
return answer('held', offset, held_of(names))
