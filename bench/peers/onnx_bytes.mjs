// An ONNX model of one node as bytes: as much of protobuf as that takes. Field numbers are those of onnx.proto3.

/** TensorProto.DataType */
export const FLOAT = 1;
export const UINT8 = 2;

const IR_VERSION = 8;
const OPSETS = [
  ["", 17],
  ["com.microsoft", 1],
];
/** AttributeProto.AttributeType */
const ATTRIBUTE_INT = 2;

const text = new TextEncoder();

function varint(value) {
  const bytes = [];
  for (let rest = BigInt.asUintN(64, BigInt(value)); ; rest >>= 7n) {
    if (rest < 128n) return Uint8Array.of(...bytes, Number(rest));
    bytes.push(Number(rest & 127n) | 128);
  }
}

const int = (field, value) => [varint(field << 3), varint(value)];

/** A field with a length: bytes, a string, or the pieces of a message. */
function part(field, value) {
  const pieces =
    typeof value === "string" ? [text.encode(value)] : ArrayBuffer.isView(value) ? [value] : value;
  const length = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  return [varint((field << 3) | 2), varint(length), ...pieces];
}

const attribute = ([name, value]) => part(5, [...part(1, name), ...int(3, value), ...int(20, ATTRIBUTE_INT)]);

function initializer({ name, type, shape, values }) {
  const raw = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return part(5, [
    ...shape.flatMap((size) => int(1, size)),
    ...int(2, type),
    ...part(8, name),
    ...part(9, raw),
  ]);
}

function valueInfo(field, name, shape) {
  const dimensions = shape.flatMap((size) => part(1, int(1, size)));
  const tensorType = part(1, [...int(1, FLOAT), ...part(2, dimensions)]);
  return part(field, [...part(1, name), ...part(2, tensorType)]);
}

/**
 * `y = op(x, constants…)` with f32 x and y.
 * @param domain "" for ONNX's own operators, "com.microsoft" for onnxruntime's
 * @param attributes integers by name
 * @param constants {name, type, shape, values} in the order of the operator's inputs, after x
 * @returns the bytes of a ModelProto
 */
export function onnxModel({ op, domain, attributes, constants, x, y }) {
  const node = [
    ...["x", ...constants.map(({ name }) => name)].flatMap((name) => part(1, name)),
    ...part(2, "y"),
    ...part(3, op),
    ...part(4, op),
    ...Object.entries(attributes).flatMap(attribute),
    ...part(7, domain),
  ];
  const graph = [
    ...part(1, node),
    ...part(2, "product"),
    ...constants.flatMap(initializer),
    ...valueInfo(11, "x", x),
    ...valueInfo(12, "y", y),
  ];
  const opsets = OPSETS.flatMap(([name, version]) => part(8, [...part(1, name), ...int(2, version)]));
  return Buffer.concat([...int(1, IR_VERSION), ...part(7, graph), ...opsets]);
}
