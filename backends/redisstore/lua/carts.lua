-- Carts, holds and operation ids: what every script has but counts.lua.

-- What the call has done so far, in levels and members, and what it may do: see fold.lua.
local SPENT, ROOM = 0, 200

-- less orders strings by their bytes. Lua's own "<" goes by the server's locale.
local function less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- stock gives the counter's key. The template has bytes 1, 2 and 3 where shop, item and location
-- belong.
local function stock(shop, item, loc)
  return (TEMPLATE:gsub('[\1\2\3]', {['\1'] = shop, ['\2'] = item, ['\3'] = loc}))
end

-- A change of levels is planned, checked, then committed; what is committed is what later members of
-- the same call see, and is written at the end.
local plans = {}

-- plan moves a level by what is given.
local function plan(l, sell, onhand, held, taken)
  parsed(l)
  if not l.planned then
    l.planned, l.ps, l.po, l.ph, l.pt = true, 0, 0, 0, 0
    plans[#plans + 1] = l
  end
  l.ps, l.po, l.ph, l.pt = l.ps + sell, l.po + onhand, l.ph + held, l.pt + taken
end

-- drop forgets what was planned.
local function drop()
  for i, l in ipairs(plans) do l.planned, plans[i] = nil, nil end
end

-- settle is the last check before the first write.
local function settle()
  local most = 10 ^ DIGITS
  for _, l in ipairs(plans) do
    if math.abs(l.onhand + l.po) > most or math.abs(l.held + l.ph) > most or math.abs(l.taken + l.pt) > most
      or math.abs(l.sell + l.ps) > most then
      damaged(l.k, 'would leave what can be counted exactly')
    end
  end
end

local function commit()
  for i, l in ipairs(plans) do
    l.sell, l.d, l.onhand, l.held, l.taken = l.sell + l.ps, l.d + l.ps, l.onhand + l.po, l.held + l.ph, l.taken + l.pt
    if l.ph ~= 0 then l.ch = l.ch + 1 end
    l.known = true
    if not l.dirty then
      l.dirty = true
      changed[#changed + 1] = l
    end
    l.planned, plans[i] = nil, nil
  end
end

-- listed is what becomes of holds in the index of expiry: their instant, or false.
local listed, listed_order = {}, {}
local function list(id, instant)
  if listed[id] == nil then listed_order[#listed_order + 1] = id end
  listed[id] = instant
end

-- flush_list writes it.
local function flush_list()
  local add, remove = {}, {}
  for _, id in ipairs(listed_order) do
    if listed[id] then
      add[#add + 1], add[#add + 2] = listed[id], id
    else
      remove[#remove + 1] = id
    end
  end
  if #add > 0 then redis.call('ZADD', EXP, unpack(add)) end
  if #remove > 0 then redis.call('ZREM', EXP, unpack(remove)) end
end

-- Carts. A body is the shop and a row for each line: "item<tab>qty<tab>split<tab>location…".
local function cart(body, key)
  local lines = {}
  local shop, rows = body:match('^([^\n]*)\n(.*)$')
  if not shop then return '', lines end
  for row in rows:gmatch('[^\n]+') do
    local item, qty, split, locs = row:match('^([^\t]+)\t(%d+)\t([01])\t(.+)$')
    if not item then damaged(key, 'has a damaged line') end
    local l = {item = item, qty = tonumber(qty), split = split == '1', locs = {}}
    for loc in locs:gmatch('[^\t]+') do l.locs[#l.locs + 1] = loc end
    lines[#lines + 1] = l
  end
  return shop, lines
end

-- survey reads the levels of all lines and locations. keys, if given, are their counters in that
-- order. It sets l.at, and gives what is for sale at each, in order.
local function survey(shop, lines, keys)
  local fields, ks = {}, {}
  for _, l in ipairs(lines) do
    for _, loc in ipairs(l.locs) do
      local n = #fields + 1
      fields[n] = shop .. '\t' .. l.item .. '\t' .. loc
      ks[n] = keys and keys[n] or stock(shop, l.item, loc)
    end
  end
  SPENT = SPENT + #fields
  load(fields, ks)
  local seen, n = {}, 0
  for _, l in ipairs(lines) do
    l.at = {}
    for j = 1, #l.locs do
      n = n + 1
      l.at[j] = level(fields[n])
      seen[n] = str(l.at[j].sell)
    end
  end
  return table.concat(seen, ' ')
end

-- allocate is backends.Allocate. It gives rows of an allocation ("line<tab>qty<tab>location"), the
-- takes behind them, and rows of what is short ("line<tab>available").
local function allocate(lines)
  local rows, takes, short = {}, {}, {}
  for i, l in ipairs(lines) do
    local best, sum, parts, full = 0, 0, {}, false
    for j, level in ipairs(l.at) do
      local n = math.max(0, level.sell)
      local take = math.min(n, l.qty - sum)
      if not l.split then
        best = math.max(best, n)
        take = n >= l.qty and l.qty or 0
      end
      if take > 0 then
        parts[#parts + 1] = {level, take, j}
        sum = sum + take
      end
      if sum == l.qty then
        full = true
        break
      end
      if l.split then best = sum end
    end
    if full then
      for _, p in ipairs(parts) do
        rows[#rows + 1] = (i - 1) .. '\t' .. str(p[2]) .. '\t' .. l.locs[p[3]]
        takes[#takes + 1] = {l = p[1], q = p[2]}
      end
    else
      short[#short + 1] = (i - 1) .. '\t' .. str(best)
    end
  end
  return table.concat(rows, '\n'), takes, table.concat(short, '\n')
end

-- Holds. A record has four parts with form feeds between them: head, allocations, body, and what
-- this store decided for itself.
local function decode(v, key)
  local head, allocs, body, own = v:match('^([^\f]*)\f([^\f]*)\f([^\f]*)\f([^\f]*)$')
  -- Bytes 1 and 2 would make two verdicts of one.
  if not head or v:find('[\1\2]') then damaged(key, 'is not a hold') end
  local s, e, n, c, x, d, w, caller, digest =
    head:match('^([1-4])\t(%d+)\t(%d+)\t(%d+)\t(%d+)\t(%d+)\t([01])\t([^\t]*)\t(%x*)$')
  if not s then damaged(key, 'has a damaged head') end
  return {s = s, e = tonumber(e), n = tonumber(n), c = c, x = x, d = d, w = w, caller = caller, digest = digest,
    allocs = allocs, body = body, own = own}
end

local function encode(h, own)
  return table.concat({h.s, str(h.e), str(h.n), h.c, h.x, h.d, h.w, h.caller, h.digest}, '\t')
    .. '\f' .. h.allocs .. '\f' .. h.body .. '\f' .. own
end

-- bare tells a tombstone of a hold that this store never knew.
local function bare(h) return h.s == RELEASED and not h.body:find('\n[^\n]') end

-- after and next are those of backends.Version.
local function after(a, b) return a.e > b.e or a.e == b.e and a.n > b.n end
local function next_version(h)
  h.e, h.n = math.max(h.e, tonumber(EPOCH)), h.n + 1
end

-- takes_of reads the levels of a hold's allocations; an allocation of no line takes nothing.
local function takes_of(h, key)
  local shop, lines = cart(h.body, key)
  local fields, keys, qtys = {}, {}, {}
  for line, qty, loc in h.allocs:gmatch('(%d+)\t(%d+)\t([^\n]+)') do
    local l = lines[tonumber(line) + 1]
    if l then
      local n = #fields + 1
      fields[n], keys[n], qtys[n] = shop .. '\t' .. l.item .. '\t' .. loc, stock(shop, l.item, loc), tonumber(qty)
    end
  end
  SPENT = SPENT + #fields
  load(fields, keys)
  local out = {}
  for i, f in ipairs(fields) do out[i] = {l = level(f), q = qtys[i]} end
  return out
end

-- move puts the weight of a hold in its present state on its levels, or takes it off (sign -1):
-- held takes from the counter and adds to held; claimed takes from the counter and from on hand,
-- unless the ledger's part of it travels with the level (w).
local function move(h, takes, sign)
  local sell, onhand, held
  if h.s == HELD then
    sell, onhand, held = -sign, 0, sign
  elseif h.s == CLAIMED and h.w == '0' then
    sell, onhand, held = -sign, -sign, 0
  else
    return
  end
  for _, t in ipairs(takes) do plan(t.l, sell * t.q, onhand * t.q, held * t.q, 0) end
end

-- indexed sees that the index of expiry can be written.
local index_seen = false
local function indexed()
  if index_seen then return end
  call(EXP, 'ZCARD', EXP)
  index_seen = true
end

-- read_hold gives the hold of a key, or nil, and the record as it is.
local function read_hold(key)
  indexed()
  local v = call(key, 'GET', key)
  if not v then return nil end
  return decode(v, key), v
end

local function write_hold(key, id, h)
  if h.s == HELD then
    redis.call('SET', key, encode(h, h.own))
    list(id, h.x)
  else
    redis.call('SET', key, encode(h, h.own), 'PX', RETAIN)
    list(id, false)
  end
end

local function emit_hold(verdict, op, id, h)
  return emit(verdict, 'o', op, 'i', id, 'h', encode(h, ''))
end

-- An operation id keeps by how much it moved the units on hand and what a count answered:
-- "delta answer", or VOID where nobody decided it and nobody ever will.
local VOID = '0 0 void'

local function op_of(v, key)
  if v == VOID then return {result = v, void = true, delta = 0} end
  local delta, value = v:match('^(%-?%d+) (%-?%d+)$')
  if not value then damaged(key, 'is not an operation') end
  return {result = v, value = value, delta = tonumber(delta)}
end

local function read_op(key)
  local v = call(key, 'GET', key)
  return v and op_of(v, key)
end
