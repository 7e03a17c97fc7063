/** Whether the process that a lock names still runs: a pid alone does not tell. */
import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { fateOf, thisProcess } from "../../src/formats/process_identity.js";

describe("fateOf", () => {
  const me = thisProcess();
  const endedPid = spawnSync(process.execPath, ["-e", ""]).pid;

  it("knows that this process runs", () => {
    expect(fateOf(me)).toBe("runs");
  });

  it.each<readonly [string, object, "ended" | "unknown"]>([
    ["that is no more", { pid: endedPid }, "ended"],
    ["whose pid belongs to a later one", { started: `${me.started}1` }, "ended"],
    ["from before the machine started again", { boot: "another" }, "ended"],
    ["on another machine", { host: "elsewhere" }, "unknown"],
    ["in another container", { pidSpace: "pid:[1]" }, "unknown"],
    ["in another container, whatever has its pid here", { pidSpace: "pid:[1]", pid: endedPid }, "unknown"],
    ["whose start is not known", { started: "" }, "unknown"],
  ])("of a process %s", (_, change, fate) => {
    expect(fateOf({ ...me, ...change })).toBe(fate);
  });
});
