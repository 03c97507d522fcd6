"""The scripts that Redis runs: one decides, one settles, three are told what processes know (and gateway.limits.presence who they
are). Time is Redis' own, in microseconds.

A window is a hash: `h` the highest slot ever charged, `l` the lowest that may still count, `s` the sum, and a field for each slot.
A budget is a hash: `p` the period, `t` what was settled in it, and what each instance settled; and a second hash of what each instance
holds reserved in which period, which counts while that instance is a member. No field of theirs is written but by its own instance.
Concurrency is a sorted set of `INSTANCE RESERVATION` by the end of their leases. A reservation is a string by its id, so that asking
again after a lost answer, or settling twice, changes nothing. Lua cannot undo: whatever can fail is looked at before the first write of
a decision. Numbers are doubles, exact to 2^53, and are passed to commands as numbers: Lua's own way to text has 14 digits only.
"""

from __future__ import annotations

import hashlib

from gateway.store.lua import SHARED
from gateway.store.member_scripts import HEARTBEAT, HELD_BACK, LEAVE, MEMBERS

ADMIT = (
    MEMBERS
    + """
local members, me = KEYS[1], ARGV[2]
"""
    + HELD_BACK
    + """
-- Microseconds until `need` more of a window is free: by sliding, or because nothing is held back any more.
local function wait(one, slot, need)
  local fields, slid, whole = {}, nil, nil
  for f = one.low, slot do fields[#fields + 1] = f end
  local v = redis.call('HMGET', one.key, unpack(fields))
  for i = 1, #fields do
    local free = (fields[i] + one.n + 1) * one.width - now
    need = need - (tonumber(v[i] or 0) or 0)
    if need <= one.back and not whole then whole = free end
    if need <= 0 then slid = free break end
  end
  local last = (slot + one.n + 1) * one.width - now
  if one.back == 0 then return slid or last end
  return math.min(slid or last, math.max(one.cost <= one.left and 0 or whole or last, one.ends - now))
end

-- What members hold reserved of a budget in period `p`, and the fields of those who are gone or of other periods.
local function reserved(key, p)
  local held = redis.pcall('HGETALL', key)
  if held.err then return nil end
  local sum, gone = 0, {}
  for x = 1, #held, 2 do
    local who, at = string.match(held[x], '^(.*):(%d+)$')
    local until_ = who and who ~= me and redis.pcall('ZSCORE', members, who)
    local lives = who == me or (type(until_) == 'string' and tonumber(until_) + LIVES >= now)
    if lives and tonumber(at) == p then sum = sum + math.max(tonumber(held[x + 1]) or 0, 0)
    elseif not lives or tonumber(at) < p then gone[#gone + 1] = held[x] end
  end
  return sum, gone
end

-- KEYS: the members, what they were told; then for each admission its reservation and its limits, a budget with what is held of it.
-- ARGV: how many admissions, the instance; for each: id, count of limits, 1 to charge whatever holds; for each limit: width of a slot (-1
-- concurrency, 0 month), slots (-1 a budget), amount, cost, time to live in ms (lease in us); for a budget also the last period that the
-- instance knows, and what it settled in it.
-- Waits: -1 until the end of the period, -2 for ever, -3 until a call ends, else microseconds.
-- Reply, for each: {1 admitted | 0 refused | -1 a key was not ours and is removed, now, index of the limit, wait, remaining, slot, ...}
local out = {}
local k, a = 3, 3
for i = 1, tonumber(ARGV[1]) do
  local id, m, force, rkey = ARGV[a], tonumber(ARGV[a + 1]), ARGV[a + 2] == '1', KEYS[k]
  a, k = a + 3, k + 1
  local asked = {}
  for j = 1, m do
    local one = {
      key = KEYS[k], width = tonumber(ARGV[a]), n = tonumber(ARGV[a + 1]), amount = tonumber(ARGV[a + 2]),
      cost = tonumber(ARGV[a + 3]), ttl = tonumber(ARGV[a + 4]),
    }
    a, k = a + 5, k + 1
    if one.n < 0 then
      one.held, one.at, one.mine = KEYS[k], tonumber(ARGV[a]), tonumber(ARGV[a + 1])
      a, k = a + 2, k + 1
    end
    asked[j] = one
  end
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
    local reply, corrupt = {1, now, 0, 0}, nil
    for j = 1, m do
      local one = asked[j]
      local left, slot, until_
      if one.width < 0 then
        local held = redis.pcall('ZCOUNT', one.key, now, '+inf')
        if type(held) ~= 'number' then corrupt = one.key break end
        left, slot, until_ = one.amount - held - held_back_of_calls(one.key, one.amount, one.ttl), -1, -3
      elseif one.n < 0 then
        local p, sum, part, fresh = purse(one.key, one.width, one.at, me)
        if not p then corrupt = one.key break end
        if one.at == p and one.mine > part then
          sum, part = sum + one.mine - part, one.mine
        end
        local held, gone = reserved(one.held, p)
        if not held then corrupt = one.held break end
        left, slot = one.amount - sum - held, p
        until_ = sum + one.cost > one.amount and -1 or -3
        one.sum, one.part, one.fresh, one.gone = sum, part, fresh, gone
      else
        local sum, at, here, low, past = look(one.key, one.width, one.n)
        if not sum then corrupt = one.key break end
        one.back, one.ends = held_back(one.amount, math.huge)
        left, slot = one.amount - one.back - sum, at
        one.left = one.amount - sum
        one.sum, one.here, one.low, one.past = sum, here, low, past
      end
      one.slot = slot
      if left < one.cost and not force then
        until_ = one.width >= 0 and one.cost > one.amount and -2
          or until_ or wait(one, slot, one.cost - left)
        -- the longest wait binds: never, then the end of a period, then time, then the end of a call
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
        local cost = asked[j].cost
        reply[3 + 2 * j] = reply[3 + 2 * j] - cost
        kept[3 * j - 2], kept[3 * j - 1], kept[3 * j] = reply[4 + 2 * j], cost, reply[3 + 2 * j]
      end
      -- the first write: a Redis that is full refuses it, and with it all others (it would let a script go on that began with DEL)
      redis.call('SET', rkey, cmsgpack.pack(kept), 'PX', 90000000)
      for j = 1, m do
        local one = asked[j]
        if one.width < 0 then
          redis.call('ZREMRANGEBYSCORE', one.key, '-inf', now - 1)
          redis.call('ZADD', one.key, now + one.ttl, me .. ' ' .. id)
          redis.call('PEXPIRE', one.key, 2 * floor(one.ttl / 1000))
        elseif one.n < 0 then
          if one.fresh then redis.call('DEL', one.key) end
          redis.call('HSET', one.key, 'p', one.slot, 't', one.sum)
          if one.part > 0 then redis.call('HSET', one.key, me, one.part) end
          if #one.gone > 0 then redis.call('HDEL', one.held, unpack(one.gone)) end
          redis.call('HINCRBY', one.held, me .. ':' .. one.slot, one.cost)
          redis.call('PEXPIRE', one.key, KEPT)
          redis.call('PEXPIRE', one.held, KEPT)
        else
          put(one.key, one.sum, one.slot, one.here, one.low, one.past, one.cost, one.ttl)
        end
      end
    end
    out[i] = reply
  end
end
return out
"""
)

