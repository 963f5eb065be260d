-- claim: KEYS 7 hold. ARGV 5 id, 6 digest, 7 caller, 8 body ('' for none).
local id, digest, caller, body = ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local key = KEYS[7]
admit('truth')
local h, record = read_hold(key, id)
if h and h.s == CLAIMED then return {'replayed', record} end
local t = str(now())
local takes, reason
if h and not bare(h) then
  takes = takes_of(h, key)
  if h.s == RELEASED then reason = 'claimed after the hold was released' end
  if h.s == EXPIRED then reason = 'claimed after the hold had expired' end
  move(h, takes, -1)
elseif body == '' then
  return {'notfound'}
else
  reason = 'claimed without a hold'
  local shop, lines = cart(body, key)
  survey(shop, lines)
  local rows, short
  rows, takes, short = allocate(lines)
  if short ~= '' then
    rows, takes = {}, {}
    for i, l in ipairs(lines) do
      rows[i] = (i - 1) .. '\t' .. str(l.qty) .. '\t' .. l.locs[1]
      takes[i] = {l = l.at[1], q = l.qty}
    end
    rows = table.concat(rows, '\n')
  end
  h = {e = h and h.e or 0, n = h and h.n or 0, c = t, x = t, w = '0', caller = caller, digest = digest,
    allocs = rows, body = body, own = h and h.own or ''}
end
-- What is gone, by key.
local gone = {}
if reason then
  local sums, order = {}, {}
  for _, k in ipairs(takes) do
    if not sums[k.l] then order[#order + 1] = k.l end
    sums[k.l] = (sums[k.l] or 0) + k.q
  end
  table.sort(order, function(a, b) return less(a.f, b.f) end)
  for _, l in ipairs(order) do
    local n = sums[l] - math.max(0, l.sell)
    if n > 0 then gone[#gone + 1] = {l.f, str(n)} end
  end
end
h.s, h.d = CLAIMED, t
next_version(h)
move(h, takes, 1)
local verdict = outbox('2', true)
if #gone > 0 then call(APOL, 'XLEN', APOL) end
settle()
local seq = emit_hold(verdict, '2', id, h)
write_hold(key, id, h)
flush()
local sorry = {}
for i, g in ipairs(gone) do
  redis.call('XADD', APOL, 'MAXLEN', '~', APOLOGIES_MAX, '*', 'i', id, 'k', g[1], 'q', g[2], 'r', reason, 't', t)
  sorry[i] = g[1] .. '\t' .. g[2]
end
return {'claimed', encode(h, ''), seq, table.concat(sorry, '\n'), reason or '', t}
