"""The scripts that Redis runs: one decides, one settles, one keeps leases alive. Time is Redis' own, in microseconds.

A window is a hash: `h` the highest slot ever charged, `l` the lowest that may still count, `s` the sum, and a field for each slot.
Concurrency is a sorted set of reservations by the end of their leases. A reservation is a string by its id, so that asking again after
a lost answer, or settling twice, changes nothing. Lua cannot undo: whatever can fail is looked at before the first write of a decision.
Numbers are doubles, exact to 2^53, and are passed to commands as numbers: Lua's own way to text has 14 digits only.
"""

from __future__ import annotations

import hashlib

_SHARED = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local floor = math.floor

local function month()
  local z = floor(now / 86400000000) + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local mp = floor((5 * (doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))) + 2) / 153)
  local m = mp < 10 and mp + 3 or mp - 9
  return (yoe + era * 400 + (m <= 2 and 1 or 0)) * 12 + m - 1
end

-- What a window holds now: sum, slot to charge, its content, lowest slot, slots that are past ('all' when every one is).
-- nil when the key holds something else.
local function look(key, width, n)
  local slot = width > 0 and floor(now / width) or month()
  local h = redis.pcall('HMGET', key, 'h', 's', 'l', slot)
  if h.err then return nil end
  if not (h[1] or h[2] or h[3] or h[4]) then return 0, slot, 0, slot, 'all' end
  local high, sum, low, here = tonumber(h[1]), tonumber(h[2]), tonumber(h[3]), tonumber(h[4] or 0)
  if not (high and sum and low and here) or low > high or high - low > n then return nil end
  if slot < high then
    slot = high
    here = tonumber(redis.call('HGET', key, high) or 0)
    if not here then return nil end
  end
  if slot - n > high then return 0, slot, 0, slot, 'all' end
  local past = {}
  if low < slot - n then
    for f = low, slot - n - 1 do past[#past + 1] = f end
    local v = redis.call('HMGET', key, unpack(past))
    for i = 1, #past do
      local one = tonumber(v[i] or 0)
      if not one then return nil end
      sum = sum - one
    end
    low = slot - n
  end
  return sum, slot, here, low, past
end

local function put(key, sum, slot, here, low, past, cost, ttl)
  if past == 'all' then redis.call('DEL', key)
  elseif #past > 0 then redis.call('HDEL', key, unpack(past)) end
  redis.call('HSET', key, 'h', slot, 's', sum + cost, 'l', low, slot, here + cost)
  redis.call('PEXPIRE', key, ttl)
end
"""

ADMIT = (
    _SHARED
    + """
-- Microseconds until `cost` fits: -1 at the end of the month, -2 never, -3 when a call ends.
local function wait(key, width, n, low, slot, need)
  if width == 0 then return -1 end
  local fields = {}
  for f = low, slot do fields[#fields + 1] = f end
  local v = redis.call('HMGET', key, unpack(fields))
  for i = 1, #fields do
    need = need - (tonumber(v[i] or 0) or 0)
    if need <= 0 then return (fields[i] + n + 1) * width - now end
  end
  return (slot + n + 1) * width - now
end

-- KEYS: for each admission its reservation and its limits. ARGV: how many admissions; for each: id, count of limits, 1 to charge whatever
-- holds; for each limit: width of a slot (-1 concurrency, 0 month), slots, amount, cost, time to live in ms (lease in us).
-- Reply, for each: {1 admitted | 0 refused | -1 a key was not ours and is removed, now, index of the limit, wait, remaining, slot, ...}
local out = {}
local k, a = 1, 2
for i = 1, tonumber(ARGV[1]) do
  local id, m, force, rkey = ARGV[a], tonumber(ARGV[a + 1]), ARGV[a + 2] == '1', KEYS[k]
  a = a + 3
  local known = redis.pcall('GET', rkey)
  if type(known) == 'string' then
    local reply = {1, now, 0, 0}
    local kept = cmsgpack.unpack(known)
    for j = 1, m do
      reply[#reply + 1] = kept[3 * j]
      reply[#reply + 1] = kept[3 * j - 2]
    end
    out[i] = reply
  else
    local found, reply, corrupt = {}, {1, now, 0, 0}, nil
    for j = 1, m do
      local key, p = KEYS[k + j], a + 5 * (j - 1)
      local width, n, amount, cost = tonumber(ARGV[p]), tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2]), tonumber(ARGV[p + 3])
      local left, slot
      if width < 0 then
        local held = redis.pcall('ZCOUNT', key, now, '+inf')
        if type(held) ~= 'number' then corrupt = key break end
        left, slot = amount - held, -1
        found[j] = {held}
      else
        local sum, at, here, low, past = look(key, width, n)
        if not sum then corrupt = key break end
        left, slot = amount - sum, at
        found[j] = {sum, at, here, low, past}
      end
      if left < cost and not force then
        local until_ = width < 0 and -3 or cost > amount and -2 or wait(key, width, n, found[j][4], slot, cost - left)
        -- the longest wait binds: never, then the end of a month, then time, then the end of a call
        if reply[1] == 1 or until_ == -2 or (reply[4] ~= -2 and (until_ == -1 or (reply[4] ~= -1 and until_ > reply[4]))) then
          reply[3], reply[4] = j, until_
        end
        reply[1] = 0
      end
      reply[#reply + 1] = left
      reply[#reply + 1] = slot
    end
    if corrupt then
      redis.call('DEL', corrupt)
      reply = {-1, now, 0, 0}
    elseif reply[1] == 1 then
      local kept = {}
      for j = 1, m do
        local cost = tonumber(ARGV[a + 5 * j - 2])
        reply[3 + 2 * j] = reply[3 + 2 * j] - cost
        kept[3 * j - 2], kept[3 * j - 1], kept[3 * j] = reply[4 + 2 * j], cost, reply[3 + 2 * j]
      end
      -- the first write: a Redis that is full refuses it, and with it all others (it would let a script go on that began with DEL)
      redis.call('SET', rkey, cmsgpack.pack(kept), 'PX', 90000000)
      for j = 1, m do
        local key, p, f = KEYS[k + j], a + 5 * (j - 1), found[j]
        local cost, ttl = tonumber(ARGV[p + 3]), tonumber(ARGV[p + 4])
        if tonumber(ARGV[p]) < 0 then
          redis.call('ZREMRANGEBYSCORE', key, '-inf', now - 1)
          redis.call('ZADD', key, now + ttl, id)
          redis.call('PEXPIRE', key, 2 * floor(ttl / 1000))
        else
          put(key, f[1], f[2], f[3], f[4], f[5], cost, ttl)
        end
      end
    end
    out[i] = reply
  end
  k, a = k + m + 1, a + 5 * m
end
return out
"""
)

SETTLE = (
    _SHARED
    + """
-- KEYS as above. ARGV: how many; for each: id, count of limits; for each limit: width, slots, actual, time to live in ms.
-- Reply: how many were settled now; those whose reservation is gone were settled before.
local k, a, done = 1, 2, 0
for i = 1, tonumber(ARGV[1]) do
  local id, m = ARGV[a], tonumber(ARGV[a + 1])
  a = a + 2
  local known = redis.pcall('GET', KEYS[k])
  if type(known) == 'string' then
    redis.call('DEL', KEYS[k])
    done = done + 1
    local kept = cmsgpack.unpack(known)
    for j = 1, m do
      local key, p = KEYS[k + j], a + 4 * (j - 1)
      local width, n, actual, ttl = tonumber(ARGV[p]), tonumber(ARGV[p + 1]), tonumber(ARGV[p + 2]), tonumber(ARGV[p + 3])
      if width < 0 then
        redis.pcall('ZREM', key, id)
      else
        local slot, change = kept[3 * j - 2], actual - kept[3 * j - 1]
        if change ~= 0 then
          local sum, at, here, low, past = look(key, width, n)
          if sum and past ~= 'all' and slot >= low then
            put(key, sum, at, here, low, past, 0, ttl)
            local set = redis.pcall('HINCRBY', key, slot, change)
            if type(set) == 'number' then redis.call('HINCRBY', key, 's', change) end
          elseif sum and change > 0 and n > 0 then
            put(key, sum, at, here, low, past, change, ttl)
          end
        end
      end
    end
  end
  k, a = k + m + 1, a + 4 * m
end
return done
"""
)

BEAT = (
    _SHARED
    + """
-- KEYS: the members, then one set of leases for each lease. ARGV: instance, its life in us, a lease's length in us, then reservation ids.
-- Reply: how many instances there are.
local life, lease = tonumber(ARGV[2]), tonumber(ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - 1)
redis.call('ZADD', KEYS[1], now + life, ARGV[1])
redis.call('PEXPIRE', KEYS[1], 10 * floor(life / 1000))
for i = 2, #KEYS do
  if redis.pcall('ZADD', KEYS[i], 'XX', now + lease, ARGV[i + 2]) then redis.pcall('PEXPIRE', KEYS[i], 2 * floor(lease / 1000)) end
end
return redis.call('ZCARD', KEYS[1])
"""
)


def digest(script: str) -> str:
    """The name that Redis knows a loaded script by."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
