-- Keeps a lease for longer, if it is still this holder's.
-- KEYS[1]: the lease. ARGV: the holder's token; milliseconds from now. Gives 1 if it was the holder's.

if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
