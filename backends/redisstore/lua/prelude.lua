-- Shared by every script; Go puts it in front of each, and puts "#!lua" (or "#!lua
-- flags=no-writes") on the first line. With that line a server that is out of memory, read-only
-- or cannot save refuses a writing script before it starts.
--
-- Each script is one function of this shape: read and check everything, then write.
-- Lua has no rollback, so nothing may fail between the first write and the last: every key that
-- will be written has been read before, with a command of its type.
--
-- Keys 1 to 6 and arguments 1 to 5 are the same for all scripts; what follows is the script's own.
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

-- told is the text of an error that is one member's alone, as one verdict.
local function told(e)
  local text = type(e) == 'table' and (e.xf or e.err) or 'ERR ' .. tostring(e)
  return (text:gsub('[\1\2]', '?'))
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

-- now reads the server's clock, in milliseconds. It stands still within a call.
local clock
local function now()
  if not clock then
    local t = redis.call('TIME')
    clock = tonumber(t[1]) * 1000 + math.floor(tonumber(t[2]) / 1000)
  end
  return clock
end

-- admit is the fence check. It gives the stage, or stops the script.
local ADMITS = {
  truth = {['redis-only'] = true, ['shadow'] = true},
  mirror = {['live'] = true},
  either = {['redis-only'] = true, ['shadow'] = true, ['live'] = true},
  restore = {['redis-only'] = true, ['shadow'] = true}, -- open or closed
}
local STAGE, FILLED
local function admit(role)
  local f = call(FENCE, 'HMGET', FENCE, 'epoch', 'stage', 'open', 'filled', 'alone')
  local open = f[3] == '1' or role == 'restore'
  if EPOCH == '0' or f[1] ~= EPOCH or not open or not ADMITS[role][f[2]] then
    stop('XFFENCED ' .. (f[1] or '0') .. ' ' .. (f[2] or 'unknown') .. ' ' .. (f[3] or '0') .. ' ' .. (f[4] or '0') .. ' ' .. (f[5] or '0'))
  end
  STAGE, FILLED = f[2], f[4] == '1'
end

-- Levels. A level has a field of LV ("shop<tab>item<tab>location"), whose value is
-- "onhand held taken taken-epoch taken-n held-changes", and a counter: what is for sale.
local levels, changed = {}, {}

-- load reads the levels of fields, whose counters are keys, unless they have been read. What is
-- wrong with one counter is told to whoever uses it.
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
    local raws = redis.pcall('HMGET', LV, unpack(fs, from, to))
    local nums = redis.call('MGET', unpack(ks, from, to))
    for i = from, to do
      local l = {f = fs[i], k = ks[i], d = 0, sell = 0, raws = raws.err and raws}
      if not raws.err then l.raw = raws[i - from + 1] end
      l.num = nums[i - from + 1]
      l.known = l.raw or l.num
      levels[fs[i]] = l
    end
  end
end

-- level gives one that was loaded, with its counter read.
local function level(f)
  local l = levels[f]
  if l.read then return l end
  if l.raws then
    if l.raws.err:find('^WRONGTYPE') then damaged(LV, 'is of a wrong type') end
    stop(l.raws.err)
  end
  -- MGET answers nothing for a key of another type.
  if l.num then
    l.sell = int(l.num, l.k)
  elseif redis.call('EXISTS', l.k) == 1 then
    damaged(l.k, 'is not a counter')
  end
  l.read = true
  return l
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
  return l
end

-- flush writes what was committed.
local function flush()
  local args = {}
  for _, l in ipairs(changed) do
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
