"""What the server runs for the Redis driver, in Lua.

A script gets the keys and the arguments of one or more parts of the data, one part after the
other, and returns as many answers, see `gnocchi.drivers.redis_server.Server.each`. The layout of
the keys is in `gnocchi.drivers.redis`.

The server runs a script as a whole. One that lacks memory refuses it at its first change that
could take some, when nothing has been changed yet, and lets it go on once something has been.
"""

from __future__ import annotations

_NOW = "local t = redis.call('TIME') local now = t[1] * 1000000 + t[2] "

NOTE = _NOW + "redis.call('ZADD', KEYS[1], now, ARGV[1]) return {1}"

LIST = (
    _NOW
    + """
return {{string.format('%.0f', now), redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')}}
"""
)

# KEYS: the index, objects; ARGV: their names
DELETE = """
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
redis.call('ZREM', KEYS[1], unpack(ARGV))
return {1}
"""

# KEYS: the object; ARGV: first and last byte. To the server [0, -1] is everything.
READ = """
if redis.call('EXISTS', KEYS[1]) == 0 then return {false} end
if tonumber(ARGV[2]) < tonumber(ARGV[1]) then return {''} end
return {redis.call('GETRANGE', KEYS[1], ARGV[1], ARGV[2])}
"""

# A part: keys order, objects, counts; arguments channel, rest of the name, items, points, object
ADD = (
    _NOW
    + """
local added = {}
for part = 0, #KEYS / 3 - 1 do
  local k, a = part * 3, part * 5
  local name = string.format('%.0f.', now) .. ARGV[a + 2]
  redis.call('XADD', KEYS[k + 1], '*', 'n', name)
  redis.call('HSET', KEYS[k + 2], name, ARGV[a + 5])
  redis.call('HINCRBY', KEYS[k + 3], 'items', ARGV[a + 3])
  redis.call('HINCRBY', KEYS[k + 3], 'points', ARGV[a + 4])
  if ARGV[a + 1] ~= '' then redis.call('PUBLISH', ARGV[a + 1], KEYS[k + 1]) end
  added[part + 1] = name
end
return added
"""
)

# A part: key order
OLDEST = (
    _NOW
    + """
local ages = {}
for i, order in ipairs(KEYS) do
  local first = redis.call('XRANGE', order, '-', '+', 'COUNT', 1)[1]
  ages[i] = -1
  if first then
    ages[i] = math.max(0, now - (tonumber(string.match(first[2][2], '^%d+')) or now))
  end
end
return ages
"""
)

# A part: key order; arguments first id, number
NAMES = """
local names = {}
for i, order in ipairs(KEYS) do
  names[i] = redis.call('XRANGE', order, ARGV[2 * i - 1], '+', 'COUNT', ARGV[2 * i])
end
return names
"""

# A part: key counts
COUNTS = """
local found = {}
for i, counts in ipairs(KEYS) do found[i] = redis.call('HMGET', counts, 'items', 'points') end
return found
"""

# A part: keys order, objects, counts, damaged; arguments number of objects, then id, name, items,
# points, whether it is damaged. What makes room comes first: a server without memory lets a script
# go on that has changed something, so that a full one can be emptied. The negative of zero would
# be sent as -0, which is no number to the server.
DISCARD = """
local removed, a = {}, 1
for part = 0, #KEYS / 4 - 1 do
  local k, last, items, points = part * 4, a + 5 * ARGV[a], 0, 0
  local order, objects = KEYS[k + 1], KEYS[k + 2]
  removed[part + 1] = 0
  for i = a + 1, last, 5 do
    local id, name = ARGV[i], ARGV[i + 1]
    local entry = redis.call('XRANGE', order, id, id)[1]
    if entry and entry[2][2] == name then
      local kept = ARGV[i + 4] == '1' and redis.call('HGET', objects, name)
      redis.call('XDEL', order, id)
      redis.call('HDEL', objects, name)
      if kept then redis.call('HSET', KEYS[k + 4], name, kept) end
      items, points = items + ARGV[i + 2], points + ARGV[i + 3]
      removed[part + 1] = removed[part + 1] + 1
    end
  end
  if removed[part + 1] > 0 then
    if redis.call('XLEN', order) == 0 then
      redis.call('DEL', order, KEYS[k + 3])
    else
      redis.call('HINCRBY', KEYS[k + 3], 'items', 0 - items)
      redis.call('HINCRBY', KEYS[k + 3], 'points', 0 - points)
    end
  end
  a = last + 1
end
return removed
"""
