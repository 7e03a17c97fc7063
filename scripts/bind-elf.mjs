// Copies a Linux program so that it starts with another loader and finds its libraries in another folder first.
// Usage: bind-elf.mjs PROGRAM COPY LOADER LIBRARIES. Done here because some releases of patchelf break node.
// The copy gets one more segment at its end (a longer string table and the loader's name) in place of a note's header.
import { closeSync, copyFileSync, chmodSync, fstatSync, openSync, readSync, writeSync } from "node:fs";
import { dirname } from "node:path";

const PT_LOAD = 1;
const PT_DYNAMIC = 2;
const PT_INTERP = 3;
const PT_NOTE = 4;
const DT_NULL = 0;
const DT_STRTAB = 5;
const DT_STRSZ = 10;
const DT_RPATH = 15;
const DT_RUNPATH = 29;
const PAGE = 0x10000; // the largest page of x86_64 and arm64

const [program, copy, loader, libraries] = process.argv.slice(2);
if (libraries === undefined) fail("usage: bind-elf.mjs PROGRAM COPY LOADER LIBRARIES");

function fail(message) {
  console.error(message);
  process.exit(1);
}

const alignUp = (n) => Math.ceil(n / PAGE) * PAGE;

/** A program header; offsets and addresses of a program stay far below 2^53. */
function readHeader(bytes, at) {
  const long = (o) => Number(bytes.readBigUInt64LE(at + o));
  return {
    type: bytes.readUInt32LE(at),
    offset: long(8),
    address: long(16),
    fileSize: long(32),
    memorySize: long(40),
    at,
  };
}

copyFileSync(program, copy);
chmodSync(copy, 0o755);
const file = openSync(copy, "r+");
const read = (at, size) => {
  const bytes = Buffer.alloc(size);
  if (readSync(file, bytes, 0, size, at) !== size) fail(`${program}: ends too early`);
  return bytes;
};

const elf = read(0, 64);
if (elf.readUInt32BE(0) !== 0x7f454c46 || elf[4] !== 2 || elf[5] !== 1)
  fail(`${program}: not a 64-bit Linux program`);
const tableAt = Number(elf.readBigUInt64LE(32));
const entrySize = elf.readUInt16LE(54);
const table = read(tableAt, entrySize * elf.readUInt16LE(56));
const headers = Array.from({ length: table.length / entrySize }, (_, i) => readHeader(table, i * entrySize));
const loads = headers.filter((h) => h.type === PT_LOAD);
const dynamic = headers.find((h) => h.type === PT_DYNAMIC);
const interpreter = headers.find((h) => h.type === PT_INTERP);
const note = headers.find((h) => h.type === PT_NOTE);
if (!dynamic || !interpreter || !note) fail(`${program}: not a dynamically linked program`);
const name = read(interpreter.offset, interpreter.fileSize).toString("latin1");
if (!name.includes("ld-linux")) fail(`${program}: needs the loader ${name.replace("\0", "")}, not glibc's`);

// The dynamic section: where its strings are, and a slot for the search path.
const entries = read(dynamic.offset, dynamic.fileSize);
const slotOf = (tag) => {
  for (let at = 0; at < entries.length; at += 16) if (Number(entries.readBigUInt64LE(at)) === tag) return at;
  return -1;
};
const end = slotOf(DT_NULL);
const strings = slotOf(DT_STRTAB);
const stringsSize = slotOf(DT_STRSZ);
if (strings < 0 || stringsSize < 0) fail(`${program}: has no string table`);
const stringsAddress = Number(entries.readBigUInt64LE(strings + 8));
const holder = loads.find((h) => stringsAddress >= h.address && stringsAddress < h.address + h.fileSize);
if (!holder) fail(`${program}: its string table is not in the file`);
const oldStrings = read(
  holder.offset + stringsAddress - holder.address,
  Number(entries.readBigUInt64LE(stringsSize + 8)),
);
let slot = Math.max(slotOf(DT_RPATH), slotOf(DT_RUNPATH));
let path = libraries;
if (slot >= 0) {
  const at = Number(entries.readBigUInt64LE(slot + 8));
  const old = oldStrings.toString("utf8", at, oldStrings.indexOf(0, at));
  path += `:${old.replaceAll(/\$ORIGIN|\$\{ORIGIN\}/g, dirname(program))}`;
} else {
  if (end < 0 || end + 32 > entries.length) fail(`${program}: no room for a library path`);
  slot = end;
}

// The new segment, behind everything in the file and in memory.
const segmentAt = alignUp(fstatSync(file).size);
const segmentAddress = alignUp(Math.max(...loads.map((h) => h.address + h.memorySize)));
const newStrings = Buffer.concat([oldStrings, Buffer.from(`${path}\0`)]);
const loaderName = Buffer.from(`${loader}\0`);
const segment = Buffer.concat([newStrings, loaderName]);

entries.writeBigUInt64LE(BigInt(segmentAddress), strings + 8);
entries.writeBigUInt64LE(BigInt(newStrings.length), stringsSize + 8);
entries.writeBigUInt64LE(BigInt(DT_RPATH), slot); // RPATH, not RUNPATH: it also holds for what libraries open
entries.writeBigUInt64LE(BigInt(oldStrings.length), slot + 8);

// Only the kernel reads this header's offset; its address may go on naming the old string.
table.writeBigUInt64LE(BigInt(segmentAt + newStrings.length), interpreter.at + 8);
table.writeBigUInt64LE(BigInt(loaderName.length), interpreter.at + 32);
table.writeBigUInt64LE(BigInt(loaderName.length), interpreter.at + 40);

// Loadable segments must stand in the order of their addresses: the note's header goes, the new one follows the last.
const added = Buffer.alloc(entrySize);
added.writeUInt32LE(PT_LOAD, 0);
added.writeUInt32LE(6, 4); // readable, writable
added.writeBigUInt64LE(BigInt(segmentAt), 8);
added.writeBigUInt64LE(BigInt(segmentAddress), 16);
added.writeBigUInt64LE(BigInt(segmentAddress), 24);
added.writeBigUInt64LE(BigInt(segment.length), 32);
added.writeBigUInt64LE(BigInt(segment.length), 40);
added.writeBigUInt64LE(BigInt(PAGE), 48);
const lastLoad = loads.at(-1);
const newTable = Buffer.concat(
  headers.flatMap((h) => {
    if (h === note) return [];
    const bytes = table.subarray(h.at, h.at + entrySize);
    return h === lastLoad ? [bytes, added] : [bytes];
  }),
);

const write = (bytes, at) => {
  if (writeSync(file, bytes, 0, bytes.length, at) !== bytes.length) fail(`${copy}: could not be written`);
};
write(segment, segmentAt);
write(entries, dynamic.offset);
write(newTable, tableAt);
closeSync(file);
