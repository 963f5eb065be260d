-- correct: moves one level of a shadow, once for each operation id.
-- KEYS 7 counter, 8 operation id; ARGV 5 asOf, 6 the greatest age of asOf in ms, 7 field, 8 what is for
-- sale, 9 on hand and 10 held to move by, 11 role in which the fence has to admit the epoch.
admit(ARGV[11])
if now() - tonumber(ARGV[5]) > tonumber(ARGV[6]) then stop('XFSTALE the attempt is too old') end
if read_op(KEYS[8]) then return {0} end
load({ARGV[7]}, {KEYS[7]})
local l = level(ARGV[7])
plan(l, tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10]), 0)
settle()
commit()
redis.call('SET', KEYS[8], str(tonumber(ARGV[9])) .. ' 0', 'PX', RETAIN)
flush()
return {1}
