-- The opponent's reserve: the least script with a fence, a hold, its expiry and an outbox entry.
-- KEYS 1 fence (hash), 2 stock (counter), 3 hold, 4 expiry index, 5 outbox. ARGV 1 epoch, 2 hold id,
-- 3 ttl in ms.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return redis.error_reply('FENCED') end
if redis.call('EXISTS', KEYS[3]) == 1 then return 'replayed' end
local stock = tonumber(redis.call('GET', KEYS[2]) or '0')
if stock < 1 then return 'sold_out' end
local t = redis.call('TIME')
local expires = t[1] * 1000 + math.floor(t[2] / 1000) + ARGV[3]
redis.call('DECR', KEYS[2])
redis.call('SET', KEYS[3], 'held\t' .. expires .. '\t1')
redis.call('ZADD', KEYS[4], expires, ARGV[2])
redis.call('XADD', KEYS[5], '*', 'id', ARGV[2], 'state', 'held', 'expires', expires)
return 'granted'
