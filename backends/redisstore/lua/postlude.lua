local ok, answer = pcall(main)
if ok then return answer end
if type(answer) == 'table' and answer.xf then return redis.error_reply(answer.xf) end
error(answer)
