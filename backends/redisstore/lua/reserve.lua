-- reserve: KEYS 7 hold, 8… counters of all lines and locations in order.
-- ARGV 5 id, 6 digest, 7 ttl in ms, 8 caller, 9 body.
local id, digest, ttl, caller, body = ARGV[5], ARGV[6], tonumber(ARGV[7]), ARGV[8], ARGV[9]
local key = KEYS[7]
admit('truth')
local old, record = read_hold(key, id)
if old then
  if bare(old) then return {'ended', record} end
  if old.digest ~= digest then stop('XFCONFLICT the hold id is in use') end
  return {old.s == HELD and 'replayed' or 'ended', record}
end
local shop, lines = cart(body, key)
local counters = {}
for i = 8, #KEYS do counters[i - 7] = KEYS[i] end
local seen = survey(shop, lines, counters)
for i, l in ipairs(lines) do
  local known = false
  for _, level in ipairs(l.at) do known = known or level.known end
  if not known then return {'unknown', i - 1} end
end
local rows, takes, short = allocate(lines)
if short ~= '' then return {'short', short, seen} end
local t = now()
local h = {s = HELD, e = tonumber(EPOCH), n = 1, c = str(t), x = str(t + ttl), d = '0', w = '0', caller = caller,
  digest = digest, allocs = rows, body = body, own = ''}
move(h, takes, 1)
local verdict = outbox('1', false)
settle()
local seq, dropped = emit_hold(verdict, '1', id, h)
write_hold(key, id, h)
flush()
-- The caller has the lines.
h.body = ''
return {'granted', encode(h, ''), seen, seq, dropped}
