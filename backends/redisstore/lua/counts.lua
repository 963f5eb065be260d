-- counts: takes and give-backs of many callers under operation ids that have never been sent before. So
-- nothing has to be looked up, and one record keeps what all of them were answered: who does not hear
-- of it names the call when he tries again (see stock.lua). It is a script of its own since it is what
-- legacy checkouts send most: of the cost of a call, a third is the making of functions that it does not
-- need.
-- ARGV 5 role, 6 for how long a take's operation id is kept, in ms, 7 the number of levels, then field and
-- counter of each; then the operation ids with a byte 1 between them, the id of the call, and for
-- each count the place of its level and the amount.
-- The answer is like that of fold.lua: a value, or what stock.lua says of one.
admit(ARGV[5])
local PREFIX = FENCE:sub(1, -6) -- less "fence"
local n = tonumber(ARGV[7])
-- A call that arrives late, after somebody who had no answer has tried again, does nothing; one that
-- arrives twice is done once.
local record = PREFIX .. 'call:' .. ARGV[9 + 2 * n]
local before = call(record, 'GET', record)
if before then
  if before == GIVEN_UP then stop('XFLATE the call was given up') end
  return (before:gsub('^[^\n]*\n', '', 1))
end
local fields, keys, places = {}, {}, {}
for i = 1, n do fields[i], keys[i] = ARGV[6 + 2 * i], ARGV[7 + 2 * i] end
load(fields, keys)
for i, f in ipairs(fields) do
  local ok, l = pcall(function() return parsed(level(f)) end)
  places[tostring(i)] = ok and l or {bad = '!' .. told(l)}
end
local ids, dual, epoch = ARGV[8 + 2 * n], STAGE ~= 'redis-only', tonumber(EPOCH)
local id = ids:gmatch('[^\1]+')
local abs, max, min = math.abs, math.max, math.min

-- entry is the verdict on the outbox, or false and an error.
local function entry(delta) return pcall(outbox, '7', delta ~= 0) end

local out, count = {}, 0
for at = 10 + 2 * n, #ARGV, 2 do
  local l, amount, opid = places[ARGV[at]], tonumber(ARGV[at + 1]), id()
  local answer = l.bad
  if not answer then
    local taken = -amount
    if amount > 0 then taken = -min(amount, max(0, l.taken)) end
    local delta = amount + taken
    local onhand, sum, sell = l.onhand + delta, l.taken + taken, l.sell + amount
    local ok, verdict = true, nil
    if dual or delta ~= 0 then ok, verdict = entry(delta) end
    if abs(onhand) > MAX_ON_HAND or abs(sum) > MAX_ON_HAND or abs(sell) > MAX_ON_HAND then
      local n = abs(onhand) > MAX_ON_HAND and onhand or abs(sum) > MAX_ON_HAND and sum or sell
      answer = '!XFRANGE ' .. str(n)
    elseif not ok then
      answer = '!' .. told(verdict)
    else
      l.onhand, l.taken, l.sell, l.d = onhand, sum, sell, l.d + amount
      if taken ~= 0 then l.te, l.tn = max(l.te, epoch), l.tn + 1 end
      if not l.dirty then
        l.dirty = true
        changed[#changed + 1] = l
      end
      answer = str(sell)
      local result = str(delta) .. ' ' .. answer
      if delta ~= 0 then redis.call('SET', PREFIX .. 'op:' .. opid, result, 'PX', RETAIN) end
      if verdict then
        local moved = taken ~= 0
        local seq, dropped = emit_level(verdict, '7', l, moved, opid, result)
        local version = moved and str(l.taken) .. '\1' .. str(l.te) .. '\1' .. str(l.tn) or '0\0010\0010'
        answer = answer .. '\1' .. seq .. '\1' .. dropped .. '\1' .. version .. '\1' .. str(delta)
      end
    end
  end
  count = count + 1
  out[count] = answer
end
local answer = table.concat(out, '\2')
if #changed > 0 then
  redis.call('SET', record, ids .. '\n' .. answer, 'PX', ARGV[6])
  flush()
end
return answer
