-- The opponent's DECRBY: the least script with a fence and an operation id.
-- KEYS 1 fence (hash), 2 stock (counter), 3 operation. ARGV 1 epoch, 2 amount.
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return redis.error_reply('FENCED') end
local known = redis.call('GET', KEYS[3])
if known then return tonumber(known) end
local left = redis.call('DECRBY', KEYS[2], ARGV[2])
redis.call('SET', KEYS[3], left, 'PX', 900000)
return left
