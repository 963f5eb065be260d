-- open (no writes): pages through the index of open holds by (score, member).
-- ARGV 5 score and 6 member of the last one ('' to start), 7 limit. Answers member, score, …
local score, member, limit = ARGV[5], ARGV[6], tonumber(ARGV[7])
local from, out = 0, {}
if score ~= '' then from = call(EXP, 'ZCOUNT', EXP, '-inf', '(' .. score) end
while #out < 2 * limit do
  local page = call(EXP, 'ZRANGE', EXP, from, from + limit - 1, 'WITHSCORES')
  if #page == 0 then break end
  for i = 1, #page, 2 do
    -- Members of one score are ordered by their bytes.
    local passed = score ~= '' and tonumber(page[i + 1]) == tonumber(score) and not less(member, page[i])
    if not passed and #out < 2 * limit then
      out[#out + 1] = page[i]
      out[#out + 1] = str(tonumber(page[i + 1]))
    end
  end
  from = from + limit
end
return out
