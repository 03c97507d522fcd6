"""Lua scripts that Redis runs: ADMIT decides, SETTLE settles, and PUBLISH and BOOK_USAGE record what processes report.

The scripts for membership are in gateway.store.member_scripts, those for lost data in gateway.store.replay_scripts. An
instance is one run of a process. Times are in microseconds and taken from Redis. Keys and their types:

- Window: a hash. `h` is the highest slot ever used, `c` the last slot whose amount is not 0, `l` the lowest slot that may
  still count, `s` the sum of all slots; every other field is a slot number with the amount charged to it.
- Budget: a hash. `p` is the period, `t` the total settled in it; every other field is an instance with the amount it
  settled.
- Reserved amounts of a budget (key `...:held`): a hash with one field `INSTANCE:PERIOD` per instance. A field counts
  while its instance is a member, and only that instance writes it.
- Reserved amounts of a window of tokens (key `...:held`): a hash with one field `SLOT:INSTANCE` per instance with calls
  in flight. The amounts are part of the amount charged to the slot. A field counts while its instance is a member.
- Concurrent calls: a sorted set of `INSTANCE RESERVATION`, scored by the end of the lease.
- Reservation: a string under the id of the reservation. Because of this key, repeated admissions and settlements have
  no effect. An empty string marks a cancelled call, whose admission got no reply and may arrive late.
- Latest run (key `...:run:INSTANCE`): a hash with its number `n` and its time `at`. The scripts that charge windows are
  numbered per instance and side, so a store that lost data has the runs of an instance up to some number only
  (gateway.store.runs).

Redis does not roll back a script that fails, so each decision validates everything it reads before its first write. Lua
numbers are doubles, exact up to 2^53. They are passed to commands as numbers, because tostring() keeps only 14 digits.
"""

from __future__ import annotations

import hashlib

from gateway.store.member_scripts import HEARTBEAT, HELD_BACK, LEAVE, MEMBERS
from gateway.store.replay_scripts import CHECK_RUN, REPLAY_USAGE, TIME_LEFT
from gateway.store.script_functions import SHARED
from gateway.store.usage_script import READ_USAGE, RESERVED

