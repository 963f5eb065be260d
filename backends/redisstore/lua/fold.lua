-- fold: the operations of many callers in one call, done one after the other. Each member keeps its own
-- verdict: what is wrong with one is told to it alone, and leaves nothing of it behind.
-- ARGV 5 role in which the fence has to admit the epoch, 6 for how long a take's operation id is kept, in
-- ms, 7 the number of levels, then field and counter of each, then the members: kind, number of its
-- arguments, arguments. A level is named by its place in that list.
-- The answer is one text: verdicts with a byte 2 between them, parts of a verdict with a byte 1. A
-- verdict that begins with "!" is an error. Members for which the call had no room have no verdict.
admit(ARGV[5])
local n = tonumber(ARGV[7])
local fields, keys = {}, {}
for i = 1, n do
  PLACES[i], fields[i], keys[i] = ARGV[6 + 2 * i], ARGV[6 + 2 * i], ARGV[7 + 2 * i]
end
load(fields, keys)
local out, at = {}, 8 + 2 * n
while at <= #ARGV and SPENT < ROOM do
  SPENT = SPENT + 1
  local args = tonumber(ARGV[at + 1])
  local ok, answer = pcall(MEMBERS[ARGV[at]], at + 2, args)
  if not ok then
    drop()
    answer = '!' .. told(answer)
  end
  out[#out + 1] = answer
  at = at + 2 + args
end
flush()
flush_list()
return table.concat(out, '\2')
