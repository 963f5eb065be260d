-- adopt: gives counters of an existing checkout their levels. KEYS 7… counters; ARGV 5… fields.
admit('either')
local fields, keys = {}, {}
for i = 7, #KEYS do fields[i - 6], keys[i - 6] = ARGV[i - 2], KEYS[i] end
load(fields, keys)
for _, f in ipairs(fields) do
  local l = level(f)
  if l.num and not l.raw then plan(l, 0, 0, 0, 0) end
end
settle()
commit()
flush()
return {#changed}
