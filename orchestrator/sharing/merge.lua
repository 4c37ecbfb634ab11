-- Merge what one replica has learned into a group, once however often it is sent, and answer with the whole group.
--
-- KEYS[1]  the group: a hash
--            s:<name>     a sum
--            r:<replica>  number of the replica's last delta in here : when it came, in Unix seconds
--            o:<replica>  an origin: that replica began a hash, from nothing, whose content is in here
--            kept         product of all `keep` since the hash began
-- ARGV     replica | number of the delta, 0 for none | keep | lifetime of an unused group, s | lifetime of an r: field, s
--          | count n | n times name, amount | the caller's last snapshot: field, value, ... to the end
-- Returns  field, value, ...
--
-- All is computed before the first write, and the first write is one that a full or read-only server refuses, so an
-- error leaves the group as it was.

local NUM_FIXED = 6
local replica, number, keep = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local lifetime_s, memory_s = ARGV[4], tonumber(ARGV[5])
local end_of_amounts = NUM_FIXED + 2 * tonumber(ARGV[6])
local now = tonumber(redis.call('TIME')[1])

local function to_table(flat, first)
  local fields = {}
  for i = first, #flat, 2 do
    fields[flat[i]] = flat[i + 1]
  end
  return fields
end

local group = to_table(redis.call('HGETALL', KEYS[1]), 1)
local snapshot = to_table(ARGV, end_of_amounts + 1)
local changed = {}

local function kind(field)
  return string.sub(field, 1, 2)
end

local function put(field, value)
  group[field], changed[field] = value, value
end

local function put_number(field, value)
  put(field, string.format('%.17g', value))
end

-- A group that Redis has lost comes back from a snapshot; so does one that was begun from nothing meanwhile. A shared
-- origin means that the snapshot was taken of this very content. A shared replica may have sent the same delta to both.
local function is_news(fields)
  for field in pairs(fields) do
    if (kind(field) == 'o:' or kind(field) == 'r:') and group[field] then
      return false
    end
  end
  return next(fields) ~= nil
end

local function take_in(fields)
  local is_empty, kept = next(group) == nil, tonumber(group['kept'] or '1')
  for field, value in pairs(fields) do
    if kind(field) == 's:' then
      put_number(field, tonumber(group[field] or '0') + kept * tonumber(value))
    elseif field ~= 'kept' or is_empty then
      put(field, value)
    end
  end
end

local function merge()
  if next(group) == nil then
    put('o:' .. replica, '1')
  end
  if keep ~= 1 then
    put_number('kept', tonumber(group['kept'] or '1') * keep)
    for field, value in pairs(group) do
      if kind(field) == 's:' then
        put_number(field, tonumber(value) * keep)
      end
    end
  end
  for i = NUM_FIXED + 1, end_of_amounts, 2 do
    local field = 's:' .. ARGV[i]
    put_number(field, tonumber(group[field] or '0') + tonumber(ARGV[i + 1]))
  end
  put('r:' .. replica, ARGV[2] .. ':' .. string.format('%d', now))
end

local function forgotten_replicas()
  local fields = {}
  for field, value in pairs(group) do
    if kind(field) == 'r:' and tonumber(string.match(value, ':(%d+)$')) < now - memory_s then
      table.insert(fields, field)
    end
  end
  return fields
end

if is_news(snapshot) then
  take_in(snapshot)
end
if number > tonumber(string.match(group['r:' .. replica] or '0:', '^(%d+)')) then
  merge()
end
local forgotten = forgotten_replicas()

for field, value in pairs(changed) do
  redis.call('HSET', KEYS[1], field, value)
end
for _, field in ipairs(forgotten) do
  redis.call('HDEL', KEYS[1], field)
  group[field] = nil
end
if next(group) ~= nil then
  redis.call('EXPIRE', KEYS[1], lifetime_s)
end

local reply = {}
for field, value in pairs(group) do
  table.insert(reply, field)
  table.insert(reply, value)
end
return reply
