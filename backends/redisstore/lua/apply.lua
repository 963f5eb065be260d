-- apply: follows one entry of the other store.
-- ARGV 5 asOf, 6 the greatest age of asOf in ms, 7 'hold' or 'level'.
-- A hold: KEYS 7 hold; ARGV 8 id, 9 record.
-- A level: KEYS 7 counter, 8 operation id (none when there is none); ARGV 8 field, 9 taken,
-- 10 epoch, 11 n, 12 operation id or '', 13 its result ("delta answer" or VOID), 14 for how long a
-- take's id is kept, in ms, 15 '1' for a count.
local function debts(list)
  local rows = {}
  for _, l in ipairs(list) do
    if l.sell + l.d < 0 then rows[#rows + 1] = l.f .. '\t' .. str(-(l.sell + l.d)) end
  end
  return table.concat(rows, '\n')
end

local function decide(h, key)
  local shop, lines = cart(h.body, key)
  local seen = survey(shop, lines)
  local rows, _, short = allocate(lines)
  if short ~= '' then return 's\v' .. short .. '\v' .. seen end
  if rows == h.allocs then rows = '=' end
  return 'g\v' .. rows .. '\v' .. seen
end

local function apply_hold()
  local id, key = ARGV[8], KEYS[7]
  local new = decode(ARGV[9], key)
  local old = read_hold(key, id)
  local own = old and new.s == HELD and old.own or ''
  if old and (not after(new, old) or old.s == CLAIMED and new.s ~= CLAIMED) then
    return {0, own, '', old.allocs}
  end
  local h, listed = new, {}
  if not old or bare(old) then
    h.own = new.s == HELD and decide(new, key) or ''
    own = h.own
  else
    h.own = old.own
    if bare(new) then
      h = decode(encode(old, old.own), key)
      h.s, h.e, h.n, h.d = new.s, new.e, new.n, new.d
    end
    move(old, takes_of(old, key), -1)
  end
  for i, t in ipairs(takes_of(new, key)) do listed[i] = t.l end
  move(h, takes_of(h, key), 1)
  settle()
  write_hold(key, id, h)
  flush()
  return {1, own, debts(listed), h.allocs}
end

local function apply_level()
  local field, taken, opid, result = ARGV[8], tonumber(ARGV[9]), ARGV[12], ARGV[13]
  local delta = tonumber(result:match('^%-?%d+'))
  local version = {e = tonumber(ARGV[10]), n = tonumber(ARGV[11])}
  local opkey = KEYS[8]
  load({field}, {KEYS[7]})
  local l = parsed(levels[field])
  local any = not l.known
  if after(version, {e = l.te, n = l.tn}) then
    -- Where answers wait for Redis, a take must not bring the effect of an earlier one without its
    -- operation id.
    if ARGV[15] == '1' and FILLED and version.n ~= l.tn + 1 then stop('XFORDER an earlier take comes first') end
    l.d, l.taken, l.te, l.tn = l.taken - taken, taken, version.e, version.n
    any = true
  end
  local had = opid ~= '' and read_op(opkey)
  local news = opid ~= '' and (not had or not had.void and had.result ~= result)
  if news then
    local more = delta - (had and had.delta or 0)
    l.d, l.onhand = l.d + more, l.onhand + more
    any = true
  end
  if not any then return {0, '', '', ''} end
  change(l)
  settle()
  if news then write_op(opkey, result, delta, ARGV[14]) end
  flush()
  return {1, '', debts({l}), ''}
end

admit('mirror')
if now() - tonumber(ARGV[5]) > tonumber(ARGV[6]) then stop('XFSTALE the attempt is too old') end
if ARGV[7] == 'hold' then return apply_hold() end
return apply_level()
