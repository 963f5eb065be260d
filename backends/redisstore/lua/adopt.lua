-- adopt: gives counters of an existing checkout their levels. KEYS 7… counters; ARGV 5… fields.
admit('either')
local fields, keys = {}, {}
for i = 7, #KEYS do fields[i - 6], keys[i - 6] = ARGV[i - 2], KEYS[i] end
load(fields, keys)
for _, f in ipairs(fields) do
  local l = levels[f]
  if l.num and not l.raw then change(l) end
end
settle()
flush()
return {#changed}
