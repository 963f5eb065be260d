-- raise: compare and set. ARGV 5 epoch, 6 stage, 7 open, 8 filled, 9 the present epoch that is
-- asked for ('0' for any), 10 alone. Answers what became of it and the fence after it, with both run ids.
local epoch, stage, open, filled, if_epoch, alone = ARGV[5], ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local f = call(FENCE, 'HMGET', FENCE, 'epoch', 'stage', 'open', 'filled', 'run', 'alone')
local run = redis.call('INFO', 'server'):match('run_id:(%x+)') or ''
local have = {f[1] or '0', f[2] or 'unknown', f[3] or '0', f[4] or '0', f[6] or '0'}
local at = int(have[1], FENCE)
local function answer(word, stored) return {word, have[1], have[2], have[3], have[4], have[5], stored or f[5] or '', run} end

if have[1] == epoch and have[2] == stage and have[3] == open and have[4] == filled and have[5] == alone then
  if f[1] and f[5] ~= run then return answer('restarted') end
  -- A write, so that WAIT waits for what was raised before as well.
  if f[1] then redis.call('HSET', FENCE, 'asked', str(now())) end
  return answer('same')
end
local higher = tonumber(epoch) > at
local outranks = higher or tonumber(epoch) == at and open == '1' and have[3] ~= '1'
if not outranks or if_epoch ~= '0' and if_epoch ~= have[1] then return answer('refused') end
if f[1] and f[5] ~= run and (not higher or if_epoch ~= '0') then return answer('restarted') end
redis.call('HSET', FENCE, 'epoch', epoch, 'stage', stage, 'open', open, 'filled', filled, 'alone', alone, 'run', run, 'raised', str(now()))
have = {epoch, stage, open, filled, alone}
return answer('raised', run)
