-- stock, a restock or a count: 1 operation id, 2 level, 3 'add', 'onhand', 'sellable' or 'count', 4 amount,
-- 5 the call in which it was sent before, to which there was no answer ('' for none).

-- in_call finds what a call of counts.lua has answered to an operation id. A call that has not come
-- yet shall do nothing any more: it does not look for operation ids.
local function in_call(name, opid)
  local key = PREFIX .. 'call:' .. name
  local v = call(key, 'SET', key, GIVEN_UP, 'NX', 'GET', 'PX', TAKE_RETAIN)
  if not v or v == GIVEN_UP then return nil end
  local ids, answers = v:match('^([^\n]*)\n(.*)$')
  if not ids then damaged(key, 'is not a call') end
  local answer = answers:gmatch('[^\2]+')
  for id in ids:gmatch('[^\1]+') do
    local a = answer()
    -- What was refused there was not done.
    if id == opid then return a and a:match('^%-?%d+') end
  end
end
local function weigh_stock(l, kind, amount)
  parsed(level(l.f))
  local taken, delta = 0, amount
  if kind == 'onhand' then delta = amount - l.onhand end
  if kind == 'sellable' then delta = amount - l.sell end
  if kind == 'count' then
    taken = -amount
    if amount > 0 then taken = -math.min(amount, math.max(0, l.taken)) end
    delta = amount + taken
  end
  -- A restock is bounded by what is on hand alone.
  local beyond = math.abs(l.onhand + delta) > MAX_ON_HAND and l.onhand + delta
  if kind == 'count' and not beyond then
    if math.abs(l.taken + taken) > MAX_ON_HAND then
      beyond = l.taken + taken
    elseif math.abs(l.sell + delta - taken) > MAX_ON_HAND then
      beyond = l.sell + delta - taken
    end
  end
  if beyond then stop('XFRANGE ' .. str(beyond)) end
  plan(l, delta - taken, delta, 0, taken)
  settle()
  return taken, delta, outbox(kind == 'count' and '7' or '6', delta ~= 0)
end

-- known_op is the verdict under an operation id that is there.
local function known_op(known, opid, place_of, kind)
  drop()
  if known.void then stop('XFVOID a kill voided the operation') end
  if kind == 'count' then return says('replayed', known.value) end
  -- What this store has of the operation is written once more, for the other store to agree.
  local l = parsed(place(place_of))
  local verdict = outbox(REEMIT, true) -- no backfill would bring it
  if not l.known then
    plan(l, 0, 0, 0, 0)
    settle()
    commit()
  end
  local seq, dropped = emit_level(verdict, REEMIT, l, false, opid, str(known.delta) .. ' 0')
  return says('replayed', known.value, seq, dropped, '0', '0', '0', str(known.delta))
end

function MEMBERS.stock(a)
  local opid, kind, amount = ARGV[a], ARGV[a + 2], tonumber(ARGV[a + 3])
  local key = PREFIX .. 'op:' .. opid
  local before = ARGV[a + 4] ~= '' and in_call(ARGV[a + 4], opid)
  if before then return says('replayed', before) end
  local l = levels[PLACES[tonumber(ARGV[a + 1])]]
  local ok, taken, delta, verdict = pcall(weigh_stock, l, kind, amount)
  if not ok then
    local known = read_op(key)
    if known then return known_op(known, opid, ARGV[a + 1], kind) end
    error(taken, 0)
  end
  local value = str(l.sell + l.ps)
  local result = str(delta) .. ' ' .. (kind == 'count' and value or '0')
  -- The one command that finds the operation or writes it.
  local known = call(key, 'SET', key, result, 'NX', 'GET', 'PX', delta ~= 0 and RETAIN or TAKE_RETAIN)
  if known then return known_op(op_of(known, key), opid, ARGV[a + 1], kind) end
  if taken ~= 0 then l.te, l.tn = math.max(l.te, tonumber(EPOCH)), l.tn + 1 end
  commit()
  if not verdict then return says('done', value) end
  local moved = taken ~= 0
  local seq, dropped = emit_level(verdict, kind == 'count' and '7' or '6', l, moved, opid, result)
  if not moved then return says('done', value, seq, dropped, '0', '0', '0', str(delta)) end
  return says('done', value, seq, dropped, str(l.taken), str(l.te), str(l.tn), str(delta))
end
