-- extend: KEYS 7 hold. ARGV 5 id, 6 ttl in ms.
local id, ttl = ARGV[5], tonumber(ARGV[6])
local key = KEYS[7]
admit('truth')
local h, record = read_hold(key, id)
if not h then return {'notfound'} end
if h.s ~= HELD then return {'ended', record} end
h.x = str(now() + ttl)
next_version(h)
local verdict = outbox('4', false)
local seq, dropped = emit_hold(verdict, '4', id, h)
write_hold(key, id, h)
return {'done', encode(h, ''), seq, dropped}
