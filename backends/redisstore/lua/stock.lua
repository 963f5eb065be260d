-- stock: a restock or a count. KEYS 7 operation id, 8 counter.
-- ARGV 5 operation id, 6 field, 7 'add', 'onhand', 'sellable' or 'count', 8 amount,
-- 9 for how long a take's operation id is kept, in ms.
local opid, field, kind, amount, take_retain = ARGV[5], ARGV[6], ARGV[7], tonumber(ARGV[8]), ARGV[9]
local opkey, key = KEYS[7], KEYS[8]
admit('truth')
local known = read_op(opkey)
if known and known.void then stop('XFVOID a kill voided the operation') end
if known and kind == 'count' then return {'replayed', known.value} end
load({field}, {key})
local l = parsed(levels[field])
if known then
  -- What this store has of the operation is written once more, for the other store to agree.
  if not l.known then change(l) end
  local verdict = outbox(REEMIT, known.delta ~= 0)
  settle()
  local seq, dropped = emit_level(verdict, REEMIT, l, false, opid, str(known.delta) .. ' 0')
  flush()
  return {'replayed', known.value, seq, dropped, '0', '0', '0', str(known.delta)}
end
local op, taken, delta = '6', 0, amount
if kind == 'onhand' then delta = amount - l.onhand end
if kind == 'sellable' then delta = amount - l.sell end
if kind == 'count' then
  op = '7'
  taken = -amount
  if amount > 0 then taken = -math.min(amount, math.max(0, l.taken)) end
  delta = amount + taken
end
for _, n in ipairs({l.onhand + delta, l.taken + taken, l.sell + delta - taken}) do
  -- A restock is bounded by what is on hand alone.
  if math.abs(n) > MAX_ON_HAND then
    stop('XFRANGE ' .. str(n))
  end
  if kind ~= 'count' then break end
end
change(l)
l.onhand, l.taken, l.d = l.onhand + delta, l.taken + taken, delta - taken
if taken ~= 0 then l.te, l.tn = math.max(l.te, tonumber(EPOCH)), l.tn + 1 end
local verdict = outbox(op, delta ~= 0)
settle()
local moved = taken ~= 0
local result = str(delta) .. ' ' .. (kind == 'count' and str(l.sell + l.d) or '0')
local seq, dropped = emit_level(verdict, op, l, moved, opid, result)
write_op(opkey, result, delta, take_retain)
flush()
if not moved then return {'done', str(l.sell + l.d), seq, dropped, '0', '0', '0', str(delta)} end
return {'done', str(l.sell + l.d), seq, dropped, str(l.taken), str(l.te), str(l.tn), str(delta)}
