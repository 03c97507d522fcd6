"""Lua scripts for membership: the processes that share a store, and the shares that are held back for members that stopped responding.

In the scripts, an instance is one run of a process. Members are a sorted set of instances, scored by the time at which
their next heartbeat is overdue. A hash beside this set (key `...:told`) holds for each instance `DIVISOR HOLD SEAT`: the
divisor that the instance applies to limits during an outage, the time in microseconds for which its share is held back
after it stops responding, and its seat in the fleet, which its replacement takes over.
"""

from __future__ import annotations

from gateway.store.script_functions import SHARED

OVERDUE_AFTER_S = 1.5
"""Time after an instance's last heartbeat at which it is missing: it died, or it is cut off and applies its shares."""
MISSED_AFTER_S = 0.8
"""Time after an instance's last heartbeat at which it has missed one: an instance with the same seat then replaces it."""
RESERVATION_LIFE_S = 5.0
"""Time after an instance's last heartbeat for which its reserved amounts of budgets still count."""

MEMBERS = (
    SHARED
    + f"""
local OVERDUE_US, GRACE_US = {round(OVERDUE_AFTER_S * 1e6)}, {round((RESERVATION_LIFE_S - OVERDUE_AFTER_S) * 1e6)}
local MISSED_US = {round((OVERDUE_AFTER_S - MISSED_AFTER_S) * 1e6)}
"""
)

REBUILT = """
-- Delete a key of the membership that another program has given a value of another type. The rights that docs/stores.md lists do not
-- include TYPE.
for key, reply in pairs({[KEYS[1]] = redis.pcall('ZCARD', KEYS[1]), [KEYS[2]] = redis.pcall('HGET', KEYS[2], '')}) do
  if type(reply) == 'table' and string.find(reply.err or '', 'WRONGTYPE', 1, true) then redis.call('DEL', key) end
end
"""

HELD_BACK = """
local missing
-- Return the part of `amount` that is held back for missing members, which may be using their shares, and the time at which the last share
-- is released. Shares are held back for at most `within` us after a heartbeat. `taken` holds for each member the amount that is counted
-- as used anyway.
-- For a missing member that was alone, half of the limit is held back instead of all of it: such a member more likely died than
-- lost its connection, and if everything were held back, its replacement would refuse all calls.
local function held_back(amount, within, taken)
  if not missing then
    missing = {}
    local count_missing = redis.pcall('ZCOUNT', members, '-inf', now - 1)
    local infos = type(count_missing) == 'number' and count_missing > 0 and redis.pcall('HGETALL', KEYS[2]) or {}
    for x = 1, #infos, 2 do
      local count, hold = string.match(infos[x + 1], '^(%d+) (%d+) ')
      local due = count and infos[x] ~= me and redis.pcall('ZSCORE', members, infos[x])
      if type(due) == 'string' and tonumber(due) < now then
        missing[#missing + 1] = {math.max(tonumber(count), 2), tonumber(due) - OVERDUE_US, tonumber(hold), infos[x]}
      end
    end
  end
  local sum, ends = 0, 0
  for x = 1, #missing do
    local released = missing[x][2] + math.min(missing[x][3], within)
    if released > now then
      sum = sum + math.max(0, floor(amount / missing[x][1]) - (taken and taken[missing[x][4]] or 0))
      ends = math.max(ends, released)
    end
  end
  return sum, ends
end

local held = {}
-- The same for concurrent calls. Shares are held back for at most the length of a lease: after that, the calls of a dead member no
-- longer count.
local function held_back_calls(key, amount, lease)
  lease = lease - OVERDUE_US
  if held_back(amount, lease) == 0 then return 0 end
  if not held[key] then
    held[key] = {}
    local all = redis.pcall('ZRANGEBYSCORE', key, now, '+inf')
    for x = 1, all.err and 0 or #all do
      local instance = string.match(all[x], '^%S+') or ''
      held[key][instance] = (held[key][instance] or 0) + 1
    end
  end
  return (held_back(amount, lease, held[key]))
end
"""

HEARTBEAT = (
    MEMBERS
    + REBUILT
    + """
-- Record that an instance is alive, and renew its leases.
-- KEYS: members, member info, then for each lease its set of concurrent calls.
-- ARGV: instance, seat, how long its share is held back in us, length of a lease in us, the due time that the previous heartbeat returned
-- (0: first heartbeat of a connection), the time since then in us, the divisor of the instance, then for each lease its reservation id.
-- Reply: number of members, time at which the next heartbeat of this instance is due, 1 if the store lost the previous heartbeat (0
-- otherwise), number of missing members.
local me, seat, last_due = ARGV[1], ARGV[2], tonumber(ARGV[5])
local before = tonumber(redis.call('ZSCORE', KEYS[1], me) or 0)
-- a heartbeat delayed this long comes from an instance that has closed the connection and applies its shares: do not record it
if last_due > 0 and now > last_due - OVERDUE_US + tonumber(ARGV[6]) + 1000000 then
  return {math.max(1, redis.call('ZCARD', KEYS[1])), now + OVERDUE_US, 0, 0}
end
if redis.call('ZCOUNT', KEYS[1], '-inf', now + MISSED_US) > 0 then
  local all = redis.call('HGETALL', KEYS[2])
  for x = 1, #all, 2 do
    local hold, place = string.match(all[x + 1], '^%d+ (%d+) (.*)$')
    local due = all[x] ~= me and tonumber(redis.call('ZSCORE', KEYS[1], all[x]) or 0)
    local released = due and due < now and (not hold or due - OVERDUE_US + hold < now)
    if released or (due and due < now + MISSED_US and place == seat and seat ~= '') then
      redis.call('ZREM', KEYS[1], all[x])
      redis.call('HDEL', KEYS[2], all[x])
    end
  end
  redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - tonumber(ARGV[3]))
end
redis.call('ZADD', KEYS[1], now + OVERDUE_US, me)
local count = redis.call('ZCARD', KEYS[1])
redis.call('HSET', KEYS[2], me, string.format('%d %s %s', last_due > 0 and tonumber(ARGV[7]) or count, ARGV[3], seat))
local kept = floor((2 * tonumber(ARGV[3]) + 10 * OVERDUE_US) / 1000)
redis.call('PEXPIRE', KEYS[1], kept)
redis.call('PEXPIRE', KEYS[2], kept)
local lease = tonumber(ARGV[4])
for i = 3, #KEYS do
  redis.pcall('ZADD', KEYS[i], 'XX', now + lease, me .. ' ' .. ARGV[i + 5])
  redis.pcall('PEXPIRE', KEYS[i], 2 * floor(lease / 1000))
end
return {count, now + OVERDUE_US, last_due > 0 and before ~= last_due and 1 or 0, redis.call('ZCOUNT', KEYS[1], '-inf', now - 1)}
"""
)

LEAVE = (
    MEMBERS
    + REBUILT
    + """
-- Remove an instance that uses no limits from now on, and any earlier instance with its seat that has missed a heartbeat.
-- KEYS: members, member info. ARGV: instance, seat.
local all = redis.call('HGETALL', KEYS[2])
for x = 1, #all, 2 do
  local place = string.match(all[x + 1], '^%d+ %d+ (.*)$')
  local due = tonumber(redis.call('ZSCORE', KEYS[1], all[x]) or 0)
  if all[x] == ARGV[1] or (place == ARGV[2] and place ~= '' and due < now + MISSED_US) then
    redis.call('ZREM', KEYS[1], all[x])
    redis.call('HDEL', KEYS[2], all[x])
  end
end
return 1
"""
)
