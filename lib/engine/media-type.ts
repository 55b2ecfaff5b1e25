/** Content-Type as it counts for comparing two requests (RFC 9110, section 8.3.1). */

/** One parameter: a name and a token or quoted string. Possessive by construction: no character can be matched in two ways. */
const PARAMETER = /;[ \t]*([^\s=;"]+)=("(?:[^"\\]|\\.)*"|[^;"]*)/g;

/**
 * The type in lower case and its parameters sorted, names in lower case. Values keep their case but
 * for charset's. The boundary of a multipart message is left out: every attempt has a new one.
 */
export function normalMediaType(contentType: string | undefined): string {
  if (contentType === undefined) return '';
  const end = contentType.indexOf(';');
  if (end < 0) return contentType.trim().toLowerCase();

  const type = contentType.slice(0, end).trim().toLowerCase();
  const parameters: string[] = [];
  PARAMETER.lastIndex = end;
  // Not matchAll(), which copies the expression for every call: charset=utf-8 comes with many a request.
  for (let found = PARAMETER.exec(contentType); found !== null; found = PARAMETER.exec(contentType)) {
    const [, name = '', written = ''] = found;
    const lowerName = name.toLowerCase();
    if (lowerName === 'boundary' && type.startsWith('multipart/')) continue;
    const value = unquoted(written);
    parameters.push(`${lowerName}=${JSON.stringify(lowerName === 'charset' ? value.toLowerCase() : value)}`);
  }
  return parameters.length === 0 ? type : `${type};${parameters.sort().join(';')}`;
}

export function isMultipart(contentType: string | undefined): boolean {
  return contentType !== undefined && /^\s*multipart\//i.test(contentType);
}

function unquoted(value: string): string {
  return value.startsWith('"') ? value.slice(1, -1).replace(/\\(.)/g, '$1') : value.trim();
}