SETTLE = (
    SHARED
    + """
-- KEYS as above, without the members. ARGV: how many, the instance; for each: id, count of limits; for each limit: width, slots, actual,
-- time to live in ms; for a budget the period of its admission and what the instance settled in it so far in place of the last two.
-- Reply: how many were settled now; those whose reservation is gone were settled before.
local me = ARGV[2]
local k, a, done = 1, 3, 0
for i = 1, tonumber(ARGV[1]) do
  local id, m = ARGV[a], tonumber(ARGV[a + 1])
  local known = redis.pcall('GET', KEYS[k])
  local kept = type(known) == 'string' and cmsgpack.unpack(known)
  if kept then
    redis.call('DEL', KEYS[k])
    done = done + 1
  end
  a, k = a + 2, k + 1
  for j = 1, m do
    local key, width, n = KEYS[k], tonumber(ARGV[a]), tonumber(ARGV[a + 1])
    local actual, ttl = tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
    a, k = a + 4, k + 1
    if n < 0 then
      local held = KEYS[k]
      k = k + 1
      if kept and kept[3 * j - 1] > 0 then
        local field = me .. ':' .. kept[3 * j - 2]
        local left = redis.pcall('HINCRBY', held, field, -kept[3 * j - 1])
        if type(left) == 'number' and left <= 0 then redis.call('HDEL', held, field) end
      end
      know(key, width, actual, me, ttl)
    elseif kept and width < 0 then
      redis.pcall('ZREM', key, me .. ' ' .. id)
    elseif kept then
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
return done
"""
)

