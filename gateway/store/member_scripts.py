"""The scripts about who shares a store, and what is held back for those who went without a goodbye.

Members are a sorted set of instances by the moment at which their next beat is overdue. Beside it a hash has what each was told: `COUNT
HOLD SEAT`, by how many it divides when it cannot ask, how long its share is held back, and its place in the fleet, which the process
that is started in its stead takes over.
"""

from __future__ import annotations

from gateway.store.lua import SHARED

OVERDUE_AFTER_S = 1.5
"""Seconds after a beat at which an instance is missing: it may have died, or serve by its shares where the store cannot be reached."""
MISSED_AFTER_S = 0.8
"""Seconds after a beat at which an instance has missed one: who has its seat now is its successor."""
RESERVATION_LIFE_S = 5.0
"""Seconds after its last beat for which an instance still holds what it reserved of a budget."""

MEMBERS = (
    SHARED
    + f"""
local OVERDUE, LIVES = {round(OVERDUE_AFTER_S * 1e6)}, {round((RESERVATION_LIFE_S - OVERDUE_AFTER_S) * 1e6)}
local QUIET = {round((OVERDUE_AFTER_S - MISSED_AFTER_S) * 1e6)}
"""
)

HELD_BACK = """
local late
-- What is missing of a limit's amount because members who are may be using it by their shares, and when the last of them is given up.
-- `within`: for how long at most after a beat; `taken`: what each of them has of its share anyway. Of one who was alone it is a half: it is
-- far more likely that it died than that it was cut off, and who came in its stead would have nothing at all.
local function held_back(amount, within, taken)
  if not late then
    late = {}
    local some = redis.pcall('ZCOUNT', members, '-inf', now - 1)
    local told = type(some) == 'number' and some > 0 and redis.pcall('HGETALL', KEYS[2]) or {}
    for x = 1, #told, 2 do
      local count, hold = string.match(told[x + 1], '^(%d+) (%d+) ')
      local due = count and told[x] ~= me and redis.pcall('ZSCORE', members, told[x])
      if type(due) == 'string' and tonumber(due) < now then
        late[#late + 1] = {math.max(tonumber(count), 2), tonumber(due) - OVERDUE, tonumber(hold), told[x]}
      end
    end
  end
  local sum, ends = 0, 0
  for x = 1, #late do
    local given_up = late[x][2] + math.min(late[x][3], within)
    if given_up > now then
      sum = sum + math.max(0, floor(amount / late[x][1]) - (taken and taken[late[x][4]] or 0))
      ends = math.max(ends, given_up)
    end
  end
  return sum, ends
end

local held = {}
-- The same of calls at the same time, for almost as long as a lease: when that ends, all that a member had is free, if it died.
local function held_back_of_calls(key, amount, lease)
  lease = lease - OVERDUE
  if held_back(amount, lease) == 0 then return 0 end
  if not held[key] then
    held[key] = {}
    local all = redis.pcall('ZRANGEBYSCORE', key, now, '+inf')
    for x = 1, all.err and 0 or #all do
      local who = string.match(all[x], '^%S+') or ''
      held[key][who] = (held[key][who] or 0) + 1
    end
  end
  return (held_back(amount, lease, held[key]))
end
"""

HEARTBEAT = (
    MEMBERS
    + """
-- KEYS: the members, what they were told, then one set of leases for each lease. ARGV: instance, seat, for how long its share is held back
-- in us, a lease's length in us, when its next beat was due as the last one was told (0: the first of a connection), the time since then
-- in us, by how many it divides, then reservation ids.
-- Reply: how many members there are, when the next beat of this one is due, 1 if the last one is not in this store any more, and how many
-- of the members are missing.
local me, seat, told = ARGV[1], ARGV[2], tonumber(ARGV[5])
local before = tonumber(redis.call('ZSCORE', KEYS[1], me) or 0)
-- words that were under way for long are of one who has given up this connection, and serves by its shares
if told > 0 and now > told - OVERDUE + tonumber(ARGV[6]) + 1000000 then
  return {math.max(1, redis.call('ZCARD', KEYS[1])), now + OVERDUE, 0, 0}
end
if redis.call('ZCOUNT', KEYS[1], '-inf', now + QUIET) > 0 then
  local all = redis.call('HGETALL', KEYS[2])
  for x = 1, #all, 2 do
    local hold, place = string.match(all[x + 1], '^%d+ (%d+) (.*)$')
    local due = all[x] ~= me and tonumber(redis.call('ZSCORE', KEYS[1], all[x]) or 0)
    local given_up = due and due < now and (not hold or due - OVERDUE + hold < now)
    if given_up or (due and due < now + QUIET and place == seat and seat ~= '') then
      redis.call('ZREM', KEYS[1], all[x])
      redis.call('HDEL', KEYS[2], all[x])
    end
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[3]))
end
redis.call('ZADD', KEYS[1], now + OVERDUE, me)
local count = redis.call('ZCARD', KEYS[1])
redis.call('HSET', KEYS[2], me, string.format('%d %s %s', told > 0 and tonumber(ARGV[7]) or count, ARGV[3], seat))
local kept = floor((2 * tonumber(ARGV[3]) + 10 * OVERDUE) / 1000)
redis.call('PEXPIRE', KEYS[1], kept)
redis.call('PEXPIRE', KEYS[2], kept)
local lease = tonumber(ARGV[4])
for i = 3, #KEYS do
  redis.pcall('ZADD', KEYS[i], 'XX', now + lease, me .. ' ' .. ARGV[i + 5])
  redis.pcall('PEXPIRE', KEYS[i], 2 * floor(lease / 1000))
end
return {count, now + OVERDUE, told > 0 and before ~= told and 1 or 0, redis.call('ZCOUNT', KEYS[1], '-inf', now - 1)}
"""
)

LEAVE = (
    MEMBERS
    + """
-- KEYS: the members, what they were told. ARGV: instance, seat. It uses nothing from now on, nor does one who had its seat before and has
-- missed a beat.
local all = redis.call('HGETALL', KEYS[2])
for x = 1, #all, 2 do
  local place = string.match(all[x + 1], '^%d+ %d+ (.*)$')
  local due = tonumber(redis.call('ZSCORE', KEYS[1], all[x]) or 0)
  if all[x] == ARGV[1] or (place == ARGV[2] and place ~= '' and due < now + QUIET) then
    redis.call('ZREM', KEYS[1], all[x])
    redis.call('HDEL', KEYS[2], all[x])
  end
end
return 1
"""
)
