-- wrk sends DEPTH requests in one write: wrk -s pipeline.lua URL -- DEPTH [close].
-- At the end it prints one JSON object, as the other clients do.
local batch

function init(args)
   wrk.headers["Accept"] = "*/*"
   wrk.headers["User-Agent"] = "hotlap/wrk.1"
   if args[2] == "close" then
      wrk.headers["Connection"] = "close"
   end
   batch = string.rep(wrk.format("GET"), tonumber(args[1]))
end

function request()
   return batch
end

function done(summary, latency, requests)
   local e = summary.errors
   print(string.format('{"client":"wrk","requests":%d,"errors":%d,"seconds":%f,"p50_us":%f}',
      summary.requests, e.connect + e.read + e.write + e.status + e.timeout, summary.duration / 1e6,
      latency:percentile(50)))
end
