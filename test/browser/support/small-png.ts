/**
 * Makes a screenshot small: a page has few colours beside those at the edges of its letters, so each
 * pixel can be one byte, the place of its colour in a list of 256. What is not in the list gets the
 * nearest one that is.
 */
import { crc32, deflateSync, inflateSync } from 'node:zlib';

const SIGNATURE = Buffer.from('89504e470d0a1a0a', 'hex');
const MOST_COLOURS = 256;

interface Picture {
  readonly width: number;
  readonly height: number;
  /** Red, green and blue of each pixel as one number, row by row. */
  readonly pixels: Uint32Array;
}

/** @param png with eight bits for each of red, green, blue, and alpha if it has that, as browsers make them */
export function smallPng(png: Buffer): Buffer {
  const { width, height, pixels } = decode(png);
  const colours = paletteOf(pixels);
  const places = new Map(colours.map((colour, place) => [colour, place]));
  const rows = Buffer.alloc((width + 1) * height); // each row begins with its filter: none
  for (const [index, colour] of pixels.entries()) {
    const place = places.get(colour) ?? nearest(colours, colour);
    places.set(colour, place);
    rows[index + Math.floor(index / width) + 1] = place;
  }
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width, 0);
  head.writeUInt32BE(height, 4);
  head.set([8, 3, 0, 0, 0], 8); // eight bits a pixel, which is a place in the palette
  const palette = Buffer.from(colours.flatMap((colour) => [...channels(colour)]));
  const parts = [
    chunk('IHDR', head),
    chunk('PLTE', palette),
    chunk('IDAT', deflateSync(rows, { level: 9 })),
    chunk('IEND', Buffer.alloc(0)),
  ];
  return Buffer.concat([SIGNATURE, ...parts]);
}

/** PNG (ISO/IEC 15948), section 9: a row is stored as what differs from its neighbours. */
function decode(png: Buffer): Picture {
  const [width, height] = [png.readUInt32BE(16), png.readUInt32BE(20)];
  const bytes = png[25] === 6 ? 4 : 3;
  const filtered = inflateSync(Buffer.concat([...chunksOf(png)].filter(({ type }) => type === 'IDAT').map(({ content }) => content)));
  const stride = width * bytes;
  let above = Buffer.alloc(stride);
  const pixels = new Uint32Array(width * height);
  for (let y = 0; y < height; y += 1) {
    const start = y * (stride + 1);
    const row = unfiltered(filtered[start] ?? 0, Buffer.from(filtered.subarray(start + 1, start + 1 + stride)), above, bytes);
    for (let x = 0; x < width; x += 1) pixels[y * width + x] = row.readUIntBE(x * bytes, 3);
    above = row;
  }
  return { width, height, pixels };
}

function unfiltered(filter: number, row: Buffer, above: Buffer, bytes: number): Buffer<ArrayBuffer> {
  const made = Buffer.alloc(row.length);
  for (const [index, difference] of row.entries()) {
    const [left, up, corner] = [made[index - bytes] ?? 0, above[index] ?? 0, index < bytes ? 0 : (above[index - bytes] ?? 0)];
    const predicted = [0, left, up, (left + up) >> 1, paeth(left, up, corner)][filter] ?? 0;
    made[index] = difference + predicted;
  }
  return made;
}

function paeth(left: number, up: number, corner: number): number {
  const [toLeft, toUp, toCorner] = [Math.abs(up - corner), Math.abs(left - corner), Math.abs(left + up - 2 * corner)];
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}

function paletteOf(pixels: Uint32Array): number[] {
  const counts = new Map<number, number>();
  for (const colour of pixels) counts.set(colour, (counts.get(colour) ?? 0) + 1);
  return [...counts]
    .sort(([, one], [, other]) => other - one)
    .slice(0, MOST_COLOURS)
    .map(([colour]) => colour);
}

function nearest(colours: readonly number[], wanted: number): number {
  const [red, green, blue] = channels(wanted);
  const distances = colours.map((colour) => {
    const [r, g, b] = channels(colour);
    return (r - red) ** 2 + (g - green) ** 2 + (b - blue) ** 2;
  });
  return distances.indexOf(Math.min(...distances));
}

const channels = (colour: number): [red: number, green: number, blue: number] => [colour >> 16, (colour >> 8) & 255, colour & 255];

function* chunksOf(png: Buffer): Generator<{ type: string; content: Buffer }> {
  for (let at = SIGNATURE.length; at < png.length;) {
    const length = png.readUInt32BE(at);
    yield { type: png.toString('latin1', at + 4, at + 8), content: png.subarray(at + 8, at + 8 + length) };
    at += length + 12;
  }
}

function chunk(type: string, content: Buffer): Buffer {
  const made = Buffer.alloc(content.length + 12);
  made.writeUInt32BE(content.length, 0);
  made.write(type, 4, 'latin1');
  content.copy(made, 8);
  made.writeUInt32BE(crc32(made.subarray(4, -4)), content.length + 8);
  return made;
}
