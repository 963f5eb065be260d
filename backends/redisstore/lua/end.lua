-- end, a release (op 3) or an expiry (op 5): 1 id, 2 op.
MEMBERS['end'] = function(a)
  local id, op = ARGV[a], ARGV[a + 1]
  local key = PREFIX .. 'h:' .. id
  local h, record = read_hold(key)
  local t = now()
  if op == '5' then
    if not h or h.s ~= HELD then
      -- The index names a hold that is not open: the index is wrong.
      list(id, false)
      return 'none'
    end
    if tonumber(h.x) > t then
      -- Extended meanwhile; or the index has a wrong instant.
      list(id, h.x)
      return 'none'
    end
  end
  if not h then return 'notfound' end
  if h.s == RELEASED then return says('replayed', record) end
  if h.s ~= HELD then return says('ended', record) end
  move(h, takes_of(h, key), -1)
  h.s, h.d = op == '5' and EXPIRED or RELEASED, str(t)
  next_version(h)
  local verdict = outbox(op, false)
  settle()
  write_hold(key, id, h)
  commit()
  local seq, dropped = emit_hold(verdict, op, id, h)
  return says('done', encode(h, ''), seq, dropped)
end
