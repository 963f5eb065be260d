-- What follows an entry of the other store begins with 1 asOf, 2 the greatest age of asOf in ms.
local function fresh(a)
  if now() - tonumber(ARGV[a]) > tonumber(ARGV[a + 1]) then stop('XFSTALE the attempt is too old') end
end

local function debts(ls)
  local rows = {}
  for _, l in ipairs(ls) do
    if l.sell < 0 then rows[#rows + 1] = l.f .. '\t' .. str(-l.sell) end
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

-- follow_hold: 3 id, 4 record.
function MEMBERS.follow_hold(a)
  fresh(a)
  local id = ARGV[a + 2]
  local key = PREFIX .. 'h:' .. id
  local new = decode(ARGV[a + 3], key)
  local old = read_hold(key)
  local own = old and new.s == HELD and old.own or ''
  if old and (not after(new, old) or old.s == CLAIMED and new.s ~= CLAIMED) then
    return says(0, own, '', old.allocs)
  end
  local h, touched = new, {}
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
  for i, t in ipairs(takes_of(new, key)) do touched[i] = t.l end
  move(h, takes_of(h, key), 1)
  settle()
  write_hold(key, id, h)
  commit()
  return says(1, own, debts(touched), h.allocs)
end

-- follow_level: 3 level, 4 taken, 5 epoch, 6 n, 7 operation id or '', 8 its result ("delta answer" or
-- VOID), 9 '1' for a count.
function MEMBERS.follow_level(a)
  fresh(a)
  local taken, opid, result = tonumber(ARGV[a + 3]), ARGV[a + 6], ARGV[a + 7]
  local delta = tonumber(result:match('^%-?%d+'))
  local version = {e = tonumber(ARGV[a + 4]), n = tonumber(ARGV[a + 5])}
  local key = PREFIX .. 'op:' .. opid
  local l = parsed(place(ARGV[a + 2]))
  local newer = after(version, {e = l.te, n = l.tn})
  -- Where answers wait for Redis, a take must not bring the effect of an earlier one without its
  -- operation id.
  if newer and ARGV[a + 8] == '1' and FILLED and version.n ~= l.tn + 1 then stop('XFORDER an earlier take comes first') end
  local had = opid ~= '' and read_op(key)
  local news = opid ~= '' and (not had or not had.void and had.result ~= result)
  if not (newer or news or not l.known) then return says(0, '', '', '') end
  if newer then plan(l, l.taken - taken, 0, 0, taken - l.taken) end
  if news then
    local more = delta - (had and had.delta or 0)
    plan(l, more, more, 0, 0)
  end
  plan(l, 0, 0, 0, 0)
  settle()
  if newer then l.te, l.tn = version.e, version.n end
  commit()
  if news then redis.call('SET', key, result, 'PX', delta ~= 0 and RETAIN or TAKE_RETAIN) end
  return says(1, '', debts({l}), '')
end
