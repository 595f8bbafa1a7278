-- Forgets bookings whose calls were not sent; those that are gone already are passed over.
-- ARGV: shape; then the numbers.

local limits = limits_of(ARGV[1])
for index = 2, #ARGV do
  for _, limit in ipairs(limits) do
    remove(limit.log, tonumber(ARGV[index]))
  end
end
return 0
