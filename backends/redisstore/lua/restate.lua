-- restate: writes one present state to the outbox under a version above the other store's, and keeps it.
-- ARGV 5 'hold' (KEYS 7 hold; ARGV 6 id), or 'taken' (KEYS 7 counter; ARGV 6 field); ARGV 7 epoch and 8 n
-- to get beyond.
admit('truth')
local epoch = tonumber(EPOCH)
local above = {e = tonumber(ARGV[7]), n = tonumber(ARGV[8])}
if ARGV[5] == 'taken' then
  load({ARGV[6]}, {KEYS[7]})
  local l = level(ARGV[6])
  if not l.known then return {0} end
  local verdict = outbox(REEMIT, false)
  plan(l, 0, 0, 0, 0)
  settle()
  l.te, l.tn = math.max(l.te, above.e, epoch), math.max(l.tn, above.n) + 1
  commit()
  local seq = emit_level(verdict, REEMIT, l, true, '', '0 0')
  flush()
  return {seq ~= '' and 1 or 0}
end
local id, key = ARGV[6], KEYS[7]
local h = read_hold(key)
local verdict = outbox(REEMIT, false)
local keeps = true
if h then
  h.e, h.n = math.max(h.e, above.e, epoch), math.max(h.n, above.n) + 1
else
  h = {s = RELEASED, e = epoch, n = 0, c = '0', x = '0', d = str(now()), w = '0', caller = '', digest = '', allocs = '',
    body = '', own = ''}
  keeps = not after(h, above)
  if keeps then h.e, h.n = math.max(epoch, above.e), above.n + 1 end
end
if keeps then
  write_hold(key, id, h)
  flush_list()
end
local seq = emit_hold(verdict, REEMIT, id, h)
return {seq ~= '' and 1 or 0}
