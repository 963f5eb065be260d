-- due (no writes): ids of open holds whose time has passed. ARGV 5 how many to skip, 6 limit.
admit('truth')
return call(EXP, 'ZRANGEBYSCORE', EXP, '-inf', str(now()), 'LIMIT', ARGV[5], ARGV[6])
