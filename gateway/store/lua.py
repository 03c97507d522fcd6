"""What the scripts that Redis runs have in common: its time, and how windows and budgets are read and written."""

from __future__ import annotations

SHARED = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local floor = math.floor
local KEPT = 3456000000

local function month()
  local z = floor(now / 86400000000) + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local mp = floor((5 * (doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))) + 2) / 153)
  local m = mp < 10 and mp + 3 or mp - 9
  return (yoe + era * 400 + (m <= 2 and 1 or 0)) * 12 + m - 1
end

-- The period, the sum and one instance's part of a budget; `at` a period that is known to have begun. nil: not ours.
local function purse(key, width, at, who)
  local p = math.max(width > 0 and floor(now / width) or month(), at)
  local h = redis.pcall('HMGET', key, 'p', 't', who)
  if h.err then return nil end
  local known, sum, part = tonumber(h[1] or 0), tonumber(h[2] or 0), tonumber(h[3] or 0)
  if not (known and sum and part) then return nil end
  if known < p then return p, 0, 0, true end
  return known, sum, part, false
end

-- An instance settled `amount` of a period: the larger number stays. Of a period that is over nothing is kept.
local function know(key, width, at, who, amount)
  local p, sum, part, fresh = purse(key, width, at, who)
  if not p then
    redis.call('DEL', key)
    p, sum, part, fresh = at, 0, 0, true
  end
  if at < p or amount <= part then return end
  if fresh then redis.call('DEL', key) end
  redis.call('HSET', key, 'p', p, 't', sum + amount - part, who, amount)
  redis.call('PEXPIRE', key, KEPT)
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
