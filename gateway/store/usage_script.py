"""The Lua script that reads the usage of limits without changing anything."""

from __future__ import annotations

from gateway.store.member_scripts import MEMBERS

RESERVED = """
local function lives(instance)
  local until_ = instance and instance ~= me and redis.pcall('ZSCORE', members, instance)
  return instance == me or (type(until_) == 'string' and tonumber(until_) + GRACE_US >= now)
end

-- Return the amount of a window of tokens that calls in flight of live members reserve, in slots that still count.
local function reserved_tokens(key, low)
  local all, sum = redis.pcall('HGETALL', key), 0
  for x = 1, #all, 2 do
    local slot, instance = string.match(all[x], '^(%d+):(.*)$')
    if slot and tonumber(slot) >= low and lives(instance) then sum = sum + math.max(tonumber(all[x + 1]) or 0, 0) end
  end
  return sum
end

-- Return the amount of a budget that live members reserve in period `p`, and the fields to delete, which are those of dead members
-- or past periods.
local function reserved(key, p)
  local held = redis.pcall('HGETALL', key)
  if held.err then return nil end
  local sum, gone = 0, {}
  for x = 1, #held, 2 do
    local instance, at = string.match(held[x], '^(.*):(%d+)$')
    local is_live = lives(instance)
    if is_live and tonumber(at) == p then sum = sum + math.max(tonumber(held[x + 1]) or 0, 0)
    elseif not is_live or tonumber(at) < p then gone[#gone + 1] = held[x] end
  end
  return sum, gone
end
"""

READ_USAGE = (
    MEMBERS
    + """
local members, me = KEYS[1], ARGV[1]
"""
    + RESERVED
    + """
-- KEYS: members, then the key of each limit (for a budget also its reserved amounts).
-- ARGV: instance, then for each limit: slot width, number of slots; for a budget also the latest period known to the
-- instance, the amount it settled in it, and the offsets of its time zone.
-- Reply: now, then for each limit the used amount, the reserved amount (-1 for windows and concurrent calls) and the
-- period or the last slot with charges. Values of another type count as unused.
local reply, k, a = {now}, 2, 2
while a <= #ARGV do
  local key, width, n = KEYS[k], tonumber(ARGV[a]), tonumber(ARGV[a + 1])
  a, k = a + 2, k + 1
  local used, held, slot = 0, -1, -1
  if n < 0 then
    local at, mine = tonumber(ARGV[a]), tonumber(ARGV[a + 1])
    local current = math.max(period(width, tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])), at)
    local p, sum, part = read_budget(key, current, me)
    slot = p or current
    used = (sum or 0) + (at == slot and math.max(0, mine - (part or 0)) or 0)
    held = reserved(KEYS[k], slot) or 0
    a, k = a + 5, k + 1
  elseif width < 0 then
    local calls = redis.pcall('ZCOUNT', key, now, '+inf')
    used = type(calls) == 'number' and calls or 0
  else
    local sum, _, _, _, _, last = read_window(key, width, n)
    used, slot = sum or 0, last or floor(now / width)
  end
  reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = used, held, slot
end
return reply
"""
)
