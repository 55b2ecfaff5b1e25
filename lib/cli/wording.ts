/** Numbers, sizes and times as people read them. The JSON documents have them bare. */

export function counted(number: number, one: string, many = `${one}s`): string {
  return `${grouped(number)} ${number === 1 ? one : many}`;
}

export function grouped(number: number): string {
  return number.toLocaleString('en-US');
}

const UNITS = ['bytes', 'kB', 'MB', 'GB', 'TB'] as const;

/** In steps of 1024, as Postgres' own pg_size_pretty. */
export function size(bytes: number): string {
  let [amount, unit] = [bytes, 0];
  while (amount >= 1024 && unit < UNITS.length - 1) [amount, unit] = [amount / 1024, unit + 1];
  return `${amount < 10 && unit > 0 ? amount.toFixed(1) : grouped(Math.round(amount))} ${UNITS[unit]}`;
}

const STEPS = [
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
] as const;

/** With the largest unit that fills: nobody needs the seconds of three days. */
export function ago(instant: Date, now: Date): string {
  const seconds = Math.max(0, Math.round((now.getTime() - instant.getTime()) / 1000));
  const [unit, length] = STEPS.find(([, step]) => seconds >= step) ?? ['second', 1];
  return `${counted(Math.floor(seconds / length), unit)} ago`;
}
