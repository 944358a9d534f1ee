// What k6 sends where wrk is not installed, and how it tells what it measured.
import http from "k6/http";

const body = open(__ENV.BENCHMARK_BODY);
const options_ = { headers: { "content-type": "application/json" } };

export const options = { summaryTrendStats: ["med", "p(99)"] };

export default function () {
  http.post(__ENV.BENCHMARK_URL, body, options_);
}

export function handleSummary(data) {
  const { http_req_duration, http_reqs, http_req_failed } = data.metrics;
  return {
    stdout: JSON.stringify({
      p50_ms: http_req_duration.values.med,
      p99_ms: http_req_duration.values["p(99)"],
      requests: http_reqs.values.count,
      seconds: data.state.testRunDurationMs / 1000,
      refused: http_req_failed.values.passes,
      broken: 0,
    }) + "\n",
  };
}
