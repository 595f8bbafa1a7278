-- The reservation algorithm of window_log.py on the state of one budget in Redis; read its rules there.
-- The other scripts follow this text and run as one, so each is atomic.
--
-- KEYS[1] is a hash: epoch; penalty, held, seen (microseconds of Redis' clock); number of the next booking; shape;
-- used (until when bookings can matter); others (what others were seen to use under each limit, and until when it
-- counts, as amount/until with semicolons).
-- KEYS[2..] is one sorted set per limit: score = running total of the amounts, member = number:due:time:amount,
-- oldest first. `time` is when the entry begins to leave the window; it never falls.
-- All numbers are whole and below 2^53, so that doubles keep them exactly.
--
-- The state is begun anew when it is missing (a first start, FLUSHALL, a restart, a failover) or Redis' clock went
-- back. What was sent until then is not known, so nothing is due for one whole window and margin; the new epoch is
-- told to all, which voids the tickets of before.

local STATE = KEYS[1]
local NEWS = STATE .. ':epoch'
local DAY = 86400000000
local CLOCK_MAY_GO_BACK = 1000000
local TOO_LARGE = 4503599627370496 -- 2^52

local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function text(number)
  return string.format('%.0f', number)
end

local function limits_of(shape)
  local limits, longest = {}, 0
  for amount, window, margin in string.gmatch(shape, '[^/;]+/(%d+)/(%d+)/(%d+)') do
    local limit = { amount = tonumber(amount), window = tonumber(window), log = KEYS[#limits + 2] }
    limit.others, limit.others_until = 0, 0
    limit.spacing = limit.window + tonumber(margin)
    limits[#limits + 1] = limit
    longest = math.max(longest, limit.spacing)
  end
  return limits, longest
end

local function entry(log, rank)
  local found = redis.call('ZRANGE', log, rank, rank, 'WITHSCORES')
  if not found[1] then
    return nil
  end
  local number, due, time, amount = string.match(found[1], '^(%d+):(%d+):(%d+):(%d+)$')
  return {
    member = found[1], sum = tonumber(found[2]), number = tonumber(number),
    due = tonumber(due), time = tonumber(time), amount = tonumber(amount),
  }
end

-- Drops entries that no window from now on can hold. Each is dropped once, so it costs a booking O(1) on the average.
local function prune(limit, now)
  local oldest = entry(limit.log, 0)
  while oldest and oldest.time + limit.spacing <= now do
    redis.call('ZREM', limit.log, oldest.member)
    oldest = entry(limit.log, 0)
  end
end

-- The first instant at which so much fits into the room given, after all entries; 0 if it fits at any time.
local function fits(limit, amount, room)
  local newest = entry(limit.log, -1)
  if not newest then
    return 0
  end
  local surplus = newest.sum - math.max(room - amount, 0)
  local oldest = entry(limit.log, 0)
  if surplus <= oldest.sum - oldest.amount then
    return 0
  end
  local last = redis.call('ZRANGE', limit.log, text(surplus), '+inf', 'BYSCORE', 'LIMIT', 0, 1)
  return tonumber(string.match(last[1], '^%d+:%d+:(%d+)')) + limit.spacing
end

local function earliest(limit, amount)
  if amount == 0 then
    return 0
  end
  local room = limit.amount - limit.others
  local beside_others = fits(limit, amount, room)
  if limit.others == 0 or (amount <= room and beside_others < limit.others_until) then
    return beside_others
  end
  return math.max(limit.others_until, fits(limit, amount, limit.amount))
end

local function shift(log, from, by)
  local later = redis.call('ZRANGE', log, from, -1)
  for _, member in ipairs(later) do
    redis.call('ZINCRBY', log, text(by), member)
  end
end

-- Adds an entry, not before any other. `stretch` is how much later than the margin allows the call may be sent.
local function enter(limit, number, due, amount, stretch)
  local newest = entry(limit.log, -1)
  if newest and newest.sum > TOO_LARGE then
    local oldest = entry(limit.log, 0)
    shift(limit.log, 0, oldest.amount - oldest.sum)
    newest = entry(limit.log, -1)
  end
  local overrun = math.max(math.ceil((amount - limit.amount) * limit.window / limit.amount), 0)
  local time, sum = due + overrun + stretch, amount
  if newest then
    time, sum = math.max(time, newest.time), sum + newest.sum
  end
  local member = table.concat({ text(number), text(due), text(time), text(amount) }, ':')
  redis.call('ZADD', limit.log, text(sum), member)
end

-- The rank of the first entry whose number, due or time, which rise with the rank, is at least so much.
local function rank_of(log, column, least)
  local low, high = 0, redis.call('ZCARD', log)
  while low < high do
    local middle = math.floor((low + high) / 2)
    if entry(log, middle)[column] < least then
      low = middle + 1
    else
      high = middle
    end
  end
  return low
end

-- Takes one entry out, if it is there.
local function remove(log, number)
  local rank = rank_of(log, 'number', number)
  local found = entry(log, rank)
  if found and found.number == number then
    redis.call('ZREM', log, found.member)
    shift(log, rank, -found.amount)
  end
end

-- The venue has counted so much at an instant, ours included: what is not ours is others'. What it said last counts.
local function observe(limit, used, at)
  if at + limit.spacing < limit.others_until then
    return
  end
  local sent = rank_of(limit.log, 'due', at + 1)
  local last = sent > 0 and entry(limit.log, sent - 1)
  local first = entry(limit.log, rank_of(limit.log, 'time', at - limit.spacing + 1))
  local ours = last and first and math.max(last.sum - first.sum + first.amount, 0) or 0
  limit.others = math.max(used - ours, 0)
  limit.others_until = at + limit.spacing
end

local function remove_after(log, now)
  local newest = entry(log, -1)
  while newest and newest.due > now do
    redis.call('ZREM', log, newest.member)
    newest = entry(log, -1)
  end
end

local function others_of(limits)
  local told = {}
  for _, limit in ipairs(limits) do
    told[#told + 1] = text(limit.others) .. '/' .. text(limit.others_until)
  end
  return table.concat(told, ';')
end

-- Also called where nothing changed but the time, so that the state outlives every window by far.
local function keep(state, limits)
  redis.call('HSET', STATE, 'epoch', text(state.epoch), 'penalty', text(state.penalty), 'held', text(state.held),
    'seen', text(state.seen), 'number', text(state.number), 'shape', state.shape, 'used', text(state.used),
    'others', others_of(limits))
  local life = math.max(7 * DAY, state.penalty - state.seen + DAY) / 1000
  redis.call('PEXPIRE', STATE, text(life))
  for _, limit in ipairs(limits) do
    redis.call('PEXPIRE', limit.log, text(life))
  end
end

local function tell(state)
  redis.call('PUBLISH', NEWS, text(state.epoch))
end

local function begin_anew(state, now, limits, longest, shape)
  for _, limit in ipairs(limits) do
    redis.call('DEL', limit.log)
    limit.others, limit.others_until = 0, 0
  end
  -- Numbers go on from the clock, so that a ticket of before can never name a booking made since.
  local fresh = { number = now, shape = shape, seen = now, held = now + longest, penalty = 0, used = now }
  fresh.epoch = state and math.max(now, state.epoch + 1) or now
  if state then
    fresh.number = math.max(now, state.number)
    fresh.penalty = now + math.max(state.penalty - state.seen, 0)
  end
  tell(fresh)
  return fresh
end

-- Replaces a shape that nobody has used for as long as its bookings can matter; they need not be held for.
local function reshape(state, limits, shape)
  for _, limit in ipairs(limits) do
    redis.call('DEL', limit.log)
    limit.others, limit.others_until = 0, 0
  end
  state.shape = shape
  state.epoch = state.epoch + 1
  tell(state)
  return state
end

-- The state, and the instant it is now; nil if servers with another budget use the key.
local function load(limits, longest, shape)
  local now = clock()
  local raw = redis.call('HMGET', STATE, 'epoch', 'penalty', 'held', 'seen', 'number', 'shape', 'used',
    'others')
  if not raw[1] then
    return begin_anew(nil, now, limits, longest, shape), now
  end
  local state = {
    epoch = tonumber(raw[1]), penalty = tonumber(raw[2]), held = tonumber(raw[3]), seen = tonumber(raw[4]),
    number = tonumber(raw[5]), shape = raw[6], used = tonumber(raw[7]),
  }
  local index = 0
  for amount, until_then in string.gmatch(raw[8] or '', '(%d+)/(%d+)') do
    index = index + 1
    if limits[index] then
      limits[index].others, limits[index].others_until = tonumber(amount), tonumber(until_then)
    end
  end
  if now < state.seen - CLOCK_MAY_GO_BACK then
    return begin_anew(state, now, limits, longest, shape), now
  end
  -- A small step back is waited out: time stands still until the clock has caught up.
  now = math.max(now, state.seen)
  state.seen = now
  if state.shape ~= shape then
    local _, longest_before = limits_of(state.shape)
    if now < state.used + math.max(longest, longest_before) then
      return nil, now
    end
    return reshape(state, limits, shape), now
  end
  return state, now
end
