-- The venue asked for a pause: nothing is due within it, what was booked is void, all are told.
-- ARGV: shape; microseconds. Gives the epoch. Changes nothing if a penalty as long is running.

local limits, longest = limits_of(ARGV[1])
local state, now = load(limits, longest, ARGV[1])
if not state then
  return 0
end
local until_then = now + tonumber(ARGV[2])
if until_then > math.max(now, state.penalty) then
  state.penalty = until_then
  state.epoch = state.epoch + 1
  for _, limit in ipairs(limits) do
    remove_after(limit.log, now)
  end
  tell(state)
end
keep(state, limits)
return state.epoch
