-- pending (no writes): ARGV 5 the place after which to start ('' for the start), 6 least age in
-- ms, 7 limit. A place begins with the millisecond in which the entry was written.
local from, to = '-', '+'
if ARGV[5] ~= '' then from = '(' .. ARGV[5] end
if ARGV[6] ~= '0' then
  local t = now() - tonumber(ARGV[6])
  if t < 0 then return {} end
  to = str(t)
end
return call(OUT, 'XRANGE', OUT, from, to, 'COUNT', ARGV[7])
