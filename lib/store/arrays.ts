/**
 * Arrays as a statement's values, mostly in Postgres's binary format, which the driver passes on as it is. As text,
 * bytes go over the line in hexadecimal, Postgres reads numbers digit by digit, and there is something to escape
 * in texts. Only of types whose format is the same in all versions: the bytes themselves, or a number in network
 * order. Uuids, which we have as texts, cost more to take apart here than Postgres saves.
 */

const FLOAT8 = 701;
const BYTEA = 17;
const TEXT = 25;

/** Dimensions, whether there are NULLs, the elements' type; then of the one dimension its length and where it counts from. */
const HEADER_BYTES = 20;
const LENGTH_BYTES = 4;
const FLOAT8_BYTES = 8;

export function floatArray(numbers: readonly number[]): Buffer {
  const array = begun(FLOAT8, numbers.length, numbers.length * FLOAT8_BYTES);
  let at = HEADER_BYTES;
  for (const number of numbers) {
    at = array.writeInt32BE(FLOAT8_BYTES, at);
    at = array.writeDoubleBE(number, at);
  }
  return array;
}

export function textArray(elements: readonly string[]): Buffer {
  const array = begun(
    TEXT,
    elements.length,
    elements.reduce((sum, element) => sum + Buffer.byteLength(element), 0),
  );
  let at = HEADER_BYTES;
  for (const element of elements) {
    const length = array.write(element, at + LENGTH_BYTES);
    at = array.writeInt32BE(length, at) + length;
  }
  return array;
}

export function byteaArray(elements: readonly Buffer[]): Buffer {
  const array = begun(
    BYTEA,
    elements.length,
    elements.reduce((sum, { length }) => sum + length, 0),
  );
  let at = HEADER_BYTES;
  for (const element of elements) {
    at = array.writeInt32BE(element.length, at);
    at += element.copy(array, at);
  }
  return array;
}

/** Of numbers and uuids, in which there is nothing to escape. */
export function plainArray(elements: readonly (string | number)[]): string {
  return `{${elements.join(',')}}`;
}

function begun(type: number, count: number, bytes: number): Buffer {
  const array = Buffer.allocUnsafe(HEADER_BYTES + count * LENGTH_BYTES + bytes);
  array.writeInt32BE(1, 0);
  array.writeInt32BE(0, 4);
  array.writeInt32BE(type, 8);
  array.writeInt32BE(count, 12);
  array.writeInt32BE(1, 16);
  return array;
}
