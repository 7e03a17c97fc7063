/** How adapters are called: what Dawn says of real ones, by its drivers' own words. */
import { expect, it } from "vitest";
import { findAdapter, traitsOf } from "../../src/gpu/adapters.js";

interface Info {
  readonly vendor: string;
  readonly architecture: string;
  readonly device: string;
  readonly description: string;
}

const adapter = (info: Info): GPUAdapter =>
  ({ info: { ...info, isFallbackAdapter: false }, features: new Set(), limits: {} }) as unknown as GPUAdapter;

const RTX = {
  vendor: "nvidia",
  architecture: "lovelace",
  device: "nvidia-geforce-rtx-4090",
  description: "NVIDIA: 580.65.06",
};
const APPLE = {
  vendor: "apple",
  architecture: "metal-3",
  device: "apple-m2",
  description: "Metal driver on macOS Version 15.5",
};
const LLVMPIPE = {
  vendor: "mesa",
  architecture: "software",
  device: "llvmpipe-llvm-19-1-7-256-bits-",
  description: "llvmpipe: Mesa 26.1.6 (LLVM 19.1.7)",
};

it("names model and driver: two models of one driver are two adapters", () => {
  expect(traitsOf(adapter(RTX)).name).toBe("nvidia geforce rtx 4090 (NVIDIA: 580.65.06)");
  expect(traitsOf(adapter(APPLE)).name).toBe("apple m2 (Metal driver on macOS Version 15.5)");
  expect(traitsOf(adapter({ ...RTX, description: "" })).name).toBe("nvidia geforce rtx 4090");
  expect(traitsOf(adapter({ ...RTX, device: "" })).name).toBe("NVIDIA: 580.65.06");
  const software = traitsOf(adapter(LLVMPIPE));
  expect(software).toMatchObject({ name: LLVMPIPE.description, isSoftware: true });
});

it("names a software adapter whose driver says nothing of it by its model", () => {
  const warp = {
    vendor: "microsoft",
    architecture: "",
    device: "microsoft-basic-render-driver",
    description: "D3D12 driver version 10.0.26100.1",
  };
  expect(traitsOf(adapter(warp))).toMatchObject({
    name: "microsoft basic render driver (D3D12 driver version 10.0.26100.1)",
    isSoftware: true,
  });
});

/** Dawn with one adapter. */
const dawn = (info: Info) => (): GPU =>
  ({ requestAdapter: () => Promise.resolve(adapter(info)) }) as unknown as GPU;

it.each(["RTX 4090", "rtx-4090", "GeForce RTX 4090", "NVIDIA", "lovelace", "hardware"])(
  "finds an RTX 4090 as %s",
  async (wanted) => {
    const found = await findAdapter(dawn(RTX), wanted);
    expect(found.adapter.info.device).toBe(RTX.device);
  },
);

it.each(["RTX 3090", "radeon", "software", "-", "显卡"])(
  "does not take an RTX 4090 for %s",
  async (wanted) => {
    await expect(findAdapter(dawn(RTX), wanted)).rejects.toThrow(`no adapter fits "${wanted}"`);
  },
);
