-- complete: a backfill has ended that began when ARGV 5 entries had been dropped. If no more have been, nothing is lost any more.
admit('truth')
if (call(BOX, 'HGET', BOX, 'dropped') or '0') == ARGV[5] then redis.call('HDEL', BOX, 'lost') end
return {1}
