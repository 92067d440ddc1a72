-- Ask for what the lines of a file say, one after another: paths where the method is GET, else bodies. With `pause`, milliseconds
-- between an answer and the next request on a connection, at random within a half of it, so that connections do not go in step.
local requests, number, pause = {}, 0, tonumber(os.getenv("PAUSE"))

init = function(args)
   for line in io.lines(args[2]) do
      if args[1] == "GET" then
         requests[#requests + 1] = wrk.format("GET", line)
      else
         requests[#requests + 1] = wrk.format("POST", nil, {["Content-Type"] = "application/json"}, line)
      end
   end
end

request = function()
   number = number % #requests + 1
   return requests[number]
end

if pause then
   delay = function()
      return math.random(pause / 2, pause * 3 / 2)
   end
end

-- What was measured, as one line of JSON; how often each latency was, in microseconds.
done = function(summary, latency)
   local errors, times = summary.errors, {}
   for index = 1, #latency do
      local value, count = latency(index)
      times[index] = string.format("[%d, %d]", value, count)
   end
   io.write(string.format(
      '{"requests": %d, "microseconds": %d, "failed": %d, "refused": %d, "times": [%s]}\n', summary.requests, summary.duration,
      errors.connect + errors.read + errors.write + errors.timeout, errors.status, table.concat(times, ", ")
   ))
end