REPLAY_USAGE = (
    SHARED
    + """
-- KEYS: for each window a name for this word of it, then the window. ARGV for each: width of a slot, slots, time to live in ms, count of
-- pairs, then of each how many slots ago and how much. The same word twice changes nothing.
local a = 1
for k = 1, #KEYS, 2 do
  local key, width, n, ttl, m = KEYS[k + 1], tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  a = a + 4
  if redis.call('SET', KEYS[k], 1, 'NX', 'PX', 90000000) then
    local sum, slot, here, low, past = look(key, width, n)
    if not sum then
      redis.call('DEL', key)
      sum, slot, here, low, past = look(key, width, n)
    end
    local older, current = {}, 0
    for x = a, a + 2 * m - 2, 2 do
      local ago, amount = math.min(tonumber(ARGV[x]), n), tonumber(ARGV[x + 1])
      if ago == 0 then
        current = current + amount
      else
        older[#older + 1] = {slot - ago, amount}
        sum, low = sum + amount, math.min(low, slot - ago)
      end
    end
    put(key, sum, slot, here, low, past, current, ttl)
    for x = 1, #older do redis.call('HINCRBY', key, older[x][1], older[x][2]) end
  end
  a = a + 2 * m
end
return 1
"""
)

PUBLISH = (
    SHARED
    + """
-- KEYS: budgets, each with what is held of it. ARGV, for each: an instance, width, period, what it settled, what it holds reserved (-1: as
-- it is). Telling it twice, late or out of order changes nothing.
for i = 1, #KEYS / 2 do
  local a = 5 * i - 4
  local who, width, at, amount, held = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
  if amount > 0 then know(KEYS[2 * i - 1], width, at, who, amount) end
  local field = who .. ':' .. ARGV[a + 2]
  if held == 0 then redis.pcall('HDEL', KEYS[2 * i], field)
  elseif held > 0 then
    redis.pcall('HSET', KEYS[2 * i], field, held)
    redis.pcall('PEXPIRE', KEYS[2 * i], KEPT)
  end
end
return 1
"""
)

BOOK_USAGE = """
-- KEYS: a day of the ledger. ARGV: time to live in ms, then pairs of a row's field and its numbers, which only grow: the larger stay.
local key = KEYS[1]
for i = 2, #ARGV, 2 do
  local known = redis.pcall('HGET', key, ARGV[i])
  if type(known) == 'table' then
    redis.call('DEL', key)
    known = false
  end
  local value = ARGV[i + 1]
  if known and known ~= value then
    local larger, old = {}, {}
    for number in string.gmatch(known, '%d+') do old[#old + 1] = number end
    for number in string.gmatch(value, '%d+') do
      local before = old[#larger + 1]
      larger[#larger + 1] = before and tonumber(before) > tonumber(number) and before or number
    end
    value = table.concat(larger, ',')
  end
  if value ~= known then redis.call('HSET', key, ARGV[i], value) end
end
redis.call('PEXPIRE', key, ARGV[1])
return 1
"""

SCRIPTS = (ADMIT, SETTLE, REPLAY_USAGE, HEARTBEAT, LEAVE, PUBLISH, BOOK_USAGE)


def digest(script: str) -> str:
    """The name that Redis knows a loaded script by."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
