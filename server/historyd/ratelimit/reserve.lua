-- Books a call, in all limits or in none, after handing back what is not used.
-- ARGV: shape; the call's parts under each limit, with commas; stretch; the longest pause that is waited for; the
-- longest wait; what the venue said, as limit/used/age with semicolons (the limit by its index, from 0); then the
-- numbers of bookings handed back.
-- Gives {microseconds until it is due, epoch, number, microseconds of penalty left}. Nothing is booked where the first
-- is -1 (the penalty is longer than is waited for), -2 (others use the key with another budget) or -3 (it would be due
-- in so many microseconds as the last says, which is longer than is waited).

local limits, longest = limits_of(ARGV[1])
local state, now = load(limits, longest, ARGV[1])
if not state then
  return { -2, 0, 0, 0 }
end
for index = 7, #ARGV do
  for _, limit in ipairs(limits) do
    remove(limit.log, tonumber(ARGV[index]))
  end
end
for index, used, age in string.gmatch(ARGV[6], '(%d+)/(%d+)/(%d+)') do
  observe(limits[tonumber(index) + 1], tonumber(used), now - tonumber(age))
end
local pause = math.max(state.penalty - now, 0)
if pause > tonumber(ARGV[4]) then
  keep(state, limits)
  return { -1, state.epoch, 0, pause }
end

local parts, due = {}, math.max(now, state.penalty, state.held)
for part in string.gmatch(ARGV[2], '%d+') do
  parts[#parts + 1] = tonumber(part)
end
for index, limit in ipairs(limits) do
  prune(limit, now)
  local newest = entry(limit.log, -1)
  due = math.max(due, newest and newest.due or 0, earliest(limit, parts[index]))
end
if due - now > tonumber(ARGV[5]) then
  keep(state, limits)
  return { -3, state.epoch, 0, due - now }
end
local number, stretch = state.number, tonumber(ARGV[3])
state.number = number + 1
for index, limit in ipairs(limits) do
  if parts[index] > 0 then
    enter(limit, number, due, parts[index], stretch)
    state.used = math.max(state.used, entry(limit.log, -1).time)
  end
end
keep(state, limits)
return { due - now, state.epoch, number, pause }
