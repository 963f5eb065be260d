-- begin: a backfill begins, and what was lost is lost no more.
admit('truth')
call(BOX, 'HGET', BOX, 'lost')
redis.call('HDEL', BOX, 'lost')
return {1}