ADMIT = (
    MEMBERS
    + """
if has_lost(KEYS[3], tonumber(ARGV[3] or 0), tonumber(ARGV[4] or 0)) then return LOST end
local members, me = KEYS[1], ARGV[2]
"""
    + HELD_BACK
    + """
-- Return the microseconds until `need` more of a window is free, either because slots expire or because held-back shares are released.
local function wait_for_window(limit, slot, need)
  local fields, slid, whole = {}, nil, nil
  for f = limit.low, slot do fields[#fields + 1] = f end
  local v = redis.call('HMGET', limit.key, unpack(fields))
  for i = 1, #fields do
    local free = (fields[i] + limit.n + 1) * limit.width - now
    need = need - (tonumber(v[i] or 0) or 0)
    if need <= limit.back and not whole then whole = free end
    if need <= 0 then slid = free break end
  end
  local last = (slot + limit.n + 1) * limit.width - now
  if limit.back == 0 then return slid or last end
  return math.min(slid or last, math.max(limit.cost <= limit.left and 0 or whole or last, limit.ends - now))
end

"""
    + RESERVED
    + """
-- Admit or refuse calls.
-- Calls with the same limits refer to one definition of these limits.
-- KEYS: members, member info, latest run; for each definition: the key of each limit (for a budget and for tokens also the reserved
-- amounts); for each call: its reservation.
-- ARGV: number of calls, instance, number of this run, run that it requires, number of definitions; for each definition: number of
-- limits, and for each limit: slot width in us (-1: concurrent calls, 0: a month), number of slots (-1: a budget), amount, time to live in
-- ms (for concurrent calls the lease in us); for a budget also the latest period known to the instance, the amount it settled in it, and
-- the offsets of its time zone: the one before a moment, that moment, and the one from it on; for each call: number of its definition, 1 to
-- charge even if limits are exceeded (0 otherwise), and its cost for each limit.
-- Reply, one entry per call: {status, now, then remaining amount, slot and wait of each limit, then, for a refused call, the reserved
-- part of the used amount of each limit (-1: unknown)}. The slot of a window is the last one with charges.
-- Status: 1 admitted, 0 refused, -1 the call is cancelled, or a key held a value of another type or format and was deleted.
-- Wait: -1 until the end of the period, -2 forever, -3 until a call ends, -4 the limit does not refuse the call, otherwise microseconds.
local out = {}
local k, a = 4, 6
local definitions = {}
for d = 1, tonumber(ARGV[5] or 0) do
  local limits, m = {}, tonumber(ARGV[a])
  a = a + 1
  for j = 1, m do
    local limit = {
      key = KEYS[k], width = tonumber(ARGV[a]), n = tonumber(ARGV[a + 1]), amount = tonumber(ARGV[a + 2]), ttl = tonumber(ARGV[a + 3]),
    }
    a, k = a + 4, k + 1
    if limit.n < 0 then
      limit.held, limit.at, limit.mine = KEYS[k], tonumber(ARGV[a]), tonumber(ARGV[a + 1])
      limit.now = period(limit.width, tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4]))
      a, k = a + 5, k + 1
    elseif counts_tokens(limit.key) then
      limit.open, k = KEYS[k], k + 1
    end
    limits[j] = limit
  end
  definitions[d] = limits
end
for i = 1, tonumber(ARGV[1]) do
  local rkey, limits, force = KEYS[k], definitions[tonumber(ARGV[a])], ARGV[a + 1] == '1'
  local m = #limits
  for j = 1, m do limits[j].cost = tonumber(ARGV[a + 1 + j]) end
  a, k = a + 2 + m, k + 1
  local known = redis.pcall('GET', rkey)
  if known == '' then -- cancelled before it arrived: its process no longer waits for a reply
    out[i] = {-1, now}
  elseif type(known) == 'string' then
    local reply = {1, now}
    local kept = cmsgpack.unpack(known)
    for j = 1, m do
      reply[3 * j], reply[3 * j + 1], reply[3 * j + 2] = kept[3 * j], kept[3 * j - 2], -4
    end
    out[i] = reply
  else
    local reply, corrupt, reserves = {1, now}, nil, {}
    for j = 1, m do
      local limit = limits[j]
      local left, slot, until_
      if limit.width < 0 then
        local held = redis.pcall('ZCOUNT', limit.key, now, '+inf')
        if type(held) ~= 'number' then corrupt = limit.key break end
        left, slot, until_ = limit.amount - held - held_back_calls(limit.key, limit.amount, limit.ttl), -1, -3
      elseif limit.n < 0 then
        local p, sum, part, fresh = read_budget(limit.key, math.max(limit.now, limit.at), me)
        if not p then corrupt = limit.key break end
        if limit.at == p and limit.mine > part then
          sum, part = sum + limit.mine - part, limit.mine
        end
        local held, gone = reserved(limit.held, p)
        if not held then corrupt = limit.held break end
        left, slot, reserves[j] = limit.amount - sum - held, p, held
        until_ = sum + limit.cost > limit.amount and -1 or -3
        limit.sum, limit.part, limit.fresh, limit.gone = sum, part, fresh, gone
      else
        local sum, at, here, low, past, last = read_window(limit.key, limit.width, limit.n)
        if not sum then corrupt = limit.key break end
        limit.back, limit.ends = held_back(limit.amount, math.huge)
        left, slot = limit.amount - limit.back - sum, at
        limit.left, limit.last = limit.amount - sum, last
        limit.sum, limit.here, limit.low, limit.past = sum, here, low, past
      end
      limit.slot = slot
      if left < limit.cost and not force then
        until_ = limit.width >= 0 and limit.cost > limit.amount and -2
          or until_ or wait_for_window(limit, slot, limit.cost - left)
        reply[1] = 0
      else
        until_ = -4
      end
      reply[3 * j], reply[3 * j + 1], reply[3 * j + 2] = left, limit.last or slot, until_
    end
    if corrupt then
      redis.call('DEL', corrupt)
      reply = {-1, now}
    elseif reply[1] == 0 then
      for j = 1, m do
        local limit = limits[j]
        if limit.open then reserves[j] = reserved_tokens(limit.open, limit.low) end
        reply[3 * m + 2 + j] = reserves[j] or -1
      end
    else
      local kept = {}
      for j = 1, m do
        local cost, slot = limits[j].cost, limits[j].slot
        reply[3 * j] = reply[3 * j] - cost
        if cost ~= 0 then reply[3 * j + 1] = slot end
        kept[3 * j - 2], kept[3 * j - 1], kept[3 * j] = slot, cost, reply[3 * j]
      end
      -- The first write must be a SET: if Redis is out of memory, it rejects the SET and therefore the whole script. If the first
      -- write were a DEL, Redis would run the rest of the script.
      redis.call('SET', rkey, cmsgpack.pack(kept), 'PX', 90000000)
      for j = 1, m do
        local limit = limits[j]
        if limit.width < 0 then
          redis.call('ZREMRANGEBYSCORE', limit.key, '-inf', now - 1)
          redis.call('ZADD', limit.key, now + limit.ttl, me .. ' ' .. id_of(rkey))
          redis.call('PEXPIRE', limit.key, 2 * floor(limit.ttl / 1000))
        elseif limit.n < 0 then
          if limit.fresh then redis.call('DEL', limit.key) end
          redis.call('HSET', limit.key, 'p', limit.slot, 't', limit.sum)
          if limit.part > 0 then redis.call('HSET', limit.key, me, limit.part) end
          if #limit.gone > 0 then redis.call('HDEL', limit.held, unpack(limit.gone)) end
          redis.call('HINCRBY', limit.held, me .. ':' .. limit.slot, limit.cost)
          expire_budget(limit.key)
          redis.call('PEXPIRE', limit.held, BUDGET_TTL_MS)
        else
          charge_window(limit.key, limit.sum, limit.slot, limit.here, limit.low, limit.past, limit.last, limit.cost, limit.ttl)
          if limit.open and limit.cost > 0 then
            local held = redis.pcall('HINCRBY', limit.open, limit.slot .. ':' .. me, limit.cost)
            if held == limit.cost then redis.call('PEXPIRE', limit.open, limit.ttl) end
          end
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
-- Replace the reserved amounts with the used amounts.
-- KEYS: latest run; for each definition of limits: the key of each limit (for a budget and for tokens also the reserved amounts); for each
-- call: its reservation.
-- ARGV: number of calls, instance, number of this run, run that it requires, number of definitions; for each definition: number of
-- limits, and for each limit: slot width, number of slots, time to live in ms; for each call: number of its definition, 1 if its admission
-- got no reply (else 0), and for each limit the used amount, or for a budget the period of the admission and the amount that the instance
-- has settled in it in total.
-- Reply: number of calls settled by this run. A call without a reservation was settled before or never admitted.
if has_lost(KEYS[1], tonumber(ARGV[3]), tonumber(ARGV[4])) then return LOST end
local me = ARGV[2]
local k, a, done = 2, 6, 0
local definitions = {}
for d = 1, tonumber(ARGV[5]) do
  local limits, m = {}, tonumber(ARGV[a])
  a = a + 1
  for j = 1, m do
    local limit = {key = KEYS[k], width = tonumber(ARGV[a]), n = tonumber(ARGV[a + 1]), ttl = tonumber(ARGV[a + 2])}
    a, k = a + 3, k + 1
    if limit.n < 0 or counts_tokens(limit.key) then limit.open, k = KEYS[k], k + 1 end
    limits[j] = limit
  end
  definitions[d] = limits
end
for i = 1, tonumber(ARGV[1]) do
  local rkey, limits = KEYS[k], definitions[tonumber(ARGV[a])]
  local known = redis.pcall('GET', rkey)
  local kept = type(known) == 'string' and known ~= '' and cmsgpack.unpack(known)
  if kept then
    redis.call('DEL', rkey)
    done = done + 1
  elseif ARGV[a + 1] == '1' then
    redis.call('SET', rkey, '', 'PX', CANCELLED_MS) -- the admission may still arrive, held up in the network
  end
  a, k = a + 2, k + 1
  for j = 1, #limits do
    local limit, actual = limits[j], tonumber(ARGV[a])
    local key, width, n, ttl, open = limit.key, limit.width, limit.n, limit.ttl, limit.open
    a = a + 1
    if n < 0 then
      local settled = tonumber(ARGV[a])
      a = a + 1
      if kept and kept[3 * j - 1] > 0 then
        local field = me .. ':' .. kept[3 * j - 2]
        local left = redis.pcall('HINCRBY', open, field, -kept[3 * j - 1])
        if type(left) == 'number' and left <= 0 then redis.call('HDEL', open, field) end
      end
      record_settled(key, actual, me, settled)
    elseif kept and width < 0 then
      redis.pcall('ZREM', key, me .. ' ' .. id_of(rkey))
    elseif kept then
      local slot, change = kept[3 * j - 2], actual - kept[3 * j - 1]
      if open and kept[3 * j - 1] > 0 then
        local left = redis.pcall('HINCRBY', open, slot .. ':' .. me, -kept[3 * j - 1])
        if type(left) == 'number' and left <= 0 then redis.call('HDEL', open, slot .. ':' .. me) end
      end
      if change ~= 0 then
        local sum, at, here, low, past, last = read_window(key, width, n)
        if sum and past ~= 'all' and slot >= low then
          charge_window(key, sum, at, here, low, past, last, 0, ttl)
          local set = redis.pcall('HINCRBY', key, slot, change)
          if type(set) == 'number' then
            redis.call('HINCRBY', key, 's', change)
            note_last(key, slot, set, low, sum == 0 and 0 or last)
          end
        elseif sum and change > 0 and n > 0 then
          charge_window(key, sum, at, here, low, past, last, change, ttl)
        end
      end
    end
  end
end
return done
"""
)

