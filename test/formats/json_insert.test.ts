import { describe, expect, it } from "vitest";
import { insertKey } from "../../src/formats/json_insert.js";

const insert = (text: string): string => insertKey(text, "m", '{\n  "x": 6.0\n}');

describe("insertKey", () => {
  it("puts the key in its sorted place and keeps every other byte", () => {
    expect(insert('{\n  "a": 1e-05,\n  "z": {\n    "n": 10000.0\n  }\n}\n')).toBe(
      '{\n  "a": 1e-05,\n  "m": {\n    "x": 6.0\n  },\n  "z": {\n    "n": 10000.0\n  }\n}\n',
    );
  });

  it("puts it last where no key sorts after it, and looks at keys of the object itself only", () => {
    const text = '{\n  "a": {"z": ["}", ":"], "b\\"z\\":": 1},\n  "l": "z: \\" }"\n}';
    expect(insert(text)).toBe(
      '{\n  "a": {"z": ["}", ":"], "b\\"z\\":": 1},\n  "l": "z: \\" }",\n  "m": {\n    "x": 6.0\n  }\n}',
    );
  });

  it("takes the place of null", () => {
    expect(insert('{"b": 2, "m": null, "a": null}')).toBe('{"b": 2, "m": {\n    "x": 6.0\n  }, "a": null}');
  });
});
