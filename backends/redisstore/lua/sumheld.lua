-- sumheld (no writes): what open holds take at some keys, and the levels there, at one instant.
-- KEYS 7… counters; ARGV 5 prefix of hold keys, 6 the most holds, 7… fields. Answers 0 when there
-- are more holds than that, or they have very many allocations, else for each field the sum and the level as in levels.lua.
if call(EXP, 'ZCARD', EXP) > tonumber(ARGV[6]) then return 0 end
local most = 10 * tonumber(ARGV[6])
local fields, keys, sums, out = {}, {}, {}, {}
for i = 7, #KEYS do
  fields[i - 6], keys[i - 6], sums[ARGV[i]] = ARGV[i], KEYS[i], 0
end
load(fields, keys)
for _, id in ipairs(call(EXP, 'ZRANGE', EXP, 0, -1)) do
  local key = ARGV[5] .. id
  local v = call(key, 'GET', key)
  local h = v and decode(v, key)
  if h and h.s == HELD then
    local takes = takes_of(h, key)
    most = most - #takes
    if most < 0 then return 0 end
    for _, t in ipairs(takes) do
      if sums[t.l.f] then sums[t.l.f] = sums[t.l.f] + t.q end
    end
  end
end
for i, f in ipairs(fields) do
  local l = level(f)
  out[2 * i - 1], out[2 * i] = str(sums[f]), ''
  if l.known then
    parsed(l)
    out[2 * i] = string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f', l.onhand, l.held, l.taken, l.te, l.tn, l.ch, l.sell)
  end
end
return out
