-- trim: keeps the apologies within their bound.
admit('either')
call(APOL, 'XLEN', APOL)
return {redis.call('XTRIM', APOL, 'MAXLEN', '~', APOLOGIES_MAX)}
