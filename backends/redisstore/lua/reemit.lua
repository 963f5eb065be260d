-- reemit: writes one present state to the outbox.
-- ARGV 5 'hold' (KEYS 7 hold; ARGV 6 id), or 'level' (KEYS 7 counter; ARGV 6 field), which with an
-- operation tells as well what became of it (KEYS 8 operation id; ARGV 7 operation id, 8 for how long a
-- take's id is kept, in ms).
admit('truth')
local epoch = tonumber(EPOCH)
if ARGV[5] == 'level' then
  local opid = ARGV[7] or ''
  local asks = opid ~= ''
  load({ARGV[6]}, {KEYS[7]})
  local l = level(ARGV[6])
  if not asks and not l.known then return {0} end
  local known = asks and read_op(KEYS[8])
  local void = asks and (not known or known.void)
  plan(l, 0, 0, 0, 0)
  -- What becomes of an operation is never dropped: a backfill would not bring it.
  local verdict = outbox(REEMIT, asks)
  settle()
  l.te = math.max(l.te, epoch)
  commit()
  local seq = emit_level(verdict, REEMIT, l, true, opid, void and VOID or known and known.result or '0 0')
  if void and not known then redis.call('SET', KEYS[8], VOID, 'PX', ARGV[8]) end
  flush()
  return {seq ~= '' and 1 or 0, void and 1 or 0}
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
