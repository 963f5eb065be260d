-- reemit: writes one present state to the outbox.
-- ARGV 5 'hold' (KEYS 7 hold; ARGV 6 id), 'level' (KEYS 7 counter; ARGV 6 field), or 'op' (KEYS 7
-- counter, 8 operation id; ARGV 6 field, 7 operation id, 8 for how long a take's id is kept, in ms).
admit('truth')
local epoch = tonumber(EPOCH)
if ARGV[5] == 'level' then
  load({ARGV[6]}, {KEYS[7]})
  local l = level(ARGV[6])
  if not l.known then return {0} end
  plan(l, 0, 0, 0, 0)
  local verdict = outbox(REEMIT, false)
  settle()
  l.te = math.max(l.te, epoch)
  commit()
  local seq = emit_level(verdict, REEMIT, l, true, '', '0 0')
  flush()
  return {seq ~= '' and 1 or 0}
end
if ARGV[5] == 'op' then
  local opid, opkey = ARGV[7], KEYS[8]
  local known = read_op(opkey)
  local result = known and known.result or VOID
  load({ARGV[6]}, {KEYS[7]})
  local l = level(ARGV[6])
  plan(l, 0, 0, 0, 0)
  -- Such an entry is never dropped: a backfill would not bring it.
  local verdict = outbox(REEMIT, true)
  settle()
  l.te = math.max(l.te, epoch)
  commit()
  emit_level(verdict, REEMIT, l, true, opid, result)
  if not known then redis.call('SET', opkey, VOID, 'PX', ARGV[8]) end
  flush()
  return {result == VOID and 1 or 0}
end
local id, key = ARGV[6], KEYS[7]
local h = read_hold(key)
local verdict = outbox(REEMIT, false)
local seq
if h then
  h.e = math.max(h.e, epoch)
  seq = emit_hold(verdict, REEMIT, id, h)
  redis.call('SET', key, encode(h, h.own), 'KEEPTTL')
else
  seq = emit_hold(verdict, REEMIT, id, {s = RELEASED, e = epoch, n = 0, c = '0', x = '0', d = str(now()), w = '0',
    caller = '', digest = '', allocs = '', body = ''})
end
return {seq ~= '' and 1 or 0}
