-- Shared by every script; Go puts it in front of each, and puts "#!lua" (or "#!lua
-- flags=no-writes") on the first line. With that line a server that is out of memory, read-only
-- or cannot save refuses a writing script before it starts.
--
-- Each script is one function of this shape: read and check everything, settle(), then write.
-- Lua has no rollback, so nothing may fail between the first write and the last: every key that
-- will be written has been read before, with a command of its type.
--
-- Keys 1 to 6 and arguments 1 to 4 are the same for all scripts; what follows is the script's own.
local FENCE, OUT, BOX, EXP, LV, APOL = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6]
local EPOCH, TEMPLATE, OUTBOX_MAX, RETAIN = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local HELD, CLAIMED, RELEASED, EXPIRED = '1', '2', '3', '4'
local REEMIT = '8' -- backends.OpReemit
-- unpack() takes some 8,000 values; a cart has up to 16,000 keys.
local CHUNK = 2000
-- Digits of a counter that is still exact as a double, with room for a sum.
local DIGITS = 15
local APOLOGIES_MAX = 100000

-- stop ends the script with an error reply. Nothing has been written when it is called.
local function stop(text) error({xf = text}) end

local function damaged(key, why)
  stop('XFDAMAGED key ' .. key:gsub('\t', '/') .. ' ' .. why)
end

-- call reads. A key of a wrong type is damage; any other refusal is the server's own.
local function call(key, ...)
  local r = redis.pcall(...)
  if type(r) == 'table' and r.err then
    if r.err:find('^WRONGTYPE') then damaged(key, 'is of a wrong type') end
    stop(r.err)
  end
  return r
end

-- str writes a whole number: tostring() would turn 1e15 into "1e+15", and -0 into "-0".
local function str(n)
  if n == 0 then return '0' end
  return string.format('%.0f', n)
end

-- int reads a counter exactly as INCRBY would, so that INCRBY cannot fail on it later.
local function int(s, key)
  if not (s == '0' or s:find('^%-?[1-9]%d*$')) or #s > (s:find('^%-') and DIGITS + 1 or DIGITS) then
    damaged(key, 'is not a whole number of at most ' .. DIGITS .. ' digits')
  end
  return tonumber(s)
end

