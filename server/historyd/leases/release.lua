-- Gives a lease back, if it is still this holder's, and tells all who wait.
-- KEYS[1]: the lease. ARGV: the holder's token; the channel; the page's name. Gives 1 if it was the holder's.

local is_held = redis.call('GET', KEYS[1]) == ARGV[1]
if is_held then
  redis.call('DEL', KEYS[1])
end
-- Also where the lease had run out: the page may be done all the same.
redis.call('PUBLISH', ARGV[2], ARGV[3])
return is_held and 1 or 0
