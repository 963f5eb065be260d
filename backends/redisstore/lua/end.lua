-- end: a release (op 3) or an expiry (op 5). KEYS 7 hold. ARGV 5 id, 6 op.
local id, op = ARGV[5], ARGV[6]
local key = KEYS[7]
admit('truth')
local h, record = read_hold(key, id)
local t = now()
if op == '5' then
  if not h or h.s ~= HELD then
    -- The index names a hold that is not open: the index is wrong.
    redis.call('ZREM', EXP, id)
    return {'none'}
  end
  if tonumber(h.x) > t then
    -- Extended meanwhile; or the index has a wrong instant.
    redis.call('ZADD', EXP, h.x, id)
    return {'none'}
  end
end
if not h then return {'notfound'} end
if h.s == RELEASED then return {'replayed', record} end
if h.s ~= HELD then return {'ended', record} end
local takes = takes_of(h, key)
move(h, takes, -1)
h.s, h.d = op == '5' and EXPIRED or RELEASED, str(t)
next_version(h)
local verdict = outbox(op, false)
settle()
local seq, dropped = emit_hold(verdict, op, id, h)
write_hold(key, id, h)
flush()
return {'done', encode(h, ''), seq, dropped}
