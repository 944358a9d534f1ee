-- What wrk sends, and how it tells what it measured.
wrk.method = "POST"
wrk.headers["content-type"] = "application/json"
local file = io.open(os.getenv("BENCHMARK_BODY"), "rb")
wrk.body = file:read("*a")
file:close()

done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"p50_ms": %f, "p99_ms": %f, "requests": %d, "seconds": %f, "refused": %d, "broken": %d}\n',
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, summary.requests,
    summary.duration / 1e6, errors.status,
    errors.connect + errors.read + errors.write + errors.timeout))
end
