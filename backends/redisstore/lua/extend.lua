-- extend: 1 id, 2 ttl in ms.
function MEMBERS.extend(a)
  local id, ttl = ARGV[a], tonumber(ARGV[a + 1])
  local key = PREFIX .. 'h:' .. id
  local h, record = read_hold(key)
  if not h then return 'notfound' end
  if h.s ~= HELD then return says('ended', record) end
  h.x = str(now() + ttl)
  next_version(h)
  local verdict = outbox('4', false)
  write_hold(key, id, h)
  local seq, dropped = emit_hold(verdict, '4', id, h)
  return says('done', encode(h, ''), seq, dropped)
end
