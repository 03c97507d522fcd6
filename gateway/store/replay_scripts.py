"""Lua scripts for data that the store lacks.

REPLAY_USAGE adds usage to windows, CHECK_RUN notices that the store has lost data, and TIME_LEFT tells whether a process has
noticed that just now.
"""

from __future__ import annotations

from gateway.store.script_functions import SHARED

REPLAY_USAGE = (
    SHARED
    + """
-- Add usage recorded during an outage, or usage that the store has lost. Repeating a replay changes nothing.
-- KEYS: latest run of the process that used the amounts; for each window: a key that marks this replay as done, then the window.
-- ARGV: number of this run, run that it requires; for each window: slot width in us, number of slots, time to live in ms, number of
-- pairs, then the pairs: age in slots, amount.
if has_lost(KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2])) then return LOST end
local a = 3
for k = 2, #KEYS, 2 do
  local key, width, n, ttl, m = KEYS[k + 1], tonumber(ARGV[a]), tonumber(ARGV[a + 1]), tonumber(ARGV[a + 2]), tonumber(ARGV[a + 3])
  a = a + 4
  if redis.call('SET', KEYS[k], 1, 'NX', 'PX', 90000000) then
    local sum, slot, here, low, past, last = read_window(key, width, n)
    if not sum then
      redis.call('DEL', key)
      sum, slot, here, low, past, last = read_window(key, width, n)
    end
    if sum == 0 then last = 0 end
    local older, current = {}, 0
    for x = a, a + 2 * m - 2, 2 do
      local ago, amount = math.min(tonumber(ARGV[x]), n), tonumber(ARGV[x + 1])
      if ago == 0 then
        current = current + amount
      else
        older[#older + 1] = {slot - ago, amount}
        sum, low = sum + amount, math.min(low, slot - ago)
        if amount ~= 0 then last = math.max(last, slot - ago) end
      end
    end
    charge_window(key, sum, slot, here, low, past, last, current, ttl)
    for x = 1, #older do redis.call('HINCRBY', key, older[x][1], older[x][2]) end
  end
  a = a + 2 * m
end
return 1
"""
)

CHECK_RUN = (
    SHARED
    + """
-- Notice lost data, and keep the record of the latest run.
-- KEYS: latest run. ARGV: latest run with a reply.
if has_lost(KEYS[1], 0, tonumber(ARGV[1])) then return LOST end
redis.call('PEXPIRE', KEYS[1], RUN_TTL_MS)
return 1
"""
)

TIME_LEFT = (
    SHARED
    + """
-- Return the microseconds for which processes still gather after the latest loss: 0 if none has noticed a loss lately.
-- KEYS: time at which a process first noticed the latest loss. ARGV: time for which processes gather, in us.
local began = tonumber(redis.pcall('GET', KEYS[1])) -- nil if the key is missing or holds something else
if not began or not (began <= now) then return 0 end -- a later time is not one of this clock: never wait for it
return math.max(0, began + tonumber(ARGV[1]) - now)
"""
)
