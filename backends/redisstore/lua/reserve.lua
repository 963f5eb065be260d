-- reserve: 1 id, 2 digest, 3 ttl in ms, 4 caller, 5 body, then for each line: quantity, '1' for split, number
-- of locations, and the level of each.
local function weigh(from, to)
  local lines, seen = {}, {}
  while from <= to do
    local line = {qty = tonumber(ARGV[from]), split = ARGV[from + 1] == '1', locs = {}, at = {}}
    local known = false
    for j = 1, tonumber(ARGV[from + 2]) do
      local l = place(ARGV[from + 2 + j])
      line.at[j], line.locs[j] = l, location(l)
      seen[#seen + 1] = str(l.sell)
      known = known or l.known
    end
    from = from + 3 + #line.at
    lines[#lines + 1] = line
    line.known = known
  end
  for i, line in ipairs(lines) do
    if not line.known then return i - 1 end
  end
  local rows, takes, short = allocate(lines)
  seen = table.concat(seen, ' ')
  if short ~= '' then return nil, seen, short end
  for _, t in ipairs(takes) do plan(t.l, -t.q, 0, t.q, 0) end
  settle()
  return nil, seen, nil, rows, outbox('1', false)
end

-- known_hold is the verdict of a reserve whose hold is there.
local function known_hold(old, record, digest)
  drop()
  if bare(old) then return says('ended', record) end
  if old.digest ~= digest then stop('XFCONFLICT the hold id is in use') end
  return says(old.s == HELD and 'replayed' or 'ended', record)
end

function MEMBERS.reserve(a, n)
  local id, digest, ttl, caller, body = ARGV[a], ARGV[a + 1], tonumber(ARGV[a + 2]), ARGV[a + 3], ARGV[a + 4]
  local key = PREFIX .. 'h:' .. id
  SPENT = SPENT + (n - 5) / 4
  indexed()
  local ok, unknown, seen, short, rows, verdict = pcall(weigh, a + 5, a + n - 1)
  if not ok or unknown or short then
    local old, record = read_hold(key)
    if old then return known_hold(old, record, digest) end
    if not ok then error(unknown, 0) end
    if unknown then return says('unknown', unknown) end
    return says('short', short, seen)
  end
  local t = now()
  local c, x = str(t), str(t + ttl)
  local record = HELD .. '\t' .. EPOCH .. '\t1\t' .. c .. '\t' .. x .. '\t0\t0\t' .. caller .. '\t' .. digest
    .. '\f' .. rows .. '\f' .. body .. '\f'
  -- The one command that finds the hold or makes it.
  local old = call(key, 'SET', key, record, 'NX', 'GET')
  if old then return known_hold(decode(old, key), old, digest) end
  list(id, x)
  commit()
  local seq, dropped = emit(verdict, 'o', '1', 'i', id, 'h', record)
  return says('granted', c, x, rows, seen, seq, dropped)
end
