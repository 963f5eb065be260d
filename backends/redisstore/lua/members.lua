-- The members of a fold: each is a function of the place of its first argument, and of how many it has.
local MEMBERS = {}
local PREFIX = FENCE:sub(1, -6) -- less "fence"
local TAKE_RETAIN = ARGV[6]
-- Levels by the place at which the call names them.
local PLACES = {}
local function place(i) return level(PLACES[tonumber(i)]) end

local function says(...) return table.concat({...}, '\1') end

-- location of a level.
local function location(l)
  l.loc = l.loc or l.f:match('[^\t]*$')
  return l.loc
end
