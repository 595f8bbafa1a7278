-- Calls were sent that the state does not know of, by servers that could not reach it: it counts as lost.
-- ARGV: shape. Gives the epoch.

local limits, longest = limits_of(ARGV[1])
local state, now = load(limits, longest, ARGV[1])
if not state then
  return 0
end
state = begin_anew(state, now, limits, longest, ARGV[1])
keep(state, limits)
return state.epoch
