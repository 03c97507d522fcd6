"""Lua code that the Redis scripts share: the current time, and functions that read and write windows and budgets."""

from __future__ import annotations

SHARED = """
local t = redis.call('TIME')
local now = tonumber(t[1]) * 1000000 + tonumber(t[2])
local floor = math.floor
local BUDGET_TTL_MS = 3456000000 -- 40 days
local CANCELLED_MS = 120000 -- longer than a command stays in the buffers of a network
local RUN_TTL_MS = 180000000 -- 50 hours: longer than any charge to a window is kept
local LOST = {err = 'LOST data that this process has written'}

-- Record run `number` of a process, which requires its run `acked`: one with a reply, or one sent before on the same connection. Returns
-- true, and records nothing, if the store does not contain that run: it has lost data. Runs arrive out of order only if they were delayed
-- on a connection that has been replaced.
local function has_lost(key, number, acked)
  if not key or number + acked == 0 then return false end
  local known = redis.pcall('HGET', key, 'n')
  if type(known) == 'table' then redis.call('DEL', key) end
  known = type(known) == 'string' and tonumber(known) or 0
  if known < acked then return true end
  if number > known then
    redis.call('HSET', key, 'n', number, 'at', now)
    if known == 0 then redis.call('PEXPIRE', key, RUN_TTL_MS) end -- CHECK_RUN extends it
  end
  return false
end

-- Months since the year 0 at local time `at`, from the days since 1970 (the civil calendar algorithm of Howard Hinnant).
local function month(at)
  local z = floor(at / 86400000000) + 719468
  local era = floor(z / 146097)
  local doe = z - era * 146097
  local yoe = floor((doe - floor(doe / 1460) + floor(doe / 36524) - floor(doe / 146096)) / 365)
  local mp = floor((5 * (doe - (365 * yoe + floor(yoe / 4) - floor(yoe / 100))) + 2) / 153)
  local m = mp < 10 and mp + 3 or mp - 9
  return (yoe + era * 400 + (m <= 2 and 1 or 0)) * 12 + m - 1
end

-- Return the number of the current period. `width` is its length in us (0: a month), `before` and `after` are the offsets of its time
-- zone before and from the moment `switch`, all in us (gateway.store.periods).
local function period(width, before, switch, after)
  local at = now + (now < switch and before or after)
  return width > 0 and floor(at / width) or month(at)
end

-- A `total` budget never expires.
local function expire_budget(key)
  if string.sub(key, -6) ~= ':total' then redis.call('PEXPIRE', key, BUDGET_TTL_MS) end
end

-- Read a budget. `p` is the current period, or one known to have begun; `instance` is the id of a process.
-- Returns the current period, the total settled in it, the part settled by `instance`, and whether the stored data is of an older period.
-- Returns nil if the key does not hold a budget.
local function read_budget(key, p, instance)
  local h = redis.pcall('HMGET', key, 'p', 't', instance)
  if h.err then return nil end
  local known, sum, part = tonumber(h[1] or 0), tonumber(h[2] or 0), tonumber(h[3] or 0)
  if not (known and sum and part) then return nil end
  if known < p or not h[1] then return p, 0, 0, true end
  return known, sum, part, false
end

-- Record that `instance` has settled `amount` in total in period `at`. A smaller amount than the stored one is ignored, so that
-- repeated and late reports change nothing. Amounts of periods before the stored one are dropped.
local function record_settled(key, at, instance, amount)
  local p, sum, part, fresh = read_budget(key, at, instance)
  if not p then
    redis.call('DEL', key)
    p, sum, part, fresh = at, 0, 0, true
  end
  if at < p or amount <= part then return end
  if fresh then redis.call('DEL', key) end
  redis.call('HSET', key, 'p', p, 't', sum + amount - part, instance, amount)
  expire_budget(key)
end

-- Read a window of `n` slots of `width` us. Returns the sum of the slots that still count, the slot to charge, the amount in that slot,
-- the lowest slot that still counts, the list of expired slots ('all' if every slot has expired), and the last slot with charges (the
-- slot to charge if the sum is 0).
-- Returns nil if the key does not hold a window.
local function read_window(key, width, n)
  local slot = floor(now / width)
  local h = redis.pcall('HMGET', key, 'h', 's', 'l', slot, 'c')
  if h.err then return nil end
  if not (h[1] or h[2] or h[3] or h[4]) then return 0, slot, 0, slot, 'all', slot end
  local high, sum, low, here = tonumber(h[1]), tonumber(h[2]), tonumber(h[3]), tonumber(h[4] or 0)
  local last = tonumber(h[5] or h[1]) -- an older gateway does not write `c`
  if not (high and sum and low and here and last) or low > high or high - low > n then return nil end
  if slot < high then
    slot = high
    here = tonumber(redis.call('HGET', key, high) or 0)
    if not here then return nil end
  end
  if slot - n > high then return 0, slot, 0, slot, 'all', slot end
  local past = {}
  if low < slot - n then
    for f = low, slot - n - 1 do past[#past + 1] = f end
    local v = redis.call('HMGET', key, unpack(past))
    for i = 1, #past do
      local amount = tonumber(v[i] or 0)
      if not amount then return nil end
      sum = sum - amount
    end
    low = slot - n
  end
  return sum, slot, here, low, past, sum == 0 and slot or last
end

-- Return whether a window counts tokens, of which calls in flight reserve an estimate.
local function counts_tokens(key)
  return string.find(key, 'tokens:[^:]*$')
end

-- Return the id of the call whose reservation has this key.
local function id_of(key)
  return string.sub(key, string.find(key, '}:r:', 1, true) + 4)
end

-- Remove the expired slots of a window and charge `cost` to `slot`. The other arguments are results of read_window.
local function charge_window(key, sum, slot, here, low, past, last, cost, ttl)
  if past == 'all' then redis.call('DEL', key)
  elseif #past > 0 then redis.call('HDEL', key, unpack(past)) end
  redis.call('HSET', key, 'h', slot, 's', sum + cost, 'l', low, slot, here + cost, 'c', cost ~= 0 and slot or last)
  redis.call('PEXPIRE', key, ttl)
end

-- Update `c` after the amount of `slot` has become `amount`. `last` is the value before.
local function note_last(key, slot, amount, low, last)
  if amount ~= 0 and slot <= last or amount == 0 and slot ~= last then return end
  if amount == 0 then
    local fields = {}
    for f = slot - 1, low, -1 do fields[#fields + 1] = f end
    local v = #fields > 0 and redis.call('HMGET', key, unpack(fields)) or {}
    for i = 1, #fields do
      if (tonumber(v[i] or 0) or 0) ~= 0 then slot = fields[i] break end
    end
  end
  redis.call('HSET', key, 'c', slot)
end
"""
