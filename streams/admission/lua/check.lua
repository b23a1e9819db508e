-- Purpose: what open holds hold of some counters, beside the account that the caller computed with.
-- KEYS     as the prelude
-- ARGV     as the prelude; [3] how the account was seen and [4] what was seen; [5] ledger id and [6] least ledger offset of
--          a trusted partition; [7..] names of counters
-- Returns  {held, ledger offset, held of each...}; {stale, ledger, offset, account, held of each...}, an empty account
--          being none; or {untrusted, ledger, offset, serving, beat}
-- Atomic because account and holds change together when an entry of the ledger ends a hold: parted they would show money
-- twice or not at all.
-- Cost: five commands, 15 us.
if expire(clock(ARGV[2])) == DUE_MAX then return MORE end
local offset, wrong = look(redis.call('GET', KEYS[2]), ARGV[3], ARGV[4], ARGV[5], ARGV[6])
if wrong and wrong[1] == 'untrusted' then return wrong end
local names = {}
for i = 7, #ARGV do names[i - 6] = ARGV[i] end
return answer(wrong or {'held', offset}, held_of(names))
