-- GIVEN_UP is the record of a call of counts.lua that had not come when its counts were tried again.
local GIVEN_UP = 'given up'

-- The outbox.

-- outbox tells what becomes of an entry: 'write', 'drop', or nil when the stage wants none. An
-- entry that moves the ledger is never dropped, nor one that says what became of an operation. In live, where
-- counts are not dropped either, Redis is not the truth.
local waiting
local function outbox(op, ledger)
  if not (ledger or op == REEMIT or STAGE == 'shadow') then return nil end
  waiting = waiting or call(OUT, 'XLEN', OUT)
  if waiting < OUTBOX_MAX or ledger then return 'write' end
  call(BOX, 'HGET', BOX, 'lost')
  return 'drop'
end

-- emit does it. It gives the entry's place ('' for none) and '1' when it was dropped.
local function emit(verdict, ...)
  if verdict == 'write' then
    waiting = waiting + 1
    return redis.call('XADD', OUT, '*', ...), '0'
  end
  if verdict == 'drop' then
    redis.call('HSET', BOX, 'lost', '1')
    redis.call('HINCRBY', BOX, 'dropped', '1')
    return '', '1'
  end
  return '', '0'
end

-- A level's entry has the taken sum only where that has moved, and what became of an operation:
-- "delta answer", or VOID.
local function emit_level(verdict, op, l, moved, opid, result)
  local v = '0 0 0 ' .. result
  if moved then v = table.concat({str(l.taken), str(l.te), str(l.tn), result}, ' ') end
  return emit(verdict, 'o', op, 'k', l.f, 'v', v, 'p', opid)
end