-- less orders strings by their bytes. Lua's own "<" goes by the server's locale.
local function less(a, b)
  for i = 1, math.min(#a, #b) do
    local x, y = a:byte(i), b:byte(i)
    if x ~= y then return x < y end
  end
  return #a < #b
end

-- now reads the server's clock, in milliseconds.
local function now()
  local t = redis.call('TIME')
  return tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
end

-- admit is the fence check. It gives the stage, or stops the script.
local ADMITS = {
  truth = {['redis-only'] = true, ['shadow'] = true},
  mirror = {['live'] = true},
  either = {['redis-only'] = true, ['shadow'] = true, ['live'] = true},
}
local STAGE, FILLED
local function admit(role)
  local f = call(FENCE, 'HMGET', FENCE, 'epoch', 'stage', 'open', 'filled')
  if EPOCH == '0' or f[1] ~= EPOCH or f[3] ~= '1' or not ADMITS[role][f[2]] then
    stop('XFFENCED ' .. (f[1] or '0') .. ' ' .. (f[2] or 'unknown') .. ' ' .. (f[3] or '0') .. ' ' .. (f[4] or '0'))
  end
  STAGE, FILLED = f[2], f[4] == '1'
end

-- stock gives the counter's key. The template has bytes 1, 2 and 3 where shop, item and location
-- belong.
local function stock(shop, item, loc)
  return (TEMPLATE:gsub('[\1\2\3]', {['\1'] = shop, ['\2'] = item, ['\3'] = loc}))
end

-- Levels. A level has a field of LV ("shop<tab>item<tab>location"), whose value is
-- "onhand held taken taken-epoch taken-n held-changes", and a counter: what is for sale.
local levels, changed = {}, {}

-- load reads the levels of fields, whose counters are keys, unless they have been read.
local function load(fields, keys)
  local fs, ks = {}, {}
  for i, f in ipairs(fields) do
    if not levels[f] then
      levels[f] = true
      fs[#fs + 1], ks[#ks + 1] = f, keys[i]
    end
  end
  for from = 1, #fs, CHUNK do
    local to = math.min(from + CHUNK - 1, #fs)
    local raws = call(LV, 'HMGET', LV, unpack(fs, from, to))
    local nums = redis.call('MGET', unpack(ks, from, to))
    for i = from, to do
      local raw, num, key = raws[i - from + 1], nums[i - from + 1], ks[i]
      -- MGET answers nothing for a key of another type.
      if not num and redis.call('EXISTS', key) == 1 then damaged(key, 'is not a counter') end
      levels[fs[i]] = {f = fs[i], k = key, raw = raw, num = num, known = raw or num, sell = num and int(num, key) or 0, d = 0}
    end
  end
end

-- parsed gives the level with its numbers. A counter without a level is adopted: what it has is
-- on hand, and what it lacks has been taken.
local function parsed(l)
  if l.onhand then return l end
  if l.raw then
    local a, b, c, e, n, ch = l.raw:match('^(%-?%d+) (%-?%d+) (%-?%d+) (%d+) (%d+) (%d+)$')
    if not a then damaged(LV, 'has a damaged field ' .. l.f:gsub('\t', '/')) end
    l.onhand, l.held, l.taken = tonumber(a), tonumber(b), tonumber(c)
    l.te, l.tn, l.ch = tonumber(e), tonumber(n), tonumber(ch)
  else
    l.onhand, l.held, l.taken = math.max(0, l.sell), 0, math.max(0, -l.sell)
    l.te, l.tn, l.ch = 0, 0, 0
  end
  l.held0 = l.held
  return l
end

-- change marks a level to be written. Its counter moves by l.d.
local function change(l)
  parsed(l)
  if not l.dirty then
    l.dirty = true
    changed[#changed + 1] = l
  end
  return l
end

-- settle is the last check before the first write.
local function settle()
  local most = 10 ^ DIGITS
  for _, l in ipairs(changed) do
    if math.abs(l.onhand) > most or math.abs(l.held) > most or math.abs(l.taken) > most or math.abs(l.sell + l.d) > most then
      damaged(l.k, 'would leave what can be counted exactly')
    end
  end
end

-- flush writes what was changed.
local function flush()
  local args = {}
  for _, l in ipairs(changed) do
    if l.held ~= l.held0 then l.ch = l.ch + 1 end
    args[#args + 1] = l.f
    args[#args + 1] = string.format('%.0f %.0f %.0f %.0f %.0f %.0f', l.onhand, l.held, l.taken, l.te, l.tn, l.ch)
    if #args >= CHUNK then
      redis.call('HSET', LV, unpack(args))
      args = {}
    end
  end
  if #args > 0 then redis.call('HSET', LV, unpack(args)) end
  for _, l in ipairs(changed) do
    if l.d ~= 0 or not l.num then redis.call('INCRBY', l.k, str(l.d)) end
  end
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
  load(fields, ks)
  local seen, n = {}, 0
  for _, l in ipairs(lines) do
    l.at = {}
    for j = 1, #l.locs do
      n = n + 1
      l.at[j] = levels[fields[n]]
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
  if not head then damaged(key, 'is not a hold') end
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
  load(fields, keys)
  local out = {}
  for i, f in ipairs(fields) do out[i] = {l = levels[f], q = qtys[i]} end
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
  for _, t in ipairs(takes) do
    local l = change(t.l)
    l.d, l.onhand, l.held = l.d + sell * t.q, l.onhand + onhand * t.q, l.held + held * t.q
  end
end

-- read_hold gives the hold of a key, or nil, and the record as it is. It reads the index too, since
-- write_hold writes it.
local function read_hold(key, id)
  call(EXP, 'ZSCORE', EXP, id)
  local v = call(key, 'GET', key)
  if not v then return nil end
  return decode(v, key), v
end

local function write_hold(key, id, h)
  if h.s == HELD then
    redis.call('SET', key, encode(h, h.own))
    redis.call('ZADD', EXP, h.x, id)
  else
    redis.call('SET', key, encode(h, h.own), 'PX', RETAIN)
    redis.call('ZREM', EXP, id)
  end
end

-- outbox tells what becomes of an entry: 'write', 'drop', or nil when the stage wants none. An
-- entry that moves the ledger is never dropped.
local function outbox(op, ledger)
  if not (ledger or op == REEMIT or STAGE == 'shadow') then return nil end
  local n = call(OUT, 'XLEN', OUT)
  if n < OUTBOX_MAX or ledger then return 'write' end
  call(BOX, 'HGET', BOX, 'lost')
  return 'drop'
end

-- emit does it. It gives the entry's place ('' for none) and '1' when it was dropped.
local function emit(verdict, ...)
  if verdict == 'write' then return redis.call('XADD', OUT, '*', ...), '0' end
  if verdict == 'drop' then
    redis.call('HSET', BOX, 'lost', '1')
    redis.call('HINCRBY', BOX, 'dropped', '1')
    return '', '1'
  end
  return '', '0'
end

local function emit_hold(verdict, op, id, h)
  return emit(verdict, 'o', op, 'i', id, 'h', encode(h, ''))
end

-- A level's entry has the taken sum only where that has moved, and what became of an operation:
-- "delta answer", or VOID.
local function emit_level(verdict, op, l, moved, opid, result)
  local v = '0 0 0 ' .. result
  if moved then v = table.concat({str(l.taken), str(l.te), str(l.tn), result}, ' ') end
  return emit(verdict, 'o', op, 'k', l.f, 'v', v, 'p', opid)
end

-- An operation id keeps by how much it moved the units on hand and what a count answered:
-- "delta answer", or VOID where nobody decided it and nobody ever will.
local VOID = '0 0 void'

local function read_op(key)
  local v = call(key, 'GET', key)
  if not v then return nil end
  if v == VOID then return {result = v, void = true, delta = 0} end
  local delta, value = v:match('^(%-?%d+) (%-?%d+)$')
  if not value then damaged(key, 'is not an operation') end
  return {result = v, value = value, delta = tonumber(delta)}
end

local function write_op(key, result, delta, take_retain)
  redis.call('SET', key, result, 'PX', delta ~= 0 and RETAIN or take_retain)
end
