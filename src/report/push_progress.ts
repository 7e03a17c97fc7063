/** Progress of an upload, on stderr, in the form of downloads. */
import type { PushEvent } from "../hub/push.js";
import { formatBytes } from "../formats/bytes.js";
import type { Output } from "./progress.js";
import { pullPrinter } from "./pull_progress.js";

/** Listens to a push and shows it. */
export function pushPrinter(out: Output): (event: PushEvent) => void {
  const print = pullPrinter(out);
  const say = (text: string): void => print({ type: "message", text });
  return (event) => {
    switch (event.type) {
      case "started":
        return say(`${event.repo}: ${event.files} files, ${formatBytes(event.bytes)}`);
      case "progress":
        return print({ ...event, fetchedBytes: event.sentBytes });
      case "file":
      case "message":
        return print(event);
      case "committing":
        return say("all files are there; committing");
      case "late":
        return say(`the commit ${event.commit} had been made already`);
      default:
        event satisfies never;
    }
  };
}
