// Adds up vitest's JSON reports and prints `N passed, N failed`, with `, N skipped` where there are any.
// Usage: count-tests.mjs [--status EXIT_STATUS] [--failed N] REPORT...
// A file that could not be loaded, a report that is missing, a bad exit status and an empty run each count as failed.
import { readFileSync } from "node:fs";
import { parseArgs } from "node:util";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { status: { type: "string", default: "0" }, failed: { type: "string", default: "0" } },
});

const count = { passed: 0, failed: Number(values.failed), skipped: 0 };

for (const path of positionals) {
  let report;
  try {
    report = JSON.parse(readFileSync(path, "utf8"));
  } catch {
    console.error(`no test report: ${path}`);
    count.failed += 1;
    continue;
  }
  for (const file of report.testResults) {
    const failures = file.assertionResults.filter((test) => test.status === "failed").length;
    const passes = file.assertionResults.filter((test) => test.status === "passed").length;
    count.passed += passes;
    count.failed += failures;
    count.skipped += file.assertionResults.length - passes - failures;
    if (file.status === "failed" && failures === 0) {
      console.error(`did not load: ${file.name}`);
      count.failed += 1;
    }
  }
}

if (count.failed === 0 && values.status !== "0") {
  console.error(`the test run ended with status ${values.status}`);
  count.failed = 1;
}
if (count.passed + count.failed === 0) {
  console.error("no test was run");
  count.failed = 1;
}
console.log(
  `${count.passed} passed, ${count.failed} failed${count.skipped > 0 ? `, ${count.skipped} skipped` : ""}`,
);
process.exitCode = count.failed === 0 ? 0 : 1;
