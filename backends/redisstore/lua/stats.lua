-- stats (no writes): entries, age of the oldest in ms, lost, dropped.
local n = call(OUT, 'XLEN', OUT)
local age = 0
local oldest = call(OUT, 'XRANGE', OUT, '-', '+', 'COUNT', 1)
if oldest[1] then age = math.max(0, now() - tonumber(oldest[1][1]:match('^%d+'))) end
local box = call(BOX, 'HMGET', BOX, 'lost', 'dropped')
return {n, str(age), box[1] or '0', box[2] or '0'}
