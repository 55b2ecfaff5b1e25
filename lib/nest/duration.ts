/** Durations as people write them. */

const MS_PER_UNIT = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const;

const WRITTEN = /^(\d{1,15})(ms|s|m|h|d)$/;

/** Milliseconds, or `undefined` for what is no duration. A text without a unit is none: it could be seconds as well. */
export function parseDuration(written: unknown): number | undefined {
  if (typeof written === 'number') return Number.isSafeInteger(written) && written >= 0 ? written : undefined;
  const [, digits, unit] = (typeof written === 'string' && WRITTEN.exec(written)) || [];
  if (digits === undefined || unit === undefined) return undefined;
  const ms = Number(digits) * MS_PER_UNIT[unit as keyof typeof MS_PER_UNIT];
  return Number.isSafeInteger(ms) ? ms : undefined;
}
