-- fence (no writes): the fence, the run id in it, and the server's own.
local f = call(FENCE, 'HMGET', FENCE, 'epoch', 'stage', 'open', 'filled', 'alone', 'run')
local run = redis.call('INFO', 'server'):match('run_id:(%x+)')
return {f[1] or '0', f[2] or 'unknown', f[3] or '0', f[4] or '0', f[5] or '0', f[6] or '', run or ''}
