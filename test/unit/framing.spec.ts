import { describe, expect, it } from '@jest/globals';
import fc from 'fast-check';
import { framed, lengthOf } from '../../lib/engine/framing.js';

describe('framed', () => {
  const part = fc.oneof(fc.string(), fc.string({ unit: 'binary' }), fc.constant('half a pair \ud83d'), fc.uint8Array());

  it('puts the length in bytes in front of every part', () => {
    fc.assert(
      fc.property(fc.array(part), (parts) => {
        const bytes = parts.map((each) => (typeof each === 'string' ? Buffer.from(each, 'utf8') : each));
        expect(framed(parts)).toEqual(Buffer.concat(bytes.flatMap((each) => [lengthOf(each.length), each])));
      }),
    );
  });
});
