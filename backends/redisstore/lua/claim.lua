-- claim: 1 id, 2 digest, 3 caller, 4 body ('' for none).

-- claim_unknown makes the hold of a claim that brings its own lines, with their takes.
local function claim_unknown(h, key, t, caller, digest, body)
  local shop, lines = cart(body, key)
  survey(shop, lines)
  local rows, takes, short = allocate(lines)
  if short ~= '' then
    rows, takes = {}, {}
    for i, l in ipairs(lines) do
      rows[i] = (i - 1) .. '\t' .. str(l.qty) .. '\t' .. l.locs[1]
      takes[i] = {l = l.at[1], q = l.qty}
    end
    rows = table.concat(rows, '\n')
  end
  return {e = h and h.e or 0, n = h and h.n or 0, c = t, x = t, w = '0', caller = caller, digest = digest,
    allocs = rows, body = body, own = h and h.own or ''}, takes
end

-- missing gives what of the takes is gone, by key.
local function missing(takes)
  local sums, order, gone = {}, {}, {}
  for _, k in ipairs(takes) do
    if not sums[k.l] then order[#order + 1] = k.l end
    sums[k.l] = (sums[k.l] or 0) + k.q
  end
  table.sort(order, function(a, b) return less(a.f, b.f) end)
  for _, l in ipairs(order) do
    local n = sums[l] - math.max(0, l.sell)
    if n > 0 then gone[#gone + 1] = {l.f, str(n)} end
  end
  return gone
end

function MEMBERS.claim(a)
  local id, digest, caller, body = ARGV[a], ARGV[a + 1], ARGV[a + 2], ARGV[a + 3]
  local key = PREFIX .. 'h:' .. id
  local h, record = read_hold(key)
  if h and h.s == CLAIMED then return says('replayed', record) end
  local t = str(now())
  local takes, reason
  if h and not bare(h) then
    takes = takes_of(h, key)
    if h.s == RELEASED then reason = 'claimed after the hold was released' end
    if h.s == EXPIRED then reason = 'claimed after the hold had expired' end
    move(h, takes, -1)
  elseif body == '' then
    return 'notfound'
  else
    reason = 'claimed without a hold'
    h, takes = claim_unknown(h, key, t, caller, digest, body)
  end
  local gone = reason and missing(takes) or {}
  h.s, h.d = CLAIMED, t
  next_version(h)
  move(h, takes, 1)
  local verdict = outbox('2', true)
  if #gone > 0 then call(APOL, 'XLEN', APOL) end
  settle()
  write_hold(key, id, h)
  commit()
  local seq = emit_hold(verdict, '2', id, h)
  local sorry = {}
  for i, g in ipairs(gone) do
    redis.call('XADD', APOL, 'MAXLEN', '~', APOLOGIES_MAX, '*', 'i', id, 'k', g[1], 'q', g[2], 'r', reason, 't', t)
    sorry[i] = g[1] .. '\t' .. g[2]
  end
  return says('claimed', encode(h, ''), seq, table.concat(sorry, '\n'), reason or '', t)
end
