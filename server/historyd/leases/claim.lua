-- Claims a lease, if nobody has it; else asks who has it to hurry, if somebody here waits for just this.
-- KEYS[1]: the lease. ARGV: the claimant's token; milliseconds to live; the channel of wishes; the page's name, empty
-- if nobody waits. Gives 0 if the lease is the claimant's, else the milliseconds that it has left.

if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return 0
end
if ARGV[4] ~= '' then
  redis.call('PUBLISH', ARGV[3], ARGV[4])
end
return math.max(redis.call('PTTL', KEYS[1]), 1)
