-- levels (no writes): KEYS 7… counters; ARGV 5… fields. One text for each: '' when there is no
-- level, else "onhand held taken taken-epoch taken-n held-changes sellable".
local fields, keys, out = {}, {}, {}
for i = 7, #KEYS do fields[i - 6], keys[i - 6] = ARGV[i - 2], KEYS[i] end
load(fields, keys)
for i, f in ipairs(fields) do
  local l = level(f)
  out[i] = ''
  if l.known then
    parsed(l)
    out[i] = string.format('%.0f %.0f %.0f %.0f %.0f %.0f %.0f', l.onhand, l.held, l.taken, l.te, l.tn, l.ch, l.sell)
  end
end
return out