PUBLISH = (
    SHARED
    + """
-- Record settled and reserved budget amounts. Repeated, late and reordered reports of settled amounts change nothing.
-- KEYS: for each budget: its key, then its reserved amounts.
-- ARGV, for each budget: instance, period, settled amount, reserved amount (-1: leave unchanged).
for i = 1, #KEYS / 2 do
  local a = 4 * i - 3
  local instance, at, amount, held = ARGV[a], tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  if amount > 0 then record_settled(KEYS[2 * i - 1], at, instance, amount) end
  local field = instance .. ':' .. ARGV[a + 1]
  if held == 0 then redis.pcall('HDEL', KEYS[2 * i], field)
  elseif held > 0 then
    redis.pcall('HSET', KEYS[2 * i], field, held)
    redis.pcall('PEXPIRE', KEYS[2 * i], BUDGET_TTL_MS)
  end
end
return 1
"""
)

BOOK_USAGE = """
-- Record usage in the ledger. Counts only grow, so the larger of the stored and the reported value of each count is kept.
-- KEYS: one day of the ledger. ARGV: time to live in ms, then pairs: field of a row, its counts separated by commas.
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
    for i = #larger + 1, #old do larger[i] = old[i] end
    value = table.concat(larger, ',')
  end
  if value ~= known then redis.call('HSET', key, ARGV[i], value) end
end
redis.call('PEXPIRE', key, ARGV[1])
return 1
"""

SCRIPTS = (ADMIT, SETTLE, REPLAY_USAGE, CHECK_RUN, TIME_LEFT, HEARTBEAT, LEAVE, PUBLISH, BOOK_USAGE, READ_USAGE)


def digest(script: str) -> str:
    """Return the SHA-1 digest by which Redis identifies a loaded script."""
    return hashlib.sha1(script.encode(), usedforsecurity=False).hexdigest()
