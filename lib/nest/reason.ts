/** What may be logged of an error behind an error. */

/** Names that Postgres tells beside the code of an error, and that hold no values. */
const NAMES = ['constraint', 'table', 'column'] as const;

/** Class, code and names: a database's message may quote values of the row. */
export function reasonOf(cause: unknown): string {
  if (!(cause instanceof Error)) return '';
  const code = 'code' in cause && typeof cause.code === 'string' ? ` ${cause.code}` : '';
  const names = NAMES.flatMap((name) => {
    const value: unknown = (cause as { [Name in typeof name]?: unknown })[name];
    return typeof value === 'string' ? [`${name} ${value}`] : [];
  });
  const inner = cause.cause instanceof Error ? [reasonOf(cause.cause)] : [];
  return [`${cause.name}${code}`, ...names, ...inner].join(', ');
}
